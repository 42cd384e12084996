"""Message passing with the nodes of some pixels kept on the chip through all rounds.

Memory sees three maps read and three written, whatever the number of rounds; the weights, 98 kB in
float32 for 64 channels, come from the caches. What is left is matrix products.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor, nn

from fusecli.ops import working_dtype
from fusecli.ops.kernels._products import product_types

WARPS = 8  # of fewer threads each would hold more than fits into registers


@triton.jit
def _product(
    values, matrix, total, DTYPE: tl.constexpr, UNIT: tl.constexpr, PRECISION: tl.constexpr
):
    return tl.dot(values.to(DTYPE).to(UNIT), matrix.to(UNIT), total, input_precision=PRECISION)


@triton.jit
def _edge(state, first, second, edges, channel, CHANNELS: tl.constexpr):
    """Return the weights of a pixel's two neighbours."""
    one = tl.load(edges + channel)
    other = tl.load(edges + CHANNELS + channel)
    to_first = tl.sigmoid(tl.sum((state - first) * one, 1))
    to_second = tl.sigmoid(tl.sum((state - second) * other, 1))
    return to_first[:, None], to_second[:, None]


@triton.jit
def _update(
    state,
    first,
    second,
    edges,
    matrices,
    biases,
    gamma,
    INTERLEAVED: tl.constexpr,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
    DTYPE: tl.constexpr,
    UNIT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Return a node after the messages of the two others."""
    channel = tl.arange(0, CHANNELS)[None, :]
    to_first, to_second = _edge(state, first, second, edges, channel, CHANNELS)
    if INTERLEAVED:
        message = (first + second) * tl.where(channel % 2 == 0, to_first, to_second)
    else:
        message = first * to_first + second * to_second
    place = matrices + tl.arange(0, CHANNELS)[:, None] * CHANNELS + channel
    size = CHANNELS * CHANNELS
    zero = tl.zeros((BLOCK, CHANNELS), tl.float32)
    reset, share, total = zero, zero, zero
    for gate in range(3):  # reset, share, candidate: two products in the code, not six
        old = tl.where(gate == 2, reset * state, state)
        pair = place + 2 * gate * size
        total = _product(message, tl.load(pair), zero, DTYPE, UNIT, PRECISION)
        total = _product(old, tl.load(pair + size), total, DTYPE, UNIT, PRECISION)
        total += tl.load(biases + gate * CHANNELS + channel)
        opened = tl.sigmoid(total)
        reset = tl.where(gate == 0, opened, reset)
        share = tl.where(gate == 1, opened, share)
    wanted = 2 * tl.sigmoid(2 * total) - 1
    return state + gamma * (state + share * (wanted - state))


@triton.jit(do_not_specialize=["pixels", "rounds"])  # another number is no other kernel
def _pass(
    first_in,
    second_in,
    third_in,
    edges,
    matrices,
    biases,
    gamma,
    first_out,
    second_out,
    third_out,
    pixels,
    channels,
    rounds,
    INTERLEAVED: tl.constexpr,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
    DTYPE: tl.constexpr,
    UNIT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Write three nodes after all rounds."""
    pixel = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    channel = tl.arange(0, CHANNELS)[None, :]
    place = pixel[:, None] * channels + channel
    inside = (pixel < pixels)[:, None] & (channel < channels)
    a = tl.load(first_in + place, inside, 0.0).to(tl.float32)
    b = tl.load(second_in + place, inside, 0.0).to(tl.float32)
    c = tl.load(third_in + place, inside, 0.0).to(tl.float32)
    strength = tl.load(gamma).to(tl.float32)
    for _ in range(rounds):
        x, y, z = a, b, c
        for node in range(3):  # the nodes take turns in one piece of code, not in three copies
            between = node == 1  # its neighbours come round in the other order
            new = _update(
                a, tl.where(between, c, b), tl.where(between, b, c), edges, matrices,
                biases, strength, INTERLEAVED, CHANNELS, BLOCK, DTYPE, UNIT, PRECISION,
            )  # fmt: skip
            a, b, c = b, c, a
            x, y, z = y, z, new
        a, b, c = x, y, z
    tl.store(first_out + place, a, inside)
    tl.store(second_out + place, b, inside)
    tl.store(third_out + place, c, inside)


def graph_step_triton(
    nodes: Sequence[Tensor],
    edge: nn.Conv2d,
    gates: nn.Conv2d,
    candidate: nn.Conv2d,
    gamma: Tensor,
    interleaved: bool,
    rounds: int,
) -> list[Tensor]:
    """Return what `rounds` of `graph_step.reference` do; no gradient."""
    dtype = working_dtype(nodes[0])
    batch, channels, height, width = nodes[0].shape
    pixels = batch * height * width
    block = 16 if dtype == torch.float32 else 32  # what fits into registers
    padded = max(16, triton.next_power_of_2(channels))
    extra = padded - channels
    # products of message and state: for reset, for update, for the candidate
    reset, share = (half.chunk(2, 1) for half in gates.weight[:, :, 0, 0].chunk(2))
    wanted = candidate.weight[:, :, 0, 0].chunk(2, 1)
    matrices = torch.stack([matrix.T for matrix in (*reset, *share, *wanted)])
    assert gates.bias is not None and candidate.bias is not None
    biases = torch.stack([*gates.bias.chunk(2), candidate.bias])
    inputs = [node.to(dtype).permute(0, 2, 3, 1).contiguous() for node in nodes]
    outputs = [torch.empty_like(node) for node in inputs]
    _pass[(triton.cdiv(pixels, block),)](
        *inputs,
        F.pad(edge.weight[:, :, 0, 0].float(), (0, extra)).contiguous(),
        F.pad(matrices, (0, extra, 0, extra)).to(dtype).contiguous(),
        F.pad(biases.float(), (0, extra)).contiguous(),
        gamma,
        *outputs,
        pixels,
        channels,
        rounds,
        INTERLEAVED=interleaved,
        CHANNELS=padded,
        BLOCK=block,
        num_warps=WARPS,
        num_stages=1,
        **product_types(dtype),
    )
    return [output.permute(0, 3, 1, 2) for output in outputs]
