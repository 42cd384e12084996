"""Pixel values: stored numbers to 0..1 and back, luma, and what a grey image is."""

import difflib
import re
from typing import NamedTuple

import cv2
import numpy as np

from fusecli.errors import UsageError

# BT.601, the weights of every published fusion code.
LUMA = np.array((0.299, 0.587, 0.114), np.float32)

AUTO_PERCENTILES = (0.5, 99.5)

# What `stray_value` asks for: pixels, their share, and how many times the span of the rest.
STRAY_PIXELS, STRAY_SHARE, STRAY_GAP = 8, 0.0005, 3.0
# High bytes that are swapped low ones: the mean difference of neighbours, how many times that of
# the other bytes, and the share that the commonest of these may have.
NOISE, ROUGHER, COMMONEST = 8.0, 8.0, 0.95

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_LIMITS = re.compile(rf"({_NUMBER}):({_NUMBER})")
_PERCENTILES = re.compile(rf"[pP]({_NUMBER}):[pP]({_NUMBER})")


def luma(pixels: np.ndarray) -> np.ndarray:
    """Return the BT.601 luma, (H, W) float32 in the scale of the pixels.

    Args:
        pixels: (H, W), returned as float32, or (H, W, 3) RGB.
    """
    if pixels.ndim == 2:
        return pixels.astype(np.float32, copy=False)
    # Not `@ LUMA`: there the last bit of a pixel depends on how many others there are.
    return np.asarray(cv2.transform(pixels.astype(np.float32, copy=False), LUMA[None]))


def parse_range(rule: str) -> tuple[str, float, float]:
    """Return a range rule as (`auto`, `dtype`, `values` or `percentiles`; low; high).

    Raises:
        UsageError: `range.syntax`, or `range.empty` when low is not below high.
    """
    if rule in ("auto", "dtype"):
        return rule, 0.0, 0.0
    if match := _LIMITS.fullmatch(rule.strip()):
        kind = "values"
    elif match := _PERCENTILES.fullmatch(rule.strip()):
        kind = "percentiles"
    else:
        near = difflib.get_close_matches(rule, ("auto", "dtype"), n=1)
        signed = "a range that starts with a minus sign is written --ir-range=-20:120"
        raise UsageError(
            f"range '{rule}' is not understood",
            code="range.syntax",
            facts=["auto, dtype, LO:HI (such as -20:120), or pLO:pHI (such as p0.5:p99.5)"],
            hint=f"did you mean '{near[0]}'?" if near else signed,
        )
    low, high = float(match[1]), float(match[2])
    if not low < high or not np.isfinite(high - low):
        raise UsageError(
            f"range '{rule}' is empty: {low:g} is not below {high:g}",
            code="range.empty",
            hint="the smaller value comes first, as in 10:240",
        )
    if kind == "percentiles" and not 0 <= low < high <= 100:
        raise UsageError(
            f"range '{rule}': percentiles lie between 0 and 100",
            code="range.syntax",
            hint="as in p0.5:p99.5",
        )
    return kind, low, high


def resolve_range(rule: str, dtype: np.dtype) -> tuple[bool, float, float]:
    """Return (True, low, high) of limits that a rule states, or (False, low, high) percentiles.

    Raises:
        UsageError: `range.syntax` or `range.empty`.
    """
    kind, low, high = parse_range(rule)
    if kind == "values":
        return True, low, high
    if kind == "dtype" or (kind == "auto" and dtype == np.uint8):
        return True, 0.0, float(np.iinfo(dtype).max) if dtype.kind == "u" else 1.0
    if kind == "auto":
        low, high = AUTO_PERCENTILES
    return False, low, high


def limits(
    pixels: np.ndarray, rule: str = "auto", invalid: np.ndarray | None = None
) -> tuple[float, float]:
    """Return the stored values that become 0 and 1.

    Args:
        pixels: (H, W) or (H, W, 3), uint8, uint16 or float32. Channels are taken together, so
            that colours keep their balance.
        rule: `auto` (`dtype` for uint8, otherwise p0.5:p99.5), `dtype` (the full range of an
            integer type, 0:1 for float), `LO:HI`, or `pLO:pHI` percentiles.
        invalid: (H, W) bool, pixels left out of the percentiles; NaN and infinite ones always are.

    Returns:
        (low, high); equal for percentiles of a constant image, (0, 1) where no pixel is valid.

    Raises:
        UsageError: `range.syntax` or `range.empty`.
    """
    known, low, high = resolve_range(rule, pixels.dtype)
    if known:
        return low, high
    values = pixels if invalid is None else pixels[~invalid]
    if values.dtype.kind == "u":
        return histogram_percentiles(np.bincount(values.ravel()), low, high)
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    with np.errstate(over="ignore"):  # between neighbours at the two ends of float32
        at_low, at_high = np.percentile(values, (low, high))
    return float(at_low), float(at_high)


