"""MFEIF: features at three dilations, weighted by edge-driven attention, fused by a softmax.

One extractor and one attention network serve both images alike, so swapping infrared and visible
changes nothing, to the last bit. `journal` is the authors' public code, `conference` the earlier
text: dense paths, forward differences, 64 attention maps, three skips by sums.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusecli import losses
from fusecli.models import ModelSpec, Option, Sample, Stage
from fusecli.models._blocks import ConvBlock, magnitude
from fusecli.models._mfeif_layout import adapt
from fusecli.models._neutral import Neutral

SHALLOW, MIDDLE, DEEP = 32, 48, 64
# Prefixes of all parameters but those of the norms, in both variants.
UNNORMED = (
    "extractor.stem.conv",
    *(f"extractor.paths.{path}.{layer}.conv" for path in range(3) for layer in range(3)),
    "attention",
    "temperature",
    *(f"decoder.d{layer}.conv" for layer in (1, 2, 3, 4)),
    *(f"decoder.d4.{kind}" for kind in ("weight", "bias")),
)
Features = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Trace:
    """The intermediates of one forward pass, each (B, C, H, W).

    Args:
        fused: The output, one channel.
        weights: Softmax over 64 channels, what the decoder starts from; sums to 1.
        attention_ir: Attention of the infrared image, one map or 64.
        attention_vis: The same of the visible image.
        features_ir: Shallow (32), middle (48) and deep (64) features of the infrared image.
        features_vis: The same of the visible image.
    """

    fused: Tensor
    weights: Tensor
    attention_ir: Tensor
    attention_vis: Tensor
    features_ir: Features
    features_vis: Features


class Extractor(nn.Module):
    """Three paths of three convolutions that start with dilation 1, 2 and 3.

    Args:
        dense: Each layer sees all earlier outputs of its path, not just the last one.
        shares: Weight of each path in the deep features.
    """

    def __init__(self, dense: bool, shares: tuple[float, float, float]) -> None:
        super().__init__()
        self.dense = dense
        self.shares = shares
        widths = (16, SHALLOW, MIDDLE, DEEP)
        inputs = [sum(widths[: i + 1]) for i in range(3)] if dense else list(widths[:3])
        self.stem = ConvBlock(1, widths[0])
        self.paths = nn.ModuleList(
            nn.ModuleList(
                ConvBlock(inputs[layer], widths[layer + 1], dilation=first if layer == 0 else 1)
                for layer in range(3)
            )
            for first in (1, 2, 3)
        )

    def forward(self, image: Tensor) -> Features:
        """Return shallow (B, 32, H, W), middle (48) and deep (64) features of a 0..1 image."""
        stem = self.stem(image)
        totals: list[Tensor] = []
        for path, share in zip(self.paths, self.shares, strict=True):
            seen = stem
            for depth, layer in enumerate(path.children()):
                out = layer(seen)
                seen = torch.cat([seen, out], 1) if self.dense and depth < 2 else out
                term = share * out if depth == 2 else out
                if len(totals) > depth:
                    totals[depth] = totals[depth] + term
                else:
                    totals.append(term)
        shallow, middle, deep = totals
        return shallow, middle, deep


class Attention(nn.Module):
    """Weight of each deep feature from the edges of an image; 1 before training.

    Args:
        conference: 64 maps from the edges alone, not one map from image plus edges.
    """

    def __init__(self, conference: bool) -> None:
        super().__init__()
        self.conference = conference
        self.conv1a, self.conv1b = _pair(1, 32, 32)
        self.conv2a, self.conv2b = _pair(32, 64, 128)
        self.conv3a, self.conv3b = _pair(128, 64, DEEP if conference else 32)
        self.out: nn.Module = nn.Identity() if conference else nn.Conv2d(32, 1, 1)
        # The decoder has learnt with every weight 1: training the attention starts from there.
        nn.init.ones_(self.conv3b.bias if conference else self.out.bias)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> Tensor:
        """Map a (B, 1, H, W) image in 0..1 to (B, 1 or 64, H, W) weights, unbounded."""
        hidden = forward_edges(image) if self.conference else image + central_edges(image)
        hidden = self.conv1b(self.conv1a(hidden).relu())
        hidden = self.conv2b(self.conv2a(hidden).relu())
        hidden = self.conv3b(self.conv3a(hidden).relu())
        weights: Tensor = self.out(hidden)
        return weights


def _pair(inputs: int, middle: int, outputs: int) -> tuple[nn.Conv2d, nn.Conv2d]:
    """Return a convolution and a second one of dilation 2."""
    first = nn.Conv2d(inputs, middle, 3, padding=1)
    return first, nn.Conv2d(middle, outputs, 3, padding=2, dilation=2)


def central_edges(image: Tensor) -> Tensor:
    """Return the largest central-difference gradient within a pixel, replicate border."""
    wide = F.pad(image, (1, 1, 1, 1), mode="replicate")
    dx = (wide[..., 1:-1, 2:] - wide[..., 1:-1, :-2]) / 2
    dy = (wide[..., 2:, 1:-1] - wide[..., :-2, 1:-1]) / 2
    return F.max_pool2d(magnitude(dx, dy), 3, stride=1, padding=1)


def forward_edges(image: Tensor) -> Tensor:
    """Return the largest forward-difference gradient of each 2x2 block, 0 past the border."""
    wide = F.pad(image, (0, 1, 0, 1), mode="replicate")
    here = wide[..., :-1, :-1]
    edges = magnitude(wide[..., :-1, 1:] - here, wide[..., 1:, :-1] - here)
    return F.max_pool2d(F.pad(edges, (0, 1, 0, 1), mode="replicate"), 2, stride=1)


class JournalDecoder(nn.Module):
    """Image from 64 fused channels, with two skips concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.d1 = ConvBlock(DEEP, 16)
        self.d2 = ConvBlock(16 + MIDDLE, 32)
        self.d3 = ConvBlock(32 + SHALLOW, 16)
        self.d4 = ConvBlock(16, 1)

    def forward(self, weights: Tensor, skips: Features) -> Tensor:
        """Return (B, 1, H, W), at least 0."""
        shallow, middle, _ = skips
        hidden = self.d2(torch.cat([self.d1(weights), middle], 1))
        fused: Tensor = self.d4(self.d3(torch.cat([hidden, shallow], 1)))
        return fused

    @staticmethod
    def skip(ir: Tensor, vis: Tensor) -> Tensor:
        """Return the skip of two feature maps: their mean, drawn towards what both show."""
        return (ir + vis + torch.minimum(ir, vis)) / 3


