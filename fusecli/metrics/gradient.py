"""Metrics on differences of neighbouring pixels: SF, AG, EI and QSF."""

import math
from functools import partial

import torch
from torch import Tensor

from fusecli.metrics import metric
from fusecli.metrics.scene import Plane, mean, once, total
from fusecli.ops.filters import sobel

# ---- SF

sf = partial(
    metric,
    label="SF",
    source="Eskicioglu and Fisher, IEEE Trans. Commun. 43, 1995",
    range=(0, 255 * math.sqrt(2)),
    min_size=2,
)


@once
def step_energy(plane: Plane) -> tuple[Tensor, Tensor]:
    """Return the sums of the squared steps along the rows and along the columns, each (B, C)."""
    pixels = plane.pixels
    return total(pixels.diff(dim=-1).square()), total(pixels.diff(dim=-2).square())


@sf("sf:mean", about="root of the mean squared steps along rows and along columns", plain=True)
def spatial_frequency(fused: Plane) -> Tensor:
    """Return the spatial frequency (SF), each mean over the steps there are."""
    height, width = fused.size
    along_rows, along_columns = step_energy(fused)
    rows, columns = along_rows / (height * (width - 1)), along_columns / ((height - 1) * width)
    return (rows + columns).sqrt()


@sf("sf:mn", about="sf:mean with both sums divided by the number of pixels")
def spatial_frequency_textbook(fused: Plane) -> Tensor:
    """Return SF as textbooks have it, dividing by the number of pixels."""
    along_rows, along_columns = step_energy(fused)
    return ((along_rows + along_columns) / math.prod(fused.size)).sqrt()


@sf("sf:vifb", about="sf:mn of the three channels side by side, seams included", colour=True)
def spatial_frequency_side_by_side(fused: Plane) -> Tensor:
    """Return SF of one wide image R|G|B: what VIFB's code makes of a colour image.

    A grey image counts as three equal channels, and the two seams count as steps.
    """
    red, green, blue = fused.pixels.expand(-1, 3, -1, -1).split(1, dim=1)
    return spatial_frequency_textbook(Plane(torch.cat((red, green, blue), dim=-1)))


# ---- AG

ag = partial(
    metric,
    label="AG",
    source="Cui, Feng, Xu, Li and Chen, Opt. Commun. 341, 2015",
    range=(0, math.inf),
    min_size=2,
)


@once
def gradient(plane: Plane) -> Tensor:
    """Return the length of the gradient: central differences, one-sided at the edges."""
    across, down = torch.gradient(plane.pixels, dim=(-1, -2))
    return (across.square() + down.square()).sqrt()


@ag("ag:mean", about="mean gradient over the root of 2", plain=True)
def average_gradient(fused: Plane) -> Tensor:
    """Return the average gradient (AG) in grey levels per pixel."""
    return mean(gradient(fused)) / math.sqrt(2)


@ag("ag:mn1", about="ag:mean divided by (H-1)(W-1) instead of HW (Linfeng)")
@ag("ag:vifb", about="ag:mn1 on each channel", colour=True)
def average_gradient_inner(fused: Plane) -> Tensor:
    """Return AG with a sum over all pixels and a divisor of one row and column less."""
    height, width = fused.size
    return total(gradient(fused)) / math.sqrt(2) / ((height - 1) * (width - 1))


@ag("ag:smfnet", about="mean gradient: ag:mean times the root of 2")
def average_gradient_smfnet(fused: Plane) -> Tensor:
    """Return AG without the division by the root of 2."""
    return mean(gradient(fused))


@ag("ag:forward", about="ag:mean with forward differences")
def average_gradient_forward(fused: Plane) -> Tensor:
    """Return AG of forward differences, over (H-1)(W-1) pixels."""
    across = fused.pixels.diff(dim=-1)[..., :-1, :]
    down = fused.pixels.diff(dim=-2)[..., :-1]
    return mean(((across.square() + down.square()) / 2).sqrt())


# ---- EI

ei = partial(
    metric,
    label="EI",
    source="Rajalingam and Priya, Int. J. Eng. Sci. Invent. 2, 2018, as coded in VIFB",
    range=(0, math.inf),
)


@ei("ei:gray", about="mean length of the Sobel gradient, edge pixels repeated", plain=True)
@ei("ei:vifb", about="ei:gray on each channel", colour=True)
def edge_intensity(fused: Plane) -> Tensor:
    """Return the edge intensity (EI); the Sobel weights 1 2 1 are not normalised."""
    across, down = sobel(fused.pixels, "replicate")
    return mean(across.square().add_(down.square()).sqrt_())


# ---- QSF

DIAGONAL = math.sqrt(2) / 2


@once
def steps(plane: Plane) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the absolute steps along rows, columns and both diagonals."""
    pixels = plane.pixels
    return (
        pixels.diff(dim=-1).abs_(),
        pixels.diff(dim=-2).abs_(),
        (pixels[..., 1:, 1:] - pixels[..., :-1, :-1]).abs_(),
        (pixels[..., 1:, :-1] - pixels[..., :-1, 1:]).abs_(),
    )


def _frequency(directions: tuple[Tensor, ...], size: tuple[int, int]) -> Tensor:
    rows, columns, falling, rising = (total(step.square()) for step in directions)
    return ((rows + columns + DIAGONAL * (falling + rising)) / math.prod(size)).sqrt()


@once
def reference_frequency(ir: Plane, vis: Plane) -> Tensor:
    """Return the spatial frequency of the larger of both sources' steps at every place."""
    larger = tuple(torch.maximum(a, b) for a, b in zip(steps(ir), steps(vis), strict=True))
    return _frequency(larger, ir.size)


@metric(
    "qsf:liu",
    label="QSF",
    about="spatial frequency in four directions against that of the larger source steps",
    source="Zheng, Essock, Hansen and Haun, Inf. Fusion 8, 2007",
    direction="zero",
    range=(-1, math.inf),
    min_size=2,
)
def spatial_frequency_error(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return (SF - SF_R) / SF_R: negative where detail was lost, positive where noise came in."""
    expected = reference_frequency(ir, vis)
    return (_frequency(steps(fused), fused.size) - expected) / expected
