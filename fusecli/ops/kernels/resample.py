"""Backward warping, and a squaring step of integration, in one launch each.

As torch operations a step adds, scales, permutes, samples and adds again: about 10 launches and
40 MB at 640x480, where 7 MB have to be moved.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 128
# Another number is no other kernel.
NUMBERS = (
    "channels",
    "height",
    "width",
    "image_b",
    "image_c",
    "image_y",
    "image_x",
    "field_b",
    "field_c",
    "field_y",
    "field_x",
    "out_height",
    "out_width",
)
BORDERS = {"zeros": 0, "replicate": 1, "reflect": 2}


@triton.jit
def _fold(place, size):
    """Return a coordinate reflected into an axis whose border pixels are repeated."""
    from_edge = tl.abs(place + 0.5)
    turns = tl.floor(from_edge / size)
    rest = from_edge - turns * size
    odd = turns - 2 * tl.floor(turns / 2)
    return tl.where(odd > 0, size - rest, rest) - 0.5


@triton.jit
def _read(plane, y, x, height, width, stride_y, stride_x, fill, inside):
    """Return the pixels of a plane, less `fill`; 0 beyond the border."""
    valid = inside & (y >= 0) & (y < height) & (x >= 0) & (x < width)
    # clamped too, so that an address far outside is never formed
    row = tl.minimum(tl.maximum(y, 0), height - 1).to(tl.int32)
    column = tl.minimum(tl.maximum(x, 0), width - 1).to(tl.int32)
    value = tl.load(plane + row * stride_y + column * stride_x, valid, 0.0).to(tl.float32)
    return tl.where(valid, value - fill, 0.0)


@triton.jit(do_not_specialize=NUMBERS)
def _sample(
    image,
    field,
    result,
    fill,
    channels,
    height,
    width,
    image_b,
    image_c,
    image_y,
    image_x,
    field_b,
    field_c,
    field_y,
    field_x,
    out_height,
    out_width,
    BORDER: tl.constexpr,
    ADD: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write the image at the places of the field; with ADD plus the image itself."""
    batch = tl.program_id(1).to(tl.int64)
    size = out_height * out_width
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = index < size
    row, column = index // out_width, index % out_width
    vector = field + batch * field_b + row * field_y + column * field_x
    x = column + tl.load(vector, inside, 0.0).to(tl.float32)
    y = row + tl.load(vector + field_c, inside, 0.0).to(tl.float32)
    if BORDER == 2:
        x, y = _fold(x, width), _fold(y, height)
    if BORDER > 0:
        x = tl.minimum(tl.maximum(x, 0.0), width - 1.0)
        y = tl.minimum(tl.maximum(y, 0.0), height - 1.0)
    left, top = tl.floor(x), tl.floor(y)
    right, below = x - left, y - top
    for channel in range(channels):
        plane = image + batch * image_b + channel * image_c
        upper = (1 - right) * _read(
            plane, top, left, height, width, image_y, image_x, fill, inside
        ) + right * _read(plane, top, left + 1, height, width, image_y, image_x, fill, inside)
        lower = (1 - right) * _read(
            plane, top + 1, left, height, width, image_y, image_x, fill, inside
        ) + right * _read(plane, top + 1, left + 1, height, width, image_y, image_x, fill, inside)
        value = (1 - below) * upper + below * lower + fill
        if ADD:
            value += tl.load(plane + row * image_y + column * image_x, inside, 0.0)
        tl.store(result + (batch * channels + channel) * size + index, value, inside)


def resample_triton(image: Tensor, field: Tensor, border: str, fill: float) -> Tensor:
    """Return what `resample` does in its linear mode; no gradient."""
    batch = max(image.shape[0], field.shape[0])
    result = image.new_empty(batch, image.shape[1], *field.shape[-2:])
    _launch(image, field, result, border, fill if border == "zeros" else 0.0, add=False)
    return result


def integrate_triton(velocity: Tensor, steps: int, border: str) -> Tensor:
    """Return what `integrate` does; no gradient."""
    displacement = (velocity / 2**steps).contiguous()
    other = torch.empty_like(displacement)
    for _ in range(steps):
        _launch(displacement, displacement, other, border, 0.0, add=True)
        displacement, other = other, displacement
    return displacement


def _launch(
    image: Tensor, field: Tensor, result: Tensor, border: str, fill: float, *, add: bool
) -> None:
    batch, channels, height, width = result.shape
    image, field = image.expand(batch, -1, -1, -1), field.expand(batch, -1, -1, -1)
    _sample[(triton.cdiv(height * width, BLOCK), batch)](
        image,
        field,
        result,
        fill,
        channels,
        *image.shape[-2:],
        *image.stride(),
        *field.stride(),
        height,
        width,
        BORDER=BORDERS[border],
        ADD=add,
        BLOCK=BLOCK,
    )
