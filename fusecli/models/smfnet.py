"""SMFNet: a transformer auto-encoder of three branches (base, detail, graph), with fusion layers.

Trained in two stages: the branches learn to reproduce both images of a pair, then the fusion
layers join in. The blocks are in `_smfnet_blocks` and `_smfnet_graph`. Layers of the authors' code
that no image ever passes through are left out; the importer drops their keys.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusecli import losses
from fusecli.models import TONE, ModelSpec, Option, Sample, Stage
from fusecli.models._smfnet_blocks import (
    WIDTH,
    Coupling,
    CrossAttention,
    GradientBlock,
    InverseCoupling,
    ResidualTransformer,
    TransformerBlock,
)
from fusecli.models._smfnet_graph import Graph
from fusecli.models._smfnet_layout import adapt


@dataclass(frozen=True)
class Encoded:
    """The features of one image, each (B, 64, H, W).

    Args:
        base: What the modalities share: large structures.
        detail: What is particular: fine structures.
        shallow: What both, and the graph, are made from.
    """

    base: Tensor
    detail: Tensor
    shallow: Tensor


@dataclass(frozen=True)
class Trace:
    """Everything one forward pass makes.

    Args:
        ir: Features of the infrared image.
        vis: Features of the visible image.
        graph_ir: Graph features of the infrared image, (B, 64, H, W).
        graph_vis: Graph features of the visible image.
        base: Fused base features; None in the first stage.
        detail: Fused detail features; None in the first stage.
        graph: Joined graph features; None in the first stage.
        images: (fused,), or (infrared, visible) reproduced in the first stage; (B, 1, H, W), 0..1.
    """

    ir: Encoded
    vis: Encoded
    graph_ir: Tensor
    graph_vis: Tensor
    images: tuple[Tensor, ...]
    base: Tensor | None = None
    detail: Tensor | None = None
    graph: Tensor | None = None


class Encoder(nn.Module):
    """One image, of either modality, to shallow, base and detail features."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, WIDTH, 3, padding=1, bias=False)
        self.shallow = TransformerBlock()
        self.gradient = GradientBlock()
        self.cross = CrossAttention()
        self.coupling = Coupling()
        self.base = nn.Sequential(
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1), ResidualTransformer(), ResidualTransformer()
        )

    def forward(self, image: Tensor) -> Encoded:
        """Return the features of (B, 1, H, W)."""
        shallow = self.shallow(self.embed(image))
        z1, z2 = self.gradient(shallow).chunk(2, 1)
        crossed = torch.cat([self.cross(z2, z1), self.cross(z1, z2)], 1)
        return Encoded(self.base(shallow), self.coupling(crossed), shallow)


