"""One pair from two files to one fused file."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal

import cv2
import numpy as np

from fusecli import images
from fusecli.errors import InputError
from fusecli.fusion.compare import compare
from fusecli.fusion.large import LargePair, Side
from fusecli.fusion.workers import FuseArrays
from fusecli.images import Picture, thermal, tiff_rows
from fusecli.images.tiff_rows import TiffRows
from fusecli.registration.align import Alignment, align, luma_of, note_transform, pass_into
from fusecli.report import Outcome, Stopwatch
from fusecli.run.outputs import stage
from fusecli.run.plan import Job

LARGE = 1 << 25  # pixels of a pair that is not held in memory, where that can be avoided
SATURATED = 0.05  # share of infrared pixels at the top of their range that is worth a warning


@dataclass(frozen=True)
class Rules:
    """How stored values become network input and back; the options of CLI.md section 7."""

    ir_range: str = "auto"
    vis_range: str = "auto"
    range_scope: Literal["image", "all"] = "image"
    out_dtype: Literal["auto", "uint8", "uint16", "float32"] = "auto"
    chroma: Literal["auto", "keep", "drop"] = "auto"
    alpha: Literal["drop", "keep"] = "drop"
    fit: Literal["error", "ir-to-vis", "vis-to-ir"] = "error"
    grid: Literal["vis", "ir"] = "vis"
    tone: Literal["model", "clip", "stretch"] = "model"
    ir_luma: bool = False
    metadata: Literal["keep", "drop"] = "keep"
    reader: Literal["image", "thermal"] = "image"
    quality: int = 95
    compare: Literal["none", "side", "checker", "zoom"] = "none"
    compare_folder: Path | None = None


class FusePair:
    """The work of `fusecli fuse`: called with one job in each thread.

    Args:
        fuse: Infrared and visible luma, (H, W) float32 in 0..1, to fused luma.
        rules: See `Rules`.
        large: Pixels from which a pair is not held in memory, where that can be avoided.
        alignment: How one side is brought onto the other, `rules.grid`; None where they match.
    """

    def __init__(
        self,
        fuse: FuseArrays,
        rules: Rules,
        large: int = LARGE,
        alignment: Alignment | None = None,
    ) -> None:
        self.fuse, self.rules, self.large, self.alignment = fuse, rules, large, alignment
        self._one_large_pair = threading.Lock()

    def __call__(self, job: Job) -> Outcome:
        """Read, fuse and write one pair."""
        with ExitStack() as files:
            sides = self._open_large(job, files)
            return self._fuse_whole(job) if sides is None else self._fuse_large(job, *sides)

    def _open_large(self, job: Job, files: ExitStack) -> tuple[TiffRows, TiffRows] | None:
        """Return both files, open, if the pair is large and can be fused row by row."""
        rules = self.rules
        if job.format != "tiff" or job.out == "-" or rules.compare_folder is not None:
            return None
        if self.alignment is not None or rules.reader != "image":
            return None
        vis = TiffRows.open(job.vis)
        if vis is None:
            return None
        height, width = files.enter_context(vis).shape[:2]
        if height * width < self.large or not self.fuse.fuser.tiles_exactly:
            return None
        ir = TiffRows.open(job.ir)
        if ir is None or files.enter_context(ir).shape != (height, width):
            return None
        return ir, vis

    def _fuse_large(self, job: Job, ir_rows: TiffRows, vis_rows: TiffRows) -> Outcome:
        watch, outcome, rules = Stopwatch(), Outcome(job.key, out=job.out), self.rules
        with self._one_large_pair:  # each may take as much memory as a run is meant to
            with watch("read"):
                ir, vis = Side(ir_rows, rules.ir_range), Side(vis_rows, rules.vis_range)
            note_pages(outcome, ir_rows, vis_rows)
            _note_range(ir.limits, ir.rows.dtype, ir.share_from, outcome)
            pair = LargePair(ir, vis, self.fuse)
            dtype = vis_rows.dtype if rules.out_dtype == "auto" else np.dtype(rules.out_dtype)
            coloured = rules.chroma == "keep" or (rules.chroma == "auto" and not vis.grey)
            shape = (*vis_rows.shape[:2], 3) if coloured else vis_rows.shape[:2]
            reference = vis_rows if rules.grid == "vis" else ir_rows
            metadata = images.Metadata() if rules.metadata == "drop" else reference.metadata
            folder = str(Path(job.out).parent)

            def write(target: BinaryIO) -> None:
                bands = pair.bands(partial(recolour, chroma=rules.chroma), dtype, folder)
                tiff_rows.write(target, shape, dtype, metadata, bands)

            with watch("write"):
                outcome.parts = stage([(job.out, write)])
        watch.ms["run"] = round(pair.ms, 3)
        watch.ms["write"] = round(max(0.0, watch.ms["write"] - pair.ms), 3)
        outcome.ms = watch.ms
        outcome.record = _record(
            shape, dtype, (ir.limits, vis.limits), (ir.nonfinite, vis.nonfinite)
        )
        return outcome

    def _fuse_whole(self, job: Job) -> Outcome:
        watch, outcome = Stopwatch(), Outcome(job.key, out=job.out)
        rules = self.rules
        with watch("read"):
            ir_picture, vis_picture = read_pair(job, rules.reader)
            note_pages(outcome, ir_picture, vis_picture)
            ir, vis = images.as_grey(ir_picture, rules.ir_luma), vis_picture.pixels
            alpha = vis_picture.alpha if rules.alpha == "keep" else None
            if alpha is not None:
                alpha = images.to_unit(alpha, images.limits(alpha, "dtype"))
            ir_limits = images.limits(ir, rules.ir_range, ir_picture.invalid)
            vis_limits = images.limits(vis, rules.vis_range, vis_picture.invalid)
            _note_range(ir_limits, ir.dtype, lambda value: float(np.mean(ir >= value)), outcome)
            ir_unit = images.to_unit(ir, ir_limits, ir_picture.invalid)
            vis_unit = images.to_unit(vis, vis_limits, vis_picture.invalid)
            if self.alignment is None:
                ir_unit, vis_unit, alpha = fit(ir_unit, vis_unit, alpha, rules.fit)
        weight = None
        if self.alignment is not None:
            with watch("align"):
                sides = (vis_picture, ir_picture)
                fixed, moving = sides if rules.grid == "vis" else sides[::-1]
                transform = self.alignment.of(job.key, luma_of(fixed), luma_of(moving))
                note_transform(transform, outcome)
                if rules.grid == "vis":
                    ir_unit, weight = align(ir_unit, transform)
                else:
                    vis_unit, weight = align(vis_unit, transform)
                    alpha = None if alpha is None else align(alpha, transform).moved
        luma_unit = images.luma(vis_unit)
        answer = self.fuse(ir_unit, luma_unit)
        watch.ms["run"], fused = round(answer.ms, 3), answer.image
        with watch("write"):
            result = recolour(fused, vis_unit, luma_unit, rules.chroma)
            if weight is not None:
                visible = luma_unit if result.ndim == 2 else vis_unit
                result = pass_into(result, visible if rules.grid == "vis" else ir_unit, weight)
            dtype = vis.dtype if rules.out_dtype == "auto" else np.dtype(rules.out_dtype)
            reference = vis_picture if rules.grid == "vis" else ir_picture
            data = images.encode(
                images.from_unit(result, dtype),
                format=job.format,
                alpha=None if alpha is None else images.from_unit(alpha, dtype),
                metadata=self._metadata(reference, fused.shape, outcome),
                quality=rules.quality,
            )
            files = [(job.out, data)]
            if rules.compare_folder is not None:
                sheet = images.from_unit(
                    compare(ir_unit, vis_unit, result, rules.compare), np.uint8
                )
                place = rules.compare_folder / f"{job.key}.png"
                files.insert(0, (str(place), images.encode(sheet, format="png")))
            outcome.parts = stage(files)
        outcome.ms = watch.ms
        outcome.record |= _record(
            result.shape,
            dtype,
            (ir_limits, vis_limits),
            (ir_picture.nonfinite, vis_picture.nonfinite),
        )
        return outcome

    def _metadata(
        self, reference: Picture, shape: tuple[int, ...], outcome: Outcome
    ) -> images.Metadata | None:
        if self.rules.metadata == "drop":
            return None
        metadata = reference.metadata
        if reference.pixels.shape[:2] != shape and metadata.has_grid:
            outcome.notes["metadata.grid"] = "GeoTIFF tags dropped: the result has another grid"
            return metadata.without_grid()
        return metadata


def read_pair(job: Job, reader: str) -> tuple[Picture, Picture]:
    """Return the infrared and the visible image of a pair.

    With the reader `thermal` the infrared image is in degrees, and a file that is its own visible
    partner gives the photograph in it.
    """
    if reader == "image":
        return images.read(job.ir), images.read(job.vis)
    if job.ir == job.vis:
        return thermal.read_both(job.ir)
    return thermal.read(job.ir), images.read(job.vis)


def _record(
    shape: tuple[int, ...],
    dtype: np.dtype,
    limits: tuple[tuple[float, float], tuple[float, float]],
    nonfinite: tuple[int, int],
) -> dict[str, Any]:
    """Return what the manifest says of a pair; infrared first."""
    return {
        "shape": list(shape),
        "dtype": str(dtype),
        "limits": {"ir": list(limits[0]), "vis": list(limits[1])},
        "nonfinite": {"ir": nonfinite[0], "vis": nonfinite[1]},
    }


def note_pages(outcome: Outcome, *sides: Picture | TiffRows) -> None:
    """Warn of TIFF files of which only the first page is used."""
    for side in sides:
        if side.more_pages:
            outcome.notes["read.pages"] = f"only the first page of {side.path} is used"


def _note_range(
    limits: tuple[float, float],
    dtype: np.dtype,
    share_from: Callable[[float], float],
    outcome: Outcome,
) -> None:
    low, high = limits
    if high <= low:
        outcome.notes["range.flat"] = f"'{outcome.key}' has a flat infrared image"
    elif dtype == np.uint8 and share_from(high) > SATURATED:
        outcome.notes["range.saturated"] = (
            f"'{outcome.key}' has more than {SATURATED:.0%} saturated infrared pixels"
        )


def fit(
    ir: np.ndarray, vis: np.ndarray, alpha: np.ndarray | None, rule: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return the images on one grid; `alpha` goes with `vis`.

    Raises:
        InputError: The sizes differ and `rule` is `error` (`size.differ`).
    """
    if ir.shape == vis.shape[:2]:
        return ir, vis, alpha
    if rule == "ir-to-vis":
        return resize(ir, vis.shape[:2]), vis, alpha
    if rule == "vis-to-ir":
        carried = None if alpha is None else resize(alpha, ir.shape)
        return ir, resize(vis, ir.shape), carried
    raise InputError(
        f"sizes differ: infrared {ir.shape[1]}x{ir.shape[0]}, "
        f"visible {vis.shape[1]}x{vis.shape[0]}",
        code="size.differ",
        hint="resample with --fit ir-to-vis, or align first with fusecli register",
        details={"ir": list(ir.shape), "vis": list(vis.shape[:2])},
    )


