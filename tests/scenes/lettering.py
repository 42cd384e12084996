"""A stroke font, since OpenCV's own looks different from version to version."""

from __future__ import annotations

from functools import cache

import numpy as np
from scenes.render import Array

# strokes as pairs of digits x, y; x from 0 to 4, y from 0 at the foot to 6
STROKES = {
    "A": "002640 1232", "B": "0006 063645443303 3342413000", "C": "4536160501103041",
    "D": "00062644422000", "E": "46060040 0333", "F": "460600 0333",
    "G": "45361605011030414323", "H": "0006 4046 0343", "I": "2026", "K": "0006 460340",
    "L": "060040", "M": "0006234640", "N": "00064046", "O": "103041453616050110",
    "P": "00063645443303", "R": "00063645443303 2340", "S": "453616050413334241301001",
    "T": "0646 2026", "U": "060110304146", "V": "062046", "W": "0610233046",
    "Y": "062346 2320", "0": "103041453616050110", "1": "152620", "2": "05163645440040",
    "3": "051636454433 13334241301001", "4": "30360242", "5": "460603334241301001",
    "6": "4536160501103041423303", "7": "064620",
    "8": "133344453616050413 1302011030414233", " ": "",
}  # fmt: skip
FINENESS = 8  # raster cells in a unit of the strokes
ADVANCE, RISE = 6, 8  # units from letter to letter, and from line to line


def lettering(text: str, s: Array, t: Array, width: float, height: float) -> Array:
    """Return how much of each point a text covers, 0..1, set to fill width x height metres."""
    raster = _raster(text)
    rows, columns = raster.shape
    x = np.floor(s / width * columns).astype(int)
    y = np.floor(t / height * rows).astype(int)
    on = (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
    return np.where(on, raster[np.clip(y, 0, rows - 1), np.clip(x, 0, columns - 1)], 0)


@cache
def _raster(text: str) -> Array:
    y, x = np.mgrid[0 : RISE * FINENESS, 0 : len(text) * ADVANCE * FINENESS] / FINENESS - 1.0
    away = np.full(x.shape, 9.0)
    for place, letter in enumerate(text):
        for stroke in STROKES[letter].split():
            ends = [
                (int(a) + ADVANCE * place, int(b))
                for a, b in zip(stroke[::2], stroke[1::2], strict=True)
            ]
            for (x0, y0), (x1, y1) in zip(ends, ends[1:], strict=False):
                dx, dy = x1 - x0, y1 - y0
                along = np.clip(((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy), 0, 1)
                away = np.minimum(away, np.hypot(x - x0 - along * dx, y - y0 - along * dy))
    return np.clip((0.7 - away) * FINENESS / 2, 0, 1).astype(np.float32)
