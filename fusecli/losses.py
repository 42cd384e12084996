"""Loss terms that several recipes share, each a scalar from (B, 1, H, W) images.

A term used by one network only sits in that network's file. `peak` is the top of the value range:
1 for most networks, 255 for RFN-Nest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor


class Terms(Mapping[str, Tensor]):
    """Scalars by name; one given as a function is worked out when it is first read.

    A recipe offers more terms than it weighs, and training reads only those it weighs.
    """

    def __init__(self, parts: Mapping[str, Tensor | Callable[[], Tensor]]) -> None:
        self._parts = dict(parts)

    def __getitem__(self, name: str) -> Tensor:
        part = self._parts[name]
        if not isinstance(part, Tensor):
            part = self._parts[name] = part()
        return part

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def __or__(self, more: Mapping[str, Tensor | Callable[[], Tensor]]) -> Terms:
        """Return both, `more` first to say; nothing is worked out."""
        return Terms(self._parts | (more._parts if isinstance(more, Terms) else dict(more)))


def gaussian_window(size: int = 11, sigma: float = 1.5) -> Tensor:
    """Return a 1-D Gaussian of `size` taps that sums to 1."""
    x = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    window = torch.exp(-x.square() / (2 * sigma**2))
    return (window / window.sum()).float()


def _blur(image: Tensor, window: Tensor) -> Tensor:
    """Return the valid separable convolution of each channel with a 1-D window."""
    channels = image.shape[1]
    window = window.to(image)
    rows = window.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    # a variance is a small difference of large numbers: autocast must not shorten them
    with torch.autocast(image.device.type, enabled=False):
        image = F.conv2d(image, rows, groups=channels)
        return F.conv2d(image, rows.transpose(2, 3), groups=channels)


def ssim_parts(
    a: Tensor, b: Tensor, peak: float = 1.0, same_size: bool = False
) -> tuple[Tensor, Tensor]:
    """Return the two factors of structural similarity at each pixel: luminance, and contrast times
    structure. Gaussian 11x11 window, sigma 1.5.

    Args:
        a: (B, 1, H, W).
        b: The same shape.
        peak: Top of the value range.
        same_size: Reflect the border, so that the maps have H x W instead of (H-10) x (W-10).

    Source:
        Wang et al., IEEE Trans. Image Processing 13, 2004.
    """
    a, b = a.float(), b.float()  # before squaring: half precision would leave no variance
    moments = torch.cat([a, b, a * a, b * b, a * b], 1)
    if same_size:
        moments = F.pad(moments, (5, 5, 5, 5), mode="reflect")
    mean_a, mean_b, aa, bb, ab = _blur(moments, gaussian_window()).split(1, 1)
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    variance = aa - mean_a.square() + bb - mean_b.square()
    covariance = ab - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + c1) / (mean_a.square() + mean_b.square() + c1)
    return luminance, (2 * covariance + c2) / (variance + c2)


def ssim_map(a: Tensor, b: Tensor, peak: float = 1.0, same_size: bool = False) -> Tensor:
    """Return the structural similarity at each pixel; arguments as for `ssim_parts`."""
    luminance, contrast_structure = ssim_parts(a, b, peak, same_size)
    return luminance * contrast_structure


def ssim_loss(a: Tensor, b: Tensor, peak: float = 1.0) -> Tensor:
    """Return 1 - SSIM, averaged."""
    return 1 - ssim_map(a, b, peak).mean()


def weighted_ssim_loss(fused: Tensor, ir: Tensor, vis: Tensor, peak: float = 1.0) -> Tensor:
    """Return 1 - SSIM to both sources, each weighted by its share of the local variance."""
    window = gaussian_window()

    def variance(image: Tensor) -> Tensor:
        mean, square = _blur(torch.cat([image, image * image], 1).float(), window).split(1, 1)
        return (square - mean.square()).clamp_min(0)

    of_ir, of_vis = variance(ir), variance(vis)
    share = (of_ir + 1e-6 * peak**2) / (of_ir + of_vis + 2e-6 * peak**2)
    score = share * ssim_map(fused, ir, peak) + (1 - share) * ssim_map(fused, vis, peak)
    return 1 - score.mean()


def sobel(image: Tensor) -> tuple[Tensor, Tensor]:
    """Return the horizontal and vertical Sobel responses (weights 1 2 1), replicate border."""
    padded = F.pad(image.float(), (1, 1, 1, 1), mode="replicate")
    across = padded[..., 2:] - padded[..., :-2]
    along = padded[..., 2:, :] - padded[..., :-2, :]
    return (
        across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :],
        along[..., :-2] + 2 * along[..., 1:-1] + along[..., 2:],
    )


def sobel_magnitude(image: Tensor) -> Tensor:
    """Return |gx| + |gy| of the Sobel responses."""
    gx, gy = sobel(image)
    return gx.abs() + gy.abs()


def max_gradient_loss(fused: Tensor, ir: Tensor, vis: Tensor) -> Tensor:
    """Return the distance of |gradient| from the larger of the two sources', averaged."""
    target = torch.maximum(sobel_magnitude(ir), sobel_magnitude(vis))
    return F.l1_loss(sobel_magnitude(fused), target)


