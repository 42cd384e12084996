"""One picture brought onto the grid of another: every step, and no files."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fusecli.images import Picture
from fusecli.options import OnReject, Side
from fusecli.registration import METHODS, Resampling
from fusecli.registration.align import Alignment, luma_of, untouched
from fusecli.registration.learned import LearnedRegister
from fusecli.registration.move import move_picture
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


def alignment_by(
    name: str, weights: str | None, on_reject: OnReject, fixed: Side = "vis"
) -> Alignment | None:
    """Return how one image is brought onto the other before both are fused; None for `none`.

    Args:
        name: `none`, one of `METHODS`, or a stored transform, a file or folder.
        weights: Of a trained register, for methods that use one.
        on_reject: What becomes of a pair that is refused.
        fixed: The side that stays.

    Raises:
        MissingError: No such weights, or they do not fit.
        UsageError: `register.weights`: weights that register nothing.
    """
    if name == "none":
        return None
    if name not in METHODS:
        return Alignment(stored=Path(name), on_reject=on_reject)
    return Alignment(name, on_reject=on_reject, learned=LearnedRegister.of(weights, fixed))
