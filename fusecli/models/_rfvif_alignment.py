"""RFVIF's alignment: kernels made for each pair move infrared features onto visible ones."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusecli.ops import full_precision
from fusecli.ops.dynamic_conv import KERNEL_SIZES, dynamic_conv
from fusecli.ops.whole_image import image_max, image_mean


def impulse(size: int) -> Tensor:
    """Return the (size, size) kernel that leaves an image as it is."""
    kernel = torch.zeros(size, size)
    kernel[size // 2, size // 2] = 1
    return kernel


class KernelGenerator(nn.Module):
    """Kernels from what both modalities show, for each sample and channel.

    At the start every kernel is the impulse, so that training begins with features left in place.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2 * width, width, 3, padding=1)
        self.branches = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in KERNEL_SIZES)
        self.heads = nn.ModuleList(_head(width, size) for size in KERNEL_SIZES)

    def forward(self, vis: Tensor, ir: Tensor) -> list[Tensor]:
        """Return (B, C, K, K) for each kernel size, float32, from (B, C, H, W) features."""
        stem = F.relu(self.stem(torch.cat([vis, ir], 1)))
        kernels = []
        for branch, head, size in zip(self.branches, self.heads, KERNEL_SIZES, strict=True):
            summary = image_mean(branch, F.relu(branch(stem)).float()).flatten(1)
            with full_precision(summary):
                kernels.append(head(summary).reshape(*summary.shape, size, size))
        return kernels


def _head(width: int, size: int) -> nn.Linear:
    """Return the layer that makes the kernels of one size, impulses at first."""
    head = nn.Linear(width, width * size * size)
    nn.init.normal_(head.weight, std=1e-3)
    with torch.no_grad():
        head.bias.copy_(impulse(size).expand(width, size, size).flatten())
    return head


class FixedKernels(nn.Module):
    """Learnt kernels that are the same for every pair (ablation without the generator)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.kernels = nn.ParameterList(
            nn.Parameter(impulse(size).repeat(width, 1, 1)) for size in KERNEL_SIZES
        )

    def forward(self, vis: Tensor, ir: Tensor) -> list[Tensor]:
        """Return (B, C, K, K) for each kernel size."""
        return [kernel.expand(len(vis), -1, -1, -1) for kernel in self.kernels]


class ChannelAttention(nn.Module):
    """Weight of each channel, from its mean and its maximum over the image."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(width, width // 8, 1, bias=False)
        self.excite = nn.Conv2d(width // 8, width, 1, bias=False)
        # Its inputs are not below 0: a unit drawn with negative weights would stay shut for ever,
        # and the light variant has two.
        nn.init.uniform_(self.squeeze.weight, 0, width**-0.5)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, 1, 1), 0..1."""
        pooled = image_mean(self.squeeze, features), image_max(self.excite, features)
        mean, maximum = (self.excite(F.relu(self.squeeze(p))) for p in pooled)
        return torch.sigmoid(mean + maximum)


class AlignmentBlock(nn.Module):
    """Feature alignment block (FAB): the three filters, mixed and weighed by channel.

    It has no skip: that would bring the displaced structure back in. `conv` and `bn` can be folded.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(len(KERNEL_SIZES) * width, width, 1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.attention = ChannelAttention(width)

    def forward(self, features: Tensor, kernels: list[Tensor]) -> Tensor:
        """Return the features moved by up to 3 positions."""
        filtered = dynamic_conv(features, kernels, self.conv.weight, self.conv.bias)
        mixed = F.relu(self.bn(filtered))
        moved: Tensor = mixed * self.attention(mixed)
        return moved
