"""Is a registration right? Asked of a measure that had no part in finding it.

The search and the refinement follow the direction of edges. This module compares how each image
resembles *itself* around a pixel: two patches that look alike in the infrared image mostly look
alike in the visible one. A correct registration stands out: the two descriptions agree where it
says, and no longer agree some pixels away.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from fusecli.registration.features import Image

Mask = NDArray[np.bool_]

NAME = "mind"
CONFIDENT = 3.5
"""A registration below this is refused; wrong pairs of scenes stay below it (see `confidence`)."""
CONFIDENT_FAR = 4.5
"""The same for what was found among all angles, scales and shifts: more tries, more chance hits."""
CONFIDENT_LATER = 4.0
"""The same for what another method found where the search found nothing."""
CONFIDENT_FRACTION = 5.0
"""The same for what was found where one camera sees a fraction of the other's view."""
BEYOND_DOUBT = 7.0
"""Above it nothing wrong was ever seen; below it a result must also stand out from its decoys."""
WIDER = 2.0
"""A view of this many times the other's area is too wide to be judged on its own grid."""

_RINGS = (8, 12, 16, 20)
_DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
# the four neighbours of a pixel, two pixels away, in pairs that touch
_PAIRS = (((0, -2), (-2, 0)), ((0, -2), (2, 0)), ((0, 2), (-2, 0)), ((0, 2), (2, 0)))


class Evidence(NamedTuple):
    """How well a moving image lies on a fixed one.

    Args:
        agreement: Correlation of the descriptors, -1..1; 0 where there is nothing to compare.
        confidence: By how many standard deviations the agreement exceeds that at 32 wrong places,
            8 to 20 px away. A dense field bends until chance edges agree, so this is asked of
            the matrix.
        overlap: Share of the image with the narrower view that both see, 0..1.
    """

    agreement: float
    confidence: float
    overlap: float


def self_similarity(image: Image) -> Image:
    """Return the distances between neighbouring patches as similarities, (4, H, W), mean 0.

    Source:
        Heinrich et al., Towards realtime multimodal fusion for image-guided interventions using
        self-similarities, MICCAI 2013 (MIND-SSC), with the four pairs of adjacent neighbours.
    """
    smooth = cv2.GaussianBlur(image, (0, 0), 1.0)
    distances = []
    for (y, x), (v, u) in _PAIRS:
        difference = np.zeros((5, 5), np.float32)
        difference[2 + y, 2 + x], difference[2 + v, 2 + u] = 1, -1
        step = cv2.filter2D(smooth, cv2.CV_32F, difference, borderType=cv2.BORDER_REFLECT)
        distances.append(cv2.blur(step * step, (3, 3)))
    stack = np.stack(distances)
    stack -= stack.min(0)
    scale = stack.mean(0)
    typical = float(scale.mean())
    if typical < 1e-12:  # a flat image resembles itself everywhere: nothing to say
        return np.zeros_like(stack)
    stack = np.exp(-stack / np.clip(scale, 1e-3 * typical, 1e3 * typical))
    return np.asarray(stack - stack.mean(0), np.float32)


def judge(fixed: Image, moved: Image, covered: Image) -> Evidence:
    """Return the evidence that `moved` lies right.

    Args:
        fixed: `self_similarity` of the fixed image, (4, H, W).
        moved: `self_similarity` of the moving image on the fixed grid, (4, H, W).
        covered: (H, W), 1 where the moving image has data.
    """
    inner = cv2.erode(covered, np.ones((9, 9), np.uint8), borderValue=0.0) > 0.99
    right = agreement(fixed, moved, inner)
    unit = min(1.0, min(covered.shape) / 120)  # smaller images have no room for the outer rings
    rings = [max(1, round(unit * ring / 2)) for ring in _RINGS]
    one, other = _Sparse.of(fixed, inner), _Sparse.of(moved, inner)
    wrong = [one.agreement(other, ring * y, ring * x) for ring in rings for y, x in _DIRECTIONS]
    spread = float(np.std(wrong))
    confidence = (right - float(np.mean(wrong))) / spread if spread > 0 else 0.0
    return Evidence(right, confidence, float((covered > 0.99).mean()))


def agreement(fixed: Image, moved: Image, where: Mask) -> float:
    """Return the correlation of two descriptors over a mask (H, W); 0 where there is nothing."""
    a, b = fixed[:, where], moved[:, where]
    return _ratio(float(np.vdot(a, b)), float(np.vdot(a, a)), float(np.vdot(b, b)))


class _Sparse(NamedTuple):
    """Every other pixel of a masked descriptor: what 32 comparisons can afford.

    Args:
        values: (4, H, W), 0 outside the mask.
        energy: (H, W), summed over the four.
        mask: (H, W), 0 or 1.
    """

    values: Image
    energy: Image
    mask: Image

    @classmethod
    def of(cls, descriptor: Image, inner: Mask) -> "_Sparse":
        mask = np.ascontiguousarray(inner[::2, ::2], np.float32)
        values = descriptor[:, ::2, ::2] * mask
        return cls(values, np.einsum("chw,chw->hw", values, values), mask)

    def agreement(self, other: "_Sparse", y: int, x: int) -> float:
        """Return the correlation with the other one read (x, y) of its pixels away."""
        height, width = self.mask.shape
        here = np.s_[max(0, -y) : height - max(0, y), max(0, -x) : width - max(0, x)]
        there = np.s_[max(0, y) : height - max(0, -y), max(0, x) : width - max(0, -x)]
        return _ratio(
            float(np.vdot(self.values[:, *here], other.values[:, *there])),
            float(np.vdot(self.energy[here], other.mask[there])),
            float(np.vdot(self.mask[here], other.energy[there])),
        )


def _ratio(product: float, energy: float, other: float) -> float:
    """Return a correlation from its three sums; 0 where one side has nothing."""
    return product / float(np.sqrt(energy * other)) if energy > 0 and other > 0 else 0.0
