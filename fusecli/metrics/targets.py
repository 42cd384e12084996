"""Labelled targets: is what only the infrared shows seen in the fused picture?

A target stands out by its contrast to the ring around it. What of its box is target is worked out
from the infrared image alone, once for all methods.
"""

from functools import partial
from typing import NamedTuple

import numpy as np

from fusecli.metrics import Samples, metric
from fusecli.metrics.purpose import SOURCE, greys
from fusecli.metrics.scene import Plane, once

GAP = 2  # pixels between box and ring
FAINT = 8.0  # levels that a ring without texture counts as
LEAST = 1.0  # infrared contrast from which on a target counts


class Box(NamedTuple):
    """A labelled target, in pixels; it need not lie inside the image completely.

    Args:
        left: Of the box.
        top: Of the box.
        width: At least 1.
        height: At least 1.
        kind: Class.
        counts: False for those that are only left out of the rings of others.
    """

    left: int
    top: int
    width: int
    height: int
    kind: str
    counts: bool = True

    def grown(self, by: int, size: tuple[int, int]) -> tuple[slice, slice]:
        """Return rows and columns of the box with `by` pixels more around, inside the image."""
        bottom, right = self.top + self.height + by, self.left + self.width + by
        return (
            slice(max(self.top - by, 0), min(bottom, size[0])),
            slice(max(self.left - by, 0), min(right, size[1])),
        )


Boxes = tuple[tuple[Box, ...], ...]
"""Of each image of a batch."""


class Target(NamedTuple):
    """What is target and what is ring, worked out from the infrared image.

    Args:
        box: The label.
        place: Rows and columns that hold both.
        inside: (h, w) bool within those: the target.
        ring: The same for its surroundings.
        contrast: Of the infrared image, with its sign.
    """

    box: Box
    place: tuple[slice, slice]
    inside: np.ndarray
    ring: np.ndarray
    contrast: float


class Seen(NamedTuple):
    """One target as a picture shows it.

    Args:
        target: Which.
        kept: Its contrast over that of the infrared; negative where light and dark are swapped.
        auc: How well brightness tells target from ring, 0.5..1.
    """

    target: Target
    kept: float
    auc: float


def otsu(levels: np.ndarray, bins: int = 64) -> float:
    """Return the threshold that parts grey levels best into two classes (Otsu, 1979)."""
    counts, borders = np.histogram(levels, bins)
    middles = (borders[:-1] + borders[1:]) / 2
    below, total = counts.cumsum()[:-1], counts.sum()
    moment, whole = (counts * middles).cumsum()[:-1], (counts * middles).sum()
    between = (whole * below - total * moment) ** 2 / (below * (total - below))
    return float(borders[1 + between.argmax()])


def contrast_of(image: np.ndarray, inside: np.ndarray, ring: np.ndarray) -> float:
    """Return how far the target's mean lies from the ring's, in units of the ring's texture."""
    around = image[ring]
    return float((image[inside].mean() - around.mean()) / (around.std() + FAINT))


def separability(image: np.ndarray, inside: np.ndarray, ring: np.ndarray) -> float:
    """Return the area under the ROC curve of whole grey levels, folded to 0.5..1."""
    own, around = (np.bincount(image[m].astype(np.int64), minlength=256) for m in (inside, ring))
    darker = around.cumsum() - around / 2  # equal levels count half
    area = float((own * darker).sum() / (own.sum() * around.sum()))
    return max(area, 1 - area)


def _ring(box: Box, others: list[Box], size: tuple[int, int]) -> tuple[int, np.ndarray]:
    """Return how far a ring reaches, and its pixels, (H, W) bool."""
    width = int(np.clip(round(min(box.width, box.height) / 2), 6, 24))
    ring = np.zeros(size, bool)
    ring[box.grown(GAP + width, size)] = True
    ring[box.grown(GAP, size)] = False
    free = ring.copy()
    for other in others:
        free[other.grown(0, size)] = False
    return GAP + width, free if free.sum() >= 0.2 * ring.sum() else ring


