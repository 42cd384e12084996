"""Where the infrared image lies in the visible one: an exhaustive search, no starting point.

Every rotation, scale and shift of a range is tried: the shifts all at once, as a correlation of
orientation fields by FFT. A gradient descent would find the nearest optimum; infrared/visible pairs
have many.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch

from fusecli.fields import Matrix, grid_scaling, linear, translation
from fusecli.registration.features import Image, fit_size, look, orientation, reduce, shrink


class Range(NamedTuple):
    """What is tried.

    Args:
        side: Longer side of the reduced fixed image, in pixels.
        angles: Degrees.
        scales: Factors.
        reach: Largest shift along each axis, as a fraction of the side.
    """

    side: int
    angles: Sequence[float]
    scales: Sequence[float]
    reach: float


class Candidate(NamedTuple):
    """One peak of the search: fixed-to-moving matrix at full size, and its significance."""

    matrix: Matrix
    score: float


NARROW = Range(128, tuple(range(-9, 10, 3)), (0.9, 0.95, 1.0, 1.05, 1.1), 0.15)
WIDE = Range(96, tuple(range(-12, 13, 4)), tuple(1.08**k for k in range(-9, 10)), 0.6)
FRACTION = Range(80, tuple(range(-8, 9, 4)), tuple(1.1**-k for k in range(4, 17)), 0.8)
"""Where the fixed camera sees between two thirds and a fifth of what the moving one sees."""


def search(
    fixed: Image, moving: Image, start: Matrix, span: Range = NARROW, peaks: int = 3
) -> list[Candidate]:
    """Return the best candidates, the most significant first.

    Args:
        fixed: (H, W).
        moving: (H', W').
        start: Fixed-to-moving matrix about which the range extends.
        span: What is tried.
        peaks: How many candidates, one for each rotation and scale at most.
    """
    size = fit_size(fixed.shape, span.side)
    to_full = grid_scaling(size, fixed.shape)
    margin = [max(2, round(span.reach * side)) for side in size]
    # the canvas is the reduced fixed grid with the margin added on each side
    canvas = [cv2.getOptimalDFTSize(side + 2 * m) for side, m in zip(size, margin, strict=True)]
    inset = translation(-margin[1], -margin[0])
    middle = ((size[1] - 1) / 2, (size[0] - 1) / 2)

    still = orientation(shrink(fixed, size))
    spectrum = torch.fft.rfft2(torch.from_numpy(still).permute(2, 0, 1), canvas)
    # Where nothing corresponds, the match is a sum of random signs. Divided by its deviation there,
    # overlaps of all sizes compete fairly.
    deviation = np.sqrt(float(np.vdot(still, still)) / (size[0] * size[1]) / 2) + 1e-12

    found = []
    for scale in span.scales:
        grids = [
            start @ to_full @ linear(middle, rotate=angle, scale=scale) @ inset
            for angle in span.angles
        ]
        reduced, to_reduced = reduce(moving, grids[0])
        views = np.stack([_view(reduced, to_reduced @ grid, canvas) for grid in grids])
        transformed = torch.fft.rfft2(torch.from_numpy(views).permute(0, 3, 1, 2))
        match = torch.fft.irfft2((spectrum.conj() * transformed).sum(1), canvas).numpy()
        for grid, view, sums in zip(grids, views, match, strict=True):
            energy = cv2.boxFilter(
                view[..., 0] ** 2 + view[..., 1] ** 2,
                -1,
                size[::-1],
                anchor=(0, 0),
                normalize=False,
                borderType=cv2.BORDER_CONSTANT,
            )
            window = np.s_[: 2 * margin[0] + 1, : 2 * margin[1] + 1]
            score = sums[window] / np.sqrt(np.maximum(energy[window], 1.0))
            y, x = np.unravel_index(score.argmax(), score.shape)
            matrix = grid @ translation(x, y) @ np.linalg.inv(to_full)
            found.append(Candidate(matrix, float(score[y, x]) / deviation))
    return sorted(found, key=lambda candidate: -candidate.score)[:peaks]


def _view(moving: Image, grid: Matrix, size: Sequence[int]) -> Image:
    """Return the orientation field of the moving image on another grid, 0 where it has no data."""
    seen, covered = look(moving, grid, size)
    return orientation(seen) * covered[..., None]
