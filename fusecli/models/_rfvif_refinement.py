"""RFVIF's local refinement: visible texture strengthened, displaced leftovers removed."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-6


def length(features: Tensor) -> Tensor:
    """Return the length of each pixel's feature vector, (B, 1, H, W), a little above 0."""
    return torch.linalg.vector_norm(features, dim=1, keepdim=True) + EPSILON


def local_similarity(
    features: Tensor, guide: Tensor, window: int = 5, temperature: float = 1.0
) -> Tensor:
    """Return at each pixel the mean of its neighbours, each weighed by its likeness to the guide.

    The weights are the softmax of the cosines between the neighbours' features and the guide at
    the pixel. They are summed shift by shift, because unfolded neighbourhoods would take
    window x window times the memory. Cosines do not exceed 1, which is therefore taken off before
    exponentiation in place of the largest one.

    Args:
        features: (B, C, H, W), repeated beyond the border: zeros would darken it.
        guide: (B, C, H, W).
        window: Edge of the neighbourhood in pixels, odd.
        temperature: Divides the cosines. At 1 the weights differ by e^2 at most and the result is
            close to a plain mean.
    """
    height, width = features.shape[-2:]
    edge = window // 2
    around = F.pad(features, (edge, edge, edge, edge), mode="replicate")
    inverse = 1 / length(around)
    direction = guide / (length(guide) * temperature)
    total, weights = torch.zeros_like(features), torch.zeros_like(features[:, :1])
    for row in range(window):
        for column in range(window):
            shifted = (..., slice(row, row + height), slice(column, column + width))
            cosine = (around[shifted] * direction).sum(1, keepdim=True) * inverse[shifted]
            weight = torch.exp(cosine - 1 / temperature)
            total = total + weight * around[shifted]
            weights = weights + weight
    return total / weights


def laplacian(image: Tensor) -> Tensor:
    """Return the signed response to the 4-neighbour Laplace kernel, border repeated."""
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    beside = padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:]
    above = padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1]
    return beside + above - 4 * image


def guide_network(inputs: int, width: int) -> nn.Sequential:
    """Return three convolutions from image and edges to guide features."""
    return nn.Sequential(
        nn.Conv2d(inputs, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
    )


class LocalRefinement(nn.Module):
    """Local feature refinement (LFR) of one level.

    Args:
        width: Channels.
        window: Edge of the neighbourhood, odd.
        temperature: Of the local similarity.
    """

    def __init__(self, width: int, window: int, temperature: float) -> None:
        super().__init__()
        self.window, self.temperature = window, temperature
        self.guide_vis = guide_network(2, width)
        self.guide_ir = guide_network(1, width)
        self.output = nn.Conv2d(3 * width, width, 1)

    def forward(self, features: Tensor, ir: Tensor, vis: Tensor) -> Tensor:
        """Return refined features.

        Args:
            features: (B, C, H, W), fused.
            ir: (B, 1, H, W), the infrared input reduced to this size, as displaced as it is.
            vis: (B, 1, H, W), the visible input reduced to this size.
        """
        of_vis = self.guide_vis(torch.cat([vis, laplacian(vis)], 1)).float()
        of_ir = self.guide_ir(laplacian(ir)).float()
        exact = features.float()
        texture = local_similarity(exact, of_vis, self.window, self.temperature)
        cosine = (exact * of_ir).sum(1, keepdim=True) / (length(exact) * length(of_ir))
        refined: Tensor = self.output(torch.cat([exact, texture, (2 - cosine) * exact], 1))
        return refined
