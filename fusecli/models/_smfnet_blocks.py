"""Blocks of SMFNet. All keep height and width; maps are (B, channels, H, W).

Attention here is transposed: see `fusecli.ops.transposed_attention`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusecli.ops.transposed_attention import transposed_attention

WIDTH = 64
HEADS = 8


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each pixel."""

    def __init__(self, channels: int = WIDTH) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor) -> Tensor:
        """Return the normalised map, in channels-last memory."""
        pixels = features.permute(0, 2, 3, 1)
        normal = F.layer_norm(pixels, self.weight.shape, self.weight, self.bias, eps=1e-5)
        return normal.permute(0, 3, 1, 2)


class SelfAttention(nn.Module):
    """Transposed self-attention (MDTA), its spatial convolution depthwise or dense."""

    def __init__(self, dense: bool) -> None:
        super().__init__()
        triple = 3 * WIDTH
        self.temperature = nn.Parameter(torch.ones(HEADS, 1, 1))
        self.qkv = nn.Conv2d(WIDTH, triple, 1, bias=False)
        self.spatial = nn.Conv2d(
            triple, triple, 3, padding=1, groups=1 if dense else triple, bias=False
        )
        self.output = nn.Conv2d(WIDTH, WIDTH, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Return what each channel gathers from the others."""
        q, k, v = self.spatial(self.qkv(features)).chunk(3, 1)
        weight, bias = self.output.weight, self.output.bias
        return transposed_attention(q, k, v, self.temperature, weight, bias)


class CrossAttention(nn.Module):
    """Transposed attention of one map, the guide, over another (TCA)."""

    def __init__(self, channels: int = WIDTH // 2) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(HEADS, 1, 1))
        self.q = nn.Conv2d(channels, channels, 1)
        self.q_spatial = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.kv = nn.Conv2d(channels, 2 * channels, 1)
        self.kv_spatial = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels)
        self.output = nn.Conv2d(channels, channels, 1)

    def forward(self, guide: Tensor, operand: Tensor) -> Tensor:
        """Return `operand` with its channels mixed as `guide` asks."""
        q = self.q_spatial(self.q(guide))
        k, v = self.kv_spatial(self.kv(operand)).chunk(2, 1)
        weight, bias = self.output.weight, self.output.bias
        return transposed_attention(q, k, v, self.temperature, weight, bias)


class LocalFeedForward(nn.Module):
    """Locally enhanced feed-forward (LeFF), with a skip of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(WIDTH, WIDTH, 1)
        self.spatial = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH)
        self.leave = nn.Conv2d(WIDTH, WIDTH, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return the input plus three convolutions of it."""
        change = features
        for convolution in (self.enter, self.spatial, self.leave):
            change = F.gelu(convolution(change))
        return features + change


class FeedForward(nn.Module):
    """Two 1x1 convolutions through twice the width."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(WIDTH, 2 * WIDTH, 1, bias=False)
        self.leave = nn.Conv2d(2 * WIDTH, WIDTH, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Return the change to add."""
        change: Tensor = self.leave(F.gelu(self.enter(features)))
        return change


class TransformerBlock(nn.Module):
    """Norm and attention, then norm and feed-forward, each added to its input.

    Args:
        dense: Dense attention and plain feed-forward (the base branch), or depthwise attention
            and local feed-forward.
    """

    def __init__(self, dense: bool = False) -> None:
        super().__init__()
        self.norm1 = ChannelNorm()
        self.attention = SelfAttention(dense)
        self.norm2 = ChannelNorm()
        self.feed = FeedForward() if dense else LocalFeedForward()

    def forward(self, features: Tensor) -> Tensor:
        """Return the features after one round."""
        features = features + self.attention(self.norm1(features))
        changed: Tensor = features + self.feed(self.norm2(features))
        return changed


class ResidualTransformer(nn.Module):
    """Two pairs of transformer blocks and a convolutional bottleneck, added to the input."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(TransformerBlock(dense) for dense in (False, True, False, True))
        narrow = WIDTH // 4
        self.bottleneck = nn.Sequential(
            nn.Conv2d(WIDTH, narrow, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(narrow, narrow, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(narrow, WIDTH, 3, padding=1),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return the features after four transformer blocks."""
        change = features
        for block in self.blocks:
            change = block(change)
        changed: Tensor = features + self.bottleneck(change)
        return changed


class GradientBlock(nn.Module):
    """Gradient residual dense block (GRDB): dense convolutions beside learnt Sobel responses."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.dense1 = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.dense2 = nn.Conv2d(2 * WIDTH, WIDTH, 3, padding=1)
        self.gather = nn.Conv2d(3 * WIDTH, WIDTH, 1)
        self.sobel_x = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH, bias=False)
        self.sobel_y = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH, bias=False)
        self.edges = nn.Conv2d(WIDTH, WIDTH, 1)
        kernel = torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])
        with torch.no_grad():
            self.sobel_x.weight.copy_(kernel.expand_as(self.sobel_x.weight))
            self.sobel_y.weight.copy_(kernel.T.expand_as(self.sobel_y.weight))

    def forward(self, features: Tensor) -> Tensor:
        """Return features of fine structure."""
        h = F.leaky_relu(self.enter(features), 0.2)
        a = F.leaky_relu(self.dense1(h), 0.2)
        b = F.leaky_relu(self.dense2(torch.cat([h, a], 1)), 0.2)
        gathered = self.gather(torch.cat([h, a, b], 1))
        edges = self.edges(self.sobel_x(h).abs() + self.sobel_y(h).abs())
        return F.leaky_relu(gathered + edges, 0.1)


def inverted_residual(channels: int = WIDTH // 2) -> nn.Sequential:
    """Return the small network inside a coupling: expand, look around, contract; no skip."""
    wide = 2 * channels
    return nn.Sequential(
        nn.Conv2d(channels, wide, 1, bias=False),
        nn.ReLU6(),
        nn.ReflectionPad2d(1),
        nn.Conv2d(wide, wide, 3, groups=wide, bias=False),
        nn.ReLU6(),
        nn.Conv2d(wide, channels, 1, bias=False),
    )


class Coupling(nn.Module):
    """Affine coupling of two halves after a mixing convolution (encoder's detail branch)."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(WIDTH, WIDTH, 1)
        self.phi = inverted_residual()
        self.rho = inverted_residual()
        self.eta = inverted_residual()

    def forward(self, features: Tensor) -> Tensor:
        """Return both halves coupled."""
        z1, z2 = self.mix(features).chunk(2, 1)
        z2 = z2 + self.phi(z1)
        # the exponent is not bounded: half precision would overflow
        z1 = z1.float() * self.rho(z2).float().exp() + self.eta(z2)
        return torch.cat([z1, z2], 1).to(self.mix.weight.dtype)


class InverseCoupling(nn.Module):
    """Affine coupling run backwards, its scales bounded to exp(-2)..exp(2) (detail fusion)."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(WIDTH, WIDTH, 1)
        self.scale1 = inverted_residual()
        self.shift1 = inverted_residual()
        self.scale2 = inverted_residual()
        self.shift2 = inverted_residual()

    def forward(self, features: Tensor) -> Tensor:
        """Return both halves uncoupled."""
        x1, x2 = self.mix(features).chunk(2, 1)
        x2 = (x2 - self.shift1(x1)) / bounded_exp(self.scale1(x1))
        x1 = (x1 - self.shift2(x2)) / bounded_exp(self.scale2(x2))
        return torch.cat([x1, x2], 1)


def bounded_exp(scale: Tensor) -> Tensor:
    """Return exp(4 (sigmoid(s) - 1/2))."""
    return torch.exp(4 * (torch.sigmoid(scale) - 0.5))
