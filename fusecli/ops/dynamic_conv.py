"""RFVIF's dynamic convolution: kernels made for each sample move its features.

Each channel of each sample is filtered with its own 3x3, 5x5 and 7x7 kernel, and a 1x1 convolution
mixes the three. Libraries have no fast path for as many groups as there are maps; the kernel reads
the features once and writes the mixture.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fusecli.ops import choose, full_precision, needs_gradient, working_dtype

KERNEL_SIZES = (3, 5, 7)


def dynamic_conv(
    features: Tensor, kernels: Sequence[Tensor], mixing: Tensor, bias: Tensor | None = None
) -> Tensor:
    """Return features filtered three ways and mixed; differentiable in everything.

    Args:
        features: (B, C, H, W), zeros taken beyond the border.
        kernels: (B, C, K, K) for K = 3, 5 and 7, correlated with the features in float32.
        mixing: (D, 3 C, 1, 1).
        bias: (D,).

    Returns:
        (B, D, H, W).

    Source:
        Li et al., RFVIF, Information Fusion 95, 2023; depthwise by our choice.
    """
    path = choose(
        "dynamic_conv",
        [features, *kernels, mixing, bias],
        backward=True,
        products=True,
        cpu=None if needs_gradient(features, *kernels, mixing, bias) else "sample by sample",
        blocked=_blocked(features, kernels, mixing),
    )
    if path == "triton":
        from fusecli.ops.kernels.dynamic_conv import DynamicConv

        result: Tensor = DynamicConv.apply(features, *kernels, mixing, bias)
        return result
    if path == "cpu":
        return by_sample(features, kernels, mixing, bias)
    return reference(features, kernels, mixing, bias)


def reference(
    features: Tensor, kernels: Sequence[Tensor], mixing: Tensor, bias: Tensor | None = None
) -> Tensor:
    """Return what `dynamic_conv` means."""
    filtered = torch.cat([filter_each(features, kernel) for kernel in kernels], 1)
    return F.conv2d(filtered, mixing, bias)


def _blocked(features: Tensor, kernels: Sequence[Tensor], mixing: Tensor) -> str | None:
    if tuple(kernel.shape[-1] for kernel in kernels) != KERNEL_SIZES:
        return "its kernels are not 3, 5 and 7 wide"
    if mixing.shape[0] != features.shape[1]:
        return "it changes the number of channels"
    return None


def by_sample(
    features: Tensor, kernels: Sequence[Tensor], mixing: Tensor, bias: Tensor | None = None
) -> Tensor:
    """Return what `reference` does, without leaving channels-last memory or stacking the maps."""
    dtype = working_dtype(mixing)
    channels, height, width = features.shape[1:]
    matrices = [matrix.T.to(dtype) for matrix in mixing[:, :, 0, 0].chunk(len(kernels), 1)]
    results = []
    with full_precision(features):
        start = mixing.new_zeros(len(mixing)) if bias is None else bias
        for index, sample in enumerate(features.float().split(1)):
            sample = sample.contiguous(memory_format=torch.channels_last)
            total = start.to(dtype).expand(height * width, -1)
            for kernel, matrix in zip(kernels, matrices, strict=True):
                taps, edge = kernel[index].float()[:, None], kernel.shape[-1] // 2
                filtered = F.conv2d(sample, taps, padding=edge, groups=channels)
                rows = filtered.permute(0, 2, 3, 1).reshape(-1, channels)
                total = torch.addmm(total, rows.to(dtype), matrix)
            results.append(total.view(1, height, width, -1))
    return torch.cat(results).permute(0, 3, 1, 2)


def filter_each(features: Tensor, kernels: Tensor) -> Tensor:
    """Correlate each channel of each sample with its own kernel, in float32."""
    chosen = filter_neighbours if torch.compiler.is_compiling() else filter_grouped
    with full_precision(features):
        return chosen(features.float(), kernels.float())


def filter_grouped(features: Tensor, kernels: Tensor) -> Tensor:
    """Correlate each channel of each sample with its own kernel: one grouped convolution.

    Args:
        features: (B, C, H, W).
        kernels: (B, C, K, K), K odd.

    Returns:
        (B, C, H, W), zeros taken beyond the border.
    """
    batch, channels, height, width = features.shape
    size = kernels.shape[-1]
    folded = features.reshape(1, batch * channels, height, width)
    weight = kernels.reshape(batch * channels, 1, size, size)
    filtered = F.conv2d(folded, weight, padding=size // 2, groups=batch * channels)
    return filtered.reshape(batch, channels, height, width)


def filter_neighbours(features: Tensor, kernels: Tensor) -> Tensor:
    """Do the same as `filter_grouped` with every pixel's neighbours laid side by side.

    A grouped convolution would write the batch size into a traced graph, and a shift for each tap
    makes a graph so long that exporting it takes minutes.
    """
    batch, channels, height, width = features.shape
    size = kernels.shape[-1]
    taps = torch.eye(size * size, dtype=features.dtype, device=features.device)
    planes = features.reshape(batch * channels, 1, height, width)
    taps = taps.view(-1, 1, size, size)
    neighbours = F.conv2d(planes, taps, padding=size // 2).flatten(2)
    weights = kernels.reshape(batch * channels, 1, size * size)
    return (weights @ neighbours).reshape(batch, channels, height, width)
