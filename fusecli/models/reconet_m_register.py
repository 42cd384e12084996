"""ReCoNet's micro register: three small U-shaped groups of growing kernels, densely connected."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusecli.models import ModelSpec, _register, reconet
from fusecli.models._layout import convolution, translate
from fusecli.models._register import AUX_CHANNELS, Register, gelu_block, velocity_layer

WIDTH = 16
KERNELS = (3, 5, 7)


class Group(nn.Module):
    """Features at full and half size, joined.

    Args:
        inputs: Channels in; the group gives 16.
        kernel: Edge of all its kernels.
    """

    def __init__(self, inputs: int, kernel: int) -> None:
        super().__init__()
        self.a = gelu_block(inputs, WIDTH, kernel)
        self.b = gelu_block(WIDTH, WIDTH, kernel)
        self.c = gelu_block(WIDTH, WIDTH, kernel, dilation=2)
        self.e = gelu_block(2 * WIDTH, WIDTH, kernel)
        self.o = gelu_block(2 * WIDTH, WIDTH, kernel)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, 16, H, W)."""
        a = self.a(features)
        b = self.b(F.max_pool2d(a, 2, ceil_mode=True))
        e = self.e(torch.cat([b, self.c(b)], 1))
        up = F.interpolate(e, a.shape[-2:], mode="bilinear", align_corners=False)
        out: Tensor = self.o(torch.cat([a, up], 1))
        return out


class MicroTrunk(nn.Module):
    """Velocity from the stacked images; height and width are best even.

    Args:
        channels: Stacked images: 2, or 4 with gradient magnitudes.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.stem = gelu_block(channels, WIDTH)
        self.groups = nn.ModuleList(
            Group((index + 1) * WIDTH, kernel) for index, kernel in enumerate(KERNELS)
        )
        self.decode = nn.ModuleList(
            gelu_block(3 * WIDTH, WIDTH, dilation=dilation) for dilation in (1, 2, 3)
        )
        self.flow = velocity_layer(3 * WIDTH)

    def forward(self, stack: Tensor) -> Tensor:
        """Map (B, channels, H, W) to a (B, 2, H, W) velocity in pixels."""
        stem = self.stem(stack)
        groups: list[Tensor] = []
        for group in self.groups:
            groups.append(group(torch.cat([*groups, stem], 1)))
        features = torch.cat(groups, 1)
        velocity: Tensor = self.flow(torch.cat([layer(features) for layer in self.decode], 1))
        return velocity


def build(aux: str = "sobel", integrate_steps: int = 7) -> Register:
    """Return an untrained register; see `Register` for the arguments."""
    return Register(MicroTrunk(AUX_CHANNELS[aux]), 2, aux, integrate_steps)


def _published() -> dict[str, str]:
    """Return the table of the authors' training checkpoint."""
    table = convolution("register.stem.group.0", "trunk.stem.conv")
    parts = {"conv_1": "a", "conv_2": "b", "conv_dil": "c", "conv_3": "e", "conv_4": "o"}
    for index in range(3):
        for theirs, ours in parts.items():
            table |= convolution(
                f"register.groups.{index}.{theirs}.group.0", f"trunk.groups.{index}.{ours}.conv"
            )
        table |= convolution(
            f"register.decoder.conv_d.{index}.group.0", f"trunk.decode.{index}.conv"
        )
    return table | convolution("register.decoder.conv_s", "trunk.flow")


LAYOUT = _published()


def adapt(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the register of a published training checkpoint under our keys.

    The two published ones were trained on pairs of digits and go with `aux=none`.

    Raises:
        MissingError: `weights.layout`, when keys are missing or unknown.
    """
    entries = _register.published_register(state)
    return translate(entries, LAYOUT, title="ReCoNet m-register")


SPEC = ModelSpec(
    title="ReCoNet m-register",
    paper=reconet.SPEC.paper,
    build=build,
    options=(*_register.INPUT_OPTIONS, _register.FIELD_UNITS, _register.MOVES),
    stages=(_register.STAGE,),
    role="register",
    adapt=adapt,
    limits=(_register.LIMIT,),
)