class ConferenceDecoder(nn.Module):
    """Image from 64 fused channels, with three skips added."""

    def __init__(self) -> None:
        super().__init__()
        self.d1 = ConvBlock(DEEP, DEEP)
        self.d2 = ConvBlock(DEEP, MIDDLE)
        self.d3 = ConvBlock(MIDDLE, SHALLOW)
        self.d4 = nn.Conv2d(SHALLOW, 1, 3, padding=1)

    def forward(self, weights: Tensor, skips: Features) -> Tensor:
        """Return (B, 1, H, W), about 0..1."""
        shallow, middle, deep = skips
        hidden = self.d3(self.d2(self.d1(weights) + deep) + middle) + shallow
        fused: Tensor = self.d4(hidden)
        return fused

    @staticmethod
    def skip(ir: Tensor, vis: Tensor) -> Tensor:
        """Return the skip of two feature maps: their sum."""
        return ir + vis


class MFEIF(nn.Module):
    """Fusion of (B, 1, H, W) infrared and visible images in 0..1, any size.

    Args:
        variant: `journal` or `conference`.
        temperature: Initial value of the learnable factor before the softmax, which keeps the
            deep features alive in training (the published weights show them dead); 0 leaves the
            factor out, as in the authors' code.
        margin: Pixels by which the images are continued on all sides before they are fused. With
            0, as published, the zeros around the images can leave a black rim of four pixels.

    Source:
        Liu et al., IEEE TCSVT 32, 2022, and its earlier conference text.
    """

    def __init__(self, variant: str = "journal", temperature: float = 8.0, margin: int = 0) -> None:
        super().__init__()
        self.margin = margin
        conference = variant == "conference"
        self.extractor = Extractor(conference, (1.0, 1.0, 1.0) if conference else (0.1, 0.1, 1.0))
        self.attention = Attention(conference)
        self.decoder = ConferenceDecoder() if conference else JournalDecoder()
        initial = torch.tensor(float(temperature))
        self.temperature = nn.Parameter(initial) if temperature else None

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Return the fused image, (B, 1, H, W); it may exceed 1."""
        height, width = ir.shape[-2:]
        if self.margin:
            ir, vis = (F.pad(x, (self.margin,) * 4, mode="replicate") for x in (ir, vis))
        features_ir, features_vis = self._features(ir, vis)
        weights = self._mix(
            features_ir[2] * self.attention(ir) + features_vis[2] * self.attention(vis)
        )
        fused = self._decode(weights, features_ir, features_vis)
        inside = slice(self.margin, self.margin + height), slice(self.margin, self.margin + width)
        return fused[..., *inside] if self.margin else fused

    def trace(self, ir: Tensor, vis: Tensor) -> Trace:
        """Return the fused image with everything it was made from."""
        features_ir, features_vis = self._features(ir, vis)
        of_ir, of_vis = self.attention(ir), self.attention(vis)
        weights = self._mix(features_ir[2] * of_ir + features_vis[2] * of_vis)
        fused = self._decode(weights, features_ir, features_vis)
        return Trace(fused, weights, of_ir, of_vis, features_ir, features_vis)

    def rebuild(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return an image through extractor and decoder, and its softmax weights.

        This is fusion of the image with itself, with attention 1 everywhere.
        """
        features = self.extractor(image)
        weights = self._mix(2 * features[2])
        return self._decode(weights, features, features), weights

    def _features(self, ir: Tensor, vis: Tensor) -> tuple[Features, Features]:
        """Extract from both images; in training as one batch, so that they share statistics."""
        if not self.extractor.training:
            return self.extractor(ir), self.extractor(vis)
        (a, b), (c, d), (e, f) = (t.chunk(2) for t in self.extractor(torch.cat([ir, vis])))
        return (a, c, e), (b, d, f)

    def _mix(self, deep: Tensor) -> Tensor:
        """Return the channel softmax of the attended deep features."""
        return torch.softmax(deep if self.temperature is None else self.temperature * deep, 1)

    def _decode(self, weights: Tensor, ir: Features, vis: Features) -> Tensor:
        shallow, middle, deep = (self.decoder.skip(a, b) for a, b in zip(ir, vis, strict=True))
        fused: Tensor = self.decoder(weights, (shallow, middle, deep))
        return fused


