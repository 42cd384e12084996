"""One transform for two cameras that are bolted together: what most of their pairs say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from fusecli.errors import InputError
from fusecli.fields import Matrix, corners, grid_scaling
from fusecli.registration.blocks import Points
from fusecli.registration.estimate import Estimate
from fusecli.registration.features import Image, carry, fit_size, places
from fusecli.registration.refine import fit

COARSE = 64
"""Longer side, in pixels, at which dense fields are combined: lens distortion is smoother yet."""


class Rig:
    """Collects the estimates of single pairs and says what they have in common.

    Args:
        fixed: Height and width of every fixed image.
        moving: Height and width of every moving image.
        transform: One of `registration.TRANSFORMS`; `auto` is `affine`.
    """

    def __init__(self, fixed: Sequence[int], moving: Sequence[int], transform: str) -> None:
        self.fixed, self.moving = (fixed[0], fixed[1]), (moving[0], moving[1])
        self.dense = transform == "dense"
        self.shape = "affine" if transform in ("auto", "dense") else transform
        self.corners: list[Points] = []
        self.fields: list[Image] = []
        self.accepted: list[Estimate] = []
        self._reasons: dict[str, list[str]] = {}
        self.seen = 0

    def add(self, key: str, found: Estimate, fixed: Sequence[int], moving: Sequence[int]) -> None:
        """Take the estimate of one pair into account.

        Raises:
            InputError: `register.rig`: the sizes differ from those of the other pairs.
        """
        if (tuple(fixed), tuple(moving)) != (self.fixed, self.moving):
            raise InputError(
                f"a fixed rig has images of one size: {_sizes(self.fixed, self.moving)} and "
                f"{_sizes(fixed, moving)} were found",
                code="register.rig",
                hint="use --per pair, or register the sizes apart",
            )
        self.seen += 1
        if not found.accepted:
            self._reasons.setdefault(found.refusal, []).append(key)
            return
        self.corners.append(carry(found.matrix, corners(self.fixed)))
        if self.dense and found.field is not None:
            rows, columns = fit_size(self.fixed, COARSE)
            rest = found.field - self._flat(found.matrix)
            coarse = cv2.resize(rest, (columns, rows), interpolation=cv2.INTER_AREA)
            self.fields.append(np.asarray(coarse, np.float32))
        self.accepted.append(replace(found, field=None))

    @property
    def refused(self) -> list[str]:
        """Return a line for each reason why pairs were left out: how many, why, the first key."""
        return [
            f"{len(keys)} of {self.seen}: {why} ('{keys[0]}'{' and others' if keys[1:] else ''})"
            for why, keys in self._reasons.items()
        ]

    def agree(self) -> Estimate:
        """Return the median of what the accepted pairs say, refused where they say nothing alike.

        The median is that of each corner's place, coordinate by coordinate, so that fewer than
        half of the pairs cannot mislead it.
        """
        laid = grid_scaling(self.fixed, self.moving)
        nothing = Estimate(laid, None, self.shape, "rig", 0.0, 0.0, 0.0)
        if not self.accepted:
            return replace(nothing, refusal=f"none of {self.seen} pairs could be registered")
        middle: Points = np.median(np.stack(self.corners), axis=0)
        spread = float(
            np.median([np.linalg.norm(found - middle, axis=1).mean() for found in self.corners])
        )
        start = carry(laid, corners(self.fixed))
        shifts = carry(grid_scaling(self.moving, self.fixed), middle) - corners(self.fixed)
        matrix = laid @ fit(self.shape, corners(self.fixed), shifts, np.ones(len(start)))
        before, after, confidence = (
            float(np.median([getattr(found, name) for found in self.accepted]))
            for name in ("before", "after", "confidence")
        )
        matrix /= matrix[2, 2]
        kind = "dense" if self.fields else self.shape
        method = self.accepted[0].method
        result = Estimate(matrix, self._field(matrix), kind, method, before, after, confidence)
        limit = 0.02 * max(self.moving)
        if spread > limit:
            why = f"the pairs disagree by {spread:.1f} px, more than {limit:.1f}: no fixed rig"
            return replace(nothing, refusal=why)
        return result

    def _field(self, matrix: Matrix) -> Image | None:
        """Return the whole displacement: of the matrix, plus the median of what pairs add to it."""
        if not self.fields:
            return None
        coarse = np.median(self.fields, axis=0).astype(np.float32)
        size = (self.fixed[1], self.fixed[0])
        rest = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
        return np.asarray(self._flat(matrix) + rest, np.float32)

    def _flat(self, matrix: Matrix) -> Image:
        """Return the displacement of a matrix on the fixed grid."""
        here = places(np.zeros((*self.fixed, 2), np.float32))
        return np.asarray(carry(matrix, here) - here, np.float32)


def _sizes(fixed: Sequence[int], moving: Sequence[int]) -> str:
    return f"{fixed[1]}x{fixed[0]} with {moving[1]}x{moving[0]}"
