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
from fusecli.ops.whole_image import image_mean

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

    Untrained it adds the mean of both details, and the whole step of what is warm.

    Args:
        width: Channels at half resolution.
        context: Channels at an eighth of the resolution.
        warmth: How strongly warm targets are lifted: 0 not at all, 1 as trained, 2 as far as
            nothing saturates. May be set at any time.
    """

    def __init__(self, width: int = 24, context: int = 32, warmth: float = 1.0) -> None:
        super().__init__()
        self.warmth = warmth
        self.head = nn.Conv2d(3 * BLOCK**2, width, 3, padding=1)
        self.down = nn.Conv2d(width + 6 + (2 * REACH + 1) ** 2, context, 1)
        self.sharpness = nn.Parameter(torch.tensor(8.0))  # of the choice among displacements
        self.context = nn.ModuleList(
            nn.Conv2d(context, context, 3, padding=d, dilation=d) for d in DILATIONS
        )
        self.up = nn.Conv2d(context, width, 1)
        self.body = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(BODY))
        self.tail = nn.Conv2d(width, 3 * BLOCK**2, 3, padding=1)
        for parameter in self.tail.parameters():
            nn.init.zeros_(parameter)

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Return the fused image, (B, 1, H, W), in practice about 0..1."""
        plain, lift = self.parts(ir, vis)
        if self.warmth <= 1:
            return plain + self.warmth * lift
        fused = plain + lift
        room = (1 - fused).clamp_min(0)
        return fused + (self.warmth - 1) * lift * room / (lift + room + 1e-3)

    def parts(self, ir: Tensor, vis: Tensor) -> tuple[Tensor, Tensor]:
        """Return the image without what is warm, and by how much that is lifted, 0 or more."""
        pair = torch.cat([ir, vis], 1)
        cells = F.avg_pool2d(pair, CELL)
        brightness = _enlarge(cells, CELL)
        detail = pair - brightness
        mean = image_mean(self, cells.float()).to(pair.dtype)
        warm_over = (ir - mean[:, :1]) - (brightness[:, 1:] - mean[:, 1:])
        features = _active(self.head(F.pixel_unshuffle(torch.cat([detail, warm_over], 1), BLOCK)))
        agreed, edges = agreement(pair.float())
        where = torch.softmax(self.sharpness * agreed, 1)
        seen = torch.cat([cells.float(), cells - mean, edges, where], 1).to(pair.dtype)
        around = torch.cat([F.avg_pool2d(features, CELL // BLOCK), seen], 1)
        for layer in (self.down, *self.context):
            around = _active(layer(around))
        around = _enlarge(self.up(around), CELL // BLOCK)
        for index, layer in enumerate(self.body):
            features = layer(features)
            features = _active(features + around if index == 0 else features)
        share, correction, gain = F.pixel_shuffle(self.tail(features), BLOCK).split(1, 1)
        share = torch.sigmoid(share)
        of_ir, of_vis = detail.split(1, 1)
        plain = brightness[:, 1:] + correction + share * of_ir + (1 - share) * of_vis
        return plain, 2 * torch.sigmoid(gain) * warm_over.clamp_min(0)


def agreement(pair: Tensor) -> tuple[Tensor, Tensor]:
    """Return how well the edges around each cell agree, were the infrared displaced, -1..1.

    Directions of edges are compared, not their sign or strength: squared as a complex number, a
    gradient is the same for dark on bright and bright on dark.

    Args:
        pair: Infrared and visible, (B, 2, H, W).

    Returns:
        (B, 49, H / 8, W / 8): for displacements of the infrared by -12, -8 ... 12 pixels down, and
        for each of them by as many to the right. And how much edge each image has there, 0..1,
        (B, 2, H / 8, W / 8): without an edge in both, nothing can agree and nothing contradict.
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
    return match * torch.rsqrt(weights.prod(1, keepdim=True) + 1e-6), weights


def _active(features: Tensor) -> Tensor:
    return F.leaky_relu(features, 0.1)


def _enlarge(cells: Tensor, factor: int) -> Tensor:
    """Return (B, C, factor H, factor W), interpolated between the centres of the cells."""
    return F.interpolate(cells, scale_factor=float(factor), mode="bilinear", align_corners=False)


# The picture that training aims at. Sigmas in pixels, brightness in 0..1.
BASE_SIGMA = 6.0  # what is smoother than this is brightness
FINE_SIGMA = 3.0  # visible detail that stays on a warm target
ACTIVITY_SIGMA, SHARE_SIGMA = 3.0, 1.5  # neighbourhood that decides, and how soft its border is
NOISE = 0.006  # mean detail that counts as none
TINT = 0.3  # of the infrared brightness everywhere
STEP_UP = 1.1  # of what is warm, times its step in the infrared
FAVOUR = 1.6  # how many times the visible detail the infrared one must have
DECISION = 6.0  # exponent of that ratio
SOFT = 0.02  # brightness over which the warm picture takes over from the other
TELLING = 0.02  # mean visible detail that tells where the infrared belongs
BLOB_SIGMA = 10.0  # size of the targets whose contrast is judged, and of their surroundings
BLOB, BLOB_SOFT = 0.08, 0.02  # brightness over its surroundings that makes one
DISPLACED = 1 / 4  # of the pairs of a batch: with more, aligned pairs lose infrared detail too


def _smooth(images: Tensor, sigma: float) -> Tensor:
    """Return square images blurred by a Gaussian, renormalised where the border cuts it off."""
    place = torch.arange(images.shape[-1], dtype=images.dtype, device=images.device)
    taps = torch.exp(-(place[:, None] - place).square() / (2 * sigma**2))
    taps = taps / taps.sum(1, keepdim=True)
    return taps @ images @ taps.mT


def target(ir: Tensor, vis: Tensor) -> tuple[Tensor, Tensor]:
    """Return what to make of a pair of square crops that line up, (B, 1, S, S) each: the picture
    without what is warm, and the whole.

    The first has the visible brightness, tinted by the infrared, and the detail of the source which
    has more of it around a pixel. The second is the infrared put on the mean of the visible image,
    with visible detail on it, wherever that is brighter: every surface keeps its own step, a
    target that is dark in the visible image does not cancel, and nothing is lifted around it. Both
    means are those of the whole image.
    """
    pair = torch.cat([ir, vis], 1)
    base = _smooth(pair, BASE_SIGMA)
    detail = pair - base
    activity = _smooth(detail.abs(), ACTIVITY_SIGMA) + NOISE
    ratio = activity[:, :1] / (FAVOUR * activity[:, 1:])
    share = _smooth(torch.sigmoid(DECISION * ratio.log()), SHARE_SIGMA)
    base_ir, base_vis = base.split(1, 1)
    mean_ir, mean_vis = pair.mean((2, 3), keepdim=True).split(1, 1)
    brightness = base_vis + TINT * (base_ir - mean_ir)
    plain = brightness + share * detail[:, :1] + (1 - share) * detail[:, 1:]
    warm = mean_vis + STEP_UP * (ir - mean_ir) + vis - _smooth(vis, FINE_SIGMA)
    whole = plain + SOFT * F.softplus((warm - plain) / SOFT)
    return plain.clamp(0, 1), whole.clamp(0, 1)


def contrast_loss(fused: Tensor, ir: Tensor) -> Tensor:
    """Return by how much targets stand out less than in the infrared, averaged over them.

    What counts is the mean over a target less that over its surroundings, sign and all.
    """
    blob = ((ir - _smooth(ir, BLOB_SIGMA) - BLOB) / BLOB_SOFT).clamp(0, 1)
    inside, outside = (_smooth(mask, BLOB_SIGMA) + 1e-3 for mask in (blob, 1 - blob))

    def step(image: Tensor) -> Tensor:
        within = _smooth(image * blob, BLOB_SIGMA) / inside
        return within - _smooth(image * (1 - blob), BLOB_SIGMA) / outside

    missing = (STEP_UP * step(ir) - step(fused)).clamp_min(0)
    return (blob * missing).sum() / (blob.sum() + 1)


def fusion_loss(network: Fuser, sample: Sample) -> dict[str, Tensor]:
    """Return the terms of fusing pairs, the last of them displaced where the sample is.

    A displaced one is judged against the infrared image in place where the visible image has
    edges: what it puts beside them costs as much as what is missing. Where it has none, nothing
    tells, and the infrared is taken to lie right.
    """
    ir, vis = sample.ir_true, sample.vis
    aligned = len(ir) - int(DISPLACED * len(ir))
    shown = torch.cat([ir[:aligned], sample.ir[aligned:]])
    plain, lift = (part.float() for part in network.parts(shown, vis))
    fused = plain + lift
    with torch.autocast(fused.device.type, enabled=False):
        edges = _smooth((vis - _smooth(vis, FINE_SIGMA)).abs(), BASE_SIGMA)
        ir = torch.lerp(shown, ir, (edges / TELLING).clamp_max(1))
        aim_plain, aim = target(ir, vis)
    return {
        "target": F.l1_loss(fused, aim),
        "plain": F.l1_loss(plain, aim_plain),
        "edges": losses.signed_gradient_loss(fused, aim, aim),
        "contrast": contrast_loss(fused, ir),
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
        Option("warmth", 1.0, "lift of what is warm: 0 none, 1 as trained, 2 as far as it goes"),
    ),
    stages=(
        Stage(
            "fuse",
            fusion_loss,
            {
                "target": 20.0,
                "plain": 5.0,
                "edges": 16.0,
                "contrast": 5.0,
                "gradient": 6.0,
                "ssim": 6.0,
                "difference": 0.6,
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
    tiling="passes",
    halo=halo,
    memory=160,
    full_precision=("tail",),
    safe_in_bf16=True,
    limits=(
        "Infrared and visible are not interchangeable: brightness comes from the visible image.",
        "Where the visible image is white, warm targets stand out by their edges only.",
        "What is warmer than the mean is brighter: trees by day are greyer than they are.",
        "A displaced infrared image puts its warm targets where it has them: align such pairs.",
    ),
)
