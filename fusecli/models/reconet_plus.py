"""ReCoNet whole: a register moves the visible image onto the infrared one, then both are fused."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from fusecli import losses
from fusecli.models import (
    ModelSpec,
    Option,
    Sample,
    Stage,
    _register,
    reconet,
    reconet_m_register,
    reconet_u_register,
)
from fusecli.ops.resample import resample

REGISTERS = {"m": reconet_m_register, "u": reconet_u_register}


class ReCoNetPlus(nn.Module):
    """Registration and fusion of (B, 1, H, W) infrared and visible images in 0..1, any size.

    Args:
        register: `m` (the paper's own) or `u` (a sixth of the work).
        aux: See `Register`.
        integrate_steps: See `Register`.
        fuser: Options of `reconet.Fuser`.
    """

    def __init__(
        self, register: str = "m", aux: str = "sobel", integrate_steps: int = 7, **fuser: Any
    ) -> None:
        super().__init__()
        self.register = REGISTERS[register].build(aux, integrate_steps)
        self.fuser = reconet.Fuser(**fuser)

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Return the fused image on the infrared image's grid, (B, 1, H, W)."""
        fused: Tensor = self.fuser(ir, resample(vis, self.align(ir, vis)))
        return fused

    def align(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Return where the visible image is read, (B, 2, H, W) pixels (dx, dy)."""
        field: Tensor = self.register(vis, ir)
        return field


def fuser_loss(network: ReCoNetPlus, sample: Sample) -> losses.Terms:
    """Return the terms of fusing a registered pair, without the register."""
    fused = network.fuser(sample.ir, sample.vis_true)
    return losses.fusion_terms(fused, sample.ir, sample.vis_true)


def joint_loss(network: ReCoNetPlus, sample: Sample) -> losses.Terms:
    """Return the terms of registering and fusing a pair whose visible image was displaced."""
    field = network.align(sample.ir, sample.vis)
    moved = resample(sample.vis, field)
    terms = losses.fusion_terms(network.fuser(sample.ir, moved), sample.ir, sample.vis_true)
    return terms | _register.field_terms(field, moved, sample.vis_true, sample)


# Weight of fusing against registering (paper, section 4.1).
LAMBDA = 0.6
JOINT_WEIGHTS = {term: LAMBDA * weight for term, weight in reconet.FUSION_WEIGHTS.items()} | {
    term: (1 - LAMBDA) * weight for term, weight in _register.WEIGHTS.items()
}


def adapt(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return a published training checkpoint with fuser and register under our keys.

    Raises:
        MissingError: `weights.layout`, when keys are missing or unknown.
    """
    entries = state.get("state_dict", state)
    register = reconet_u_register if "register.flow.weight" in entries else reconet_m_register
    halves = {"fuser": reconet.adapt(entries), "register": register.adapt(entries)}
    return {f"{half}.{key}": value for half, part in halves.items() for key, value in part.items()}


SPEC = ModelSpec(
    title="ReCoNet with registration",
    paper=reconet.SPEC.paper,
    build=ReCoNetPlus,
    options=(
        Option("register", "m", "m: the paper's; u: a sixth of the work", tuple(REGISTERS)),
        *_register.INPUT_OPTIONS,
        *reconet.OPTIONS,
        _register.FIELD_UNITS,
    ),
    stages=(
        Stage(
            "fuser",
            fuser_loss,
            reconet.FUSION_WEIGHTS,
            trains=("fuser",),
            epochs=300,
            batch_size=8,
            crop=256,
            lr=1e-3,
        ),
        Stage(
            "joint",
            joint_loss,
            JOINT_WEIGHTS,
            epochs=300,
            batch_size=8,
            crop=256,
            lr=1e-3,
            misalign="reconet-normal",
        ),
    ),
    memory=1600,
    adapt=adapt,
    limits=(
        "The result lies on the infrared image's grid; the visible image is black past its border.",
        "Colours are not moved with the visible luma: add --chroma drop where it moves far.",
        _register.LIMIT,
        *reconet.SPEC.limits[1:],
    ),
)
