"""RFVIF: fusion that tolerates a translation between the images, without registering them.

Kernels made for each pair move infrared features onto the visible ones at three scales; the
result is in the grid of the visible image. No code was published: what the paper leaves open is
settled here as the comments say. Alignment and refinement are in `_rfvif_alignment` and
`_rfvif_refinement`.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusecli import losses, perceptual
from fusecli.errors import UsageError
from fusecli.models import ModelSpec, Option, Sample, Stage
from fusecli.models._rfvif_alignment import AlignmentBlock, FixedKernels, KernelGenerator
from fusecli.models._rfvif_refinement import LocalRefinement

LEVELS = 3  # at 1/2, 1/4 and 1/8 of the image
BLOCKS = (3, 2, 2)  # multi-scale blocks before each level
TAIL_BLOCKS = 6
COLDEST = 0.05  # below this temperature every weight of a window could vanish


def conv(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
    """Return a convolution that keeps the size (or divides it by `stride`), zero border."""
    return nn.Conv2d(inputs, outputs, size, stride, size // 2)


def enlarge(features: Tensor, factor: int = 2) -> Tensor:
    """Return the features with each value repeated `factor` times along both axes."""
    return F.interpolate(features, scale_factor=float(factor), mode="nearest")


class MultiScaleBlock(nn.Module):
    """Multi-scale residual block (MSRB): 3x3 and 5x5 paths that cross once.

    Source:
        Li et al., ECCV 2018; without batch norm.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.a3, self.a5 = conv(inputs, width, 3), conv(inputs, width, 5)
        self.b3, self.b5 = conv(2 * width, 2 * width, 3), conv(2 * width, 2 * width, 5)
        self.mix = conv(4 * width, width, 1)
        self.skip = nn.Identity() if inputs == width else conv(inputs, width, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, width, H, W)."""
        first = F.relu(torch.cat([self.a3(features), self.a5(features)], 1))
        second = F.relu(torch.cat([self.b3(first), self.b5(first)], 1))
        out: Tensor = self.mix(second) + self.skip(features)
        return out


class CrossModulation(nn.Module):
    """Half the size of both modalities' features, each scaled and shifted by what both show.

    Args:
        width: Channels.
        modulate: Off leaves the reduction alone (ablation).
    """

    def __init__(self, width: int, modulate: bool) -> None:
        super().__init__()
        self.modulate = modulate
        self.down_vis, self.down_ir = conv(width, width, stride=2), conv(width, width, stride=2)
        if modulate:
            double = 2 * width
            layers = [(conv(double, double), nn.ReLU()) for _ in range(3)]
            self.trunk = nn.Sequential(*(part for layer in layers for part in layer))
            self.gamma_vis, self.beta_vis = conv(width, width), conv(width, width)
            self.gamma_ir, self.beta_ir = conv(width, width), conv(width, width)

    def forward(self, vis: Tensor, ir: Tensor) -> tuple[Tensor, Tensor]:
        """Return visible and infrared features, (B, C, H / 2, W / 2)."""
        vis, ir = self.down_vis(vis), self.down_ir(ir)
        if not self.modulate:
            return vis, ir
        for_vis, for_ir = self.trunk(F.relu(torch.cat([vis, ir], 1))).chunk(2, 1)
        return (
            vis * torch.sigmoid(self.gamma_vis(for_vis)) + torch.sigmoid(self.beta_vis(for_vis)),
            ir * torch.sigmoid(self.gamma_ir(for_ir)) + torch.sigmoid(self.beta_ir(for_ir)),
        )


class Alignment(nn.Module):
    """Infrared features of one level moved onto the visible ones (FDAM).

    Args:
        width: Channels.
        blocks: Alignment blocks; the kernels of the level serve all of them.
        dynamic: Kernels made for each pair, or learnt once.
    """

    def __init__(self, width: int, blocks: int, dynamic: bool) -> None:
        super().__init__()
        self.kernels = KernelGenerator(width) if dynamic else FixedKernels(width)
        self.blocks = nn.ModuleList(AlignmentBlock(width) for _ in range(blocks))
        self.align = conv(blocks * width, width, 1)

    def forward(self, vis: Tensor, ir: Tensor) -> Tensor:
        """Return aligned infrared features, same shape as each input."""
        kernels = self.kernels(vis, ir)
        moved = [ir]
        for block in self.blocks:
            moved.append(block(moved[-1], kernels))
        aligned: Tensor = self.align(torch.cat(moved[1:], 1))
        return aligned


class MaskFusion(nn.Module):
    """Two maps blended by a mask made from both, for each channel and pixel.

    Args:
        width: Channels.
        layers: Convolutions that make the mask.
    """

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        hidden = [(conv((2 if i == 0 else 1) * width, width), nn.ReLU()) for i in range(layers - 1)]
        self.mask = nn.Sequential(*(p for layer in hidden for p in layer), conv(width, width))

    def forward(self, stack: tuple[Tensor, Tensor], chosen: Tensor, other: Tensor) -> Tensor:
        """Return `chosen` where the mask of `stack` is 1 and `other` where it is 0."""
        mask = torch.sigmoid(self.mask(torch.cat(stack, 1)))
        return chosen * mask + other * (1 - mask)


class TailBlock(nn.Module):
    """Residual block of two convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = conv(width, width), conv(width, width)

    def forward(self, features: Tensor) -> Tensor:
        """Return the features plus a change."""
        changed: Tensor = features + self.second(F.relu(self.first(features)))
        return changed