def signed_gradient_loss(fused: Tensor, ir: Tensor, vis: Tensor) -> Tensor:
    """Return the distance of the gradient from the stronger source's, sign and axis kept."""
    total = fused.new_zeros(())
    for of_fused, of_ir, of_vis in zip(sobel(fused), sobel(ir), sobel(vis), strict=True):
        target = torch.where(of_ir.abs() > of_vis.abs(), of_ir, of_vis)
        total = total + F.l1_loss(of_fused, target)
    return total


def max_intensity_loss(fused: Tensor, ir: Tensor, vis: Tensor) -> Tensor:
    """Return the distance from the brighter of the two sources, averaged."""
    return F.l1_loss(fused, torch.maximum(ir, vis))


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Return the Pearson correlation of two feature maps, per channel, averaged. Differentiable."""
    a = a - a.mean((-2, -1), keepdim=True)
    b = b - b.mean((-2, -1), keepdim=True)
    energy = a.square().sum((-2, -1)) * b.square().sum((-2, -1))
    return ((a * b).sum((-2, -1)) / (energy + 1e-12).sqrt()).mean()


def difference_loss(fused: Tensor, ir: Tensor, vis: Tensor) -> Tensor:
    """Return 2 minus how well each source correlates with what fusion added to the other.

    Source:
        Aslantas and Bendes, AEU 69, 2015: the sum of the correlations of differences (SCD).
    """
    return 2 - correlation(fused - vis, ir) - correlation(fused - ir, vis)


def range_loss(fused: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Return how far values lie outside `low` to `high`, averaged over all pixels."""
    return ((low - fused).clamp_min(0) + (fused - high).clamp_min(0)).mean()


def fusion_terms(fused: Tensor, ir: Tensor, vis: Tensor) -> Terms:
    """Return every term that recipes of 0..1 networks weigh; `--loss NAME=W` sets a weight.

    `ssim` and `pixel` are sums over both sources. They draw towards the average of the two, the
    gradient terms towards the sharper source, `intensity` towards the brighter one; `wssim` keeps
    what stands out in either, `difference` asks that each source can be told from the result.
    """
    return Terms(
        {
            "ssim": lambda: ssim_loss(fused, ir) + ssim_loss(fused, vis),
            "pixel": lambda: F.l1_loss(fused, ir) + F.l1_loss(fused, vis),
            "gradient": lambda: signed_gradient_loss(fused, ir, vis),
            "max_gradient": lambda: max_gradient_loss(fused, ir, vis),
            "intensity": lambda: max_intensity_loss(fused, ir, vis),
            "wssim": lambda: weighted_ssim_loss(fused, ir, vis),
            "difference": lambda: difference_loss(fused, ir, vis),
            "range": lambda: range_loss(fused),
        }
    )


# The terms a recipe offers without using them.
OFFERED = dict.fromkeys(
    ("gradient", "max_gradient", "intensity", "wssim", "difference", "range"), 0.0
)
