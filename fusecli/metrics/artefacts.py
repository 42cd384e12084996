"""Nabf, Labf and Petrovic's Qabf as in Kumar's code: what became of the edges, item by item.

Strength and direction of the Sobel gradients of the fused image are compared with those of each
source. An edge is kept, lost, or an artefact that neither source has; the three add up to 1.
"""

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from fusecli.metrics import metric
from fusecli.metrics.edges import on_unit_scale, sigmoid
from fusecli.metrics.scene import Plane, once, ratio_or, total
from fusecli.ops.elementary import root
from fusecli.ops.filters import sobel

QUARTER = math.pi / 2

kumar = partial(metric, source="Shreyamsha Kumar, Signal Image Video Process. 7, 2013")
nabf = partial(kumar, label="Nabf", direction="lower", range=(0, 1))
labf = partial(kumar, label="Labf", direction="lower", range=(0, 1))
nabf_petrovic = partial(kumar, label="Nabf (P)", direction="lower", range=(0, 2))
qabf_petrovic = partial(kumar, label="Qabf (P)", range=(0, 1))


@dataclass(frozen=True)
class Transfer:
    """What of the edges arrived, at every pixel.

    Args:
        kept: Share of the infrared and of the visible edge that the fused image has.
        weight: Weight of the infrared and of the visible edge.
        above: Whether the fused edge is stronger than the infrared and the visible one.
    """

    kept: tuple[Tensor, Tensor]
    weight: tuple[Tensor, Tensor]
    above: tuple[Tensor, Tensor]

    @property
    def new(self) -> Tensor:
        """Where the fused edge is stronger than that of either source."""
        return self.above[0] & self.above[1]

    @property
    def missing(self) -> Tensor:
        """The weighted shares that did not arrive."""
        return (1 - self.kept[0]) * self.weight[0] + (1 - self.kept[1]) * self.weight[1]

    @property
    def weights(self) -> Tensor:
        """Both weights together."""
        return self.weight[0] + self.weight[1]


def _kept(
    strength: Tensor, direction: Tensor, fused_strength: Tensor, fused_direction: Tensor
) -> Tensor:
    weaker = torch.minimum(strength, fused_strength)
    ratio = ratio_or(weaker, torch.maximum(strength, fused_strength), 0.0)
    turned = ((direction - fused_direction).abs() - QUARTER).abs() / QUARTER
    return (0.9999 * 0.9995 * sigmoid(ratio, 19, 0.5) * sigmoid(turned, 22, 0.5)).sqrt_()


@once
def _edges(plane: Plane) -> tuple[Tensor, Tensor]:
    """Return strength and direction of the Sobel gradient over 8, mirrored at the border."""
    across, down = sobel(plane.pixels, "reflect")
    across, down = across.div_(8), down.div_(8)
    strength = root(across.square() + down.square())
    return strength, across.div_(down).atan_().nan_to_num_(0.0)


def _weight(strength: Tensor) -> Tensor:
    return torch.where(strength >= 2, strength * strength.sqrt(), 0.001)


@once
def transfer(fused: Plane, ir: Plane, vis: Plane) -> Transfer:
    """Compare the edges of the fused image with those of both sources.

    Edges weaker than 2 weigh 0.001 whatever they are: on the scale 0..1 that is every edge.
    """
    (g_ir, a_ir), (g_vis, a_vis), (g, a) = _edges(ir), _edges(vis), _edges(fused)
    return Transfer(
        kept=(_kept(g_ir, a_ir, g, a), _kept(g_vis, a_vis, g, a)),
        weight=(_weight(g_ir), _weight(g_vis)),
        above=(g > g_ir, g > g_vis),
    )


@nabf("nabf:255", about="weighted share of edges stronger than in either source", plain=True)
def artefacts(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return the share of artefacts (Nabf) on grey levels of 0..255."""
    t = transfer(fused, ir, vis)
    return total(t.new * t.missing) / total(t.weights)


@nabf("nabf:unit", about="nabf:255 on 0..1, where every pixel weighs the same (RFN-Nest)")
def artefacts_unit(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return the share of artefacts on the scale 0..1."""
    return artefacts(on_unit_scale(ir), on_unit_scale(vis), on_unit_scale(fused))


@labf("labf:255", about="weighted share of source edges that were lost", plain=True)
def lost(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return the share of lost edges (Labf) on grey levels of 0..255."""
    t = transfer(fused, ir, vis)
    return total(~t.new * t.missing) / total(t.weights)


@labf("labf:unit", about="labf:255 on 0..1, where every pixel weighs the same")
def lost_unit(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return the share of lost edges on the scale 0..1."""
    return lost(on_unit_scale(ir), on_unit_scale(vis), on_unit_scale(fused))


@nabf_petrovic("nabf_petrovic:255", about="nabf:255 before Kumar's change", plain=True)
def artefacts_petrovic(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return Petrovic's share of artefacts, in which both sources' weights count for each."""
    t = transfer(fused, ir, vis)
    return total(t.new * (2 - t.kept[0] - t.kept[1]) * t.weights) / total(t.weights)


@nabf_petrovic("nabf_petrovic:unit", about="nabf_petrovic:255 on 0..1")
def artefacts_petrovic_unit(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return Petrovic's share of artefacts on the scale 0..1."""
    return artefacts_petrovic(on_unit_scale(ir), on_unit_scale(vis), on_unit_scale(fused))


@qabf_petrovic("qabf_petrovic:255", about="1 - nabf:255 - labf:255", plain=True)
def kept_petrovic(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return the weighted share of edges that were kept, on grey levels of 0..255."""
    t = transfer(fused, ir, vis)
    return total(t.kept[0] * t.weight[0] + t.kept[1] * t.weight[1]) / total(t.weights)


@qabf_petrovic("qabf_petrovic:unit", about="1 - nabf:unit - labf:unit")
def kept_petrovic_unit(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return the share of edges that were kept, on the scale 0..1."""
    return kept_petrovic(on_unit_scale(ir), on_unit_scale(vis), on_unit_scale(fused))


@nabf(
    "nabf:smfnet",
    about="share of edges stronger than in the infrared image, full angles, larger gradients",
)
def artefacts_smfnet(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return Nabf as in SMFNet's evaluator.

    Gradients are not divided by 8, strong edges weigh 0.001 g^1.5, directions have a sign, and an
    edge counts as new wherever it is stronger than the infrared one.
    """

    def edges(plane: Plane) -> tuple[Tensor, Tensor]:
        across, down = sobel(plane.pixels, "symmetric")
        return root(across.square() + down.square()), torch.atan2(down, across)

    (g_ir, a_ir), (g_vis, a_vis), (g, a) = edges(ir), edges(vis), edges(fused)
    w_ir, w_vis = (0.001 * torch.where(x >= 2, x * x.sqrt(), 1.0) for x in (g_ir, g_vis))
    missing = (1 - _kept(g_ir, a_ir, g, a)) * w_ir + (1 - _kept(g_vis, a_vis, g, a)) * w_vis
    return total((g > g_ir) * missing) / total(w_ir + w_vis)
