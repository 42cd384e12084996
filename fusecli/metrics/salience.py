"""Local similarity weighted by how salient each source is: the indices of Piella, Yang and Cvejic.

Conventions `:liu` are those of Zheng Liu's toolbox (Liu et al., TPAMI 34, 2012), which measures
similarity by SSIM in Gaussian windows instead of the papers' own index in square ones.
"""

from functools import partial

import torch
from torch import Tensor

from fusecli.metrics import metric
from fusecli.metrics.moments import (
    GAUSSIAN_11,
    Window,
    local_covariance,
    local_variance,
)
from fusecli.metrics.scene import Plane, mean, once, ratio_or, total
from fusecli.metrics.structural import luminance_similarity, similarity
from fusecli.ops.filters import gaussian, pad

NOISE = 1e-6  # variances below this, in squared grey levels, are rounding noise

# ---- Piella

piella = partial(metric, source="Piella and Heijmans, Proc. ICIP 2003", range=(-1, 1), min_size=11)


@once
def _variances(ir: Plane, vis: Plane) -> tuple[Tensor, Tensor]:
    """Return the local variances of both sources, 1/2 each where both windows are flat.

    That is what the toolbox adds there before it takes shares, and weights with it too.
    """
    a, b = local_variance(ir, GAUSSIAN_11), local_variance(vis, GAUSSIAN_11)
    both_flat = (a < NOISE) & (b < NOISE)
    return a.masked_fill(both_flat, 0.5), b.masked_fill(both_flat, 0.5)


@once
def _local_quality(fused: Plane, ir: Plane, vis: Plane) -> Tensor:
    a, b = _variances(ir, vis)
    share = a / (a + b)
    return share * similarity(fused, ir) + (1 - share) * similarity(fused, vis)


@once
def _weighted_quality(fused: Plane, ir: Plane, vis: Plane) -> Tensor:
    """Return the mean local quality weighted by the larger of the sources' variances."""
    larger = torch.maximum(*_variances(ir, vis))
    return total(larger * _local_quality(fused, ir, vis)) / total(larger)


@once
def _prewitt(plane: Plane) -> Plane:
    """Return the length of the Prewitt gradient, zeros outside the image, not normalised."""
    pixels = pad(plane.pixels, 1, "zero")
    columns = pixels[..., :-2, :] + pixels[..., 1:-1, :] + pixels[..., 2:, :]
    rows = pixels[..., :-2] + pixels[..., 1:-1] + pixels[..., 2:]
    across = columns[..., 2:] - columns[..., :-2]
    down = rows[..., 2:, :] - rows[..., :-2, :]
    return Plane((across.square() + down.square()).sqrt_())


@piella("qs:liu", label="QS", about="SSIM with each source, weighted by local variance")
def piella_quality(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return Piella's fusion quality index."""
    return mean(_local_quality(fused, ir, vis))


@piella("qw:liu", label="QW", about="qs:liu weighted by the larger local variance")
def piella_weighted(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return Piella's weighted fusion quality index."""
    return _weighted_quality(fused, ir, vis)


@piella("qe:liu", label="QE", about="qw:liu times the same of Prewitt gradients")
def piella_edge(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return Piella's edge-dependent fusion quality index, both factors with exponent 1."""
    edges = _weighted_quality(_prewitt(fused), _prewitt(ir), _prewitt(vis))
    return _weighted_quality(fused, ir, vis) * edges


# ---- Yang and Cvejic

yang = partial(
    metric,
    label="QY",
    source="Yang, Zhang, Wang and Liu, Proc. ICMLC 2008",
    range=(-1, 1),
    min_size=7,
)
cvejic = partial(
    metric,
    label="QC",
    source="Cvejic, Loza, Bull and Canagarajah, Int. J. Signal Process. 2, 2005",
    range=(-1, 1),
    min_size=7,
)
GAUSSIAN_7 = Window(gaussian(7, 1.5))
C = 2e-16  # in place of SSIM's constants: next to none


@once
def _variance(plane: Plane, robust: bool) -> Tensor:
    variance = local_variance(plane, GAUSSIAN_7)
    return torch.where(variance < NOISE, 0.0, variance) if robust else variance


@once
def _covariance(plane: Plane, other: Plane, robust: bool) -> Tensor:
    covariance = local_covariance(plane, other, GAUSSIAN_7)
    if not robust:
        return covariance
    flat = (_variance(plane, robust) == 0) | (_variance(other, robust) == 0)
    return torch.where(flat, 0.0, covariance)


@once
def _similarity(plane: Plane, other: Plane, robust: bool) -> Tensor:
    variances = _variance(plane, robust) + _variance(other, robust)
    structure = (2 * _covariance(plane, other, robust) + C) / (variances + C)
    return luminance_similarity(plane, other, GAUSSIAN_7, C) * structure


def _share(part: Tensor, whole: Tensor, robust: bool) -> Tensor:
    return ratio_or(part, whole, 0.5) if robust else part / whole


def _yang(ir: Plane, vis: Plane, fused: Plane, robust: bool) -> Tensor:
    with_ir, with_vis = _similarity(fused, ir, robust), _similarity(fused, vis, robust)
    v_ir, v_vis = _variance(ir, robust), _variance(vis, robust)
    share = _share(v_ir, v_ir + v_vis, robust)
    alike = share * with_ir + (1 - share) * with_vis
    different = torch.maximum(with_ir, with_vis)
    return mean(torch.where(_similarity(ir, vis, robust) >= 0.75, alike, different))


def _cvejic(ir: Plane, vis: Plane, fused: Plane, robust: bool) -> Tensor:
    c_ir, c_vis = _covariance(fused, ir, robust), _covariance(fused, vis, robust)
    share = _share(c_ir, c_ir + c_vis, robust)
    mixed = share * _similarity(fused, ir, robust) + (1 - share) * _similarity(fused, vis, robust)
    # The paper bounds the share; the toolbox, and so the published numbers, the quality there.
    return mean(mixed.masked_fill(share < 0, 0).masked_fill(share > 1, 1))


@yang("qy:robust", about="qy:liu with flat windows counted as alike", plain=True)
def yang_quality(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return QY: variance-weighted similarity where the sources agree, else the better of both."""
    return _yang(ir, vis, fused, True)


@yang("qy:liu", about="similarity weighted by variance where sources agree, else the better one")
def yang_quality_liu(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return QY as in the toolbox: rounding noise, or 0/0, where windows are flat."""
    return _yang(ir, vis, fused, False)


@cvejic("qc:robust", about="qc:liu with flat windows counted as alike", plain=True)
def cvejic_quality(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return QC: similarity weighted by each source's share of the covariances."""
    return _cvejic(ir, vis, fused, True)


@cvejic("qc:liu", about="similarity weighted by each source's share of the covariances")
def cvejic_quality_liu(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return QC as in the toolbox: rounding noise, or 0/0, where windows are flat."""
    return _cvejic(ir, vis, fused, False)
