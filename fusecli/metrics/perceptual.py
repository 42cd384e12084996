"""Metrics that model human contrast sensitivity: Qcb of Chen and Blum, Qcv of Chen and Varshney."""

import math
from functools import partial

import torch
from torch import Tensor

from fusecli.metrics import metric
from fusecli.metrics.scene import Plane, mean, once, stretched
from fusecli.ops.filters import correlate, sobel


def frequencies(size: tuple[int, int], across: float, down: float, like: Tensor) -> Tensor:
    """Return the radial frequency of each term of `torch.fft.rfft2`, (H, W // 2 + 1).

    Args:
        size: Height and width of the image.
        across: Frequency of the fastest horizontal oscillation, 1/2 cycle per pixel.
        down: The same for the vertical.
        like: Tensor whose device and dtype the result takes.
    """
    height, width = size
    columns = 2 * across * torch.fft.rfftfreq(width, dtype=like.dtype, device=like.device)
    rows = 2 * down * torch.fft.fftfreq(height, dtype=like.dtype, device=like.device)
    return torch.hypot(rows[:, None], columns)


def _filtered(pixels: Tensor, response: Tensor) -> Tensor:
    size = pixels.shape[-2:]
    return torch.fft.irfft2(torch.fft.rfft2(pixels) * response, s=size)


# ---- Qcb

qcb = partial(
    metric, label="Qcb", source="Chen and Blum, Image Vis. Comput. 27, 2009", range=(0, 1)
)


def _bell(sigma: float) -> tuple[float, ...]:
    """Return the 31 samples of a Gaussian density: tails are cut off, the sum is not made 1."""
    return tuple(
        math.exp(-(x**2) / (2 * sigma**2)) / (math.sqrt(2 * math.pi) * sigma)
        for x in range(-15, 16)
    )


@once
def _masked_contrast(plane: Plane) -> Tensor:
    """Return the local contrast that an observer sees at every pixel."""
    pixels = stretched(plane).pixels
    height, width = plane.size
    radius = frequencies(plane.size, width / 30, height / 30, pixels)
    sensitivity = torch.exp(-((radius / 15.3870) ** 2))
    sensitivity -= 0.7622 * torch.exp(-((radius / 1.3456) ** 2))
    seen = _filtered(pixels, sensitivity)
    contrast = (
        (correlate(seen, _bell(2), "zero") / correlate(seen, _bell(4), "zero")).sub_(1).abs_()
    )
    return contrast**3 / contrast.square().add_(1e-4)


@once
def _infrared_salience(ir: Plane, vis: Plane) -> Tensor:
    a, b = _masked_contrast(ir).square(), _masked_contrast(vis).square()
    return a / (a + b)


@qcb("qcb:gray", about="contrast of the sources preserved, weighted by contrast", plain=True)
@qcb("qcb:vifb", about="qcb:gray on each channel", colour=True)
def contrast_preservation(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return Qcb; 0/0 where an image is constant."""
    after = _masked_contrast(fused)

    def preserved(source: Plane) -> Tensor:
        before = _masked_contrast(source)
        return torch.minimum(before, after) / torch.maximum(before, after)

    share = _infrared_salience(ir, vis)
    return mean(share * preserved(ir) + (1 - share) * preserved(vis))


# ---- Qcv

BLOCK = 16
qcv = partial(
    metric,
    label="Qcv",
    source="Chen and Varshney, Inf. Fusion 8, 2007",
    direction="lower",
    range=(0, math.inf),
)


def _blocks(pixels: Tensor) -> Tensor:
    """Return the sums over blocks of 16 x 16 pixels, zeros beyond the last row and column."""
    height, width = pixels.shape[-2:]
    missing = (0, -width % BLOCK, 0, -height % BLOCK)
    padded = torch.nn.functional.pad(pixels, missing)
    return padded.unflatten(-1, (-1, BLOCK)).unflatten(-3, (-1, BLOCK)).sum((-3, -1))


@once
def _block_salience(plane: Plane) -> Tensor:
    across, down = sobel(stretched(plane).pixels, "zero")
    squared = across.square().add_(down.square())
    return _blocks(squared.square() * squared.sqrt())  # the fifth power of the gradient's length


@once
def _block_error(fused: Plane, source: Plane) -> Tensor:
    """Return the mean squared difference that an observer sees in each block."""
    difference = stretched(source).pixels - stretched(fused).pixels
    height, width = fused.size
    radius = 0.144 * frequencies(fused.size, width / 8, height / 8, difference)
    sensitivity = 2.6 * (0.0192 + radius) * torch.exp(-(radius**1.1))
    return _blocks(_filtered(difference, sensitivity).square()) / BLOCK**2


@qcv("qcv:gray", about="visible difference to the sources, weighted by their edges", plain=True)
@qcv("qcv:vifb", about="qcv:gray on each channel", colour=True)
def visible_difference(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return Qcv; 0/0 where an image is constant."""
    s_ir, s_vis = _block_salience(ir), _block_salience(vis)
    weighted = s_ir * _block_error(fused, ir) + s_vis * _block_error(fused, vis)
    return weighted.sum((-2, -1)) / (s_ir + s_vis).sum((-2, -1))