def histogram_percentiles(counts: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """Return what `np.percentile` would, without sorting and without a copy as floats.

    Args:
        counts: How many pixels have each value from 0.
        low: Percentile, 0 to 100.
        high: Percentile, 0 to 100.
    """
    below = np.cumsum(counts)
    total = int(below[-1]) if below.size else 0
    if not total:
        return 0.0, 1.0
    found = []
    for percent in (low, high):
        rank = percent / 100 * (total - 1)
        left, right = np.searchsorted(below, (np.floor(rank), np.ceil(rank)), side="right")
        found.append(float(left + (right - left) * (rank - np.floor(rank))))
    return found[0], found[1]


def invalid_pixels(pixels: np.ndarray, nodata: float | None) -> np.ndarray | None:
    """Return where pixels are NaN, infinite or the no-data value, (H, W) bool."""
    is_float = pixels.dtype.kind == "f"
    invalid = None
    if is_float:
        finite = np.isfinite(pixels)
        invalid = ~(finite if pixels.ndim == 2 else finite.all(axis=2))
    if nodata is not None:
        same = pixels == (np.float32(nodata) if is_float else nodata)
        # A colour is missing where all its channels are.
        missing = same if pixels.ndim == 2 else same.all(axis=2)
        invalid = missing if invalid is None else invalid | missing
    return invalid


class Stray(NamedTuple):
    """A value far from all others, the share of pixels that have it, and the limits of the rest."""

    value: float
    share: float
    low: float
    high: float


def stray_value(pixels: np.ndarray, invalid: np.ndarray | None = None) -> Stray | None:
    """Return the value that seems to stand for "no measurement" though nothing says so, if any.

    That is a lowest or highest value (-9999, 0, 65535) that many pixels share, and that is farther
    from the rest than three times what the rest spans.

    Args:
        pixels: (H, W), or (H, W, 3); 8 bits are too few to tell.
        invalid: (H, W) bool, pixels without a measurement that are known.
    """
    if pixels.dtype == np.uint8:
        return None
    values = (pixels if invalid is None else pixels[~invalid]).ravel()
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    for extreme in (np.min, np.max):
        if not values.size:
            break
        value = extreme(values)
        rest = values[values != value]
        count = values.size - rest.size
        if not rest.size or count < max(STRAY_PIXELS, STRAY_SHARE * values.size):
            continue
        low, high = float(rest.min()), float(rest.max())
        if max(low - float(value), float(value) - high) > STRAY_GAP * (high - low) > 0:
            return Stray(float(value), count / values.size, low, high)
    return None


def bytes_swapped(pixels: np.ndarray) -> bool:
    """True for 16-bit values whose high bytes are noise while the low ones make a picture."""
    if pixels.dtype != np.uint16 or pixels.ndim != 2 or pixels.shape[1] < 2:
        return False
    high, low = pixels >> 8, pixels & 255
    rough, smooth = (
        float(np.abs(np.diff(part.astype(np.int16), axis=1)).mean()) for part in (high, low)
    )
    if rough < NOISE or smooth * ROUGHER > rough:
        return False
    # 8 bits shifted up leave low bytes of zero.
    return bool(np.bincount(low.ravel()).max() < COMMONEST * low.size)


def to_unit(
    pixels: np.ndarray, limits: tuple[float, float], invalid: np.ndarray | None = None
) -> np.ndarray:
    """Return pixels scaled so that `limits` become 0 and 1, clipped, as float32.

    Where both limits are one value, as in a constant image, what lies above it becomes 1 and the
    rest 0. NaN, infinite and `invalid` pixels become 0.
    """
    low, high = limits
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is clipped or not finite
        if high > low:
            # Float32 is exact enough, and twice as fast, unless a small range lies far from zero.
            exact = _fits_float32(low, high)
            unit = np.subtract(pixels, low, dtype=np.float32 if exact else np.float64)
            unit /= high - low
            unit = np.clip(unit, 0, 1, out=unit).astype(np.float32, copy=False)
        else:
            unit = (pixels > low).astype(np.float32)
    if pixels.dtype.kind == "f":
        unit[~np.isfinite(pixels)] = 0
    if invalid is not None:
        unit[invalid] = 0
    return unit


def _fits_float32(low: float, high: float) -> bool:
    """True when rounding `low` to float32 moves it by less than 1e-6 of the range."""
    largest = max(abs(low), abs(high))
    if not 1e-30 < high - low < 1e30 or largest > 1e30:
        return False
    return abs(float(np.float32(low)) - low) < 1e-6 * (high - low)


def from_unit(unit: np.ndarray, dtype: np.dtype | type) -> np.ndarray:
    """Return 0..1 as stored values: clipped, rounded half to even, cast.

    Args:
        unit: Any shape, float. NaN becomes 0.
        dtype: uint8, uint16 or float32 (0..1).
    """
    kind = np.dtype(dtype)
    clipped = np.clip(unit.astype(np.float32, copy=False), 0, 1)
    if np.isnan(clipped).any():
        clipped[np.isnan(clipped)] = 0
    if kind.kind == "f":
        return clipped.astype(kind, copy=False)
    clipped *= np.float32(np.iinfo(kind).max)
    return np.rint(clipped, out=clipped).astype(kind)
