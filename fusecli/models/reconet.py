"""ReCoNet's fuser: one small cell, run a few times with the same weights.

The cell looks at both sources beside the current estimate and corrects it. Two generations of
the authors' code differ in width, norm and activation: `v0` (the paper's results) and `v1`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fusecli import losses
from fusecli.errors import UsageError
from fusecli.models import ModelSpec, Option, Sample, Stage
from fusecli.models._blocks import ConvBlock
from fusecli.models._layout import batch_norm, convolution, translate
from fusecli.ops.recurrent_cell import DILATIONS, recurrent_cell, reference


@dataclass(frozen=True)
class Trace:
    """Everything one forward pass makes, in the order of the loops.

    Args:
        estimates: The fused image after each loop, (B, 1, H, W); the last is the output.
        attention_ir: Weight of the infrared image in each loop, (B, 1, H, W), 0..1.
        attention_vis: The same of the visible image.
    """

    estimates: tuple[Tensor, ...]
    attention_ir: tuple[Tensor, ...]
    attention_vis: tuple[Tensor, ...]


class Fuser(nn.Module):
    """Recurrent fusion of (B, 1, H, W) infrared and visible images in 0..1, any size.

    Args:
        variant: `v0` (batch norm, ReLU, 64 wide) or `v1` (no norm, GELU, 32 wide).
        width: Channels of each dilated convolution; 0 takes the variant's own.
        loops: Runs of the cell. Weights are only good for the number they were trained with.
        init: First estimate: `max` or `mean` of the two sources, pixel by pixel.
        norm: `auto` takes the variant's own, `batch` and `none` force it. Version `v1` never has
            a norm in its last layer.

    Raises:
        UsageError: A negative width, or no loop.

    Source:
        Huang et al., ECCV 2022, section 3.3; sigmoid, batch norm and tanh after the authors' code.
    """

    def __init__(
        self,
        variant: str = "v0",
        width: int = 0,
        loops: int = 3,
        init: str = "max",
        norm: str = "auto",
    ) -> None:
        super().__init__()
        if loops < 1 or width < 0:
            raise UsageError(
                f"ReCoNet cannot have loops={loops} and width={width}",
                code="usage.set",
                hint="loops must be at least 1; width 0 takes the variant's own",
            )
        first = variant == "v0"
        width = width or (64 if first else 32)
        normed = first if norm == "auto" else norm == "batch"
        activation = nn.ReLU if first else nn.GELU
        self.loops = loops
        self.init = init
        self.attn_ir = nn.Conv2d(2, 1, 3, padding=1, bias=False)
        self.attn_vi = nn.Conv2d(2, 1, 3, padding=1, bias=False)
        self.pdc = nn.ModuleList(
            ConvBlock(3, width, dilation=d, norm=normed, activation=activation) for d in DILATIONS
        )
        self.merge = ConvBlock(len(DILATIONS) * width, 1, norm=normed and first, activation=nn.Tanh)

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Return the fused image, (B, 1, H, W), -1..1 and in practice about 0..1."""
        fused = self._first(ir, vis)
        for _ in range(self.loops):
            fused = recurrent_cell(ir, vis, fused, self._attention(), list(self.pdc), self.merge)
        return fused

    def trace(self, ir: Tensor, vis: Tensor) -> Trace:
        """Return the estimate and the attention maps of every loop."""
        fused = self._first(ir, vis)
        steps = []
        for _ in range(self.loops):
            steps.append(reference(ir, vis, fused, self._attention(), list(self.pdc), self.merge))
            fused = steps[-1][0]
        return Trace(*zip(*steps, strict=True))

    def _first(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Return the first estimate."""
        return torch.maximum(ir, vis) if self.init == "max" else (ir + vis) / 2

    def _attention(self) -> tuple[nn.Conv2d, nn.Conv2d]:
        return self.attn_ir, self.attn_vi


# Weight of the structural term against the pixel term (paper, section 4.1).
GAMMA = 0.28
CONVOLUTIONS = ("attn_ir", "attn_vi", *(f"pdc.{index}.conv" for index in range(3)), "merge.conv")
FUSION_WEIGHTS = losses.OFFERED | {"ssim": GAMMA, "pixel": 1 - GAMMA}


def fusion_loss(network: nn.Module, sample: Sample) -> losses.Terms:
    """Return the terms of fusing a pair as it is."""
    return losses.fusion_terms(network(sample.ir, sample.vis), sample.ir, sample.vis)


def _published(prefix: str, dilated: list[str], last: str, norms: int) -> dict[str, str]:
    """Return the table of one published layout; `norms` 0, 1 (dilated only) or 2 (all)."""
    table = convolution(f"{prefix}att_a_conv", "attn_ir", bias=False)
    table |= convolution(f"{prefix}att_b_conv", "attn_vi", bias=False)
    for index, theirs in enumerate(dilated):
        table |= convolution(f"{prefix}{theirs}.0", f"pdc.{index}.conv")
        if norms >= 1:
            table |= batch_norm(f"{prefix}{theirs}.1", f"pdc.{index}.bn")
    table |= convolution(f"{prefix}{last}.0", "merge.conv")
    if norms == 2:
        table |= batch_norm(f"{prefix}{last}.1", "merge.bn")
    return table


_DECODER = [f"decoder.conv_d.{index}.group" for index in range(3)]
V0_LAYOUT = _published("", [f"dil_conv_{index}" for index in (1, 2, 3)], "fus_conv", norms=2)
V1_LAYOUT = _published("fuser.", _DECODER, "decoder.conv_s", norms=0)
V1_NORM_LAYOUT = _published("fuser.", _DECODER, "decoder.conv_s", norms=1)


def adapt(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return a published state dict under our keys.

    Takes the flat file of `v0` and the training checkpoint of `v1`, with or without batch norm.
    Of a `v1` checkpoint that also holds a register, only the fuser is taken.

    Raises:
        MissingError: `weights.layout`, when keys are missing or unknown.
    """
    entries = state.get("state_dict", state)
    if not any(key.startswith("fuser.") for key in entries):
        return translate(entries, V0_LAYOUT, title="ReCoNet v0")
    fuser = {key: value for key, value in entries.items() if not key.startswith("register.")}
    normed = "fuser.decoder.conv_d.0.group.1.weight" in fuser
    return translate(fuser, V1_NORM_LAYOUT if normed else V1_LAYOUT, title="ReCoNet v1 fuser")


OPTIONS = (
    Option("variant", "v0", "v0: the paper's results; v1: the later code", ("v0", "v1")),
    Option("width", 0, "channels of each dilated convolution; 0 is 64 for v0 and 32 for v1"),
    Option("loops", 3, "runs of the cell, with the same weights"),
    Option("init", "max", "first estimate from the two sources", ("max", "mean")),
    Option("norm", "auto", "batch norm; auto: on in v0, off in v1", ("auto", "batch", "none")),
)


def halo(options: Mapping[str, Any]) -> int:
    """Return the reach of the loops: attention 1, widest dilation 3, merging 1 pixel each."""
    return int(options["loops"]) * (1 + max(DILATIONS) + 1)


def without_attention(network: Fuser) -> None:
    """Replace each attention map by its mean over the image."""

    def level(_: nn.Module, __: object, logits: Tensor) -> Tensor:
        return torch.logit(torch.sigmoid(logits).mean((2, 3), keepdim=True)).expand_as(logits)

    for layer in (network.attn_ir, network.attn_vi):
        layer.register_forward_hook(level)


def without_recurrence(network: Fuser) -> None:
    """Run the cell once."""
    network.loops = 1


SPEC = ModelSpec(
    title="ReCoNet",
    paper="Z. Huang, J. Liu, X. Fan, R. Liu, W. Zhong, Z. Luo: ReCoNet: Recurrent Correction "
    "Network for Fast and Efficient Multi-modality Image Fusion. ECCV 2022. "
    "doi:10.1007/978-3-031-19797-0_31",
    build=Fuser,
    options=OPTIONS,
    stages=(
        Stage(
            "fuse",
            fusion_loss,
            FUSION_WEIGHTS,
            epochs=300,
            batch_size=8,
            crop=256,
            lr=1e-3,
        ),
        # Ours: in training the norms see each loop's own statistics, at inference one mean of all
        # three. Learning on with that mean frozen closes the gap; it is as wide as the image.
        Stage(
            "settle",
            fusion_loss,
            FUSION_WEIGHTS,
            trains=CONVOLUTIONS,
            epochs=100,
            batch_size=8,
            crop=256,
            lr=5e-4,
            schedule="cosine",
        ),
    ),
    tiling="exact",
    halo=halo,
    memory=1600,
    safe_in_bf16=True,
    adapt=adapt,
    parts={"attention": without_attention, "recurrence": without_recurrence},
    limits=(
        "Images must be registered; reconet-plus registers them first.",
        "Infrared and visible are not interchangeable.",
        "Weights are good only for the number of loops they were trained with.",
    ),
)
