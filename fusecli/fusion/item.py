"""One pair from two files to one fused file: the work of `fusecli fuse`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fusecli import images, pictures
from fusecli.fusion import Choices
from fusecli.fusion.large import LargePair
from fusecli.fusion.pair import FusedPair, Limits, fuse_pictures
from fusecli.fusion.workers import FuseArrays
from fusecli.images import Picture, thermal, tiff, tiff_rows
from fusecli.images.tiff_rows import TiffRows
from fusecli.outcome import Outcome, Stopwatch
from fusecli.registration.align import Alignment, note_transform
from fusecli.run.outputs import stage
from fusecli.run.plan import Job

LARGE = 1 << 25  # pixels of a pair that is not held in memory, where that can be avoided


class FuseItem:
    """The work of `fusecli fuse`: called with one job in each thread.

    Args:
        network: Infrared and visible luma, (H, W) float32 in 0..1, to fused luma.
        choices: How values become network input and back, and what is written.
        sheets: Folder of the sheets that `choices.compare` asks for.
        alignment: How one side is brought onto the other, `choices.grid`; None where they match.
        large: Pixels from which a pair is not held in memory, where that can be avoided.
    """

    def __init__(
        self,
        network: FuseArrays,
        choices: Choices,
        sheets: Path | None = None,
        alignment: Alignment | None = None,
        large: int = LARGE,
    ) -> None:
        self.network, self.choices, self.sheets = network, choices, sheets
        self.alignment, self.large = alignment, large
        self._one_large_pair = threading.Lock()

    def __call__(self, job: Job) -> Outcome:
        """Read, fuse and write one pair."""
        with ExitStack() as files:
            sides = self._open_large(job, files)
            return self._fuse_whole(job) if sides is None else self._fuse_large(job, *sides)

    def _open_large(self, job: Job, files: ExitStack) -> tuple[TiffRows, TiffRows] | None:
        """Return both files, open, if the pair is large and can be fused row by row."""
        if job.format != "tiff" or job.out == "-" or self.sheets is not None:
            return None
        if self.alignment is not None or self.choices.reader != "image":
            return None
        vis = TiffRows.open(job.vis)
        if vis is None:
            return None
        height, width = files.enter_context(vis).shape[:2]
        if height * width < self.large or not self.network.fuser.tiles_exactly:
            return None
        ir = TiffRows.open(job.ir)
        if ir is None or files.enter_context(ir).shape != (height, width):
            return None
        return ir, vis

    def _fuse_large(self, job: Job, ir: TiffRows, vis: TiffRows) -> Outcome:
        watch, outcome = Stopwatch(), Outcome(job.key, out=job.out)
        with self._one_large_pair:  # each may take as much memory as a run is meant to
            with watch("read"):
                pair = LargePair(ir, vis, self.choices, self.network, job.key)
            outcome.notes |= tiff.page_notes(ir, vis)
            outcome.notes |= pair.notes
            reference = vis if self.choices.grid == "vis" else ir
            kept = self.choices.metadata == "keep"
            metadata = reference.metadata if kept else images.Metadata()

            def write(target: BinaryIO) -> None:
                bands = pair.bands(str(Path(job.out).parent))
                tiff_rows.write(target, pair.shape, pair.dtype, metadata, bands, pair.nodata)

            with watch("write"):
                outcome.parts = stage([(job.out, write)])
        watch.ms["run"] = round(pair.ms, 3)
        watch.ms["write"] = round(max(0.0, watch.ms["write"] - pair.ms), 3)
        outcome.ms = watch.ms
        missing = pair.ir.nonfinite, pair.vis.nonfinite
        outcome.record = _record(pair.shape, pair.dtype, pair.limits, missing)
        return outcome

    def _fuse_whole(self, job: Job) -> Outcome:
        watch, outcome = Stopwatch(), Outcome(job.key, out=job.out)
        with watch("read"):
            ir, vis = read_pair(job, self.choices.reader)
        outcome.notes |= tiff.page_notes(ir, vis)
        fused = fuse_pictures(ir, vis, self.choices, self.network, self.alignment, job.key)
        outcome.notes |= fused.notes
        if fused.transform is not None:
            note_transform(fused.transform, outcome)
        with watch("write"):
            reference = vis if self.choices.grid == "vis" else ir
            data = images.encode(
                fused.pixels,
                format=job.format,
                alpha=fused.alpha,
                metadata=self._metadata(reference, fused.pixels.shape[:2], outcome),
                quality=self.choices.quality,
                invalid=fused.invalid,
            )
            outcome.parts = stage([*self._sheet(job, fused), (job.out, data)])
        outcome.ms = fused.ms | {
            name: round(fused.ms[name] + ms, 3) for name, ms in watch.ms.items()
        }
        missing = ir.nonfinite, vis.nonfinite
        outcome.record |= _record(fused.pixels.shape, fused.pixels.dtype, fused.limits, missing)
        return outcome

    def _sheet(self, job: Job, fused: FusedPair) -> Iterator[tuple[str, bytes]]:
        """Yield the file that shows the result beside its sources, where one is asked for."""
        if self.sheets is not None:
            sides = fused.sides
            sheet = pictures.sheet(sides.ir, sides.vis, fused.unit, self.choices.compare)
            data = images.encode(images.from_unit(sheet, np.uint8), format="png")
            yield str(self.sheets / f"{job.key}.png"), data

    def _metadata(
        self, reference: Picture, shape: tuple[int, ...], outcome: Outcome
    ) -> images.Metadata | None:
        if self.choices.metadata == "drop":
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
    limits: tuple[Limits, Limits],
    nonfinite: tuple[int, int],
) -> dict[str, Any]:
    """Return what the manifest says of a pair; infrared first."""
    return {
        "shape": list(shape),
        "dtype": str(dtype),
        "limits": {"ir": list(limits[0]), "vis": list(limits[1])},
        "nonfinite": {"ir": nonfinite[0], "vis": nonfinite[1]},
    }
