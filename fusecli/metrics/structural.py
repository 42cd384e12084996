"""Structural similarity in one scale (SSIM)."""

from functools import partial

from torch import Tensor

from fusecli.metrics import metric
from fusecli.metrics.moments import (
    BOX_7,
    GAUSSIAN_11,
    Window,
    local_covariance,
    local_mean,
    local_variance,
)
from fusecli.metrics.scene import Plane, mean, once
from fusecli.ops.filters import gaussian

# ---- SSIM

ssim = partial(
    metric,
    label="SSIM",
    source="Wang, Bovik, Sheikh and Simoncelli, IEEE Trans. Image Process. 13, 2004",
)
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
GAUSSIAN_11_REPLICATED = Window(gaussian(11, 1.5), "replicate")


@once
def luminance_similarity(plane: Plane, other: Plane, window: Window, c1: float) -> Tensor:
    """Return how near the local means are, at every place of the window."""
    m, n = local_mean(plane, window), local_mean(other, window)
    return (2 * m * n).add_(c1).div_((m.square() + n.square()).add_(c1))


@once
def contrast_similarity(
    plane: Plane, other: Plane, window: Window, c2: float, unbias: float = 1
) -> Tensor:
    """Return how alike local contrast and structure are, at every place of the window.

    Args:
        plane: One image.
        other: The other image.
        window: Weights of the neighbourhood.
        c2: Stabilising constant.
        unbias: Factor on the variances and the covariance: n / (n - 1) for sample moments.
    """
    covariance = local_covariance(plane, other, window)
    variances = local_variance(plane, window) + local_variance(other, window)
    return (2 * unbias * covariance).add_(c2).div_(variances.mul_(unbias).add_(c2))


@once
def similarity(
    plane: Plane,
    other: Plane,
    window: Window = GAUSSIAN_11,
    c1: float = C1,
    c2: float = C2,
    unbias: float = 1,
) -> Tensor:
    """Return the SSIM of two images at every place of the window."""
    contrast = contrast_similarity(plane, other, window, c2, unbias)
    return luminance_similarity(plane, other, window, c1) * contrast


@ssim("ssim:sum", about="SSIM with each source, added; Gaussian window", range=(-2, 2), min_size=11,
      plain=True)  # fmt: skip
@ssim("ssim:vifb", about="ssim:sum on each channel", range=(-2, 2), min_size=11, colour=True)
def structural_similarity(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return SSIM(A, F) + SSIM(B, F) where the 11 x 11 Gaussian window lies inside the image."""
    return mean(similarity(fused, ir)) + mean(similarity(fused, vis))


@ssim("ssim:mean", about="half of ssim:sum", range=(-1, 1), min_size=11)
def structural_similarity_mean(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return the mean of SSIM(A, F) and SSIM(B, F)."""
    return structural_similarity(ir, vis, fused) / 2


def _matlab(ir: Plane, vis: Plane, fused: Plane, peak: float) -> Tensor:
    constants = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    a, b = (similarity(fused, source, GAUSSIAN_11_REPLICATED, *constants) for source in (ir, vis))
    return (mean(a) + mean(b)) / 2


@ssim("ssim:matlab_mean", about="ssim:mean with edge pixels repeated, as MATLAB", range=(-1, 1))
def structural_similarity_matlab(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return the mean SSIM of MATLAB's function, which goes up to the image border."""
    return _matlab(ir, vis, fused, 255)


@ssim("ssim:linfeng", about="ssim:matlab_mean with constants for a peak of 1", range=(-1, 1))
def structural_similarity_linfeng(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return MATLAB's SSIM of levels 0..255 taken for values of 0..1: unstable where it is flat."""
    return _matlab(ir, vis, fused, 1)


def _skimage(ir: Plane, vis: Plane, fused: Plane, peak: float) -> Tensor:
    settings = BOX_7, (0.01 * peak) ** 2, (0.03 * peak) ** 2, 49 / 48
    return mean(similarity(fused, ir, *settings)) + mean(similarity(fused, vis, *settings))


@ssim("ssim:skimage_sum", about="SSIM with each source, added; 7 x 7 mean, sample moments",
      range=(-2, 2), min_size=7)  # fmt: skip
def structural_similarity_skimage(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return SSIM(A, F) + SSIM(B, F) with scikit-image's defaults and peak 255."""
    return _skimage(ir, vis, fused, 255)


@ssim("ssim:skimage_sum_L2", about="ssim:skimage_sum with constants for a peak of 2",
      range=(-2, 2), min_size=7)  # fmt: skip
def structural_similarity_skimage_float(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return what old scikit-image gave for floats of 0..255 without a stated range."""
    return _skimage(ir, vis, fused, 2)


@ssim("ssim:reference", about="SSIM with the ground truth; Gaussian window", range=(-1, 1),
      min_size=11)  # fmt: skip
def structural_similarity_to_reference(reference: Plane, fused: Plane) -> Tensor:
    """Return SSIM with the ground truth where the Gaussian window lies inside the image."""
    return mean(similarity(fused, reference))
