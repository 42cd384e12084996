"""The images that metrics look at, and what has already been worked out about them."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor

if TYPE_CHECKING:
    from fusecli.metrics.targets import Boxes

P = ParamSpec("P")
R = TypeVar("R")


class Plane:
    """A batch of images of one kind, with a memory of what was computed from them.

    Args:
        pixels: (B, C, H, W) float64, whole grey levels of 0..255. C is 1, or 3 where each colour
            channel is scored by itself; an infrared plane with one channel meets a visible one
            with three by broadcasting.
    """

    def __init__(self, pixels: Tensor) -> None:
        self.pixels = pixels
        self._known: dict[Hashable, Any] = {}

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[-2], self.pixels.shape[-1]

    def forget(self) -> None:
        """Drop what was computed from these images."""
        self._known.clear()


def once(
    function: Callable[Concatenate[Plane, P], R],
) -> Callable[Concatenate[Plane, P], R]:
    """Let a function of planes be computed once per plane and set of arguments.

    The result is kept by the *first* argument, and is forgotten with it. So a quantity that
    involves the fused image takes the fused image first, and one of the sources alone is shared by
    every method that fused them.
    """

    @wraps(function)
    def remembered(plane: Plane, *args: P.args, **kwargs: P.kwargs) -> R:
        key = (function, args, tuple(kwargs.items()))
        if key not in plane._known:
            plane._known[key] = function(plane, *args, **kwargs)
        result: R = plane._known[key]
        return result

    return remembered


@dataclass(frozen=True)
class Scene:
    """One batch of image pairs and, where there is one, what a method made of it.

    Args:
        ir: Infrared.
        vis: Visible.
        fused: The result to be scored.
        reference: Ground truth, for full-reference metrics.
        targets: Labelled boxes of each image, for metrics of targets.
    """

    ir: Plane
    vis: Plane
    fused: Plane | None = None
    reference: Plane | None = None
    targets: Boxes | None = None

    @property
    def planes(self) -> tuple[Plane, ...]:
        """The planes there are."""
        every = (self.ir, self.vis, self.fused, self.reference)
        return tuple(plane for plane in every if plane is not None)


def grey_levels(unit: Tensor) -> Tensor:
    """Return images of 0..1 as float64 whole grey levels of 0..255, as metrics expect them."""
    return (unit.double() * 255).round_().clamp_(0, 255)


def mean(pixels: Tensor) -> Tensor:
    """Return the mean of each image, (B, C)."""
    return pixels.mean((-2, -1))


def total(pixels: Tensor) -> Tensor:
    """Return the sum over each image, (B, C)."""
    return pixels.sum((-2, -1))


@once
def stretched(plane: Plane) -> Plane:
    """Return each image stretched to whole levels of 0..255, halves rounded up.

    As the evaluation toolboxes do, an image of zeros stays as it is, and any other constant image
    becomes NaN: 0/0.
    """
    low = plane.pixels.amin((-2, -1), keepdim=True)
    high = plane.pixels.amax((-2, -1), keepdim=True)
    levels = (255 * (plane.pixels - low) / (high - low)).add_(0.5).floor_()
    return Plane(torch.where(high == 0, plane.pixels, levels))


def ratio_or(numerator: Tensor, denominator: Tensor, otherwise: Tensor | float) -> Tensor:
    """Return the quotient, and `otherwise` where the denominator is 0."""
    fallback = torch.as_tensor(otherwise, dtype=numerator.dtype, device=numerator.device)
    return torch.where(denominator == 0, fallback, numerator / denominator)
