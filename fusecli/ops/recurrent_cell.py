"""ReCoNet's cell: attention on both sources, three dilated convolutions, one that merges them.

Run as written, the cell is bound by memory: the map between the dilated convolutions and the
merging one has up to 192 channels, 236 MB at 640x480, and is written and read several times for
each loop of the network. The fast paths keep it in the cache or on the chip.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fusecli.ops import choose, full_precision, working_dtype

DILATIONS = (1, 2, 3)
REACH = max(DILATIONS)
PIXELS = 2560  # of one strip on a CPU: its 192 channels then stay in the second-level cache

Block = Any  # a module with `conv`, `bn` and `activation`, applied in that order


def recurrent_cell(
    ir: Tensor,
    vis: Tensor,
    fused: Tensor,
    attention: Sequence[nn.Conv2d],
    dilated: Sequence[Block],
    merge: Block,
) -> Tensor:
    """Return the next estimate of the fused image.

    On one core at 640x480, with 64 channels to each dilation, 0.10 s a loop in float32 and 0.06 s
    in bfloat16, against 1.04 s as written (all at once, NCHW) and 0.58 s (folded, channels-last).

    Args:
        ir: (B, 1, H, W).
        vis: The same shape.
        fused: The estimate so far, the same shape.
        attention: 3x3 convolutions 2 to 1 without bias, of infrared and visible.
        dilated: Blocks of a 3x3 convolution 3 to d each, with dilation 1, 2 and 3.
        merge: Block of a 3x3 convolution 3 d to 1 that ends in a tanh.

    Source:
        Huang et al., ReCoNet, ECCV 2022, section 3.3.
    """
    path = choose(
        "recurrent_cell",
        [ir, vis, fused, attention[0].weight, merge.conv.weight],
        cpu="strips that stay in the cache",
        blocked=_blocked(dilated, merge),
        products=True,
    )
    if path == "triton":
        from fusecli.ops.kernels.recurrent_cell import recurrent_cell_triton

        return recurrent_cell_triton(ir, vis, fused, attention, dilated, merge)
    if path == "cpu":
        return in_strips(ir, vis, fused, attention, dilated, merge)
    return reference(ir, vis, fused, attention, dilated, merge)[0]


def reference(
    ir: Tensor,
    vis: Tensor,
    fused: Tensor,
    attention: Sequence[nn.Conv2d],
    dilated: Sequence[Block],
    merge: Block,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the next estimate and the attention on infrared and visible, 0..1."""
    weight_ir, weight_vis = (
        attend(convolution, source, fused)
        for convolution, source in zip(attention, (ir, vis), strict=True)
    )
    stack = torch.cat([ir * weight_ir, fused, vis * weight_vis], 1)
    corrected: Tensor = merge(torch.cat([block(stack) for block in dilated], 1))
    return corrected, weight_ir, weight_vis


def attend(convolution: nn.Conv2d, source: Tensor, fused: Tensor) -> Tensor:
    """Return where a source should be corrected from, 0..1, from its extremes and its mean."""
    maximum, mean = torch.maximum(source, fused), (source + fused) / 2
    return torch.sigmoid(convolution(torch.cat([maximum, mean], 1)))


def _blocked(dilated: Sequence[Block], merge: Block) -> str | None:
    if not all(isinstance(block.bn, nn.Identity) for block in (*dilated, merge)):
        return "its batch norms are not folded"
    return None


def in_strips(
    ir: Tensor,
    vis: Tensor,
    fused: Tensor,
    attention: Sequence[nn.Conv2d],
    dilated: Sequence[Block],
    merge: Block,
) -> Tensor:
    """Return what `reference` does, a few rows at a time.

    Each dilated convolution is a product of its weights with 27 shifted copies of the strip and a
    row of ones for the bias. Merging is turned round: one product gives what each pixel adds to
    each of its nine neighbours, so that strips need no rows of each other.
    """
    dtype = working_dtype(ir)
    convolutions = [block.conv for block in dilated]
    with full_precision(ir):
        weights = torch.stack(
            [torch.cat([c.weight.flatten(1), c.bias[:, None]], 1) for c in convolutions]
        ).to(dtype)
        spread = merge.conv.weight[0].permute(1, 2, 0).reshape(9, -1).to(dtype)
        estimates = []
        for pair in zip(ir.split(1), vis.split(1), fused.split(1), strict=True):
            stack = _stack(*pair, attention).to(dtype)
            parts = _corrections(stack, weights, spread, dilated[0].activation)
            estimates.append(merge.activation(_gather(parts) + merge.conv.bias))
        return torch.cat(estimates)


def _stack(ir: Tensor, vis: Tensor, fused: Tensor, attention: Sequence[nn.Conv2d]) -> Tensor:
    """Return (3, H + 6, W + 6): attended infrared, estimate, attended visible, in zeros."""
    height, width = ir.shape[-2:]
    stack = ir.new_zeros(3, height + 2 * REACH, width + 2 * REACH)
    inner = stack[:, REACH:-REACH, REACH:-REACH]
    inner[0] = (ir * attend(attention[0], ir, fused))[0, 0]
    inner[1] = fused[0, 0]
    inner[2] = (vis * attend(attention[1], vis, fused))[0, 0]
    return stack


def _corrections(stack: Tensor, weights: Tensor, spread: Tensor, activation: nn.Module) -> Tensor:
    """Return (9, H + 2, W + 2): what every pixel adds to each neighbour, in zeros.

    Args:
        stack: See `_stack`.
        weights: (3, d, 28), of the dilated convolutions, bias last.
        spread: (9, 3 d), of the merging convolution.
        activation: After the dilated convolutions.
    """
    height, width = (size - 2 * REACH for size in stack.shape[-2:])
    parts = stack.new_zeros((9, height + 2, width + 2), dtype=torch.float32)
    plane, line, _ = stack.stride()
    step = max(1, min(height, PIXELS // width))
    buffer = stack.new_ones(len(DILATIONS), 28, step * width)
    for top in range(0, height, step):
        rows = min(step, height - top)
        if rows < step:
            buffer = stack.new_ones(len(DILATIONS), 28, rows * width)
        for columns, dilation in zip(buffer, DILATIONS, strict=True):
            taps = stack.as_strided(
                (3, 3, 3, rows, width),
                (plane, dilation * line, dilation, line, 1),
                (top + REACH - dilation) * line + REACH - dilation,
            )
            columns[:27].view_as(taps).copy_(taps)
        hidden = activation(torch.bmm(weights, buffer))
        part = spread @ hidden.flatten(0, 1)
        parts[:, top + 1 : top + 1 + rows, 1:-1] = part.view(9, rows, width)
    return parts


def _gather(parts: Tensor) -> Tensor:
    """Return (1, 1, H, W): what each pixel gets from its neighbours and itself."""
    height, width = (size - 2 for size in parts.shape[-2:])
    total = torch.zeros(height, width)
    for tap, part in enumerate(parts):
        row, column = divmod(tap, 3)
        total += part[row : row + height, column : column + width]
    return total[None, None]
