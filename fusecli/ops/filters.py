"""Separable windows, borders and Sobel gradients.

A filter is a few shifted copies of the image, scaled and added. For one narrow channel that is as
fast as any convolution, and it keeps float64.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

Border = Literal["valid", "zero", "replicate", "symmetric", "reflect"]


@lru_cache
def gaussian(size: int, sigma: float) -> tuple[float, ...]:
    """Return a Gaussian window of `size` taps around its middle, normalised to sum 1."""
    taps = [math.exp(-((i - (size - 1) / 2) ** 2) / (2 * sigma**2)) for i in range(size)]
    return tuple(tap / math.fsum(taps) for tap in taps)


@lru_cache
def box(size: int) -> tuple[float, ...]:
    """Return the window of a plain mean over `size` taps."""
    return (1 / size,) * size


def correlate(
    image: Tensor, taps: Sequence[float], border: Border = "valid", stride: int = 1
) -> Tensor:
    """Return the image weighted by the same symmetric window along columns, then along rows.

    Differences of such means decide metrics where an image is flat, down to the last bit. So the
    order of the sums is fixed, the one that SciPy uses, and nothing is contracted into a fused
    multiply-add: devices and batch sizes then agree.

    Args:
        image: (..., H, W).
        taps: Odd number of weights, the same from either end.
        border: What lies outside: `valid` leaves out places where the window does not fit.
        stride: Keep every `stride`-th row and column, from the first.

    Returns:
        (..., H', W'), with H' = ceil((H - len(taps) + 1) / stride) for `valid`, and
        ceil(H / stride) otherwise. Without rows or columns where the window fits nowhere.
    """
    image = pad(image, len(taps) // 2, border)
    return _along(_along(image, taps, -2, stride), taps, -1, stride)


def _along(image: Tensor, taps: Sequence[float], axis: int, stride: int) -> Tensor:
    fits = image.shape[axis] - len(taps) + 1
    if fits < 1:
        return image.narrow(axis, 0, 0)
    views = [
        image[..., i : i + fits : stride, :] if axis == -2 else image[..., i : i + fits : stride]
        for i in range(len(taps))
    ]
    middle = len(taps) // 2
    total = views[middle] * taps[middle]
    pair = torch.empty_like(total)
    for i in range(middle):
        torch.add(views[i], views[-1 - i], out=pair)
        total.add_(pair.mul_(taps[i]))
    return total


def pad(image: Tensor, amount: int, border: Border) -> Tensor:
    """Return the image with `amount` rows and columns more on every side.

    Args:
        image: (..., H, W), of any size: mirrors repeat where the image is narrower than `amount`.
        amount: Rows and columns.
        border: `zero`; `replicate` (a a | a b c); `symmetric`, which repeats the edge pixel
            (b a | a b c); `reflect`, which does not (c b | a b c); `valid` adds nothing.
    """
    if border == "valid" or amount == 0:
        return image
    if border == "zero":
        return torch.nn.functional.pad(image, (amount,) * 4)
    for axis in (-2, -1):
        places = outside(image.shape[axis], amount, border, image.device)
        image = image.index_select(axis, places)
    return image


def outside(size: int, amount: int, border: Border, device: torch.device) -> Tensor:
    """Return where `pad` takes each row from: `size` + 2 `amount` row numbers; not for `zero`."""
    places = torch.arange(-amount, size + amount, device=device)
    if border == "replicate" or size == 1:
        return places.clamp(0, size - 1)
    if border == "symmetric":
        places = places.remainder(2 * size)
        return torch.minimum(places, 2 * size - 1 - places)
    places = places.remainder(2 * size - 2)
    return torch.minimum(places, 2 * size - 2 - places)


def sobel(image: Tensor, border: Border) -> tuple[Tensor, Tensor]:
    """Return the Sobel differences (right minus left, below minus above), not normalised.

    On whole numbers the order of the sums does not matter. Elsewhere, metrics that ask which of two
    gradients is larger depend on it, so it is that of the published programs: columns are added
    up from the top ((x1 + 2 x2) + x3 or x3 - x1), then their sums from the left.

    Args:
        image: (..., H, W).
        border: As in `pad`.

    Returns:
        Two tensors of the image's size, or two rows and columns less for `valid`.
    """
    image = pad(image, 1, border)
    above, middle, below = image[..., :-2, :], image[..., 1:-1, :], image[..., 2:, :]
    smooth = (above + 2 * middle).add_(below)
    steps = below - above
    down = (steps[..., :-2] + 2 * steps[..., 1:-1]).add_(steps[..., 2:])
    return smooth[..., 2:] - smooth[..., :-2], down
