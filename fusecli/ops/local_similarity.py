"""RFVIF's local similarity: each pixel as a mean of its neighbours, weighed by their likeness.

Unfolded, the neighbourhoods would take window x window times the memory of the features: 246 MB
of 1 GB of traffic at 320x240 with 32 channels. The definition goes shift by shift; the kernel
reads features and guide once from memory and writes the result.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from fusecli.ops import choose, needs_gradient

EPSILON = 1e-6
VALUES = 262144  # of one map in a strip on a CPU


def length(features: Tensor) -> Tensor:
    """Return the length of each pixel's feature vector, (B, 1, H, W), a little above 0."""
    return torch.linalg.vector_norm(features, dim=1, keepdim=True) + EPSILON


def local_similarity(
    features: Tensor, guide: Tensor, window: int = 5, temperature: float = 1.0
) -> Tensor:
    """Return at each pixel the mean of its neighbours, each weighed by its likeness to the guide.

    The weights are the softmax of the cosines between the neighbours' features and the guide at
    the pixel. Differentiable in features and guide.

    Args:
        features: (B, C, H, W), repeated beyond the border: zeros would darken it.
        guide: (B, C, H, W).
        window: Edge of the neighbourhood in pixels, odd.
        temperature: Divides the cosines. At 1 the weights differ by e^2 at most and the result is
            close to a plain mean.

    Source:
        Li et al., RFVIF, Information Fusion 95, 2023.
    """
    path = choose(
        "local_similarity",
        [features, guide],
        backward=True,
        cpu=None if needs_gradient(features, guide) else "rows that stay in the cache",
    )
    if path == "triton":
        from fusecli.ops.kernels.local_similarity import LocalSimilarity

        result: Tensor = LocalSimilarity.apply(features, guide, window, temperature, EPSILON)
        return result
    if path == "cpu":
        return in_strips(features, guide, window, temperature)
    return reference(features, guide, window, temperature)


def reference(features: Tensor, guide: Tensor, window: int, temperature: float) -> Tensor:
    """Return what `local_similarity` means, summed shift by shift.

    Cosines do not exceed 1, which is therefore taken off before exponentiation in place of the
    largest one.
    """
    edge = window // 2
    around = F.pad(features, (edge, edge, edge, edge), mode="replicate")
    return _weighed(around, guide, window, temperature)


def in_strips(features: Tensor, guide: Tensor, window: int, temperature: float) -> Tensor:
    """Return what `reference` does, a few rows at a time."""
    edge = window // 2
    around = F.pad(features, (edge, edge, edge, edge), mode="replicate")
    rows = max(1, VALUES // (features.shape[1] * features.shape[3]))
    result = torch.empty_like(features)
    for top in range(0, features.shape[2], rows):
        strip = guide[:, :, top : top + rows]
        seen = around[:, :, top : top + strip.shape[2] + 2 * edge]
        result[:, :, top : top + rows] = _weighed(seen, strip, window, temperature)
    return result


def _weighed(around: Tensor, guide: Tensor, window: int, temperature: float) -> Tensor:
    """Return the weighed means of features that reach half a window beyond the guide."""
    height, width = guide.shape[-2:]
    inverse = 1 / length(around)
    direction = guide / (length(guide) * temperature)
    total, weights = torch.zeros_like(guide), torch.zeros_like(guide[:, :1])
    for row in range(window):
        for column in range(window):
            shifted = (..., slice(row, row + height), slice(column, column + width))
            cosine = (around[shifted] * direction).sum(1, keepdim=True) * inverse[shifted]
            weight = torch.exp(cosine - 1 / temperature)
            total = torch.addcmul(total, weight, around[shifted])
            weights = weights + weight
    return total / weights
