"""What an infrared and a visible image have in common: the direction of their edges.

Brightness differs, contrast may be reversed, but an outline runs the same way in both. The
orientation field doubles the angle of the gradient, so that a reversed contrast is the same
direction, and divides by the local gradient energy, so that a faint outline counts as much as a
strong one.
"""

from collections.abc import Sequence
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from fusecli.fields import Matrix, grid_scaling

Image = NDArray[np.float32]
Float = TypeVar("Float", np.float32, np.float64)


def orientation(image: Image, sigma: float = 0.7, window: float = 6.0) -> Image:
    """Return the double-angle gradient direction, (H, W, 2), of length 0 (flat) to almost 1.

    Args:
        image: (H, W), any range.
        sigma: Pixels, the Gaussian before the gradient.
        window: Pixels, the Gaussian over which the gradient energy is averaged.

    Source:
        Haber and Modersitzki, Intensity gradient based registration and fusion of multi-modal
        images, MICCAI 2006, for normalised gradients; the doubled angle is the structure tensor's.
    """
    smooth = cv2.GaussianBlur(image, (0, 0), sigma)
    across = _image(cv2.Scharr(smooth, cv2.CV_32F, 1, 0, scale=1 / 32))
    along = _image(cv2.Scharr(smooth, cv2.CV_32F, 0, 1, scale=1 / 32))
    across_2, along_2 = across * across, along * along
    energy = across_2 + along_2
    local = _image(cv2.GaussianBlur(energy, (0, 0), window))
    floor = 0.25 * float(energy.mean()) + 1e-12
    scale = 1 / (energy + local + floor)
    return np.dstack(((across_2 - along_2) * scale, 2 * across * along * scale))


def fit_size(size: Sequence[int], side: float) -> tuple[int, int]:
    """Return (H, W) of the given proportions whose longer side is at most `side`."""
    factor = min(1.0, side / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def shrink(image: Image, size: Sequence[int]) -> Image:
    """Return the image averaged down to (H, W)."""
    if image.shape[:2] == tuple(size):
        return image
    return _image(cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA))


def rescale(
    matrix: Matrix,
    fixed: tuple[Sequence[int], Sequence[int]],
    moving: tuple[Sequence[int], Sequence[int]],
) -> Matrix:
    """Return a fixed-to-moving matrix for other grids of the same two images.

    Args:
        matrix: For the first grid of each pair.
        fixed: Height and width of the fixed grid, before and after.
        moving: Height and width of the moving grid, before and after.
    """
    return grid_scaling(*moving) @ matrix @ grid_scaling(*fixed[::-1])


def look(moving: Image, matrix: Matrix, size: Sequence[int]) -> tuple[Image, Image]:
    """Return the moving image on the fixed grid, and 1 where it has data, both (H, W).

    Where its pixels are finer than the grid's it is averaged first, so that nothing is skipped.

    Args:
        moving: (H', W').
        matrix: Fixed to moving.
        size: Height and width of the fixed grid.
    """
    source, to_source = reduce(moving, matrix)
    shape, flags = (size[1], size[0]), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    # replicated, the frame of the image makes no edge of its own
    view = cv2.warpPerspective(
        source, to_source @ matrix, shape, flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    covered = cv2.warpPerspective(np.ones_like(source), to_source @ matrix, shape, flags=flags)
    return _image(view), _sure(covered)


def look_along(moving: Image, matrix: Matrix, rest: Image) -> tuple[Image, Image]:
    """Return what `look` does, each place moved on by `rest` (H, W, 2) on the fixed grid."""
    source, to_source = reduce(moving, matrix)
    place = carry(to_source @ matrix, places(rest))
    view = read(source, place)
    return view, _sure(read(np.ones_like(source), place, cv2.BORDER_CONSTANT))


def reduce(moving: Image, matrix: Matrix) -> tuple[Image, Matrix]:
    """Return the moving image averaged to about the pixel pitch of the fixed grid, and the way."""
    pitch = np.sqrt(abs(np.linalg.det(matrix[:2, :2])))
    size = fit_size(moving.shape, max(moving.shape) / max(pitch, 1.0))
    return shrink(moving, size), grid_scaling(moving.shape, size)


def read(image: Image, place: Image, border: int = cv2.BORDER_REPLICATE) -> Image:
    """Return an image or a field (H, W, ...) read linearly at places (H', W', 2)."""
    x, y = (np.ascontiguousarray(place[..., i]) for i in range(2))
    return _image(cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=border))


def places(field: Image) -> Image:
    """Return pixel positions plus displacement, (H, W, 2)."""
    height, width = field.shape[:2]
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
    return field + np.stack(np.meshgrid(x, y), -1)


def carry(matrix: Matrix, place: NDArray[Float]) -> NDArray[Float]:
    """Return places (..., 2) under a homography, in the type they came in."""
    x, y = place[..., 0], place[..., 1]
    *rows, last = matrix.tolist()  # Python numbers leave float32 what it is
    right, down = (a * x + b * y + c for a, b, c in rows)
    if last != [0, 0, 1]:
        depth = last[0] * x + last[1] * y + last[2]
        right, down = right / depth, down / depth
    return np.stack((right, down), -1)


def resize_field(field: Image, size: Sequence[int]) -> Image:
    """Return a field for the same image on a grid of another size, in pixels of that grid."""
    height, width = field.shape[:2]
    if (height, width) == tuple(size):
        return field
    how = cv2.INTER_AREA if size[0] < height else cv2.INTER_CUBIC
    resized = cv2.resize(field, (size[1], size[0]), interpolation=how)
    return _image(resized * np.array([size[1] / width, size[0] / height], np.float32))


def _sure(covered: object) -> Image:
    """Return 1 where a pixel and its neighbours have data, 0 elsewhere."""
    inner = cv2.erode(np.asarray(covered), np.ones((3, 3), np.uint8))
    return (inner > 0.99).astype(np.float32)


def _image(array: object) -> Image:
    """Return OpenCV's result as what it is: a float32 array."""
    return np.asarray(array, np.float32)
