"""Edge transfer: Qabf and QG of Xydeas and Petrovic.

Both compare strength and direction of the Sobel gradients of the fused image with those of each
source. They differ in how ties and zeros are treated and in how the result is weighted, and the
values depend on it.
"""

import math
from functools import partial

import torch
from torch import Tensor

from fusecli.metrics import metric
from fusecli.metrics.scene import Plane, mean, once, ratio_or, total
from fusecli.ops.elementary import root
from fusecli.ops.filters import sobel

QUARTER = math.pi / 2


def sigmoid(value: Tensor, slope: float, middle: float) -> Tensor:
    """Return 1 / (1 + exp(-slope (value - middle)))."""
    return torch.sigmoid(slope * (value - middle))


# ---- Qabf

qabf = partial(
    metric,
    label="Qabf",
    source="Xydeas and Petrovic, Electron. Lett. 36, 2000",
    range=(0, 1),
)


@once
def edges(plane: Plane, scale: float = 1) -> tuple[Tensor, Tensor]:
    """Return strength and direction of the Sobel gradient with zeros outside the image.

    Directions are in (-pi/2, pi/2], and pi/2 where there is no horizontal difference.
    """
    across, down = sobel(plane.pixels * scale, "zero")
    strength = root(across.square() + down.square())
    direction = ratio_or(-down, across, torch.inf).atan_()
    return strength, direction


def _transferred(fused: Plane, source: Plane, scale: float) -> Tensor:
    """Return at each pixel how much of the source's edge the fused image has."""
    (g, a), (g_fused, a_fused) = edges(source, scale), edges(fused, scale)
    ratio = torch.minimum(g, g_fused) / torch.maximum(g, g_fused)
    # The published programs leave the strength itself where both are equal.
    ratio = torch.where(g == g_fused, g_fused, ratio)
    turned = 1 - (a - a_fused).abs() / QUARTER
    return 0.9994 * 0.9879 * sigmoid(ratio, 15, 0.5) * sigmoid(turned, 22, 0.8)


@once
def edge_transfer(fused: Plane, ir: Plane, vis: Plane, scale: float = 1) -> Tensor:
    """Return the share of both sources' edges that the fused image has, weighted by strength.

    0/0 where all images are black. An image that is constant but not black has edges at its border.
    """
    g_ir, g_vis = edges(ir, scale)[0], edges(vis, scale)[0]
    kept = _transferred(fused, ir, scale) * g_ir + _transferred(fused, vis, scale) * g_vis
    return total(kept) / total(g_ir + g_vis)


@qabf("qabf:255", about="edge transfer on grey levels of 0..255", plain=True)
def edge_transfer_255(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return Qabf of grey levels, in whose whole numbers ties are exact."""
    return edge_transfer(fused, ir, vis)


@qabf("qabf:65025", about="edge transfer on grey levels times 255")
@qabf("qabf:vifb", about="qabf:65025 on each channel", colour=True)
def edge_transfer_65025(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return Qabf of grey levels multiplied by 255 once more, as VIFB does."""
    return edge_transfer(fused, ir, vis, 255)


@qabf("qabf:unit", about="edge transfer on 0..1; rounding decides ties, not comparable")
def edge_transfer_unit(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return Qabf of values divided by 255: the last digits vary between implementations."""
    return edge_transfer(on_unit_scale(fused), on_unit_scale(ir), on_unit_scale(vis))


@once
def on_unit_scale(plane: Plane) -> Plane:
    """Return the images on the scale 0..1."""
    return Plane(plane.pixels / 255)  # by division: a product with 1/255 has other ties


# ---- QG as in Zheng Liu's toolbox

TINY = 1e-5


@once
def edges_liu(plane: Plane) -> tuple[Tensor, Tensor]:
    """Return strength and direction of the gradient, horizontal zeros replaced by 1e-5."""
    across, down = sobel(plane.pixels, "zero")
    strength = root(across.square() + down.square())
    return strength, (down / torch.where(across == 0, TINY, across)).atan_()


@metric(
    "qg:liu",
    label="QG",
    about="edge transfer averaged over pixels (Zheng Liu's toolbox)",
    source="Xydeas and Petrovic, Proc. SPIE 4051, 2000; Liu et al., TPAMI 34, 2012",
    range=(0, 1),
)
def edge_transfer_liu(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return QG: at each pixel the sources' shares weighted by strength, then the mean."""
    g_fused, a_fused = edges_liu(fused)
    # The toolbox replaces zeros step by step: where infrared is compared, the fused strength above
    # the fraction bar is still 0; where visible is compared, it is 1e-5.
    g_later = torch.where(g_fused == 0, TINY, g_fused)

    def share(source: Plane, above: Tensor) -> tuple[Tensor, Tensor]:
        g, a = edges_liu(source)
        g_below = torch.where(g == 0, TINY, g)
        ratio = torch.where(g > g_fused, above / g_below, g_below / g_later)
        turned = ((a - a_fused).abs() - QUARTER).abs() / QUARTER
        return sigmoid(ratio, 10, 0.5) * sigmoid(turned, 20, 0.75), g_below

    q_ir, g_ir = share(ir, g_fused)
    q_vis, g_vis = share(vis, g_later)
    return mean((q_ir * g_ir + q_vis * g_vis) / (g_ir + g_vis))
