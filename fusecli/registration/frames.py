"""Constant frames around a picture: borders of a data set, of a screen shot, of a warp.

A frame is an edge that every picture of a set has in the same place. It says nothing of the scene,
and agrees with itself wherever two scenes do not.
"""

import numpy as np

from fusecli.images.boxes import Box
from fusecli.registration.features import Image

_FLAT = 0.02
"""Range of a line of a frame, as a share of the picture's: compression leaves a few levels."""
_RINGING = 8
"""Lines that compression spoils along the edge of a frame: a block of JPEG."""


def content(image: Image) -> Box:
    """Return the largest box without the constant frame; the whole image where it has none.

    Args:
        image: (H, W), finite.
    """
    height, width = image.shape
    limit = _FLAT * float(np.ptp(image))
    top, bottom = (_frame(side, limit) for side in (image, image[::-1]))
    left, right = (_frame(side, limit) for side in (image.T, image.T[::-1]))
    if top + bottom > height // 2 or left + right > width // 2:
        return 0, 0, height, width  # mostly flat: a dark scene rather than a frame
    return top, left, height - top - bottom, width - left - right


def _frame(lines: Image, limit: float) -> int:
    """Return how many lines from the first one on are one constant, and what rings beside them."""
    level = float(np.median(lines[0]))
    plain = np.abs(lines - level).max(1) <= limit
    count = len(plain) if plain.all() else int(plain.argmin())
    if count < 2:  # a single dark line is no frame
        return 0
    beyond = np.abs(lines[count : count + _RINGING] - level)
    spoilt = (beyond <= 5 * limit).mean(1) > 0.9
    return count + (len(spoilt) if spoilt.all() else int(spoilt.argmin()))
