"""From a rough similarity to a precise matrix: translation to homography, coarse to fine."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fusecli.fields import Matrix
from fusecli.registration.blocks import Points, mean_agreement, settle, volume
from fusecli.registration.features import (
    Image,
    carry,
    fit_size,
    look,
    orientation,
    rescale,
    shrink,
)


class Level(NamedTuple):
    """One resolution of the refinement: longer side, reach and cell in pixels."""

    side: float
    reach: int
    cell: float


LEVELS = (Level(160, 6, 6), Level(288, 4, 8), Level(512, 3, 12))


def levels(side: float) -> tuple[Level, ...]:
    """Return the resolutions up to a working side."""
    coarse = tuple(level for level in LEVELS[:2] if level.side < 0.8 * side)
    return (*coarse, LEVELS[len(coarse)]._replace(side=side))


def refine(
    fixed: Image, moving: Image, starts: Sequence[Matrix], shape: str, side: float
) -> tuple[Matrix, float]:
    """Return the best fixed-to-moving matrix and its mean agreement.

    Args:
        fixed: (H, W).
        moving: (H', W').
        starts: Candidates; all are followed on the coarsest level, the best one beyond.
        shape: How the matrix may differ from its start.
        side: Working resolution: longer side of the fixed image on the finest level.
    """
    best = [(0.0, matrix) for matrix in starts]
    for level in levels(min(side, max(fixed.shape))):
        size = fit_size(fixed.shape, level.side)
        small = shrink(fixed, size)
        still = orientation(small)
        moved = [
            _step(still, moving, rescale(matrix, (fixed.shape, size), (moving.shape,) * 2),
                  shape, level)
            for _, matrix in best
        ]  # fmt: skip
        score, matrix = max(moved, key=lambda pair: pair[0])
        best = [(score, rescale(matrix, (size, fixed.shape), (moving.shape,) * 2))]
    return best[0][1], best[0][0]


def fit(shape: str, points: Points, shifts: Points, trust: NDArray[np.float64]) -> Matrix:
    """Return the weighted least-squares matrix from points to points plus shifts.

    Args:
        shape: The family of matrices.
        points: (N, 2), (x, y).
        shifts: (N, 2).
        trust: (N,), not negative.
    """
    matrix = np.eye(3)
    weight = trust + 1e-6 * (trust.sum() + 1e-12) / len(trust)  # never without weight
    weight = weight / weight.sum()
    centre = weight @ points
    mean = weight @ shifts
    if shape == "translation":
        matrix[:2, 2] = mean
        return matrix
    arm, goal = points - centre, shifts - mean + points - centre
    if shape in ("euclidean", "similarity"):
        along = weight @ (arm * goal).sum(1)
        turning = weight @ (arm[:, 0] * goal[:, 1] - arm[:, 1] * goal[:, 0])
        length = np.hypot(along, turning) if shape == "euclidean" else weight @ (arm**2).sum(1)
        cosine, sine = np.array([along, turning]) / (length + 1e-12)
        slopes = np.array([[cosine, -sine], [sine, cosine]])
    else:
        spread = (arm * weight[:, None]).T @ arm + 1e-6 * np.eye(2)
        slopes = np.eye(2) + np.linalg.solve(spread, (arm * weight[:, None]).T @ (goal - arm)).T
    matrix[:2, :2] = slopes
    matrix[:2, 2] = centre + mean - slopes @ centre
    return _fit_homography(points, shifts, weight) if shape == "homography" else matrix


def _fit_homography(points: Points, shifts: Points, weight: NDArray[np.float64]) -> Matrix:
    """Return the homography that is linear least squares in centred and scaled coordinates."""
    centre = weight @ points
    scale = np.sqrt(weight @ ((points - centre) ** 2).sum(1)) + 1e-12
    norm = np.array([[1, 0, -centre[0]], [0, 1, -centre[1]], [0, 0, scale]]) / scale
    x, y = ((points - centre) / scale).T
    u, v = ((points + shifts - centre) / scale).T
    one, zero = np.ones_like(x), np.zeros_like(x)
    rows = np.concatenate(
        (
            np.stack((x, y, one, zero, zero, zero, -u * x, -u * y), 1),
            np.stack((zero, zero, zero, x, y, one, -v * x, -v * y), 1),
        )
    )
    root = np.sqrt(np.concatenate((weight, weight)))
    # a little weight on the identity's perspective keeps few or collinear cells harmless
    ridge = np.diag([0, 0, 0, 0, 0, 0, 1e-2, 1e-2])
    target = np.concatenate((u, v)) * root
    rows = np.concatenate((rows * root[:, None], ridge, 1e-6 * np.eye(8)))
    target = np.concatenate((target, np.zeros(8), 1e-6 * np.array([1, 0, 0, 0, 1, 0, 0, 0])))
    solution = np.linalg.lstsq(rows, target, rcond=None)[0]
    return np.linalg.inv(norm) @ np.append(solution, 1.0).reshape(3, 3) @ norm


def _step(
    still: Image, moving: Image, matrix: Matrix, shape: str, level: Level
) -> tuple[float, Matrix]:
    """Return the agreement and the improved matrix of one candidate on one level."""
    view, covered = look(moving, matrix, still.shape[:2])
    cells = volume(still, view, covered, level.reach, level.cell)
    update = np.eye(3)

    def model(chosen: Points, trust: NDArray[np.float64]) -> Points:
        nonlocal update
        update = fit(shape, cells.centres, chosen, trust)
        return carry(update, cells.centres) - cells.centres

    shifts = settle(cells, model, penalties=(0.003, 0.3))
    return mean_agreement(cells, shifts), matrix @ update