class RfVif(nn.Module):
    """RFVIF for (B, 1, H, W) images in 0..1, height and width multiples of 8.

    Args:
        width: Channels at every level: 32, 16 (light) or 64. The paper does not state it.
        cross_modulation: Whether the modalities modulate each other.
        alignment_blocks: Alignment blocks per level, 0 to 3; with 0 infrared stays where it is.
        dynamic_kernels: Kernels made for each pair, or learnt once for all.
        refinement: Whether the fused features are refined against the images.
        window: Edge of the refinement's neighbourhood.
        temperature: Of its softmax; 1 as in the paper.

    Raises:
        UsageError: A temperature below 0.05.

    Source:
        Li et al., Information Fusion 95, 2023.
    """

    def __init__(
        self,
        width: int = 32,
        cross_modulation: bool = True,
        alignment_blocks: int = 2,
        dynamic_kernels: bool = True,
        refinement: bool = True,
        window: int = 5,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        if not temperature >= COLDEST:
            raise UsageError(
                f"temperature={temperature} is below {COLDEST}",
                code="usage.set",
                hint=f"--set temperature={COLDEST} or more; 1 is the paper's",
            )
        self.branch_vis, self.branch_ir = (
            nn.ModuleList(
                nn.Sequential(
                    *(
                        MultiScaleBlock(1 if level == index == 0 else width, width)
                        for index in range(count)
                    )
                )
                for level, count in enumerate(BLOCKS)
            )
            for _ in range(2)
        )
        levels = range(LEVELS)
        self.modulation = nn.ModuleList(CrossModulation(width, cross_modulation) for _ in levels)
        aligned = levels if alignment_blocks else ()
        self.alignment = nn.ModuleList(
            Alignment(width, alignment_blocks, dynamic_kernels) for _ in aligned
        )
        self.reconstruction = nn.ModuleList(conv(width, 1, 1) for _ in aligned)  # for training
        self.masks = nn.ModuleList(MaskFusion(width, 3) for _ in levels)
        self.across = nn.ModuleList(conv(LEVELS * width, width) for _ in levels)
        self.refinement = nn.ModuleList(
            LocalRefinement(width, window, temperature) for _ in levels if refinement
        )
        self.pyramid = nn.ModuleList(MaskFusion(width, 2) for _ in range(LEVELS - 1))
        self.join = nn.Sequential(conv(2 * width, width), nn.ReLU(), conv(width, width))
        self.tail = nn.Sequential(*(TailBlock(width) for _ in range(TAIL_BLOCKS)))
        self.head = nn.Sequential(
            conv(width, width), nn.ReLU(), conv(width, width // 2), nn.ReLU(), conv(width // 2, 1)
        )

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Return the fused image on the grid of the visible one, about 0..1, not clamped."""
        fused, _ = self._run(ir, vis)
        return fused

    def aligned(self, ir: Tensor, vis: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the fused image, and the aligned infrared image at 1/2, 1/4 and 1/8.

        The second is what training compares with the registered image; empty without alignment.
        """
        fused, features = self._run(ir, vis)
        return fused, [to(moved) for to, moved in zip(self.reconstruction, features, strict=False)]

    def _run(self, ir: Tensor, vis: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the fused image and each level's aligned infrared features."""
        of_vis, of_ir = vis, ir
        aligned, fused = [], []
        for level in range(LEVELS):
            of_vis, of_ir = self.branch_vis[level](of_vis), self.branch_ir[level](of_ir)
            of_vis, of_ir = self.modulation[level](of_vis, of_ir)
            moved = self.alignment[level](of_vis, of_ir) if len(self.alignment) else of_ir
            aligned.append(moved)
            fused.append(self.masks[level]((of_vis, moved), moved, of_vis))
        fine, middle, coarse = self._refine(self._mix(fused), ir, vis)
        f12 = self.pyramid[0]((enlarge(middle), fine), fine, enlarge(middle))
        f23 = self.pyramid[1]((enlarge(coarse), middle), middle, enlarge(coarse))
        joined = self.join(torch.cat([enlarge(f23), f12], 1))
        return self.head(enlarge(self.tail(joined))), aligned

    def _mix(self, features: list[Tensor]) -> list[Tensor]:
        """Return each level with the other two brought to its size and mixed in."""
        mixed = []
        for level, mix in enumerate(self.across):
            others = []
            for source, values in enumerate(features):
                if source < level:
                    values = F.avg_pool2d(values, 2 ** (level - source))
                elif source > level:
                    values = enlarge(values, 2 ** (source - level))
                others.append(values)
            mixed.append(mix(torch.cat(others, 1)))
        return mixed

    def _refine(self, features: list[Tensor], ir: Tensor, vis: Tensor) -> list[Tensor]:
        if not len(self.refinement):
            return features
        images = zip(reduced(ir), reduced(vis), strict=True)
        return [
            refine(values, *pair)
            for refine, values, pair in zip(self.refinement, features, images, strict=True)
        ]


def reduced(image: Tensor) -> list[Tensor]:
    """Return an image at 1/2, 1/4 and 1/8 by repeated 2x2 means, which do not alias."""
    images = [image]
    for _ in range(LEVELS):
        images.append(F.avg_pool2d(images[-1], 2))
    return images[1:]


def fusion_loss(network: RfVif, sample: Sample) -> losses.Terms:
    """Return the terms of fusing a displaced pair.

    The infrared image is compared where it should have been, which the network never sees. Norms
    are means, the perceptual one a root mean square.
    """
    alpha, beta = sample.options["alpha"], sample.options["beta"]
    kind = perceptual.used(sample.options["perceptual"])
    fused, reconstructions = network.aligned(sample.ir, sample.vis)
    true = sample.ir_true

    def perceived() -> Tensor:
        to_vis, to_ir = perceptual.distances(fused, (sample.vis, true), kind)
        return (1 - beta) * to_vis + beta * to_ir

    align = [F.l1_loss(r, t) for r, t in zip(reconstructions, reduced(true), strict=False)]
    return losses.fusion_terms(fused, true, sample.vis) | {
        "pixel": lambda: (
            (1 - alpha) * F.l1_loss(fused, sample.vis) + alpha * F.l1_loss(fused, true)
        ),
        "perceptual": perceived,
        "align": torch.stack(align).sum() if align else fused.new_zeros(()),
    }


def training_facts(options: Mapping[str, Any]) -> dict[str, str]:
    """Return which features the perceptual term compares on this machine."""
    return {"Perceptual features": perceptual.describe(options["perceptual"])}


def halo(options: Mapping[str, Any]) -> int:
    """Return the reach, once kernels and channel attention of the whole image are known.

    Counted in pixels of the image along the path through all levels: on the way down the blocks
    (4 each), the halving and its modulation; at an eighth the alignment (3 a block), the mask, the
    mixing and the refinement; then pyramid, join and tail, and the head.
    """
    down = sum((4 * blocks + 1 + 4 * 2) * 2**level for level, blocks in enumerate(BLOCKS))
    coarse = 8 * (3 * options["alignment_blocks"] + 3 + 1 + options["window"] // 2)
    up = 4 * 2 + 2 * (2 + 2 * TAIL_BLOCKS) + 3
    return down + coarse + up + 7  # which pixel of a coarse one it is


def without_dynamic_kernels(network: Any) -> None:
    """Leave the infrared features where they are: every kernel is the impulse."""
    for level in network.alignment:
        level.kernels = FixedKernels(level.align.out_channels)


SPEC = ModelSpec(
    title="RFVIF",
    paper="H. Li, J. Zhao, J. Li, Z. Yu, G. Lu: Feature dynamic alignment and refinement for "
    "infrared-visible image fusion: Translation robust fusion. Information Fusion 95, 2023. "
    "doi:10.1016/j.inffus.2023.02.011",
    build=RfVif,
    options=(
        Option("width", 32, "channels at every level; 16 is the light variant", (16, 32, 64)),
        Option("cross_modulation", True, "the modalities modulate each other's features"),
        Option("alignment_blocks", 2, "alignment blocks per level; 0: none", (0, 1, 2, 3)),
        Option("dynamic_kernels", True, "alignment kernels made for each pair, or fixed"),
        Option("refinement", True, "local refinement against the images"),
        Option("window", 5, "edge of the refinement's neighbourhood", (3, 5, 7)),
        Option("temperature", 1.0, "of the refinement's softmax, from 0.05; low is selective"),
        Option("alpha", 0.5, "share of the infrared image in the pixel term", recipe=True),
        Option("beta", 0.6, "share of the infrared image in the perceptual term", recipe=True),
        Option(
            "perceptual",
            "auto",
            "features of the perceptual term: VGG-16 where its file is found, else gradients at "
            "three scales",
            ("auto", "vgg", "gradient"),
            recipe=True,
        ),
    ),
    stages=(
        Stage(
            "fusion",
            fusion_loss,
            losses.OFFERED | {"ssim": 0.0, "pixel": 1.0, "perceptual": 1.0, "align": 0.3},
            epochs=120,
            batch_size=8,
            crop=128,
            lr=1e-3,
            schedule="step:40:0.1",
            clip_grad=1.0,
            warmup=500,
            misalign="shift:10",
        ),
    ),
    multiple_of=8,
    padding="replicate",
    tiling="passes",
    halo=halo,
    stride=8,
    parts={"dynamic kernels": without_dynamic_kernels},
    training_facts=training_facts,
    memory=3000,
    full_precision=(
        *(f"branch_{side}.0.0.{layer}" for side in ("vis", "ir") for layer in ("a3", "a5", "skip")),
        # what the weights shipped take their texture from: without it the result is 3 levels off
        *("branch_vis.0.1", "modulation"),
        *("masks", "across", "refinement", "pyramid", "join", "tail", "head"),
    ),
    safe_in_bf16=True,
    limits=(
        "Displacements beyond about 8 pixels, rotation and scale are not made up for.",
        "The result is on the grid of the visible image.",
        "The kernels depend on the whole image: tiles take four passes.",
        "No code was published: widths and several layers are this project's choice.",
    ),
)
