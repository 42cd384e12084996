"""Backward warping at sub-pixel positions, and the integration of velocity fields.

One convention holds in the whole package. A displacement field is (B, 2, H, W) in pixels: channel
0 is dx (to the right), channel 1 is dy (down). It lies on the grid of the *output* and points to
where the output is read from:

    out(x, y) = image(x + dx(x, y), y + dy(x, y))        pixel centres at integers
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from fusecli.ops import choose

Mode = Literal["nearest", "linear", "cubic"]
Border = Literal["zeros", "replicate", "reflect"]

# torch's own words for what the package calls by the names that image processing uses
_MODES = {"nearest": "nearest", "linear": "bilinear", "cubic": "bicubic"}
_BORDERS = {"zeros": "zeros", "replicate": "border", "reflect": "reflection"}


def positions(size: Sequence[int], like: Tensor) -> Tensor:
    """Return the pixel centres of a grid, (1, 2, H, W), channel 0 is x, channel 1 is y.

    Args:
        size: Height and width.
        like: Tensor whose device and dtype the result takes.
    """
    height, width = size
    rows = torch.arange(height, device=like.device, dtype=like.dtype)
    columns = torch.arange(width, device=like.device, dtype=like.dtype)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack((x, y))[None]


def resample(
    image: Tensor,
    field: Tensor,
    mode: Mode = "linear",
    border: Border = "zeros",
    fill: float = 0.0,
) -> Tensor:
    """Return the image read at the places that the field points to.

    Differentiable in image and field (`nearest` in the image only). Positions are computed in
    float32 at least, whatever the type of the image: bfloat16 cannot count beyond 256 pixels.

    Args:
        image: (B, C, H, W), any range. An image without rows or columns has no pixels to read.
        field: (B, 2, H', W') in pixels, see the module; batch 1 serves every image. H' and W' may
            differ from H and W: they are the size of the output.
        mode: `nearest`, `linear`, or `cubic` (Keys' kernel with a = -0.75, as in OpenCV).
        border: Outside the image, `zeros` reads `fill`, `replicate` the nearest border pixel,
            `reflect` the mirror image in which the border pixel is repeated (c b a | a b c).
        fill: Value outside the image for `zeros`.

    Returns:
        (B, C, H', W') in the type of the image.
    """
    blocked = None if mode == "linear" else "only linear resampling has a kernel"
    if choose("resample", [image, field], blocked=blocked) == "triton":
        from fusecli.ops.kernels.resample import resample_triton

        return resample_triton(image, field, border, fill)
    return _reference(image, field, mode, border, fill)


def _reference(image: Tensor, field: Tensor, mode: Mode, border: Border, fill: float) -> Tensor:
    dtype = torch.float64 if image.dtype == torch.float64 else torch.float32
    batch = max(image.shape[0], field.shape[0])
    height, width = image.shape[-2:]
    place = field.to(dtype)
    place = place + positions(field.shape[-2:], place)
    # Half-pixel normalisation (align_corners=False) needs no division by size - 1, which a
    # one-pixel side would turn into a division by zero.
    size = place.new_tensor([width, height]).view(1, 2, 1, 1)
    grid = ((2 * place + 1) / size - 1).permute(0, 2, 3, 1)
    source = image.to(dtype).expand(batch, -1, -1, -1)
    offset = fill if border == "zeros" else 0.0
    if offset:
        source = source - offset
    out = grid_sample(
        source,
        grid.expand(batch, -1, -1, -1),
        mode=_MODES[mode],
        padding_mode=_BORDERS[border],
        align_corners=False,
    )
    if offset:
        out = out + offset
    return out.to(image.dtype)


def integrate(velocity: Tensor, steps: int = 7, border: Border = "zeros") -> Tensor:
    """Return the displacement after unit time in a stationary velocity field.

    Scaling and squaring: the first step moves by velocity / 2**steps, each squaring composes the
    displacement with itself. `integrate(-velocity)` is the inverse up to interpolation error.

    Args:
        velocity: (B, 2, H, W), pixels per unit time, channel 0 along x.
        steps: Squarings; 0 takes the velocity for the displacement.
        border: What the field is outside its grid; the published ReCoNet registers expect `zeros`.

    Returns:
        (B, 2, H, W) displacement in pixels.

    Source:
        Arsigny et al., A log-Euclidean framework for statistics on diffeomorphisms, MICCAI 2006.
    """
    if choose("integrate", [velocity]) == "triton":
        from fusecli.ops.kernels.resample import integrate_triton

        return integrate_triton(velocity, steps, border)
    displacement = velocity / 2**steps
    for _ in range(steps):
        displacement = displacement + resample(displacement, displacement, border=border)
    return displacement