def resize(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return an image of 0..1 on another grid: area means to shrink, cubic to grow."""
    height, width = shape[:2]
    if height * width == 0:
        raise InputError("cannot resample to an empty grid", code="size.empty")
    for axis, size in ((0, height), (1, width)):  # an image may shrink one way and grow the other
        if image.shape[axis] != size:
            now = (image.shape[1], size) if axis == 0 else (size, image.shape[0])
            shrinks = size < image.shape[axis]
            method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
            image = cv2.resize(image, now, interpolation=method)
    return np.clip(image, 0, 1)


def recolour(fused: np.ndarray, vis: np.ndarray, luma: np.ndarray, chroma: str) -> np.ndarray:
    """Put the colours of the visible image back on the fused luma.

    In BT.601 each of R, G and B is the luma plus a function of Cb and Cr alone, so keeping Cb and
    Cr while the luma changes is to add the change of the luma to all three.

    Args:
        fused: (H, W) in 0..1.
        vis: (H, W) or (H, W, 3) in 0..1.
        luma: Of `vis`, (H, W).
        chroma: `auto`, `keep` (three channels also from a grey image) or `drop`.

    Returns:
        (H, W) or (H, W, 3), not clipped.
    """
    if chroma == "drop" or (chroma == "auto" and vis.ndim == 2):
        return fused
    if vis.ndim == 2:
        return np.repeat(fused[..., None], 3, axis=2)
    coloured: np.ndarray = vis + (fused - luma)[..., None]
    return coloured
