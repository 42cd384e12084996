"""RFN-Nest: a nest-connected auto-encoder whose features are fused by one residual network a scale.

Trained in two stages: the auto-encoder learns to reproduce single images, then the fusion
networks learn to merge its features while it is frozen. Images are 0..255 here. With the paper's
loss the output only means something after each image was stretched to its own minimum and maximum.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusecli import losses
from fusecli.errors import UsageError
from fusecli.models import TONE, ModelSpec, Option, Sample, Stage
from fusecli.models._neutral import Neutral, mean
from fusecli.models._rfn_nest_layout import adapt

PEAK = 255.0
CHANNELS = (64, 112, 160, 208)  # of the features at scale 1, 1/2, 1/4, 1/8

Features = list[Tensor]


class ReflectConv(nn.Module):
    """Convolution with reflected border and ReLU; height and width are kept."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            inputs,
            outputs,
            kernel,
            padding=kernel // 2,
            padding_mode="reflect" if kernel > 1 else "zeros",
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H, W)."""
        return F.relu(self.conv(features))


def block(inputs: int, outputs: int) -> nn.Sequential:
    """Return a 3x3 convolution that halves the channels and a 1x1 that sets their number."""
    return nn.Sequential(ReflectConv(inputs, inputs // 2, 3), ReflectConv(inputs // 2, outputs, 1))


class Encoder(nn.Module):
    """One image to features at four scales."""

    def __init__(self) -> None:
        super().__init__()
        self.conv0 = ReflectConv(1, 16, 1)
        self.e1 = block(16, CHANNELS[0])
        self.e2 = block(CHANNELS[0], CHANNELS[1])
        self.e3 = block(CHANNELS[1], CHANNELS[2])
        self.e4 = block(CHANNELS[2], CHANNELS[3])

    def forward(self, image: Tensor) -> Features:
        """Return four maps, each with half the height and width of the one before (floor)."""
        features = [self.e1(self.conv0(image))]
        for stage in (self.e2, self.e3, self.e4):
            features.append(stage(F.max_pool2d(features[-1], 2)))
        return features


class Decoder(nn.Module):
    """Features at four scales to one image, through a light nest of dense connections."""

    def __init__(self) -> None:
        super().__init__()
        c1, c2, c3, c4 = CHANNELS
        self.d11 = block(c1 + c2, c1)
        self.d21 = block(c2 + c3, c2)
        self.d31 = block(c3 + c4, c3)
        self.d12 = block(2 * c1 + c2, c1)
        self.d22 = block(2 * c2 + c3, c2)
        self.d13 = block(3 * c1 + c2, c1)
        self.out = ReflectConv(c1, 1, 1)
        # The features are not below 0: a last layer drawn with both signs is shut by its own ReLU
        # in a quarter of all draws, and then nothing ever learns.
        nn.init.uniform_(self.out.conv.weight, 0, c1**-0.5)

    def forward(self, features: Features) -> Tensor:
        """Return (B, 1, H, W) of the size of the first map, not below 0."""
        f1, f2, f3, f4 = features
        d11 = self.d11(join(f1, coarse=f2))
        d21 = self.d21(join(f2, coarse=f3))
        d31 = self.d31(join(f3, coarse=f4))
        d12 = self.d12(join(f1, d11, coarse=d21))
        d22 = self.d22(join(f2, d21, coarse=d31))
        d13 = self.d13(join(f1, d11, d12, coarse=d22))
        image: Tensor = self.out(d13)
        return image


def join(*fine: Tensor, coarse: Tensor) -> Tensor:
    """Stack maps of one scale with the next coarser one, brought to their size."""
    return torch.cat([*fine, enlarge(coarse, *fine[0].shape[-2:])], 1)


def enlarge(coarse: Tensor, height: int, width: int) -> Tensor:
    """Return a map with every value twice along both axes, and thrice at the end of an odd one.

    The authors reflect the last row or column of the enlarged map, which here is repeating it.
    A traced graph gathers instead, because it cannot choose by the parity of a size.
    """
    if torch.compiler.is_compiling():
        rows, columns = (
            (torch.arange(size, device=coarse.device) // 2).clamp_max(half - 1)
            for size, half in zip((height, width), coarse.shape[-2:], strict=True)
        )
        return coarse.index_select(2, rows).index_select(3, columns)
    enlarged = F.interpolate(coarse, scale_factor=2.0, mode="nearest")
    missing = (0, width - enlarged.shape[3], 0, height - enlarged.shape[2])
    return F.pad(enlarged, missing, mode="replicate") if any(missing) else enlarged


class ResidualFusion(nn.Module):
    """Residual fusion network (RFN) of one scale: two feature maps to one.

    Source:
        Paper, figure 3; six convolutions under their names there.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ReflectConv(channels, channels, 3)
        self.conv2 = ReflectConv(channels, channels, 3)
        self.conv3 = ReflectConv(2 * channels, channels, 1)
        self.conv4 = ReflectConv(channels, channels, 3)
        self.conv5 = ReflectConv(channels, channels, 3)
        self.conv6 = ReflectConv(2 * channels, channels, 3)

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Return the fused features, same shape as each input."""
        initial = self.conv6(torch.cat([ir, vis], 1))
        detail = self.conv3(torch.cat([self.conv1(ir), self.conv2(vis)], 1))
        fused: Tensor = initial + self.conv5(self.conv4(detail))
        return fused


class RfnNest(nn.Module):
    """RFN-Nest for (B, 1, H, W) images in 0..255, height and width from 16.

    Args:
        tiles: `whole` runs an image in one pass. `official` cuts images taller or wider than 512
            into four quadrants with 5 pixels of overlap and averages there, as the authors' test
            script does; the seams are theirs. An image too narrow to cut runs whole.

    Source:
        Li, Wu and Kittler, Information Fusion 73, 2021.
    """

    def __init__(self, tiles: str = "whole") -> None:
        super().__init__()
        self.tiles = tiles
        self.encoder = Encoder()
        self.fusion = nn.ModuleList(ResidualFusion(channels) for channels in CHANNELS)
        self.decoder = Decoder()

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Return the fused image before any stretch, (B, 1, H, W), not below 0."""
        size = ir.shape[-2:]
        if self.tiles == "official" and max(size) > 512 and min(size) >= 27:
            return self._quadrants(ir, vis)
        return self.decode(self.fuse(self.encode(ir), self.encode(vis)))

    def encode(self, image: Tensor) -> Features:
        """Return the features of one image at the four scales."""
        features: Features = self.encoder(image)
        return features

    def fuse(self, ir: Features, vis: Features) -> Features:
        """Return the fused features at the four scales."""
        return [rfn(*pair) for rfn, *pair in zip(self.fusion, ir, vis, strict=True)]

    def decode(self, features: Features) -> Tensor:
        """Return the image that features at the four scales stand for."""
        image: Tensor = self.decoder(features)
        return image

    def _quadrants(self, ir: Tensor, vis: Tensor) -> Tensor:
        total, count = torch.zeros_like(ir), torch.zeros_like(ir)
        halves = [(slice(0, n // 2 + 3), slice(n // 2 - 2, n)) for n in ir.shape[-2:]]
        for rows in halves[0]:
            for columns in halves[1]:
                part = (..., rows, columns)
                features = self.fuse(self.encode(ir[part]), self.encode(vis[part]))
                total[part] += self.decode(features)
                count[part] += 1
        return total / count


def reconstruction_loss(network: RfnNest, sample: Sample) -> dict[str, Tensor]:
    """Return the terms of the auto-encoder: both images of a pair, each to be reproduced."""
    images = torch.cat([sample.ir, sample.vis])
    reproduced = network.decode(network.encode(images))
    return {
        "pixel": F.mse_loss(reproduced, images),
        "ssim": losses.ssim_loss(reproduced, images, PEAK),
    }


def fusion_loss(network: RfnNest, sample: Sample) -> losses.Terms:
    """Return the terms of the fusion networks.

    `detail` keeps the structure of the visible image, `feature1` to `feature4` tie the fused
    features to a weighted sum of the sources'. Structure and the shared terms see the stretched
    image, which is what a user gets; `range` sees the raw one. Norms are means.
    """
    options = sample.options
    ir, vis = network.encode(sample.ir), network.encode(sample.vis)
    features = network.fuse(ir, vis)
    raw = network.decode(features)
    image = normalised(raw, options["normalise"])
    terms: dict[str, Tensor | Callable[[], Tensor]] = {
        "range": lambda: losses.range_loss(raw / PEAK)
    }
    if options["ssim"] == "official":
        terms["detail"] = lambda: 1 - multiscale_ssim(image, sample.vis)
    else:
        terms["detail"] = lambda: losses.ssim_loss(image, sample.vis, PEAK)
    for scale, (fused, of_ir, of_vis) in enumerate(zip(features, ir, vis, strict=True), start=1):
        target = options["w_vis"] * of_vis + options["w_ir"] * of_ir
        terms[f"feature{scale}"] = F.mse_loss(fused, target)
    return losses.fusion_terms(image / PEAK, sample.ir / PEAK, sample.vis / PEAK) | terms


def normalised(image: Tensor, over: str) -> Tensor:
    """Return (B, 1, H, W) stretched to 0..255.

    Args:
        image: Raw output.
        over: `image` takes each image's own extremes, `batch` those of the whole batch (as the
            authors' code does; the loss of one image then depends on the others), `none` changes
            nothing.
    """
    if over == "none":
        return image
    axes = (1, 2, 3) if over == "image" else (0, 1, 2, 3)
    low, high = image.amin(axes, keepdim=True), image.amax(axes, keepdim=True)
    return PEAK * (image - low) / (high - low).clamp_min(1e-3)


MULTISCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def multiscale_ssim(a: Tensor, b: Tensor) -> Tensor:
    """Return the five-scale structural similarity of the authors' code, for images in 0..255.

    It differs from the published measure twice: every value s enters as (s + 1) / 2, and the last
    scale's full similarity multiplies each of the four other factors instead of once.

    Raises:
        UsageError: Images of fewer than 176 pixels a side, whose last scale has no window left.
    """
    least = 11 * 2 ** (len(MULTISCALE_WEIGHTS) - 1)
    if min(a.shape[-2:]) < least:
        raise UsageError(
            f"ssim=official needs crops of at least {least} pixels, not {min(a.shape[-2:])}",
            code="train.crop",
            hint=f"--crop {least} or --set ssim=single",
        )
    result = a.new_ones(())
    for weight in MULTISCALE_WEIGHTS[:-1]:
        contrast_structure = losses.ssim_parts(a, b, PEAK)[1].mean()
        result = result * ((contrast_structure + 1) / 2) ** weight
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    last = (losses.ssim_map(a, b, PEAK).mean() + 1) / 2
    return result * last ** (MULTISCALE_WEIGHTS[-1] * (len(MULTISCALE_WEIGHTS) - 1))


def halo(options: Mapping[str, Any]) -> int:
    """Return the farthest pixel that an output pixel depends on: 53, over all pooling phases."""
    return 53


FUSION_WEIGHTS = losses.OFFERED | {
    "ssim": 0.0,
    "pixel": 0.0,
    "detail": 700.0,
    "feature1": 1.0,
    "feature2": 10.0,
    "feature3": 100.0,
    "feature4": 1000.0,
}


def averaging(scale: int) -> Callable[[RfnNest], None]:
    """Return what replaces the residual fusion of one scale, from 0, by the mean of both maps."""

    def replace(network: RfnNest) -> None:
        network.fusion[scale] = Neutral(mean)

    return replace


SPEC = ModelSpec(
    title="RFN-Nest",
    paper="H. Li, X.-J. Wu, J. Kittler: RFN-Nest: An end-to-end residual fusion network for "
    "infrared and visible images. Information Fusion 73, 2021. "
    "doi:10.1016/j.inffus.2021.02.023",
    build=RfnNest,
    options=(
        Option(
            "tiles",
            "whole",
            "official: images above 512 pixels in four overlapping quadrants, seams included",
            ("whole", "official"),
        ),
        Option(
            "ssim",
            "single",
            "structure term: one scale (paper), or the five-scale form of the authors' code",
            ("single", "official"),
            recipe=True,
        ),
        Option(
            "normalise",
            "image",
            "extremes that the loss stretches the output from; batch: the authors' code",
            ("image", "batch", "none"),
            recipe=True,
        ),
        Option("w_ir", 6.0, "share of the infrared features in the feature terms", recipe=True),
        Option("w_vis", 3.0, "share of the visible features in the feature terms", recipe=True),
        TONE,
    ),
    stages=(
        # The paper's two epochs are passes over 80,000 images: 40,000 steps.
        Stage(
            "autoencoder",
            reconstruction_loss,
            {"pixel": 1.0, "ssim": 100.0},
            trains=("encoder.", "decoder."),
            epochs=2,
            batch_size=4,
            crop=256,
            lr=1e-4,
        ),
        Stage(
            "fusion",
            fusion_loss,
            FUSION_WEIGHTS,
            trains=("fusion.",),
            epochs=2,
            batch_size=4,
            crop=256,
            lr=1e-4,
        ),
    ),
    input_range=(0.0, PEAK),
    tone="stretch",
    min_size=16,
    tiling="exact",
    halo=halo,
    stride=8,
    memory=5100,
    full_precision=("encoder.conv0", "decoder.d13.1", "decoder.out"),
    safe_in_bf16=True,
    adapt=adapt,
    parts={f"residual fusion, scale {scale + 1}": averaging(scale) for scale in range(4)},
    limits=(
        "As published, each result is stretched to its own minimum and maximum: flat scenes show "
        "noise, and the brightness of a video may pump. Weights with tone=clip need none of it.",
        "Images must be registered.",
        "The recipe's two epochs are meant for 80,000 pairs; with fewer, train with --steps 40000.",
    ),
)
