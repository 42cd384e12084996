"""ReCoNet's cell on a GPU in three launches.

The wide map never leaves the chip: each program makes the hidden channels of some pixels as a
product of weights and gathered taps, applies the activation, and multiplies them at once into the
nine values that a pixel adds to its neighbours. Memory sees 28 values for a pixel and loop (3 read
and 3 written by the attention, 3 read and 9 written, 9 read and 1 written), 34 MB at 640x480
in place of 1.2 GB and more.
"""

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from fusecli.ops import working_dtype
from fusecli.ops.kernels._products import product_types

TAPS = 32  # 27 taps and a one for the bias, padded to what a matrix unit takes
SLOTS = 16  # nine neighbours, padded likewise
SIZES = ("height", "width", "channels")  # another number is no other kernel
ACTIVATIONS = {nn.ReLU: 0, nn.GELU: 1}


@triton.jit
def _weight(source, fused, kernel, y, x, height, width, inside):
    """Return the attention on a source at some pixels."""
    total = tl.zeros(y.shape, tl.float32)
    for tap in tl.static_range(9):
        row, column = y + tap // 3 - 1, x + tap % 3 - 1
        valid = inside & (row >= 0) & (row < height) & (column >= 0) & (column < width)
        a = tl.load(source + row * width + column, valid, 0.0).to(tl.float32)
        b = tl.load(fused + row * width + column, valid, 0.0).to(tl.float32)
        total += tl.load(kernel + tap) * tl.maximum(a, b)
        total += tl.load(kernel + 9 + tap) * (a + b) * 0.5
    return tl.sigmoid(total)


@triton.jit(do_not_specialize=SIZES)
def _attend(ir, vis, fused, kernel_ir, kernel_vis, stack, height, width, BLOCK: tl.constexpr):
    """Write attended infrared, estimate and attended visible."""
    size = height * width
    image = tl.program_id(1).to(tl.int64)
    ir, vis, fused, stack = (
        ir + image * size,
        vis + image * size,
        fused + image * size,
        stack + 3 * image * size,
    )
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < size
    y, x = place // width, place % width
    weight = _weight(ir, fused, kernel_ir, y, x, height, width, inside)
    value = tl.load(ir + place, inside, 0.0).to(tl.float32) * weight
    tl.store(stack + place, value, inside)
    tl.store(stack + size + place, tl.load(fused + place, inside, 0.0), inside)
    weight = _weight(vis, fused, kernel_vis, y, x, height, width, inside)
    value = tl.load(vis + place, inside, 0.0).to(tl.float32) * weight
    tl.store(stack + 2 * size + place, value, inside)


