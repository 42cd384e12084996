"""Feature mutual information (FMI), the fast form of Haghighat and Razian.

Around every pixel, the 3 x 3 values of a feature are read as a distribution over nine positions.
The joint distribution of a source's and the fused image's window is not observed but modelled: the
mixture of independence and of the most (or least) dependent distribution with the same margins
that has the observed correlation.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from fusecli.metrics import metric
from fusecli.metrics.scene import Plane, once
from fusecli.ops.elementary import log
from fusecli.ops.filters import sobel
from fusecli.ops.wavelet import dmey

fmi = partial(
    metric,
    label="FMI",
    source="Haghighat and Razian, Proc. AICT 2014",
    range=(0, 2),
    min_size=3,
)
# Windows at a time. Each has 9 x 9 float64 values, which should stay in the processor's cache.
CHUNK = 4096
CHUNK_CUDA = 1 << 20

# ---- features


@once
def horizontal_gradient(plane: Plane) -> Tensor:
    """Return the horizontal central differences, one-sided at the edges."""
    return torch.gradient(plane.pixels, dim=-1)[0]


@once
def edge_map(plane: Plane) -> Tensor:
    """Return 1 on thin Sobel edges and 0 elsewhere.

    The threshold is four times the mean squared gradient; an edge pixel is kept where it exceeds
    both neighbours of its row or both of its column, zeros outside the image.
    """
    across, down = (part / 8 for part in sobel(plane.pixels, "replicate"))
    energy = across.square() + down.square()
    energy = energy * (energy > 4 * energy.mean((-2, -1), keepdim=True))
    framed = torch.nn.functional.pad(energy, (1, 1, 1, 1))
    above, below = framed[..., :-2, 1:-1], framed[..., 2:, 1:-1]
    left, right = framed[..., 1:-1, :-2], framed[..., 1:-1, 2:]
    ridge = ((energy > left) & (energy > right)) | ((energy > above) & (energy > below))
    return ridge.to(energy)


@once
def cosine_transform(plane: Plane) -> Tensor:
    """Return the orthonormal two-dimensional DCT-II of the whole image."""
    return _dct(_dct(plane.pixels).mT).mT


def _dct(rows: Tensor) -> Tensor:
    """Return the orthonormal DCT-II of the last axis, through the spectrum of the mirrored rows."""
    count = rows.shape[-1]
    spectrum = torch.fft.rfft(torch.cat((rows, rows.flip(-1)), -1))[..., :count]
    index = torch.arange(count, dtype=rows.dtype, device=rows.device)
    turn = torch.polar(torch.ones_like(index), -math.pi * index / (2 * count))
    scale = torch.full_like(index, math.sqrt(1 / (2 * count)))
    scale[0] = math.sqrt(1 / (4 * count))
    return (spectrum * turn).real * scale


@once
def wavelet_transform(plane: Plane) -> Tensor:
    """Return one level of the discrete Meyer transform, its four parts in one image of 0..1."""
    values = dmey(plane.pixels)
    low, high = values.amin((-2, -1), keepdim=True), values.amax((-2, -1), keepdim=True)
    return (values - low) / (high - low)


# ---- windows


def _windows(feature: Tensor) -> Tensor:
    """Return the nine pixels of all 3 x 3 windows, column by column: (9, ..., H - 2, W - 2)."""
    height, width = feature.shape[-2] - 2, feature.shape[-1] - 2
    shifted = [feature[..., y : y + height, x : x + width] for x in range(3) for y in range(3)]
    return torch.stack(shifted)


def _normalised(windows: Tensor) -> Tensor:
    """Return windows stretched to 0..1; constant ones become all 1."""
    low, high = windows.amin(0), windows.amax(0)
    return torch.where(high == low, 1.0, (windows - low) / (high - low))


class Margin(NamedTuple):
    """The distribution over nine positions that a window is read as, for many windows (9, ...).

    Args:
        mass: Probability of each position.
        excess: The same less their mean.
        lower: Cumulative probability before each position.
        upper: Cumulative probability up to each position.
        offset: Positions less their expectation.
        deviation: (...), standard deviation of the position.
        entropy: (...), in nats.
    """

    mass: Tensor
    excess: Tensor
    lower: Tensor
    upper: Tensor
    offset: Tensor
    deviation: Tensor
    entropy: Tensor


def _margin(windows: Tensor) -> Margin:
    mass = windows / windows.sum(0)
    upper = mass.cumsum(0)
    position = torch.arange(9, dtype=mass.dtype, device=mass.device)
    position = position.view(9, *(1,) * (mass.ndim - 1))
    offset = position - (mass * position).sum(0)
    deviation = (mass * offset.square()).sum(0).sqrt()
    entropy = -_plogp(mass).sum(0)
    return Margin(mass, mass - 1 / 9, upper - mass, upper, offset, deviation, entropy)


def _plogp(mass: Tensor, out: Tensor | None = None) -> Tensor:
    """Return p log |p|, 0 where p is 0; modelled masses can be negative by rounding."""
    return log(torch.abs(mass, out=out).clamp_(min=1e-300)).mul_(mass)


# ---- the metric


def window_information(a: Tensor, b: Tensor, f: Tensor) -> Tensor:
    """Return the mean normalised information of every fused window about both source windows.

    The published program stretches the fused window in place while it looks at the first source,
    and compares the second source with the stretched values. So `a` and `b` are not
    interchangeable.

    Args:
        a: (9, ...) windows of the first source.
        b: (9, ...) windows of the second source.
        f: (9, ...) windows of the fused image.

    Returns:
        (...), 0 for independent windows, 1 for equal ones.
    """
    same_a = (a == f).all(0)
    stretched = _normalised(f)
    same_b = torch.where(same_a, f, stretched).eq(b).all(0)
    fused = _margin(stretched)
    with_a = torch.where(same_a, 1.0, _information(_margin(_normalised(a)), fused))
    with_b = torch.where(same_b, 1.0, _information(_margin(_normalised(b)), fused))
    return (with_a + with_b) / 2


def _information(source: Margin, fused: Margin) -> Tensor:
    """Return 2 MI / (H + H) of the modelled joint distribution of two windows, (...)."""
    product = (source.excess * fused.excess).sum(0)
    variances = source.excess.square().sum(0) * fused.excess.square().sum(0)
    correlation = torch.where(product == 0, 0.0, product / variances.sqrt())

    # The most dependent joint distribution pairs equal quantiles, the least dependent one opposite
    # quantiles: its mass at (i, j) is where the intervals of both cumulative distributions overlap.
    low = torch.where(correlation < 0, 1 - source.upper, source.lower)
    high = torch.where(correlation < 0, 1 - source.lower, source.upper)
    joint = torch.minimum(fused.upper[:, None], high)  # (9, 9, ...)
    spare = torch.maximum(fused.lower[:, None], low)
    joint.sub_(spare).clamp_(min=0)

    covariance = (torch.mul(joint, source.offset, out=spare).sum(1) * fused.offset).sum(0)
    wanted = correlation * source.deviation * fused.deviation
    mixed = torch.where(wanted == 0, 0.0, wanted / covariance)
    independent = torch.mul(((1 - mixed) * fused.mass)[:, None], source.mass, out=spare)
    joint.mul_(mixed).add_(independent)

    entropies = source.entropy + fused.entropy
    information = entropies + _plogp(joint, spare).sum((0, 1))
    value = torch.where(information == 0, 0.0, 2 * information / entropies)
    # Two constant windows count as dependent: the published program's rounded means make their
    # correlation 1. It decides `fmi:edge`, where most windows hold no edge at all.
    both_constant = (source.excess == 0).all(0) & (fused.excess == 0).all(0)
    return torch.where(both_constant, 1.0, value)


def _mean_information(
    feature: Callable[[Plane], Tensor], ir: Plane, vis: Plane, fused: Plane
) -> Tensor:
    a, b, f = torch.broadcast_tensors(feature(ir), feature(vis), feature(fused))
    batch, channels, height, width = f.shape
    at_once = CHUNK if f.device.type == "cpu" else CHUNK_CUDA
    step = max(1, at_once // (batch * channels * width))
    total = f.new_zeros(batch, channels)
    for top in range(0, height - 2, step):
        windows = (_windows(image[..., top : top + step + 2, :]) for image in (a, b, f))
        total += window_information(*windows).sum((-2, -1))
    return total / ((height - 2) * (width - 2))


@fmi(
    "fmi:edge",
    about="feature mutual information of thin Sobel edges; what tables call FMI_pixel",
    plain=True,
)
def information_of_edges(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return FMI of the edge maps."""
    return _mean_information(edge_map, ir, vis, fused)


@fmi("fmi:none", about="feature mutual information of the grey levels themselves")
def information_of_levels(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return FMI of the grey levels."""
    return _mean_information(lambda plane: plane.pixels, ir, vis, fused)


@fmi("fmi:gradient", about="feature mutual information of the horizontal gradient")
def information_of_gradients(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return FMI of the horizontal central differences."""
    return _mean_information(horizontal_gradient, ir, vis, fused)


@fmi("fmi:dct", about="feature mutual information of the cosine transform of the whole image")
def information_of_cosines(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return FMI of the cosine transforms."""
    return _mean_information(cosine_transform, ir, vis, fused)


@fmi("fmi:wavelet", about="feature mutual information of the one-level discrete Meyer transform")
def information_of_wavelets(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return FMI of the wavelet transforms; 0/0 where an image has equal coefficients only."""
    return _mean_information(wavelet_transform, ir, vis, fused)