def _target(image: np.ndarray, box: Box, others: list[Box]) -> Target | None:
    """Return what is target in a box; None where nothing is around it."""
    size = (image.shape[0], image.shape[1])
    reach, ring = _ring(box, others, size)
    place = box.grown(reach, size)
    whole = np.zeros(size, bool)
    whole[box.grown(0, size)] = True
    y, x = np.ogrid[: size[0], : size[1]]
    ellipse = whole & (
        ((x - box.left - (box.width - 1) / 2) / (box.width / 2)) ** 2
        + ((y - box.top - (box.height - 1) / 2) / (box.height / 2)) ** 2
        <= 1
    )
    if not ring.any() or not ellipse.any():
        return None
    levels = image[whole | ring]
    inside = ellipse
    if levels.min() < levels.max():
        bright = np.median(image[ellipse]) >= np.median(image[ring])
        side = whole & ((image >= otsu(levels)) == bright)
        inside = side if 0.15 <= side.sum() / whole.sum() <= 0.95 else ellipse
    cut, around = inside[place], ring[place]
    return Target(box, place, cut, around, contrast_of(image[place], cut, around))


@once
def found(ir: Plane, targets: Boxes) -> list[list[Target]]:
    """Return the targets of each image that count: of those classes, and warm or cold enough."""
    result = []
    for image, boxes in zip(greys(ir), targets, strict=True):
        cut = [
            _target(image, box, [other for other in boxes if other is not box])
            for box in boxes
            if box.counts
        ]
        result.append([t for t in cut if t is not None and abs(t.contrast) >= LEAST])
    return result


@once
def seen(fused: Plane, ir: Plane, targets: Boxes) -> list[list[Seen]]:
    """Return how each image shows its targets."""
    return [
        [
            Seen(
                target,
                contrast_of(image[target.place], target.inside, target.ring) / target.contrast,
                separability(image[target.place], target.inside, target.ring),
            )
            for target in cut
        ]
        for image, cut in zip(greys(fused), found(ir, targets), strict=True)
    ]


labelled = partial(metric, source=SOURCE, over="targets")
contrast = partial(labelled, label="contrast")


@contrast(
    "contrast",
    about="contrast of labelled targets to their surroundings over that in the infrared; "
    "median over targets",
    range=(0, np.inf),
    plain=True,
    centre="median",
)
def contrast_kept(ir: Plane, fused: Plane, targets: Boxes) -> list[Samples]:
    """Return for each target how much of its contrast is left."""
    return [Samples.of((abs(s.kept), 1) for s in own) for own in seen(fused, ir, targets)]


@contrast(
    "contrast:half",
    about="share of the targets that keep less than half of the infrared contrast",
    direction="lower",
    range=(0, 1),
)
def under_half(ir: Plane, fused: Plane, targets: Boxes) -> list[Samples]:
    """Return 1 for each target with less than half of its contrast."""
    return [Samples.of((abs(s.kept) < 0.5, 1) for s in own) for own in seen(fused, ir, targets)]


@labelled(
    "sign",
    label="sign",
    about="share of the targets that are dark where the infrared is bright, or the reverse",
    direction="lower",
    range=(0, 1),
)
def opposite_sign(ir: Plane, fused: Plane, targets: Boxes) -> list[Samples]:
    """Return 1 for each target whose difference has the opposite sign."""
    return [Samples.of((s.kept < 0, 1) for s in own) for own in seen(fused, ir, targets)]


@labelled(
    "auc",
    label="AUC",
    about="area under the ROC curve of target against surrounding pixels; mean over targets",
    range=(0.5, 1),
    plain=True,
)
def target_separability(ir: Plane, fused: Plane, targets: Boxes) -> list[Samples]:
    """Return for each target how well brightness tells it from its surroundings."""
    return [Samples.of((s.auc, 1) for s in own) for own in seen(fused, ir, targets)]
