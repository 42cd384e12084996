"""Metrics of registration: how far an estimated transform puts things from where they belong."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from fusecli.metrics import metric


@dataclass(frozen=True)
class Misplacement:
    """How far the places of one image that a transform names are from the true ones, in pixels.

    Args:
        distances: (N,) float64, of the fixed pixels whose true place lies in the moving image.
        corners: (4,) float64, of the corners of the fixed image.
    """

    distances: Tensor
    corners: Tensor


def quantile(values: Tensor, share: float) -> Tensor:
    """Return the value below which a share of the values lies, between neighbours by proportion."""
    if not values.numel():
        return values.new_tensor(torch.nan)
    ordered = values.sort().values
    place = share * (len(ordered) - 1)
    low = int(place)
    return torch.lerp(ordered[low], ordered[min(low + 1, len(ordered) - 1)], place - low)


epe = partial(
    metric,
    label="EPE",
    source="Barron, Fleet and Beauchemin, Int. J. Comput. Vis. 12, 1994",
    direction="lower",
    range=(0, torch.inf),
)


@epe("epe:mean", about="mean distance between estimated and true places, pixels", plain=True)
def end_point_error(transform: Misplacement) -> Tensor:
    """Return the mean end-point error in pixels."""
    return transform.distances.mean().reshape(1, 1)


@epe("epe:median", about="median distance between estimated and true places, pixels")
def median_end_point_error(transform: Misplacement) -> Tensor:
    """Return the median end-point error in pixels."""
    return quantile(transform.distances, 0.5).reshape(1, 1)


@epe("epe:p95", about="distance that 95 % of the places do not exceed, pixels")
def large_end_point_error(transform: Misplacement) -> Tensor:
    """Return the 95 % quantile of the end-point error in pixels."""
    return quantile(transform.distances, 0.95).reshape(1, 1)


@metric(
    "corner:mean",
    label="corners",
    about="mean distance between estimated and true places of the four corners, pixels",
    source="DeTone, Malisiewicz and Rabinovich, arXiv 1606.03798, 2016",
    direction="lower",
    range=(0, torch.inf),
)
def corner_error(transform: Misplacement) -> Tensor:
    """Return the mean corner error in pixels."""
    return transform.corners.mean().reshape(1, 1)


success = partial(
    metric,
    source="Balntas, Lenc, Vedaldi and Mikolajczyk (HPatches), CVPR 2017",
    range=(0, 1),
)


def _success(transform: Misplacement, pixels: float) -> Tensor:
    error = end_point_error(transform)
    return torch.where(error.isnan(), torch.nan, (error <= pixels).double())


@success("success:1", label="≤ 1 px", about="share of pairs whose epe:mean is at most 1 pixel")
def success_1(transform: Misplacement) -> Tensor:
    """Return 1 where the mean end-point error is at most 1 pixel, else 0."""
    return _success(transform, 1)


@success("success:3", label="≤ 3 px", about="share of pairs whose epe:mean is at most 3 pixels",
         plain=True)  # fmt: skip
def success_3(transform: Misplacement) -> Tensor:
    """Return 1 where the mean end-point error is at most 3 pixels, else 0."""
    return _success(transform, 3)


@success("success:5", label="≤ 5 px", about="share of pairs whose epe:mean is at most 5 pixels")
def success_5(transform: Misplacement) -> Tensor:
    """Return 1 where the mean end-point error is at most 5 pixels, else 0."""
    return _success(transform, 5)


@success("success:10", label="≤ 10 px", about="share of pairs whose epe:mean is at most 10 pixels")
def success_10(transform: Misplacement) -> Tensor:
    """Return 1 where the mean end-point error is at most 10 pixels, else 0."""
    return _success(transform, 10)


@success("auc:10", label="AUC", about="area under the success curve up to 10 pixels, over 10")
def area_under_curve(transform: Misplacement) -> Tensor:
    """Return 1 - error / 10, not below 0.

    Its mean over pairs is the area under the curve of their success against the threshold.
    """
    return (1 - end_point_error(transform) / 10).clamp(min=0)
