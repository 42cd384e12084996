"""One pair of pictures to one fused image: every step, and no files.

Pictures in memory go through `fuse_pictures`; `large` takes the same steps a band at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from fusecli import images
from fusecli.errors import InputError
from fusecli.fusion import Choices
from fusecli.fusion.workers import FuseArrays
from fusecli.images import Picture
from fusecli.options import Side
from fusecli.outcome import Stopwatch
from fusecli.registration.align import Alignment, align, luma_of, pass_into
from fusecli.registration.transform import Transform

SATURATED = 0.05  # share of infrared pixels at the top of their range that is worth a warning

Limits = tuple[float, float]


class Sides(NamedTuple):
    """A pair in 0..1, float32; once on one grid, both are (H, W).

    Args:
        ir: (H, W).
        vis: (H, W), or (H, W, 3).
        alpha: Opacity of the visible image on the same grid, where it is kept.
        weight: Of the image that was moved, see `Aligned`; None where none was.
    """

    ir: np.ndarray
    vis: np.ndarray
    alpha: np.ndarray | None = None
    weight: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class FusedPair:
    """What became of one pair.

    Args:
        pixels: The result as it is stored, (H, W) or (H, W, 3).
        alpha: Its opacity as stored, (H, W), where that is kept.
        sides: What it was made of, on its grid.
        unit: The result in 0..1, not clipped.
        limits: Stored values of the infrared and the visible image that became 0 and 1.
        notes: Code to message of warnings.
        transform: What brought one side onto the other, where something did.
        invalid: Pixels that the side on whose grid it lies has no measurement for, (H, W) bool.
        ms: Milliseconds by part: `read`, `align`, `run`, `write`.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None
    sides: Sides
    unit: np.ndarray
    limits: tuple[Limits, Limits]
    notes: dict[str, str]
    transform: Transform | None
    invalid: np.ndarray | None
    ms: dict[str, float]


def fuse_pictures(
    ir: Picture,
    vis: Picture,
    choices: Choices,
    network: FuseArrays,
    alignment: Alignment | None = None,
    key: str = "the pair",
) -> FusedPair:
    """Return one fused image.

    Args:
        ir: Infrared, as stored.
        vis: Visible, as stored.
        choices: How values become network input and back.
        network: Infrared and visible luma, (H, W) float32 in 0..1, to fused luma.
        alignment: How one side is brought onto the other, `choices.grid`; None where they match.
        key: Name of the pair, for messages and stored transforms.

    Raises:
        InputError: Sizes differ (`size.differ`), or a side that could not be brought onto the
            other (`register.rejected` and its kin).
        UsageError: A range that makes no sense.
    """
    watch, transform = Stopwatch(), None
    with watch("read"):
        pixels = images.as_grey(ir, choices.ir_luma)
        limits = (
            images.limits(pixels, choices.ir_range, ir.invalid),
            images.limits(vis.pixels, choices.vis_range, vis.invalid),
        )
        notes = range_notes(key, limits[0], pixels.dtype, lambda v: float(np.mean(pixels >= v)))
        notes |= images.notes_of(ir)
        sides = Sides(
            images.to_unit(pixels, limits[0], ir.invalid),
            images.to_unit(vis.pixels, limits[1], vis.invalid),
            _opacity(vis) if choices.alpha == "keep" else None,
        )
        if alignment is None:
            sides = fit(sides, choices.fit)
    if alignment is not None:
        with watch("align"):
            fixed, moving = (vis, ir) if choices.grid == "vis" else (ir, vis)
            transform = alignment.of(key, luma_of(fixed), luma_of(moving))
            sides = _aligned(sides, transform, choices.grid)
    luma = images.luma(sides.vis)
    answer = network(sides.ir, luma)
    watch.ms["run"] = round(answer.ms, 3)
    with watch("write"):
        if alignment is None:
            fill_gaps(answer.image, luma, _gaps(ir, luma))
        unit = _finish(answer.image, sides, luma, choices)
        dtype = result_type(choices, vis.pixels.dtype)
        return FusedPair(
            pixels=images.from_unit(unit, dtype),
            alpha=None if sides.alpha is None else images.from_unit(sides.alpha, dtype),
            sides=sides,
            unit=unit,
            limits=limits,
            notes=notes,
            transform=transform,
            invalid=_gaps(vis if choices.grid == "vis" else ir, sides.ir),
            ms=watch.ms,
        )


