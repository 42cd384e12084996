"""False colours back to a scale: which palette they are of, and where on it each pixel lies.

The luma of a rainbow says nothing about what it shows: in jet and turbo both ends are dark, so a
hot person vanishes. A palette is known by its colours, and then each colour has one place on it.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

SAMPLED = 1024  # pixels by which a palette is recognised
NEAR = 12.0  # mean distance in RGB, of 255, up to which colours are of a palette; JPEG takes 2 to 6
BITS = 6  # of each channel when a colour is looked up

OPENCV = (
    "jet", "turbo", "rainbow", "hsv", "inferno", "magma", "plasma", "viridis", "cividis", "parula",
    "hot", "bone", "cool", "ocean", "autumn", "spring", "summer", "winter", "pink",
)  # fmt: skip


@lru_cache(maxsize=1)
def tables() -> dict[str, NDArray[np.float32]]:
    """Return the palettes that are known: name to (256, 3) RGB, lowest value first."""
    steps = np.arange(256, dtype=np.uint8)[:, None]
    known = {}
    for name in OPENCV:
        colours = cv2.applyColorMap(steps, getattr(cv2, f"COLORMAP_{name.upper()}"))
        known[name] = colours[:, 0, ::-1].astype(np.float32)
    x = np.linspace(0, 1, 256)
    waves = (np.abs(2 * x - 0.5).clip(0, 1), np.sin(np.pi * x), np.cos(np.pi * x / 2))
    known["matplotlib's rainbow"] = (255 * np.stack(waves, axis=1)).astype(np.float32)
    return known


def recognised(pixels: np.ndarray, invalid: np.ndarray | None = None) -> str | None:
    """Return the name of the palette that a picture is painted in, or None.

    Args:
        pixels: (H, W, 3) RGB, uint8 or uint16.
        invalid: (H, W) bool, pixels that are not looked at.
    """
    if pixels.dtype.kind != "u":
        return None
    values = pixels.reshape(-1, 3) if invalid is None else pixels[~invalid]
    if not len(values):
        return None
    some = _bytes(values[:: max(1, len(values) // SAMPLED)]).astype(np.float32)
    away = {name: float(_nearest(some, table)[1].mean()) for name, table in tables().items()}
    best = min(away, key=lambda name: away[name])
    return best if away[best] <= NEAR else None


def scale(pixels: np.ndarray, name: str) -> np.ndarray:
    """Return where on a palette the colours lie, (H, W) over the full range of their type.

    Args:
        pixels: (H, W, 3) RGB, uint8 or uint16.
        name: From `recognised`.
    """
    coarse = _bytes(pixels).astype(np.uint32) >> (8 - BITS)
    code = (coarse[..., 0] << 2 * BITS) | (coarse[..., 1] << BITS) | coarse[..., 2]
    places = _places(name)[code]
    return places if pixels.dtype == np.uint8 else places.astype(pixels.dtype) * 257


@lru_cache(maxsize=4)
def _places(name: str) -> NDArray[np.uint8]:
    """Return the place of every colour of `BITS` bits a channel."""
    levels = (np.arange(1 << BITS, dtype=np.float32) + 0.5) * (1 << (8 - BITS)) - 0.5
    places = []
    for red in levels:
        green, blue = np.meshgrid(levels, levels, indexing="ij")
        colours = np.stack((np.full_like(green, red), green, blue), axis=-1).reshape(-1, 3)
        places.append(_nearest(colours, tables()[name])[0])
    return np.concatenate(places).astype(np.uint8)


def _nearest(
    colours: NDArray[np.float32], table: NDArray[np.float32]
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return for each colour the nearest entry of a palette, and how far it is."""
    squares = (colours**2).sum(1)[:, None] + (table**2).sum(1) - 2 * colours @ table.T
    places = squares.argmin(1)
    return places, np.sqrt(squares[np.arange(len(places)), places].clip(0))


def _bytes(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)
