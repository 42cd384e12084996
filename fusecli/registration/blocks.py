"""Local agreement of two images for every small shift, and the model that agrees with most of it.

The fixed image is divided into cells. For each cell and each shift within a few pixels the
correlation of the orientation fields around the cell is stored: a volume. A cell on a lamp post
says precisely where it belongs, one on a wall only across the wall's edge, one on the sky nothing.
Therefore no cell decides alone: each chooses its best shift under a penalty for leaving the model,
the model is fitted to the choices weighted by how well they agree, and the penalty grows.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fusecli.registration.features import Image, orientation

Points = NDArray[np.float64]
Model = Callable[[Points, NDArray[np.float64]], Points]


class Volume(NamedTuple):
    """Correlation of two orientation fields, by cell and shift.

    Args:
        agreement: (N, S, S), about -1..1, S = 2 reach + 1; first axis of shifts is y.
        weight: (N,), gradient energy of the fixed image in each cell, 1 on average.
        centres: (N, 2), (x, y) in pixels.
        shape: Rows and columns of the grid of cells.
    """

    agreement: Image
    weight: NDArray[np.float64]
    centres: Points
    shape: tuple[int, int]


def volume(fixed: Image, moving: Image, covered: Image, reach: int, cell: float) -> Volume:
    """Return the local agreement of two images of one size for every shift up to `reach`.

    Args:
        fixed: Orientation field, (H, W, 2).
        moving: Image brought onto the fixed grid by the estimate so far, (H, W).
        covered: (H, W), 1 where `moving` has data.
        reach: Largest shift along each axis, in pixels.
        cell: Side of a cell, in pixels.
    """
    height, width = fixed.shape[:2]
    rows, columns = max(1, round(height / cell)), max(1, round(width / cell))
    pool_y, pool_x = _pooling(rows, height), _pooling(columns, width)

    field = orientation(moving) * covered[..., None]
    pad = ((reach, reach), (reach, reach))
    along, across = (np.pad(field[..., i], pad) for i in range(2))
    energy = along**2 + across**2
    here_along, here_across = (np.ascontiguousarray(fixed[..., i]) for i in range(2))
    weight = pool_y @ (here_along**2 + here_across**2) @ pool_x.T

    steps = 2 * reach + 1
    agreement = np.empty((rows, columns, steps, steps), np.float32)
    for y in range(steps):
        others = pool_y @ energy[y : y + height]
        for x in range(steps):
            view = np.s_[y : y + height, x : x + width]
            match = here_along * along[view]
            match += here_across * across[view]
            scale = np.sqrt(weight * (others[:, x : x + width] @ pool_x.T))
            # the constant keeps cells without edges from agreeing by rounding
            agreement[:, :, y, x] = (pool_y @ match @ pool_x.T) / (scale + 0.02)
    grid_y = (np.arange(rows) + 0.5) * height / rows - 0.5
    grid_x = (np.arange(columns) + 0.5) * width / columns - 0.5
    centres = np.stack(np.meshgrid(grid_x, grid_y), -1).reshape(-1, 2)
    share = weight.reshape(-1).astype(np.float64)
    return Volume(
        agreement.reshape(-1, steps, steps),
        share / (share.mean() + 1e-12),
        centres,
        (rows, columns),
    )


def _pooling(cells: int, length: int) -> Image:
    """Return weights (cells, length) that average around each cell: a cell and half its neighbours.

    The window is a cell's box smoothed by a Gaussian of one cell.
    """
    centres = (np.arange(cells) + 0.5) * length / cells - 0.5
    distance = np.abs(np.arange(length) - centres[:, None]) * cells / length
    weights = np.exp(-(distance**2) / (2 * (1 + 1 / 12)))
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)


def settle(cells: Volume, model: Model, penalties: tuple[float, float], rounds: int = 6) -> Points:
    """Return the shift of each cell under a model that the cells agree on, (N, 2) as (x, y).

    Args:
        cells: Local agreement.
        model: (N, 2) chosen shifts and (N,) weights to (N, 2) shifts that the model allows.
        penalties: Cost of leaving the model by a pixel (half of it, squared), first and last round.
        rounds: Alternations of choice and fit.

    Source:
        The alternation is the coupled convex scheme of Steinbruecker, Pock and Cremers, Large
        displacement optical flow computation without warping, ICCV 2009.
    """
    count, steps = cells.agreement.shape[:2]
    reach = steps // 2
    axis = np.arange(-reach, reach + 1, dtype=np.float32)
    index = np.arange(count)
    shifts = np.zeros((count, 2))
    for penalty in np.geomspace(*penalties, rounds):
        leave_x = (axis - shifts[:, :1].astype(np.float32)) ** 2
        leave_y = (axis - shifts[:, 1:].astype(np.float32)) ** 2
        value = cells.agreement - np.float32(penalty / 2) * (
            leave_y[:, :, None] + leave_x[:, None, :]
        )
        y, x = np.divmod(value.reshape(count, -1).argmax(1), steps)
        chosen = np.stack((_vertex(value, index, y, x, 1), _vertex(value, index, y, x, 0)), 1)
        trust = np.maximum(cells.agreement[index, y, x], 0.0) * cells.weight
        shifts = model(chosen - reach, trust)
    return shifts


def mean_agreement(cells: Volume, shifts: Points) -> float:
    """Return the agreement at the given shifts, averaged with the weights of the cells."""
    reach = cells.agreement.shape[1] // 2
    x, y = np.clip(np.rint(shifts).astype(int) + reach, 0, 2 * reach).T
    values = cells.agreement[np.arange(len(shifts)), y, x]
    return float((values * cells.weight).sum() / (cells.weight.sum() + 1e-12))


def _vertex(
    value: Image, index: NDArray[np.int64], y: NDArray[np.int64], x: NDArray[np.int64], axis: int
) -> NDArray[np.float64]:
    """Return the maximum along one axis (1 is x) of the parabola through three neighbours."""
    last = value.shape[1] - 1
    if axis:
        centre = np.clip(x, 1, last - 1)
        low, mid, high = (value[index, y, centre + step] for step in (-1, 0, 1))
    else:
        centre = np.clip(y, 1, last - 1)
        low, mid, high = (value[index, centre + step, x] for step in (-1, 0, 1))
    bend = np.minimum(low + high - 2 * mid, -1e-6)
    return np.asarray(centre + np.clip(0.5 * (low - high) / bend, -1, 1), np.float64)
