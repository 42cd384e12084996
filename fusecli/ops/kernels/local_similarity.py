"""Local similarity in one pass: softmax over the window as it is read, nothing unfolded.

A program takes some pixels of one row with all their channels. Its window lies in the first-level
cache, so that memory sees features and guide read and the result written once: 29 MB at 320x240
with 32 channels, against more than 1 GB unfolded. Tensors should be channels-last.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 32
SIZES = ("height", "width", "window")  # another number is no other kernel


@triton.jit
def _length(values):
    """Return the length of each row of values."""
    return tl.sqrt(tl.sum(values * values, 1))


@triton.jit(do_not_specialize=SIZES)
def _forward(
    features,
    guide,
    result,
    sums,
    height,
    width,
    channels,
    window,
    inverse_temperature,
    epsilon,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write the weighted means and the sum of each window's weights."""
    y, image = tl.program_id(1), tl.program_id(2).to(tl.int64)
    x = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    channel = tl.arange(0, CHANNELS)[None, :]
    inside = (x < width)[:, None] & (channel < channels)
    first = image * height
    here = ((first + y) * width + x)[:, None] * channels + channel
    direction = tl.load(guide + here, inside, 0.0).to(tl.float32)
    direction *= (inverse_temperature / (_length(direction) + epsilon))[:, None]
    total = tl.zeros((BLOCK, CHANNELS), tl.float32)
    weights = tl.zeros((BLOCK,), tl.float32)
    for row in range(window):
        at_y = tl.minimum(tl.maximum(y + row - window // 2, 0), height - 1)
        for column in range(window):
            at_x = tl.minimum(tl.maximum(x + column - window // 2, 0), width - 1)
            place = ((first + at_y) * width + at_x)[:, None] * channels + channel
            values = tl.load(features + place, inside, 0.0).to(tl.float32)
            cosine = tl.sum(values * direction, 1) / (_length(values) + epsilon)
            weight = tl.exp(cosine - inverse_temperature)
            total += weight[:, None] * values
            weights += weight
    tl.store(result + here, total / weights[:, None], inside)
    tl.store(sums + (first + y) * width + x, weights, x < width)


@triton.jit(do_not_specialize=SIZES)
def _backward_guide(
    features,
    guide,
    result,
    sums,
    gradient,
    to_guide,
    height,
    width,
    channels,
    window,
    inverse_temperature,
    epsilon,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write the gradient of the guide, a pixel at a time over its window."""
    y, image = tl.program_id(1), tl.program_id(2).to(tl.int64)
    x = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    channel = tl.arange(0, CHANNELS)[None, :]
    inside = (x < width)[:, None] & (channel < channels)
    first = image * height
    here = ((first + y) * width + x)[:, None] * channels + channel
    vector = tl.load(guide + here, inside, 0.0).to(tl.float32)
    norm = _length(vector)
    direction = vector * (inverse_temperature / (norm + epsilon))[:, None]
    upstream = tl.load(gradient + here, inside, 0.0).to(tl.float32)
    mean = tl.sum(upstream * tl.load(result + here, inside, 0.0), 1)
    weights = tl.load(sums + (first + y) * width + x, x < width, 1.0)
    total = tl.zeros((BLOCK, CHANNELS), tl.float32)
    for row in range(window):
        at_y = tl.minimum(tl.maximum(y + row - window // 2, 0), height - 1)
        for column in range(window):
            at_x = tl.minimum(tl.maximum(x + column - window // 2, 0), width - 1)
            place = ((first + at_y) * width + at_x)[:, None] * channels + channel
            values = tl.load(features + place, inside, 0.0).to(tl.float32)
            unit = values / (_length(values) + epsilon)[:, None]
            cosine = tl.sum(unit * direction, 1)
            share = tl.exp(cosine - inverse_temperature) / weights
            slope = share * (tl.sum(upstream * values, 1) - mean)
            total += slope[:, None] * unit
    # through direction = vector / (|vector| + epsilon)
    along = tl.sum(total * vector, 1) / (tl.maximum(norm, 1e-30) * (norm + epsilon))
    total = (total - along[:, None] * vector) * (inverse_temperature / (norm + epsilon))[:, None]
    tl.store(to_guide + here, total, inside)


@triton.jit(do_not_specialize=SIZES)
def _backward_features(
    features,
    guide,
    result,
    sums,
    gradient,
    to_features,
    height,
    width,
    channels,
    window,
    inverse_temperature,
    epsilon,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write the gradient of the features as they are with their repeated border.

    Each place gathers from the pixels whose windows hold it, which needs no atomic sums.
    """
    y, image = tl.program_id(1), tl.program_id(2).to(tl.int64)
    x = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    channel = tl.arange(0, CHANNELS)[None, :]
    known = channel < channels
    first = image * height
    source_y = tl.minimum(tl.maximum(y - window // 2, 0), height - 1)
    source_x = tl.minimum(tl.maximum(x - window // 2, 0), width - 1)
    place = ((first + source_y) * width + source_x)[:, None] * channels + channel
    values = tl.load(features + place, known, 0.0).to(tl.float32)
    norm = _length(values)
    inverse = 1 / (norm + epsilon)
    total = tl.zeros((BLOCK, CHANNELS), tl.float32)
    along = tl.zeros((BLOCK,), tl.float32)
    for row in range(window):
        at_y = y - row + tl.zeros_like(x)
        for column in range(window):
            at_x = x - column
            valid = (at_y >= 0) & (at_y < height) & (at_x >= 0) & (at_x < width)
            there = ((first + at_y) * width + at_x)[:, None] * channels + channel
            both = valid[:, None] & known
            vector = tl.load(guide + there, both, 0.0).to(tl.float32)
            direction = vector * (inverse_temperature / (_length(vector) + epsilon))[:, None]
            upstream = tl.load(gradient + there, both, 0.0).to(tl.float32)
            mean = tl.sum(upstream * tl.load(result + there, both, 0.0), 1)
            weights = tl.load(sums + (first + at_y) * width + at_x, valid, 1.0)
            cosine = tl.sum(values * direction, 1) * inverse
            share = tl.where(valid, tl.exp(cosine - inverse_temperature) / weights, 0.0)
            slope = share * (tl.sum(upstream * values, 1) - mean)
            total += share[:, None] * upstream + (slope * inverse)[:, None] * direction
            along += slope * cosine
    shrink = along * inverse / tl.maximum(norm, 1e-30)  # a zero vector has no direction
    total -= shrink[:, None] * values
    padded_width = width + window - 1
    target = (image * (height + window - 1) + y) * padded_width + x
    target = to_features + target[:, None] * channels + channel
    tl.store(target, total, (x < padded_width)[:, None] & known)


class LocalSimilarity(torch.autograd.Function):
    """`fusecli.ops.local_similarity.reference` with its gradient."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, guide: Tensor, window: int, temperature: float, epsilon: float
    ) -> Any:
        """Return the weighted means, in the type of the features."""
        features, guide = (_last(tensor) for tensor in (features, guide))
        batch, channels, height, width = features.shape
        result = torch.empty_like(features)
        sums = features.new_empty((batch, height, width), dtype=torch.float32)
        ctx.constants = dict(
            channels=channels,
            window=window,
            inverse_temperature=1 / temperature,
            epsilon=epsilon,
            CHANNELS=max(16, triton.next_power_of_2(channels)),
            BLOCK=BLOCK,
        )
        _forward[(triton.cdiv(width, BLOCK), height, batch)](
            features, guide, result, sums, height, width, **ctx.constants
        )
        ctx.save_for_backward(features, guide, result, sums)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        """Return the gradients of features and guide."""
        features, guide, result, sums = ctx.saved_tensors
        batch, channels, height, width = features.shape
        gradient = _last(gradient)
        known = (features, guide, result, sums, gradient)
        to_guide = torch.empty_like(guide)
        _backward_guide[(triton.cdiv(width, BLOCK), height, batch)](
            *known, to_guide, height, width, **ctx.constants
        )
        edge = ctx.constants["window"] // 2
        padded = features.new_empty(batch, height + 2 * edge, width + 2 * edge, channels)
        padded = padded.permute(0, 3, 1, 2)
        _backward_features[(triton.cdiv(padded.shape[-1], BLOCK), padded.shape[-2], batch)](
            *known,
            padded,
            height,
            width,
            **ctx.constants,
        )
        to_features = torch.ops.aten.replication_pad2d_backward(padded, features, [edge] * 4)
        return to_features, to_guide, None, None, None


def _last(tensor: Tensor) -> Tensor:
    """Return the values in channels-last memory, of strides that do not depend on the history."""
    return tensor.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
