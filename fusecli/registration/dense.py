"""From a matrix to a smooth field: lens distortion, parallax, all that no plane can say."""

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from fusecli.fields import Matrix
from fusecli.registration.blocks import Points, settle, volume
from fusecli.registration.features import (
    Image,
    fit_size,
    look_along,
    orientation,
    places,
    read,
    rescale,
    resize_field,
    shrink,
)
from fusecli.registration.refine import Level

STIFFNESS = 0.1
"""Weight of the bending of the field against the wishes of the cells."""


def levels(side: float) -> tuple[Level, ...]:
    """Return the resolutions of the dense stage up to a working side."""
    fine = (Level(side, 3, 12), Level(side, 2, 8))
    return (Level(side / 2, 4, 8), *fine) if side >= 128 else fine


def bend(fixed: Image, moving: Image, matrix: Matrix, side: float) -> Image:
    """Return what is left to move once a matrix has done its part, (H, W, 2) in pixels, (dx, dy).

    Args:
        fixed: (H, W).
        moving: (H', W').
        matrix: Fixed to moving, good to a few pixels.
        side: Working resolution: longer side of the fixed image on the finest level.

    Returns:
        A field on the fixed grid: fixed pixel x lies at matrix(x + field(x)) in the moving image.
    """
    rest = np.zeros((*fixed.shape, 2), np.float32)
    for level in levels(min(side, max(fixed.shape))):
        size = fit_size(fixed.shape, level.side)
        small = rescale(matrix, (fixed.shape, size), (moving.shape,) * 2)
        rest = _step(shrink(fixed, size), moving, small, resize_field(rest, size), level)
    return resize_field(rest, fixed.shape)


def _step(fixed: Image, moving: Image, matrix: Matrix, rest: Image, level: Level) -> Image:
    """Return the improved rest of the displacement on one level, (H, W, 2)."""
    view, covered = look_along(moving, matrix, rest)
    cells = volume(orientation(fixed), view, covered, level.reach, level.cell)
    basis = _bases(*cells.shape)
    shifts = np.zeros((*cells.shape, 2))

    def model(chosen: Points, trust: NDArray[np.float64]) -> Points:
        nonlocal shifts
        shifts = _smooth(chosen.reshape(shifts.shape), trust.reshape(cells.shape), shifts, basis)
        return shifts.reshape(-1, 2)

    settle(cells, model, penalties=(0.01, 0.3), rounds=5)
    size = (fixed.shape[1], fixed.shape[0])
    step = np.asarray(cv2.resize(shifts, size, interpolation=cv2.INTER_CUBIC), np.float32)
    # what is at x now was at x + step(x) in the view, and that came from rest(x + step(x)) further
    carried = read(rest, places(step))
    return np.asarray(step + carried, np.float32)


def _smooth(
    chosen: NDArray[np.float64],
    trust: NDArray[np.float64],
    start: NDArray[np.float64],
    basis: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
) -> NDArray[np.float64]:
    """Return the thin plate through weighted shifts, (rows, columns, 2).

    Source:
        Garcia, Robust smoothing of gridded data in one and higher dimensions with missing values,
        Comput. Stat. Data Anal. 54, 2010: the plate is a filter in the cosine domain, the weights
        are met by iteration.
    """
    down, across, bending = basis
    weight = trust / (trust.max() + 1e-12)
    keep = 1 / (1 + STIFFNESS * bending)
    chosen, field = np.moveaxis(chosen, -1, 0), np.moveaxis(start, -1, 0)
    for _ in range(12):
        target = weight * (chosen - field) + field
        field = down.T @ (keep * (down @ target @ across.T)) @ across
    return np.ascontiguousarray(np.moveaxis(field, 0, -1))


@lru_cache(maxsize=32)
def _bases(
    rows: int, columns: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return cosine transforms along y and x, and the squared Laplacian of each coefficient."""
    down, across = _cosines(rows), _cosines(columns)
    along_y = 2 - 2 * np.cos(np.pi * np.arange(rows) / rows)
    along_x = 2 - 2 * np.cos(np.pi * np.arange(columns) / columns)
    return down, across, (along_y[:, None] + along_x) ** 2


def _cosines(count: int) -> NDArray[np.float64]:
    """Return the orthonormal cosine transform (type II) of a length, (count, count)."""
    order, place = np.arange(count)[:, None], np.arange(count) + 0.5
    transform = np.sqrt(2 / count) * np.cos(np.pi * order * place / count)
    transform[0] /= np.sqrt(2)
    return transform
