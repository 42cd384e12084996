"""Duet: our own fuser. Both sources are split into brightness and detail, and fused apart.

Brightness is what is left of an image in cells of 8x8 pixels, detail the rest. The fused image is
the visible brightness, corrected, plus a share of each source's detail. The network works out that
correction and the share: at half resolution, where 2x2 pixels come in as channels and every
convolution has a quarter of the pixels to run on, and with a look around at an eighth. There it
also sees how well the edges of the two images agree for some displacements of the infrared: so it
knows where a pair does not line up, and keeps infrared detail out that would double an edge.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusecli import losses
from fusecli.models import ModelSpec, Option, Sample, Stage

BLOCK = 2  # edge of the pixels that come in as channels
CELL = 8  # edge of a cell of brightness and context, in pixels
STEP = 4  # pixels between the displacements at which edges are compared
REACH = 3  # steps, either way
WINDOW = 9  # edge of the neighbourhood whose edges are compared, in cells
FAINT = 0.02  # difference of neighbouring brightnesses that hardly is an edge
DILATIONS = (1, 2, 1)  # of the convolutions over cells
BODY = 2  # convolutions at half resolution between the first and the last


class Fuser(nn.Module):
    """Fusion of (B, 1, H, W) infrared and visible images in 0..1; H and W multiples of 8.

    Untrained it adds the mean of both details to the visible brightness.

    Args:
        width: Channels at half resolution.
        context: Channels at an eighth of the resolution.
    """

    def __init__(self, width: int = 24, context: int = 32) -> None:
        super().__init__()
        self.head = nn.Conv2d(2 * BLOCK**2, width, 3, padding=1)
        self.down = nn.Conv2d(width + 2 + (2 * REACH + 1) ** 2, context, 1)
        self.sharpness = nn.Parameter(torch.tensor(8.0))  # of the choice among displacements
        self.context = nn.ModuleList(
            nn.Conv2d(context, context, 3, padding=d, dilation=d) for d in DILATIONS
        )
        self.up = nn.Conv2d(context, width, 1)
        self.body = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(BODY))
        self.tail = nn.Conv2d(width, 2 * BLOCK**2, 3, padding=1)
        for parameter in self.tail.parameters():
            nn.init.zeros_(parameter)

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Return the fused image, (B, 1, H, W), in practice about 0..1."""
        pair = torch.cat([ir, vis], 1)
        cells = F.avg_pool2d(pair, CELL)
        brightness = _enlarge(cells, CELL)
        detail = pair - brightness
        features = _active(self.head(F.pixel_unshuffle(detail, BLOCK)))
        where = torch.softmax(self.sharpness * agreement(pair.float()), 1).to(pair.dtype)
        around = torch.cat([F.avg_pool2d(features, CELL // BLOCK), cells, where], 1)
        for layer in (self.down, *self.context):
            around = _active(layer(around))
        around = _enlarge(self.up(around), CELL // BLOCK)
        for index, layer in enumerate(self.body):
            features = layer(features)
            features = _active(features + around if index == 0 else features)
        share, correction = F.pixel_shuffle(self.tail(features), BLOCK).split(1, 1)
        share = torch.sigmoid(share)
        of_ir, of_vis = detail.split(1, 1)
        fused: Tensor = brightness[:, 1:] + correction + share * of_ir + (1 - share) * of_vis
        return fused


def agreement(pair: Tensor) -> Tensor:
    """Return how well the edges around each cell agree, were the infrared displaced, -1..1.

    Directions of edges are compared, not their sign or strength: squared as a complex number, a
    gradient is the same for dark on bright and bright on dark.

    Args:
        pair: Infrared and visible, (B, 2, H, W).

    Returns:
        (B, 49, H / 8, W / 8): for displacements of the infrared by -12, -8 ... 12 pixels down, and
        for each of them by as many to the right.
    """
    small = F.pad(F.avg_pool2d(pair, STEP), (1, 1, 1, 1), mode="replicate")
    dx = small[..., 1:-1, 2:] - small[..., 1:-1, :-2]
    dy = small[..., 2:, 1:-1] - small[..., :-2, 1:-1]
    squared = torch.stack([dx.square() - dy.square(), 2 * dx * dy], 2)
    direction = squared / (dx.square() + dy.square() + FAINT**2)[:, :, None]
    of_ir, of_vis = direction.unbind(1)
    height, width = dx.shape[-2:]
    of_ir = F.pad(of_ir, (REACH,) * 4)
    span = range(2 * REACH + 1)
    displaced = [of_ir[..., y : y + height, x : x + width] for y in span for x in span]
    match = (torch.stack(displaced, 1) * of_vis[:, None]).sum(2)
    weights = direction.square().sum(2)
    cells = F.avg_pool2d(torch.cat([match, weights], 1), CELL // STEP)
    reach = WINDOW // 2
    cells = F.avg_pool2d(cells, (1, WINDOW), 1, (0, reach), count_include_pad=False)
    cells = F.avg_pool2d(cells, (WINDOW, 1), 1, (reach, 0), count_include_pad=False)
    match, weights = cells[:, :-2], cells[:, -2:]
    agreed: Tensor = match * torch.rsqrt(weights.prod(1, keepdim=True) + 1e-6)
    return agreed


def _active(features: Tensor) -> Tensor:
    return F.leaky_relu(features, 0.1)


def _enlarge(cells: Tensor, factor: int) -> Tensor:
    """Return (B, C, factor H, factor W), interpolated between the centres of the cells."""
    return F.interpolate(cells, scale_factor=float(factor), mode="bilinear", align_corners=False)


# The picture that training aims at. Sigmas in pixels, brightness in 0..1.
BASE_SIGMA = 6.0  # what is smoother than this is brightness
AROUND_SIGMA = 35.0  # surroundings that a warm target stands out against
ACTIVITY_SIGMA, SHARE_SIGMA = 3.0, 1.5  # neighbourhood that decides, and how soft its border is
NOISE = 0.006  # mean detail that counts as none
TINT = 0.3  # of the infrared brightness everywhere
LIFT = 1.6  # of what stands out in it
FAVOUR = 1.7  # how many times the visible detail the infrared one must have
LIMIT = 0.35  # of infrared detail: a whole step of a hot roof would darken the sky beside it
DECISION = 6.0  # exponent of that ratio
DISPLACED = 1 / 4  # of the pairs of a batch: with more, aligned pairs lose infrared detail too


def _smooth(images: Tensor, sigma: float) -> Tensor:
    """Return square images blurred by a Gaussian, renormalised where the border cuts it off."""
    place = torch.arange(images.shape[-1], dtype=images.dtype, device=images.device)
    taps = torch.exp(-(place[:, None] - place).square() / (2 * sigma**2))
    taps = taps / taps.sum(1, keepdim=True)
    return taps @ images @ taps.mT


def target(ir: Tensor, vis: Tensor) -> Tensor:
    """Return what to make of a pair of square crops that line up, (B, 1, S, S) in 0..1.

    Brightness is the visible one, tinted by the infrared and lifted where the infrared stands out
    against its surroundings, the less the brighter the visible image is: so nothing saturates and
    lamps stay brighter than warm walls. Detail is that of the source which has more of it around a
    pixel; the visible image wins unless it is clearly behind, so that edges which do not quite
    line up are not doubled.
    """
    pair = torch.cat([ir, vis], 1)
    base = _smooth(pair, BASE_SIGMA)
    detail = pair - base
    activity = _smooth(detail.abs(), ACTIVITY_SIGMA) + NOISE
    ratio = activity[:, :1] / (FAVOUR * activity[:, 1:])
    share = _smooth(torch.sigmoid(DECISION * ratio.log()), SHARE_SIGMA)
    base_ir, base_vis = base.split(1, 1)
    standing_out = (base_ir - _smooth(ir, AROUND_SIGMA)).clamp_min(0)
    brightness = base_vis + TINT * (base_ir - 0.5) + LIFT * standing_out * (1 - vis)
    detail_ir = LIMIT * torch.tanh(detail[:, :1] / LIMIT)
    fused: Tensor = brightness + share * detail_ir + (1 - share) * detail[:, 1:]
    return fused.clamp(0, 1)


def fusion_loss(network: nn.Module, sample: Sample) -> dict[str, Tensor]:
    """Return the terms of fusing pairs, the last of them displaced where the sample is.

    All are judged against infrared images that line up, so what a displaced one puts beside an
    edge of the visible image costs as much as what is missing.
    """
    ir, vis = sample.ir_true, sample.vis
    aligned = len(ir) - int(DISPLACED * len(ir))
    fused = network(torch.cat([ir[:aligned], sample.ir[aligned:]]), vis).float()
    with torch.autocast(fused.device.type, enabled=False):
        aim = target(ir, vis)
    return {
        "target": F.l1_loss(fused, aim),
        "edges": losses.signed_gradient_loss(fused, aim, aim),
        "gradient": losses.signed_gradient_loss(fused, ir, vis),
        "ssim": losses.ssim_loss(fused, ir) + losses.ssim_loss(fused, vis),
        # what fusion added to either source should look like the other one
        "difference": losses.difference_loss(fused, ir, vis),
        "range": losses.range_loss(fused),
    }


def halo(options: Mapping[str, Any]) -> int:
    """Return the reach: convolutions at half resolution, and of the cells those of the context,
    one of the enlarging, the rest of the pixel's own, and what the edges there are compared with.
    """
    compared = CELL * (WINDOW // 2) + STEP * (REACH + 1)
    return BLOCK * (2 + BODY) + CELL * (sum(DILATIONS) + 2) + compared


SPEC = ModelSpec(
    title="Duet",
    paper="fusecli's own; the design is described in its model card",
    build=Fuser,
    options=(
        Option("width", 24, "channels at half resolution"),
        Option("context", 32, "channels at an eighth of the resolution"),
    ),
    stages=(
        Stage(
            "fuse",
            fusion_loss,
            {
                "target": 20.0,
                "edges": 16.0,
                "gradient": 6.0,
                "ssim": 6.0,
                "difference": 0.4,
                "range": 5.0,
            },
            epochs=112,
            batch_size=8,
            crop=96,
            lr=3e-3,
            schedule="cosine",
            warmup=50,
            misalign="shift:8",
        ),
    ),
    multiple_of=CELL,
    stride=CELL,
    tiling="exact",
    halo=halo,
    memory=160,
    full_precision=("tail",),
    safe_in_bf16=True,
    limits=(
        "Infrared and visible are not interchangeable: brightness comes from the visible image.",
        "Where the visible image is white, warm targets stand out by their edges only.",
    ),
)
