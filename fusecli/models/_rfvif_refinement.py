"""RFVIF's local refinement: visible texture strengthened, displaced leftovers removed."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusecli.ops.local_similarity import length, local_similarity


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
