"""Layers that several networks are made of."""

from collections.abc import Callable

from torch import Tensor, nn


class ConvBlock(nn.Module):
    """Convolution with zero padding, then batch norm or nothing, then an activation.

    The parts are called `conv` and `bn`, so that inference can fold any block's norm into its
    convolution and put an identity in its place. With stride 1 height and width are kept.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        kernel: Edge of the kernel, odd.
        dilation: Distance between taps.
        stride: Distance between outputs.
        norm: Whether there is a batch norm.
        activation: Makes the last layer.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 3,
        *,
        dilation: int = 1,
        stride: int = 1,
        norm: bool = True,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        padding = dilation * (kernel - 1) // 2
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation)
        self.bn: nn.Module = nn.BatchNorm2d(outputs) if norm else nn.Identity()
        self.activation = activation()

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H, W)."""
        out: Tensor = self.activation(self.bn(self.conv(features)))
        return out


def magnitude(dx: Tensor, dy: Tensor) -> Tensor:
    """Return the length of a gradient; its own derivative is 0 where it is 0, never infinite."""
    return (dx.square() + dy.square()).clamp_min(1e-24).sqrt()
