"""Metrics on histograms of grey levels: EN, CE, MI, NMI and QNCIE.

Several toolboxes first stretch each image to its own minimum and maximum. On whole grey levels that
moves every level to another one, never two to the same (the step grows to at least 1), so no
entropy changes and the stretch can be left out.
"""

import math
from functools import partial

import torch
from torch import Tensor
from torch.special import entr

from fusecli.metrics import metric
from fusecli.metrics.scene import Plane, once
from fusecli.ops.histogram import histogram, joint_histogram

BITS = math.log(2)  # nats in a bit


@once
def probabilities(plane: Plane) -> Tensor:
    """Return the share of the pixels at each grey level, (B, C, 256)."""
    counts = histogram(plane.pixels)
    return counts / counts.sum(-1, keepdim=True)


@once
def entropy(plane: Plane) -> Tensor:
    """Return the Shannon entropy of each image in nats, (B, C)."""
    return entr(probabilities(plane)).sum(-1)


@once
def joint_entropy(plane: Plane, other: Plane) -> Tensor:
    """Return the entropy of the pairs of grey levels in nats, (B, C)."""
    counts = joint_histogram(plane.pixels, other.pixels)
    return entr(counts / math.prod(plane.size)).sum((-2, -1))


def mutual_information(plane: Plane, other: Plane) -> Tensor:
    """Return what one image tells about the other in nats, (B, C)."""
    return entropy(plane) + entropy(other) - joint_entropy(plane, other)


# ---- EN

en = partial(
    metric,
    label="EN",
    source="Roberts, van Aardt and Ahmed, J. Appl. Remote Sens. 2, 2008",
    range=(0, 8),
)


@en("en:gray", about="entropy of the grey levels, bits", plain=True)
@en("en:vifb", about="en:gray on each channel", colour=True)
def entropy_of_fused(fused: Plane) -> Tensor:
    """Return the entropy (EN) in bits, 0 for a constant image, 8 for 256 equal shares."""
    return entropy(fused) / BITS


# ---- CE

ce = partial(
    metric,
    label="CE",
    source="Bulanon, Burks and Alchanatis, Biosyst. Eng. 103, 2009, as coded in VIFB",
    direction="lower",
)