class DetailFusion(nn.Module):
    """Summed detail features to fused ones."""

    def __init__(self) -> None:
        super().__init__()
        self.gradient = GradientBlock()
        self.couplings = nn.Sequential(InverseCoupling(), InverseCoupling())

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, 64, H, W) to the same shape."""
        fused: Tensor = self.couplings(self.gradient(features))
        return fused


class Decoder(nn.Sequential):
    """Features to an image in 0..1."""

    def __init__(self) -> None:
        super().__init__(
            TransformerBlock(),
            nn.Conv2d(WIDTH, 32, 3, padding=1, bias=False),
            nn.LeakyReLU(0.01),
            nn.Conv2d(32, 16, 3, padding=1, bias=False),
            nn.LeakyReLU(0.01),
            nn.Conv2d(16, 1, 3, padding=1, bias=False),
            nn.Sigmoid(),
        )


class SmfNet(nn.Module):
    """SMFNet for (B, 1, H, W) images in 0..1, any size from 2 pixels.

    Args:
        edge_broadcast: How the graph weighs neighbours: `interleaved` (the authors' code) or
            `per_neighbour` (paper, Eq. 15).

    Source:
        Zhang et al., arXiv:2407.06159, 2024; layers, slopes and order after the authors' code.
    """

    def __init__(self, edge_broadcast: str = "interleaved") -> None:
        super().__init__()
        self.encoder = Encoder()
        # not `graph`: a traced module has an attribute of that name already
        self.reasoning = Graph(edge_broadcast)
        self.base_fusion = TransformerBlock()
        self.detail_fusion = DetailFusion()
        self.decoder = Decoder()

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Return the fused image before any stretch, (B, 1, H, W), 0..1."""
        return self.trace(ir, vis).images[0]

    def trace(self, ir: Tensor, vis: Tensor) -> Trace:
        """Fuse a pair and return everything on the way."""
        of_ir, of_vis = self.encoder(ir), self.encoder(vis)
        graph_ir, graph_vis = self.reasoning(of_ir.shallow, of_vis.shallow)
        graph = self.reasoning.join(graph_ir, graph_vis)
        base = self.base_fusion(of_ir.base + of_vis.base)
        detail = self.detail_fusion(of_ir.detail + of_vis.detail)
        images = (self.decoder(detail + base + graph),)
        return Trace(of_ir, of_vis, graph_ir, graph_vis, images, base, detail, graph)

    def reproduce(self, ir: Tensor, vis: Tensor) -> Trace:
        """Reproduce each image of a pair from its own features (first stage)."""
        of_ir, of_vis = self.encoder(ir), self.encoder(vis)
        graph_ir, graph_vis = self.reasoning(of_ir.shallow, of_vis.shallow)
        images = (
            self.decoder(of_ir.detail + of_ir.base + graph_ir),
            self.decoder(of_vis.detail + of_vis.base + graph_vis),
        )
        return Trace(of_ir, of_vis, graph_ir, graph_vis, images)


def reproduction_loss(network: SmfNet, sample: Sample) -> losses.Terms:
    """Return the terms of the first stage.

    `ssim` is the sum of (1 - SSIM) / 2 over both images, at full size. `sobel` compares |Sx| + |Sy|
    of both, with the plain taps (1 2 1). `gradient_vis` and `gradient_ir` compare the responses
    themselves, with taps an eighth as large; the code uses the visible one only, the paper both.
    """
    trace = network.reproduce(sample.ir, sample.vis)
    made, given = torch.cat(trace.images), torch.cat([sample.ir, sample.vis])
    (ir, vis), foreground = trace.images, sample.vis > sample.vis.mean((1, 2, 3), keepdim=True)
    # the means run over both images of a pair: twice their value is the sum that is meant
    return losses.Terms(
        {
            "ssim": lambda: 1 - losses.ssim_map(made, given, same_size=True).mean(),
            "sobel": lambda: (
                2 * F.l1_loss(losses.sobel_magnitude(made), losses.sobel_magnitude(given))
            ),
            "gradient_ir": lambda: gradient_distance(ir, sample.ir),
            "gradient_vis": lambda: gradient_distance(vis, sample.vis),
            "gram": lambda: F.mse_loss(
                ir.square().mean((1, 2, 3)), sample.ir.square().mean((1, 2, 3))
            ),
            "decomp": lambda: decomposition(trace, sample.options["decomp"]),
            "semantic": lambda: lovasz_hinge(vis, foreground),
        }
    )


def fusion_loss(network: SmfNet, sample: Sample) -> losses.Terms:
    """Return the terms of the second stage."""
    trace = network.trace(sample.ir, sample.vis)
    terms = losses.fusion_terms(trace.images[0], sample.ir, sample.vis)
    return terms | {"decomp": lambda: decomposition(trace, sample.options["decomp"])}


def gradient_distance(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean distance of two images' Sobel responses, for taps whose sizes sum to 1."""
    (across_a, along_a), (across_b, along_b) = losses.sobel(a), losses.sobel(b)
    return (F.l1_loss(across_a, across_b) + F.l1_loss(along_a, along_b)) / 16


def decomposition(trace: Trace, form: str) -> Tensor:
    """Return the term that makes base features alike and the others unlike in the two modalities.

    Args:
        trace: Of either stage; the graph counts in the second only.
        form: `differentiable`, or `detached`: the authors' code turns the correlations into plain
            numbers, so that nothing learns from them, and counts the detail twice instead of the
            graph.
    """
    base = losses.correlation(trace.ir.base, trace.vis.base)
    unlike = losses.correlation(trace.ir.detail, trace.vis.detail).square()
    if trace.graph is not None:
        graph = losses.correlation(trace.graph_ir, trace.graph_vis).square()
        unlike = unlike + (unlike if form == "detached" else graph)
    term = unlike / (base + 1.01)
    return term.detach() if form == "detached" else term


def lovasz_hinge(score: Tensor, foreground: Tensor) -> Tensor:
    """Return the Lovász hinge: a convex bound on 1 - intersection over union.

    Args:
        score: (B, 1, H, W), 0..1; above 1/2 means foreground.
        foreground: (B, 1, H, W), boolean.

    Returns:
        Scalar, the mean over the images.

    Source:
        Berman, Triki and Blaschko, CVPR 2018.
    """
    truth = foreground.flatten(1).float()
    errors = 1 - (2 * score.float().flatten(1) - 1) * (2 * truth - 1)
    errors, order = errors.sort(1, descending=True)
    truth = truth.gather(1, order)
    total = truth.sum(1, keepdim=True)
    missed = total - truth.cumsum(1)
    union = total + (1 - truth).cumsum(1)
    jaccard = 1 - missed / union
    steps = jaccard.diff(dim=1, prepend=jaccard.new_zeros(len(jaccard), 1))
    return (errors.relu() * steps).sum(1).mean()


def halo(options: Mapping[str, Any]) -> int:
    """Return the reach, once the attention over the whole image is known.

    Shallow features 3, base branch 17 with its fusion 2 (the detail's 13 and the graph's 17 lie
    within), decoder 5.
    """
    return (1 + 2) + (1 + 2 * (2 * 2 + 2 * 1 + 2) + 2) + (2 + 3)


def without_messages(network: SmfNet) -> None:
    """Let the nodes of a modality tell each other nothing."""
    for side in (network.reasoning.ir, network.reasoning.vis):
        side.gamma = nn.Parameter(torch.zeros_like(side.gamma))


def without_exchange(network: SmfNet) -> None:
    """Let the modalities tell each other nothing."""
    network.reasoning.exchange = lambda ir, vis: (ir, vis)  # type: ignore[method-assign]


def without_graph(network: SmfNet) -> None:
    """Leave the whole graph branch out of the fused features."""
    output = network.reasoning.output
    for parameter in output.parameters():
        nn.init.zeros_(parameter)


SPEC = ModelSpec(
    title="SMFNet",
    paper="X. Zhang, L. Wang, L. Zhao, X. Li, S. Ma: A Semantic-Aware and Multi-Guided Network for "
    "Infrared-Visible Image Fusion. arXiv:2407.06159, 2024",
    build=SmfNet,
    options=(
        Option(
            "edge_broadcast",
            "interleaved",
            "how the graph weighs neighbours: the authors' code, or the paper's Eq. 15",
            ("interleaved", "per_neighbour"),
        ),
        Option(
            "decomp",
            "differentiable",
            "decomposition term; detached: as in the authors' code, where it teaches nothing",
            ("differentiable", "detached"),
            recipe=True,
        ),
        TONE,
    ),
    stages=(
        Stage(
            "reproduce",
            reproduction_loss,
            {
                "ssim": 8.0,
                "sobel": 10.0,
                "gradient_vis": 5.0,
                "gradient_ir": 0.0,
                "gram": 1.0,
                "decomp": 2.0,
                "semantic": 0.0,
            },
            trains=("encoder.", "decoder.", "reasoning.ir.", "reasoning.vis.", "reasoning.to_"),
            epochs=40,
            batch_size=6,
            crop=128,
            lr=1e-4,
            schedule="step:20:0.5:1e-6",
            clip_grad=0.01,
        ),
        # The paper states 2 and 10 for the last two weights; its code has them this way round.
        Stage(
            "fusion",
            fusion_loss,
            losses.OFFERED
            | {"ssim": 0.0, "pixel": 0.0, "intensity": 1.0, "max_gradient": 10.0, "decomp": 2.0},
            epochs=80,
            batch_size=6,
            crop=128,
            lr=1e-4,
            schedule="step:20:0.5:1e-6",
            clip_grad=0.01,
        ),
    ),
    tone="stretch",
    min_size=2,
    tiling="passes",
    halo=halo,
    memory=8800,
    full_precision=("encoder.embed", "decoder.1", "decoder.3", "decoder.5"),
    safe_in_bf16=True,
    adapt=adapt,
    parts={
        "message passing": without_messages,
        "exchange of modalities": without_exchange,
        "graph": without_graph,
    },
    limits=(
        "As published, each result is stretched to its own minimum and maximum: the brightness of "
        "a video may pump. Weights with tone=clip need none of it.",
        "Attention counts over the whole image: tiles take twelve passes, about seven times the "
        "work; at once 640x480 takes 2.4 GB in float32 on a CPU.",
        "Images must be registered.",
    ),
)