def softmax_peak(weights: Tensor) -> Tensor:
    """Return the mean over pixels of the largest of the 64 weights, from 1/64 to 1.

    At 1/64 the softmax is uniform: deep features and attention have no part in the result.
    """
    return weights.amax(1).mean()


class PatchCritic(nn.Sequential):
    """Judges overlapping patches of a (B, 1, H, W) image: towards 1 is real, towards 0 rebuilt."""

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        for inputs, outputs in ((1, 64), (64, 128), (128, 256)):
            layers += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        super().__init__(*layers, nn.Conv2d(256, 1, 4, stride=2, padding=1))


def rebuild_loss(network: MFEIF, sample: Sample, critic: nn.Module) -> losses.Terms:
    """Return the terms of rebuilding each image of the pair on its own."""
    images = torch.cat([sample.ir, sample.vis])
    rebuilt, weights = network.rebuild(images)
    return losses.Terms(
        {
            "mse": lambda: F.mse_loss(rebuilt, images),
            "ssim": lambda: losses.ssim_loss(rebuilt, images),
            "adversarial": lambda: (critic(rebuilt) - 1).square().mean(),
            "softmax_peak": lambda: softmax_peak(weights),
        }
    )


def critic_loss(critic: nn.Module, network: MFEIF, sample: Sample) -> Tensor:
    """Return the least-squares loss of telling images from rebuilt ones."""
    images = torch.cat([sample.ir, sample.vis])
    with torch.no_grad():
        rebuilt, _ = network.rebuild(images)
    real, fake = critic(images), critic(rebuilt)
    loss: Tensor = ((real - 1).square().mean() + fake.square().mean()) / 2
    return loss