@ce("ce:gray", about="mean cross entropy of the sources and the fused image, bits", plain=True)
@ce("ce:vifb", about="ce:gray on each channel", colour=True)
def cross_entropy(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return the mean of both truncated divergences from the fused image (CE), in bits.

    Levels that the fused image lacks are left out, therefore it can be negative.
    """

    def divergence(source: Plane) -> Tensor:
        p, q = probabilities(source), probabilities(fused)
        both = (p > 0) & (q > 0)
        return torch.where(both, p * (p / q).log2(), 0).sum(-1)

    return (divergence(ir) + divergence(vis)) / 2


# ---- MI

mi = partial(
    metric,
    label="MI",
    source="Qu, Zhang and Yan, Electron. Lett. 38, 2002",
    range=(0, 16),
)


@once
def shared_information(fused: Plane, ir: Plane, vis: Plane) -> Tensor:
    """Return the information about both sources in the fused image, added up, in nats."""
    return mutual_information(fused, ir) + mutual_information(fused, vis)


@mi("mi:bits", about="mutual information with both sources, added, bits", plain=True)
def mutual_information_bits(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return MI(A, F) + MI(B, F) in bits."""
    return shared_information(fused, ir, vis) / BITS


@mi("mi:nats", about="mi:bits with natural logarithms (CDDFuse, SMFNet)")
@mi("mi:rescaled_nats", about="mi:nats of images stretched to 0..255")
@mi("mi:vifb", about="mi:rescaled_nats on each channel", colour=True)
def mutual_information_nats(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return MI(A, F) + MI(B, F) in nats, of the images as they are or stretched."""
    return shared_information(fused, ir, vis)


@mi("mi:linfeng", about="mi:bits with levels 254 and 255 counted as one in joint histograms")
def mutual_information_saturated(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return MI in bits as a toolbox computes it whose 8-bit levels overflow after adding 1."""

    def information(source: Plane) -> Tensor:
        x, y = fused.pixels.clamp(max=254), source.pixels.clamp(max=254)
        joint = joint_histogram(x, y) / math.prod(fused.size)
        return entropy(fused) + entropy(source) - entr(joint).sum((-2, -1))

    return (information(ir) + information(vis)) / BITS


@mi("mi:rfnnest", about="twice en:gray, which is what RFN-Nest's code comes to")
def mutual_information_rfnnest(fused: Plane) -> Tensor:
    """Return twice the entropy: the joint entropies of RFN-Nest's code vanish by clipping."""
    return 2 * entropy(fused) / BITS


# ---- NMI

nmi = partial(
    metric,
    label="NMI",
    source="Hossny, Nahavandi and Creighton, Electron. Lett. 44, 2008",
    range=(0, 2),
)


@nmi("nmi:hossny_raw", about="nmi:hossny without the stretch")
def normalised_mutual_information(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return 2 [MI(A, F) / (H(A) + H(F)) + MI(B, F) / (H(B) + H(F))]."""

    def share(source: Plane) -> Tensor:
        return mutual_information(fused, source) / (entropy(fused) + entropy(source))

    return 2 * (share(ir) + share(vis))


@nmi("nmi:hossny", about="mutual information over mean entropy, both sources added", plain=True)
def normalised_mutual_information_stretched(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return NMI, undefined where an image is constant and so cannot be stretched."""
    value = normalised_mutual_information(ir, vis, fused)
    return torch.where(_any_flat(ir, vis, fused), torch.nan, value)


def _any_flat(*planes: Plane) -> Tensor:
    """Return where any image has one level only, other than 0: (B, C)."""
    flat = [(entropy(plane) == 0) & (probabilities(plane)[..., 0] == 0) for plane in planes]
    return torch.stack(torch.broadcast_tensors(*flat)).any(0)


# ---- QNCIE


@metric(
    "qncie:liu",
    label="QNCIE",
    about="nonlinear correlation information entropy of the two sources and the fused image",
    source="Wang, Shen and Zhang, Proc. SICE 2005 (Q. Wang et al., Image Fusion, 2008)",
    range=(0, 1),
)
def nonlinear_correlation(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return QNCIE from the eigenvalues of the 3 by 3 nonlinear correlation matrix."""
    pairs = [
        mutual_information(ir, vis),
        mutual_information(fused, ir),
        mutual_information(fused, vis),
    ]
    ab, af, bf = torch.broadcast_tensors(*(value / BITS / 8 for value in pairs))
    one = torch.ones_like(ab)
    rows = [(one, ab, af), (ab, one, bf), (af, bf, one)]
    matrix = torch.stack([torch.stack(row, -1) for row in rows], -2)
    parts = torch.linalg.eigvalsh(matrix) / 3
    value = 1 - entr(parts.clamp(min=0)).sum(-1) / math.log(256)
    return torch.where(_any_flat(ir, vis, fused), torch.nan, value)


# ---- of the sources alone: is the pair aligned?

pair = partial(metric, source="Studholme, Hill and Hawkes, Pattern Recogn. 32, 1999")


@pair(
    "mi_ab:bits256",
    label="MI(A,B)",
    about="mutual information of the two sources, bits, 256 bins",
    range=(0, 8),
)
def mutual_information_of_sources(ir: Plane, vis: Plane) -> Tensor:
    """Return MI(A, B) in bits."""
    return mutual_information(ir, vis) / BITS


@pair(
    "nmi_ab:sum_over_joint",
    label="NMI(A,B)",
    about="normalised information of the two sources: (H(A) + H(B)) / H(A,B)",
    range=(1, 2),
    plain=True,
)
def normalised_information_of_sources(ir: Plane, vis: Plane) -> Tensor:
    """Return Studholme's normalised mutual information of the sources."""
    return (entropy(ir) + entropy(vis)) / joint_entropy(ir, vis)


@pair(
    "nmi_ab:2mi_over_sum",
    label="NMI(A,B)",
    about="normalised information of the two sources: 2 MI(A,B) / (H(A) + H(B))",
    range=(0, 1),
)
def redundancy_of_sources(ir: Plane, vis: Plane) -> Tensor:
    """Return the mutual information over the mean entropy of the sources."""
    return 2 * mutual_information(ir, vis) / (entropy(ir) + entropy(vis))


@metric(
    "nlcc:liu",
    label="NCC(A,B)",
    about="nonlinear correlation of the two sources: MI(A,B) with logarithms to base 256",
    source="Q. Wang et al., Image Fusion: Algorithms and Applications, 2008",
    range=(0, 1),
)
def nonlinear_correlation_of_sources(ir: Plane, vis: Plane) -> Tensor:
    """Return the nonlinear correlation coefficient of the sources."""
    value = mutual_information(ir, vis) / BITS / 8
    return torch.where(_any_flat(ir, vis), torch.nan, value)
