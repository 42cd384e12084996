"""Stored pixels on another grid: type, channels and range stay as they are."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fusecli.fields import affine_part, grid_scaling, inside
from fusecli.images import Metadata, Picture
from fusecli.ops import resample as kernels
from fusecli.ops.resample import positions, resample
from fusecli.registration import Resampling

_BORDERS: dict[str, kernels.Border] = {
    "constant": "zeros", "replicate": "replicate", "reflect": "reflect",
}  # fmt: skip
_STRIP = 1 << 20  # output pixels in work at a time


def move(pixels: np.ndarray, field: Tensor, how: Resampling) -> np.ndarray:
    """Return an image read along a field, in its own type.

    An image with much finer pixels than the output's is averaged first, so that none is skipped.
    Results are clipped to the range of an integer type and rounded to nearest.

    Args:
        pixels: (H, W) or (H, W, C); uint8, uint16 or float32, finite.
        field: (1, 2, H', W') on the grid of the output, in pixels of `pixels`.
        how: See `Resampling`.

    Returns:
        (H', W') or (H', W', C).
    """
    source, field = _coarsened(pixels, field, how)
    # float32 places pixels to 1e-4 of a pixel: enough for 8 bits, several levels off in 16
    kind = np.float32 if pixels.dtype == np.uint8 else np.float64
    planes = torch.from_numpy(np.ascontiguousarray(source, kind))
    planes = planes[None, None] if planes.ndim == 2 else planes.permute(2, 0, 1)[None]
    height, width = field.shape[-2:]
    out = np.empty((height, width, planes.shape[1]), pixels.dtype)
    rows = max(1, _STRIP // width)
    for top in range(0, height, rows):
        strip = field[..., top : top + rows, :].to(planes, copy=True)
        strip[:, 1] += top  # a strip counts its rows from 0
        values = resample(
            planes, strip, how.interpolation, _BORDERS[how.border], how.fill
        )[0].permute(1, 2, 0).numpy()  # fmt: skip
        if pixels.dtype.kind == "u":
            values = np.rint(np.clip(values, 0, np.iinfo(pixels.dtype).max))
        out[top : top + rows] = values.astype(pixels.dtype)
    return out[..., 0] if pixels.ndim == 2 else out


def move_picture(
    picture: Picture, field: Tensor, how: Resampling
) -> tuple[Picture, NDArray[np.bool_]]:
    """Return a picture read along a field, and where it has data, (H', W') bool.

    Pixels without a value (NaN, infinite, no-data) take no part in the interpolation: they are
    read as the fill value, and stay without a value where they are nearest. So do pixels beyond
    the image, unless its border goes on there.
    """
    covered = inside(field, picture.pixels.shape[:2])[0, 0].numpy()
    pixels, invalid = picture.pixels, picture.invalid
    if invalid is not None:
        pixels = pixels.copy()
        kept = pixels[invalid][:1].copy()  # one of the values that mean "no value"
        pixels[invalid] = how.fill
    moved = move(pixels, field, how)
    if invalid is not None:
        nearest = Resampling("nearest", how.border, 0.0)
        invalid = move(invalid.astype(np.uint8), field, nearest) > 0
        moved[invalid] = kept[0]
        covered &= ~invalid
    if how.border == "constant" and not covered.all():
        invalid = ~covered if invalid is None else invalid | ~covered
    alpha = None if picture.alpha is None else move(picture.alpha, field, how)
    return dataclasses.replace(picture, pixels=moved, alpha=alpha, invalid=invalid), covered


def metadata_of(moving: Metadata, fixed: Metadata) -> Metadata:
    """Return what a moved picture says of itself: its own data, on the grid of the fixed one."""
    return dataclasses.replace(moving, geo=fixed.geo, resolution=fixed.resolution)


def soft_edge(covered: NDArray[np.bool_], width: float) -> NDArray[np.float32]:
    """Return a weight that falls from 1 to 0 within `width` pixels before data ends, (H, W).

    The frame of the image itself is no end of data: there is nothing beyond it to pass into.
    """
    if covered.all():
        return np.ones(covered.shape, np.float32)
    framed = cv2.copyMakeBorder(
        covered.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_REPLICATE
    )  # fmt: skip
    distance = cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    ramp = np.clip(distance / max(width, 1.0), 0, 1)
    return np.asarray(ramp * ramp * (3 - 2 * ramp), np.float32)


def _coarsened(pixels: np.ndarray, field: Tensor, how: Resampling) -> tuple[np.ndarray, Tensor]:
    """Return image and field after averaging whole blocks where the output's pixels are larger."""
    slopes = affine_part(field)[0, :, :2].numpy() + np.eye(2)
    pitch = float(np.sqrt(abs(np.linalg.det(slopes))))
    if pitch < 2 or how.interpolation == "nearest":
        return pixels, field
    height, width = pixels.shape[:2]
    size = max(1, round(height / int(pitch))), max(1, round(width / int(pitch)))
    small = cv2.resize(pixels, (size[1], size[0]), interpolation=cv2.INTER_AREA)
    scaling = grid_scaling((height, width), size)
    factor = field.new_tensor([scaling[0, 0], scaling[1, 1]]).view(1, 2, 1, 1)
    offset = field.new_tensor([scaling[0, 2], scaling[1, 2]]).view(1, 2, 1, 1)
    here = positions(field.shape[-2:], field)
    return small, (here + field) * factor + offset - here