def _gaps(picture: Picture, pixels: np.ndarray) -> np.ndarray | None:
    """Return where a picture has no measurement, on the grid of `pixels`; None for nowhere."""
    if picture.invalid is None or picture.invalid.shape == pixels.shape:
        return picture.invalid
    size = pixels.shape[1], pixels.shape[0]
    gaps = cv2.resize(picture.invalid.view(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    return np.asarray(gaps != 0)


def fill_gaps(fused: np.ndarray, visible: np.ndarray, gaps: np.ndarray | None) -> None:
    """Put the visible luma where the infrared image has no measurement, in place; all (H, W)."""
    if gaps is not None:
        fused[gaps] = visible[gaps]


def _finish(fused: np.ndarray, sides: Sides, luma: np.ndarray, choices: Choices) -> np.ndarray:
    """Return the result in 0..1 of a fused luma: with its colours, and whole where data ended.

    Args:
        fused: (H, W) in 0..1.
        sides: What it was made of, on one grid.
        luma: Of the visible image, (H, W).
        choices: How values become network input and back.

    Returns:
        (H, W) or (H, W, 3), not clipped.
    """
    result = recolour(fused, sides.vis, luma, choices.chroma)
    if sides.weight is None:
        return result
    visible = luma if result.ndim == 2 else sides.vis
    return pass_into(result, visible if choices.grid == "vis" else sides.ir, sides.weight)


def result_type(choices: Choices, visible: np.dtype) -> np.dtype:
    """Return the type of the result; that of the visible image where none was asked for."""
    return visible if choices.out_dtype == "auto" else np.dtype(choices.out_dtype)


def range_notes(
    key: str, limits: Limits, dtype: np.dtype, share_from: Callable[[float], float]
) -> dict[str, str]:
    """Return what is worth a warning about the range of an infrared image, by code.

    Args:
        key: Name of the pair.
        limits: Stored values that become 0 and 1.
        dtype: Of the image.
        share_from: A stored value to the share of pixels at or above it.
    """
    low, high = limits
    if high <= low:
        return {"range.flat": f"'{key}' has a flat infrared image"}
    if dtype == np.uint8 and share_from(high) > SATURATED:
        text = f"'{key}' has more than {SATURATED:.0%} saturated infrared pixels"
        return {"range.saturated": text}
    return {}


def _opacity(vis: Picture) -> np.ndarray | None:
    """Return the opacity of a picture in 0..1, where it has one."""
    if vis.alpha is None:
        return None
    return images.to_unit(vis.alpha, images.limits(vis.alpha, "dtype"))


def _aligned(sides: Sides, transform: Transform, grid: Side) -> Sides:
    """Return a pair on the grid of the side that stays; `alpha` goes with `vis`."""
    moved, weight = align(sides.ir if grid == "vis" else sides.vis, transform)
    if grid == "vis":
        return sides._replace(ir=moved, weight=weight)
    alpha = None if sides.alpha is None else align(sides.alpha, transform).moved
    return Sides(sides.ir, moved, alpha, weight)


def fit(sides: Sides, rule: str) -> Sides:
    """Return a pair on one grid, resampled as `--fit` says.

    Raises:
        InputError: The sizes differ and `rule` is `error` (`size.differ`).
    """
    ir, vis, alpha = sides.ir, sides.vis, sides.alpha
    if ir.shape == vis.shape[:2]:
        return sides
    if rule == "ir-to-vis":
        return sides._replace(ir=resize(ir, vis.shape[:2]))
    if rule == "vis-to-ir":
        carried = None if alpha is None else resize(alpha, ir.shape)
        return sides._replace(vis=resize(vis, ir.shape), alpha=carried)
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