def fusion_loss(network: MFEIF, sample: Sample) -> losses.Terms:
    """Return the terms of fusing the pair."""
    trace = network.trace(sample.ir, sample.vis)
    terms = losses.fusion_terms(trace.fused, sample.ir, sample.vis)
    return terms | {"softmax_peak": lambda: softmax_peak(trace.weights)}


def halo(options: Mapping[str, Any]) -> int:
    """Return the reach: edges 2 and attention 9 (the extractor's 6 lies within), decoder 4."""
    return 2 + 3 * (1 + 2) + 4


# Every term of fusion, none of them counted.
TERMS = losses.OFFERED | {"ssim": 0.0, "pixel": 0.0, "softmax_peak": 0.0}


def without_attention(network: MFEIF) -> None:
    """Weigh all deep features by 1."""
    network.attention = Neutral(torch.ones_like)  # type: ignore[assignment]


def without_deep_features(network: MFEIF) -> None:
    """Let the softmax be the same for every channel and pixel."""
    network.temperature = nn.Parameter(torch.zeros(()))


SPEC = ModelSpec(
    title="MFEIF",
    paper="J. Liu, X. Fan, J. Jiang, R. Liu, Z. Luo: Learning a Deep Multi-Scale Feature Ensemble "
    "and an Edge-Attention Guidance for Image Fusion. IEEE Transactions on Circuits and Systems "
    "for Video Technology 32, 2022. doi:10.1109/TCSVT.2021.3056725",
    build=MFEIF,
    options=(
        Option(
            "variant",
            "journal",
            "journal: the public code; conference: the earlier text",
            ("journal", "conference"),
        ),
        Option(
            "temperature", 8.0, "initial factor before the softmax, learnt; 0: none, as published"
        ),
        Option("margin", 0, "pixels the images are continued by; 0: as published", (0, 8)),
    ),
    stages=(
        Stage(
            "rebuild",
            rebuild_loss,
            {"mse": 1.0, "ssim": 1.0, "adversarial": 1e-3, "softmax_peak": 0.0},
            trains=("extractor", "decoder", "temperature"),
            epochs=50,
            batch_size=8,  # pairs: 16 images, as in the paper
            crop=256,
            lr=1e-4,
            critic=PatchCritic,
            critic_loss=critic_loss,
        ),
        Stage(
            "attend",
            fusion_loss,
            TERMS | {"ssim": 1.0, "pixel": 0.5, "max_gradient": 5.0},
            trains=("attention",),
            epochs=100,
            batch_size=8,
            crop=256,
            lr=1e-4,
        ),
        # Ours, not the paper's: the whole network, for quality. No epochs: only when asked for.
        Stage(
            "finetune",
            fusion_loss,
            TERMS | {"gradient": 10.0, "wssim": 10.0, "intensity": 3.0, "range": 5.0},
            epochs=0,
            batch_size=8,
            crop=128,
            lr=1e-3,
            schedule="cosine",
        ),
        # The same with the norms as inference has them: a small batch's are noise in brightness.
        Stage(
            "settle",
            fusion_loss,
            TERMS
            | {"gradient": 4.0, "wssim": 3.0, "intensity": 8.0, "range": 5.0}
            | {"ssim": 8.0, "difference": 0.8},
            trains=UNNORMED,
            epochs=0,
            batch_size=8,
            crop=128,
            lr=4e-4,
            schedule="cosine",
        ),
    ),
    tiling="exact",
    halo=halo,
    memory=2700,
    full_precision=("extractor.stem", "decoder.d3", "decoder.d4"),
    safe_in_bf16=True,
    adapt=adapt,
    parts={
        "edge-guided attention": without_attention,
        "softmax of deep features": without_deep_features,
    },
    limits=(
        "Images must be registered.",
        "Infrared and visible are treated alike: swapping them changes nothing.",
        "The authors' weights leave deep features and attention unused; the temperature is our "
        "guard against that.",
    ),
)
