"""Products and squares of queries and keys in one reading of both.

Each program sums a share of the image; the shares are added in a fixed order, so that a result
does not change from run to run as it would with atomic sums.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from fusecli.ops.kernels._products import product_types

BLOCK = 64
# Another number is no other kernel.
SIZES = ("pixels", "width", "share", "q_b", "q_y", "k_b", "k_y")
SHARES = 256  # programs for one image: about two for each multiprocessor


@triton.jit(do_not_specialize=SIZES)
def _sum(
    q,
    k,
    products,
    squares,
    pixels,
    width,
    channels,
    share,
    q_b,
    q_c,
    q_y,
    q_x,
    k_b,
    k_c,
    k_y,
    k_x,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
    DTYPE: tl.constexpr,
    UNIT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Write one share of all sums."""
    index, image = tl.program_id(0), tl.program_id(1).to(tl.int64)
    channel = tl.arange(0, CHANNELS)
    total = tl.zeros((CHANNELS, CHANNELS), tl.float32)
    of_q = tl.zeros((CHANNELS,), tl.float32)
    of_k = tl.zeros((CHANNELS,), tl.float32)
    first = index * share
    last = tl.minimum(first + share, pixels)
    for start in range(first, last, BLOCK):
        pixel = start + tl.arange(0, BLOCK)
        y, x = (pixel // width)[:, None], (pixel % width)[:, None]
        inside = (pixel < last)[:, None] & (channel < channels)[None, :]
        place = image * q_b + channel[None, :] * q_c + y * q_y + x * q_x
        a = tl.load(q + place, inside, 0.0).to(tl.float32)
        place = image * k_b + channel[None, :] * k_c + y * k_y + x * k_x
        b = tl.load(k + place, inside, 0.0).to(tl.float32)
        of_q += tl.sum(a * a, 0)
        of_k += tl.sum(b * b, 0)
        a, b = a.to(DTYPE).to(UNIT), b.to(DTYPE).to(UNIT)
        total = tl.dot(tl.trans(a), b, total, input_precision=PRECISION)
    slot = image * tl.num_programs(0) + index
    place = products + slot * CHANNELS * CHANNELS
    tl.store(place + channel[:, None] * CHANNELS + channel[None, :], total)
    tl.store(squares + 2 * slot * CHANNELS + channel, of_q)
    tl.store(squares + (2 * slot + 1) * CHANNELS + channel, of_k)


def moments_triton(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return what `transposed_attention.reference` does; no gradient."""
    batch, channels, height, width = q.shape
    pixels = height * width
    padded = max(16, triton.next_power_of_2(channels))
    share = max(BLOCK, triton.cdiv(pixels, SHARES))
    shares = triton.cdiv(pixels, share)
    products = q.new_empty((batch, shares, padded, padded), dtype=torch.float32)
    squares = q.new_empty((batch, shares, 2, padded), dtype=torch.float32)
    _sum[(shares, batch)](
        q,
        k,
        products,
        squares,
        pixels,
        width,
        channels,
        share,
        *q.stride(),
        *k.stride(),
        CHANNELS=padded,
        BLOCK=BLOCK,
        num_warps=8,  # four would not have the registers for the sums
        **product_types(q.dtype),
    )
    summed = squares.sum(1)[..., :channels]
    return products.sum(1)[:, :channels, :channels], summed[:, 0], summed[:, 1]
