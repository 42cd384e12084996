"""The part of a picture that has data: the largest box without a gap, and what is in it."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from fusecli.errors import InputError
from fusecli.images import Picture

Box = tuple[int, int, int, int]
"""Top, left, height and width in pixels."""


def largest_box(covered: NDArray[np.bool_]) -> Box:
    """Return top, left, height and width of the largest rectangle without a gap.

    Raises:
        InputError: `warp.empty`: nothing is covered.
    """
    heights = np.zeros(covered.shape[1], int)
    best: Box = (0, 0, 0, 0)
    for bottom, row in enumerate(covered):
        heights = np.where(row, heights + 1, 0)
        stack: list[tuple[int, int]] = []  # left ends of open rectangles and their heights
        for right, tall in enumerate([*heights.tolist(), 0]):
            left = right
            while stack and stack[-1][1] >= tall:
                left, high = stack.pop()
                if high * (right - left) > best[2] * best[3]:
                    best = (bottom - high + 1, left, high, right - left)
            stack.append((left, tall))
    if not best[2]:
        raise InputError(
            "the warp leaves no valid area to crop to",
            code="warp.empty",
            hint="--preset mild moves less; or leave --crop-valid out",
        )
    return best


def crop(array: np.ndarray, box: Box) -> np.ndarray:
    """Return the part of an array (H, W, ...) in a box of top, left, height and width."""
    top, left, height, width = box
    return array[top : top + height, left : left + width]


def cropped(picture: Picture, box: Box) -> Picture:
    """Return the part of a picture in a box."""

    def part(whole: np.ndarray | None) -> np.ndarray | None:
        return None if whole is None else np.ascontiguousarray(crop(whole, box))

    return dataclasses.replace(
        picture,
        pixels=np.ascontiguousarray(crop(picture.pixels, box)),
        alpha=part(picture.alpha),
        invalid=part(picture.invalid),
    )
