"""Structural similarity over scales (MS-SSIM), in the three forms that go by this name."""

import math
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

from fusecli.metrics import metric
from fusecli.metrics.moments import (
    BOX_11,
    GAUSSIAN_11,
    Window,
    local_covariance,
    local_variance,
)
from fusecli.metrics.scene import Plane, mean, once
from fusecli.metrics.structural import C1, C2, contrast_similarity, similarity
from fusecli.ops.filters import gaussian

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)

# ---- Wang

wang = partial(
    metric,
    label="MS-SSIM",
    source="Wang, Simoncelli and Bovik, Asilomar 2003",
    range=(0, 1),
    min_size=176,
)


@once
def halved(plane: Plane) -> Plane:
    """Return the means of 2 by 2 pixels, without an odd last row or column."""
    return Plane(avg_pool2d(plane.pixels, 2))


@once
def multiscale_similarity(fused: Plane, source: Plane) -> Tensor:
    """Return the product over five scales of contrast similarity, and SSIM at the coarsest."""
    factors = []
    for weight in WEIGHTS[:-1]:
        contrast = mean(contrast_similarity(fused, source, GAUSSIAN_11, C2))
        factors.append(contrast.clamp(min=0) ** weight)
        fused, source = halved(fused), halved(source)
    factors.append(mean(similarity(fused, source)).clamp(min=0) ** WEIGHTS[-1])
    return torch.stack(factors).prod(0)


@wang("msssim:wang_mean", about="five-scale SSIM with each source, mean", plain=True)
def multiscale_similarity_mean(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return the mean of MS-SSIM(A, F) and MS-SSIM(B, F)."""
    return (multiscale_similarity(fused, ir) + multiscale_similarity(fused, vis)) / 2


@wang("msssim:reference", about="five-scale SSIM with the ground truth")
def multiscale_similarity_to_reference(reference: Plane, fused: Plane) -> Tensor:
    """Return MS-SSIM with the ground truth."""
    return multiscale_similarity(fused, reference)


# ---- SMFNet

GAUSSIAN_11_REFLECTED = Window(gaussian(11, 1.5), "reflect")


@once
def _resized(plane: Plane) -> Plane:
    """Return the image at half the height and width, rounded down, interpolated linearly."""
    height, width = plane.size
    return Plane(interpolate(plane.pixels, (height // 2, width // 2), mode="bilinear"))


@metric(
    "msssim:smfnet",
    label="MS-SSIM",
    about="five-scale SSIM with the infrared image alone, mirrored borders (SMFNet)",
    source="Wang, Simoncelli and Bovik, Asilomar 2003, as coded in SMFNet's evaluator",
    range=(-1, 1),
    min_size=16,
)
def multiscale_similarity_smfnet(ir: Plane, fused: Plane) -> Tensor:
    """Return MS-SSIM(A, F): in SMFNet's evaluator the visible term is multiplied by 0.

    NaN where a mean contrast similarity is negative, as there.
    """
    factors = []
    for weight in WEIGHTS[:-1]:
        contrast = mean(contrast_similarity(fused, ir, GAUSSIAN_11_REFLECTED, C2))
        factors.append(contrast**weight)
        fused, ir = _resized(fused), _resized(ir)
    coarsest = mean(similarity(fused, ir, GAUSSIAN_11_REFLECTED, C1, C2))
    factors.append(coarsest ** WEIGHTS[-1])
    return torch.stack(factors).prod(0)


# ---- multi-exposure fusion

SCALES = tuple(weight / sum(WEIGHTS[:3]) for weight in WEIGHTS[:3])
PIXELS = 121  # of an 11 x 11 patch
EPS = 2.0**-52


@once
def _decimated(plane: Plane) -> Plane:
    """Return the means of 2 by 2 pixels from every second pixel on, edge pixels repeated."""
    height, width = plane.size
    odd = (0, width % 2, 0, height % 2)
    return Plane(avg_pool2d(pad(plane.pixels, odd, "replicate"), 2))


@once
def _patch_gains(ir: Plane, vis: Plane) -> tuple[Tensor, Tensor]:
    """Return the factors that make the ideal patch out of the infrared and the visible patch.

    The ideal patch has the larger contrast of the two, and the structure of their mean weighted by
    contrast, the more sharply the less they agree.
    """
    v_ir, v_vis = (local_variance(plane, BOX_11).mul(PIXELS).clamp_(min=0) for plane in (ir, vis))
    covariance = PIXELS * local_covariance(ir, vis, BOX_11)
    together = (v_ir + v_vis).add_(covariance, alpha=2).clamp_(min=0).sqrt_()
    n_ir, n_vis = v_ir.sqrt(), v_vis.sqrt()
    agreement = ((together + EPS) / (n_ir + n_vis + EPS)).clamp_(max=1 - EPS)
    power = agreement.mul_(math.pi / 2).tan_().clamp_(max=10)
    e_ir, e_vis = n_ir + 0.001, n_vis + 0.001
    w_ir, w_vis = (((e / 11).log_() * power).exp_().add_(EPS) for e in (e_ir, e_vis))
    whole = w_ir + w_vis
    c_ir, c_vis = w_ir / whole / e_ir, w_vis / whole / e_vis
    squared = c_ir.square() * v_ir + c_vis.square() * v_vis + 2 * c_ir * c_vis * covariance
    norm = squared.clamp_(min=0).sqrt_()
    to_contrast = torch.where(norm > 0, torch.maximum(e_ir, e_vis) / norm, 1.0)
    return c_ir.mul_(to_contrast), c_vis.mul_(to_contrast)


@once
def _ideal_variance(ir: Plane, vis: Plane) -> Tensor:
    """Return the Gaussian-weighted variance of the ideal patch."""
    g_ir, g_vis = _patch_gains(ir, vis)
    cross = 2 * g_ir * g_vis * local_covariance(ir, vis, GAUSSIAN_11)
    own = g_ir.square() * local_variance(ir, GAUSSIAN_11)
    return own.add_(g_vis.square() * local_variance(vis, GAUSSIAN_11)).add_(cross)


def _exposure_quality(fused: Plane, ir: Plane, vis: Plane) -> Tensor:
    """Return the mean similarity in contrast and structure of fused and ideal patches."""
    g_ir, g_vis = _patch_gains(ir, vis)
    covariance = g_ir * local_covariance(fused, ir, GAUSSIAN_11)
    covariance.add_(g_vis * local_covariance(fused, vis, GAUSSIAN_11))
    variances = _ideal_variance(ir, vis) + local_variance(fused, GAUSSIAN_11)
    return mean(covariance.mul_(2).add_(C2).div_(variances.add_(C2)))


@metric(
    "msssim:mef",
    label="MS-SSIM",
    about="three-scale similarity with the ideal patch of both sources (multi-exposure index)",
    source="Ma, Zeng and Wang, IEEE Trans. Image Process. 24, 2015",
    range=(-1, 1),
    min_size=44,
)
def multi_exposure_quality(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return the quality index that RFN-Nest, DenseFuse and others print as MS-SSIM.

    NaN where the mean similarity of a scale is negative.
    """
    factors = []
    for weight in SCALES:
        factors.append(_exposure_quality(fused, ir, vis) ** weight)
        fused, ir, vis = _decimated(fused), _decimated(ir), _decimated(vis)
    return torch.stack(factors).prod(0)
