"""One picture brought onto the grid of another: every step, and no files."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fusecli.images import Picture
from fusecli.registration.align import Alignment, luma_of, untouched
from fusecli.registration.move import Resampling, move_picture
from fusecli.registration.transform import Transform


class RegisteredPair(NamedTuple):
    """What became of one pair.

    Args:
        moved: The moving picture on the fixed grid, as stored; the very one where nothing moves.
        covered: (H, W), where it has data.
        transform: What moved it.
        fixed: Luma of the fixed picture, (H, W) float32 in 0..1.
    """

    moved: Picture
    covered: NDArray[np.bool_]
    transform: Transform
    fixed: np.ndarray


def register_pictures(
    fixed: Picture,
    moving: Picture,
    alignment: Alignment,
    resampling: Resampling,
    key: str = "the pair",
) -> RegisteredPair:
    """Return one picture on the grid of the other.

    Args:
        fixed: The one that stays, as stored.
        moving: The one that moves, as stored.
        alignment: How the transform is found.
        resampling: How moved pixels are made.
        key: Name of the pair, for messages and stored transforms.

    Raises:
        InputError: `register.rejected`, or a stored transform that is missing or does not fit.
    """
    luma = luma_of(fixed)
    transform = alignment.of(key, luma, luma_of(moving))
    if untouched(transform):
        return RegisteredPair(moving, np.ones(luma.shape, bool), transform, luma)
    moved, covered = move_picture(moving, transform.displacement(), resampling)
    return RegisteredPair(moved, covered, transform, luma)
