"""ReCoNet's u-register: a small U-Net over five scales, a sixth of the micro register's work."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusecli.models import ModelSpec, _register, reconet
from fusecli.models._layout import convolution, translate
from fusecli.models._register import AUX_CHANNELS, Register, gelu_block, velocity_layer

DOWN = (16, 32, 32, 32)
UP = 32


class UTrunk(nn.Module):
    """Velocity from the stacked images; height and width must be multiples of 16.

    Args:
        channels: Stacked images: 2, or 4 with gradient magnitudes.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        seen = (channels, *DOWN)
        self.enc = nn.ModuleList(
            gelu_block(inputs, outputs, stride=2)
            for inputs, outputs in zip(seen[:-1], seen[1:], strict=True)
        )
        skips = DOWN[-2::-1]
        inputs = (DOWN[-1], *(UP + skip for skip in skips))
        self.dec = nn.ModuleList(gelu_block(count, UP) for count in inputs)
        self.suffix = nn.Sequential(
            gelu_block(UP + channels, 32), gelu_block(32, 16), gelu_block(16, 16)
        )
        self.flow = velocity_layer(16)

    def forward(self, stack: Tensor) -> Tensor:
        """Map (B, channels, H, W) to a (B, 2, H, W) velocity in pixels."""
        scales = [stack]
        for down in self.enc:
            scales.append(down(scales[-1]))
        features = scales.pop()
        for layer in self.dec:
            up = F.interpolate(layer(features), scale_factor=2.0, mode="nearest")
            features = torch.cat([up, scales.pop()], 1)
        velocity: Tensor = self.flow(self.suffix(features))
        return velocity


def build(aux: str = "sobel", integrate_steps: int = 7) -> Register:
    """Return an untrained register; see `Register` for the arguments."""
    return Register(UTrunk(AUX_CHANNELS[aux]), 16, aux, integrate_steps)


def _published() -> dict[str, str]:
    """Return the table of the authors' training checkpoint."""
    table: dict[str, str] = {}
    parts = (("encoder", "enc", 4), ("decoder", "dec", 4), ("suffix", "suffix", 3))
    for theirs, ours, count in parts:
        for index in range(count):
            table |= convolution(
                f"register.unet.{theirs}.{index}.group.0", f"trunk.{ours}.{index}.conv"
            )
    return table | convolution("register.flow", "trunk.flow")


LAYOUT = _published()


def adapt(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the register of a published training checkpoint under our keys.

    The published one was trained on pairs of digits and goes with `aux=none`.

    Raises:
        MissingError: `weights.layout`, when keys are missing or unknown.
    """
    entries = _register.published_register(state)
    return translate(entries, LAYOUT, title="ReCoNet u-register")


SPEC = ModelSpec(
    title="ReCoNet u-register",
    paper=reconet.SPEC.paper,
    build=build,
    options=(*_register.INPUT_OPTIONS, _register.FIELD_UNITS, _register.MOVES),
    stages=(_register.STAGE,),
    role="register",
    adapt=adapt,
    limits=(_register.LIMIT,),
)
