"""Local means, variances and covariances in a sliding window, each computed once."""

from typing import NamedTuple

from torch import Tensor

from fusecli.metrics.scene import Plane, once
from fusecli.ops.filters import Border, box, correlate, gaussian


class Window(NamedTuple):
    """A separable weighting window.

    Args:
        taps: Weights along one side, summing to 1.
        border: What lies outside the image.
    """

    taps: tuple[float, ...]
    border: Border = "valid"


GAUSSIAN_11 = Window(gaussian(11, 1.5))
BOX_7 = Window(box(7))
BOX_11 = Window(box(11))


@once
def local_mean(plane: Plane, window: Window) -> Tensor:
    """Return the weighted mean at every place of the window."""
    return correlate(plane.pixels, *window)


@once
def local_variance(plane: Plane, window: Window) -> Tensor:
    """Return the weighted variance at every place of the window; rounding can make it negative."""
    squares = correlate(plane.pixels.square(), *window)
    return squares.sub_(local_mean(plane, window).square())


@once
def local_covariance(plane: Plane, other: Plane, window: Window) -> Tensor:
    """Return the weighted covariance at every place of the window."""
    products = correlate(plane.pixels * other.pixels, *window)
    return products.sub_(local_mean(plane, window) * local_mean(other, window))
