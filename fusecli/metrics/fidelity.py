"""Visual information fidelity: VIF in the pixel domain, and VIFF.

How much of the information that an observer can extract from a source is still there in the fused
image, at four scales, under a model of the noise in the eye.
"""

import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from fusecli.metrics import metric
from fusecli.metrics.moments import Window, local_covariance, local_variance
from fusecli.metrics.scene import Plane, once, total
from fusecli.ops.filters import correlate, gaussian

TINY = 1e-10  # below this, a variance is rounding noise
SIZES = (17, 9, 5, 3)
WINDOWS = tuple(Window(gaussian(size, size / 5)) for size in SIZES)
SMALLEST = 41  # leaves one 3 x 3 window at the coarsest scale


@once
def scale(plane: Plane, index: int) -> Plane:
    """Return the image at one of four scales, 0 the finest: smoothed, every second pixel kept."""
    if index == 0:
        return plane
    finer = scale(plane, index - 1)
    return Plane(correlate(finer.pixels, WINDOWS[index].taps, stride=2))


@once
def signal(plane: Plane, index: int) -> Tensor:
    """Return the variance of each window at one scale, exactly 0 where it is rounding noise."""
    variance = local_variance(scale(plane, index), WINDOWS[index])
    return torch.where(variance < TINY, 0.0, variance)


class Channel(NamedTuple):
    """The fused image seen as a source that was scaled and had noise added, at every window.

    Args:
        gain: Factor on the source, not negative.
        noise: Variance that was added, not quite 0.
    """

    gain: Tensor
    noise: Tensor


@once
def channel(fused: Plane, source: Plane, index: int) -> Channel:
    """Return gain and noise between a source and the fused image at one scale."""
    before, after = signal(source, index), signal(fused, index)
    covariance = local_covariance(scale(fused, index), scale(source, index), WINDOWS[index])
    gain = covariance / (before + TINY)
    noise = after - gain * covariance
    unrelated = (before == 0) | (after == 0) | (gain < 0)
    return Channel(
        gain.masked_fill_(unrelated, 0), torch.where(unrelated, after, noise).clamp_(min=TINY)
    )


def received(fused: Plane, source: Plane, index: int, noise: float) -> Tensor:
    """Return the information about the source that the observer gets from the fused image."""
    gain, added = channel(fused, source, index)
    return (gain.square() * signal(source, index)).div_(added + noise).add_(1).log10_()


def sent(source: Plane, index: int, noise: float) -> Tensor:
    """Return the information that the observer gets from the source."""
    return (signal(source, index) / noise).add_(1).log10_()


# ---- VIF

vif = partial(
    metric,
    label="VIF",
    source="Sheikh and Bovik, IEEE Trans. Image Process. 15, 2006 (pixel domain)",
    range=(0, math.inf),
    min_size=SMALLEST,
)
NOISE = 2.0  # variance in the observer's eye, squared grey levels


@once
def _sent(source: Plane) -> Tensor:
    return torch.stack([total(sent(source, index, NOISE)) for index in range(4)]).sum(0)


@once
def fidelity(fused: Plane, source: Plane) -> Tensor:
    """Return the share of a source's information that is in the fused image, (B, C).

    Can exceed 1 where the fused image has more contrast; 0/0 for a constant source.
    """
    parts = [total(received(fused, source, index, NOISE)) for index in range(4)]
    return torch.stack(parts).sum(0) / _sent(source)


@vif("vif:sum", about="visual information fidelity of each source, added", plain=True)
def visual_fidelity(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return VIF(A, F) + VIF(B, F)."""
    return fidelity(fused, ir) + fidelity(fused, vis)


@vif("vif:mean", about="half of vif:sum")
def visual_fidelity_mean(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return the mean of VIF(A, F) and VIF(B, F)."""
    return visual_fidelity(ir, vis, fused) / 2


@vif("vif:reference", about="visual information fidelity to the ground truth")
def visual_fidelity_to_reference(reference: Plane, fused: Plane) -> Tensor:
    """Return VIF with the ground truth as source."""
    return fidelity(fused, reference)


# ---- VIFF

WEIGHTS = ((0, 1 / 2.15), (2, 0.15 / 2.15), (3, 1 / 2.15))  # scale and weight; scale 1 has none
NOISE_VIFF = 0.005 * 255**2


@metric(
    "viff:han",
    label="VIFF",
    about="visual information of the less changed source at every window, four scales",
    source="Han, Cai, Cao and Xu, Inf. Fusion 14, 2013",
    range=(0, math.inf),
    min_size=SMALLEST,
)
def visual_fidelity_fusion(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return VIFF: at each window the source with the smaller gain counts, the visible on ties."""

    def share(index: int) -> Tensor:
        use_ir = channel(fused, ir, index).gain < channel(fused, vis, index).gain
        got, there = (
            torch.where(use_ir, of(ir), of(vis))
            for of in (
                lambda source: received(fused, source, index, NOISE_VIFF),
                lambda source: sent(source, index, NOISE_VIFF),
            )
        )
        return total(got + 1e-7) / total(there + 1e-7)

    return torch.stack([weight * share(index) for index, weight in WEIGHTS]).sum(0)
