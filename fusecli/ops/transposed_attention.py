"""SMFNet's attention of channels over channels.

It weighs channels against each other by their product over the whole image, so that its cost grows
with H x W and not with its square. Queries and keys count with unit length along H x W. The lengths
divide their small product instead of the maps, and the attention is multiplied into the projection,
so that each map is read once.
"""

import torch
from torch import Tensor

from fusecli.ops import choose, full_precision
from fusecli.ops.whole_image import whole_image

PIXELS = 2048  # of one strip on a CPU

Moments = tuple[Tensor, Tensor, Tensor]


def transposed_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    temperature: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
) -> Tensor:
    """Return multi-head attention of channels over channels, projected.

    Args:
        q: (B, C, H, W).
        k: The same shape.
        v: The same shape.
        temperature: (heads, 1, 1), multiplies the cosines.
        weight: (C, C, 1, 1), of the projection.
        bias: (C,), of the projection.

    Source:
        Zamir et al., Restormer, CVPR 2022.
    """
    products, of_q, of_k = whole_image(temperature, moments, q, k)
    mixing = attention((products, of_q, of_k), temperature, weight)
    batch, channels, height, width = v.shape
    pixels = v.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
    mixed = torch.matmul(pixels, mixing.mT.to(pixels.dtype))
    if bias is not None:
        mixed = mixed + bias
    return mixed.reshape(batch, height, width, channels).permute(0, 3, 1, 2)


def attention(sums: Moments, temperature: Tensor, weight: Tensor) -> Tensor:
    """Return what multiplies the channels of each pixel: attention and projection, (B, C, C)."""
    products, squares_q, squares_k = sums
    batch, channels, _ = products.shape
    heads = temperature.shape[0]
    size = channels // heads
    with full_precision(products):
        # clamped before the root, whose slope at 0 is infinite
        lengths = [squares.clamp_min(1e-24).sqrt() for squares in (squares_q, squares_k)]
        cosines = products / (lengths[0][:, :, None] * lengths[1][:, None])
        blocks = cosines.reshape(batch, heads, size, heads, size).diagonal(dim1=1, dim2=3)
        weights = torch.softmax(blocks.permute(0, 3, 1, 2) * temperature, -1)
        split = weight.reshape(channels, heads, size).permute(1, 0, 2)
        return (split @ weights).permute(0, 2, 1, 3).reshape(batch, channels, channels)


def moments(q: Tensor, k: Tensor) -> Moments:
    """Return (B, C, C) products of queries and keys over the image, and (B, C) squares of each.

    Sums over the image are in float32. Of the products only those within a head are meant; one
    product of all channels is several times faster than one for each head.
    """
    path = choose(
        "transposed_attention", [q, k], cpu="pixels that stay in the cache", products=True
    )
    if path == "triton":
        from fusecli.ops.kernels.transposed_attention import moments_triton

        return moments_triton(q, k)
    if path == "cpu":
        return in_strips(q, k)
    return reference(q, k)


def reference(q: Tensor, k: Tensor) -> Moments:
    """Return what `moments` means."""
    with full_precision(q):
        q, k = (tensor.float().flatten(2) for tensor in (q, k))
        return q @ k.mT, q.square().sum(2), k.square().sum(2)


def in_strips(q: Tensor, k: Tensor) -> Moments:
    """Return what `reference` does, some pixels at a time and without turning the maps round."""
    batch, channels = q.shape[:2]
    products = q.new_zeros((batch, channels, channels), dtype=torch.float32)
    squares = q.new_zeros((2, batch, channels), dtype=torch.float32)
    with full_precision(q):
        for index in range(batch):
            rows = [t[index].permute(1, 2, 0).reshape(-1, channels) for t in (q, k)]
            for start in range(0, len(rows[0]), PIXELS):
                of_q, of_k = (values[start : start + PIXELS].float() for values in rows)
                products[index].addmm_(of_q.T, of_k)
                squares[0, index] += of_q.square().sum(0)
                squares[1, index] += of_k.square().sum(0)
    return products, squares[0], squares[1]