@triton.jit(do_not_specialize=SIZES)
def _correct(
    stack,
    weights,
    spread,
    parts,
    height,
    width,
    channels,
    ACTIVATION: tl.constexpr,
    DTYPE: tl.constexpr,
    UNIT: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK: tl.constexpr,
    GROUP: tl.constexpr,
    TAPS: tl.constexpr,
    SLOTS: tl.constexpr,
):
    """Write what each pixel adds to its nine neighbours: (B, 9, H, W)."""
    size = height * width
    image = tl.program_id(1).to(tl.int64)
    stack, parts = stack + 3 * image * size, parts + 9 * image * size
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < size
    y, x = (place // width)[:, None], (place % width)[:, None]
    tap = tl.arange(0, TAPS)[None, :]
    plane, row, column = tap // 9, tap % 9 // 3 - 1, tap % 3 - 1
    slot = tl.arange(0, SLOTS)
    group = tl.arange(0, GROUP)
    total = tl.zeros((BLOCK, SLOTS), tl.float32)
    for dilation in range(1, 4):
        at_y, at_x = y + row * dilation, x + column * dilation
        valid = inside[:, None] & (tap < 27)
        valid = valid & (at_y >= 0) & (at_y < height) & (at_x >= 0) & (at_x < width)
        values = tl.load(stack + plane * size + at_y * width + at_x, valid, 0.0)
        values = tl.where(tap == 27, 1.0, values).to(DTYPE).to(UNIT)
        for first in range(0, channels, GROUP):
            channel = (dilation - 1) * channels + first + group
            weight = tl.load(weights + channel[None, :] * TAPS + tl.arange(0, TAPS)[:, None])
            hidden = tl.dot(values, weight.to(UNIT), input_precision=PRECISION)
            if ACTIVATION == 0:
                hidden = tl.maximum(hidden, 0.0)
            else:
                hidden = 0.5 * hidden * (1 + tl.erf(hidden * 0.7071067811865476))
            mixing = tl.load(spread + channel[:, None] * SLOTS + slot[None, :])
            hidden = hidden.to(DTYPE).to(UNIT)
            total = tl.dot(hidden, mixing.to(UNIT), total, input_precision=PRECISION)
    target = parts + slot[None, :] * size + place[:, None]
    tl.store(target, total, inside[:, None] & (slot < 9)[None, :])


@triton.jit(do_not_specialize=SIZES)
def _gather(parts, bias, fused, height, width, BLOCK: tl.constexpr):
    """Write tanh of the sum of what every pixel gets."""
    size = height * width
    image = tl.program_id(1).to(tl.int64)
    parts, fused = parts + 9 * image * size, fused + image * size
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < size
    y, x = place // width, place % width
    total = tl.zeros((BLOCK,), tl.float32) + tl.load(bias)
    for tap in tl.static_range(9):
        row, column = y + tap // 3 - 1, x + tap % 3 - 1
        valid = inside & (row >= 0) & (row < height) & (column >= 0) & (column < width)
        total += tl.load(parts + tap * size + row * width + column, valid, 0.0)
    tl.store(fused + place, 2 * tl.sigmoid(2 * total) - 1, inside)


def recurrent_cell_triton(
    ir: Tensor,
    vis: Tensor,
    fused: Tensor,
    attention: Sequence[nn.Conv2d],
    dilated: Sequence[Any],
    merge: Any,
) -> Tensor:
    """Return what `recurrent_cell.reference` does first; no gradient."""
    batch, _, height, width = ir.shape
    size = height * width
    dtype = working_dtype(ir)
    ir, vis, fused = (image.float().contiguous() for image in (ir, vis, fused))
    kernels = [convolution.weight.float().contiguous() for convolution in attention]
    weights, spread, channels = _packed([block.conv for block in dilated], merge.conv, dtype)
    stack = ir.new_empty(batch, 3, height, width)
    parts = ir.new_empty(batch, 9, height, width)
    result = torch.empty_like(fused)

    def blocks(edge: int) -> tuple[int, int]:
        return triton.cdiv(size, edge), batch

    _attend[blocks(256)](ir, vis, fused, *kernels, stack, height, width, BLOCK=256)
    _correct[blocks(64)](
        stack,
        weights,
        spread,
        parts,
        height,
        width,
        channels,
        ACTIVATION=ACTIVATIONS[type(dilated[0].activation)],
        BLOCK=64,
        GROUP=min(64, channels),
        TAPS=TAPS,
        SLOTS=SLOTS,
        **product_types(dtype),
    )
    _gather[blocks(256)](parts, merge.conv.bias, result, height, width, BLOCK=256)
    return result


def _packed(
    convolutions: list[nn.Conv2d], merge: nn.Conv2d, dtype: torch.dtype
) -> tuple[Tensor, Tensor, int]:
    """Return the weights as `_correct` reads them, and the padded channels of one dilation.

    The first is (3 d, 32), bias in column 27; the second (3 d, 16). Channels added are zero.
    """
    true = convolutions[0].out_channels
    channels = max(16, -(-true // 64) * 64 if true > 64 else triton.next_power_of_2(true))
    weights = merge.weight.new_zeros(3, channels, TAPS)
    spread = merge.weight.new_zeros(3, channels, SLOTS)
    for index, convolution in enumerate(convolutions):
        weights[index, :true, :27] = convolution.weight.flatten(1)
        assert convolution.bias is not None
        weights[index, :true, 27] = convolution.bias
    spread[:, :true, :9] = merge.weight[0].reshape(3, true, 9)
    return weights.to(dtype), spread.to(dtype), channels
