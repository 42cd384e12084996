"""SMFNet's graph reasoning: each modality is three nodes that exchange and pass messages.

All operations but the first and last convolutions look at one pixel at a time.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusecli.models._smfnet_blocks import WIDTH
from fusecli.ops.graph_step import graph_step

DILATIONS = (4, 8, 16)
ROUNDS = 2  # of the exchange between modalities, and of the passing within each


class NormedConv(nn.Module):
    """3x3 convolution without bias, batch norm, ReLU; its parts can be folded."""

    def __init__(self, inputs: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, WIDTH, 3, padding=dilation, dilation=dilation, bias=False)
        self.bn = nn.BatchNorm2d(WIDTH)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, 64, H, W), not below 0."""
        return F.relu(self.bn(self.conv(features)))


class Modality(nn.Module):
    """The nodes of one modality and the messages among them.

    Args:
        edge_broadcast: `per_neighbour` weighs each neighbour by its own edge (paper, Eq. 15).
            `interleaved` is the authors' code, whose reshape weighs the even channels of both
            neighbours by the first edge and the odd ones by the second.
    """

    def __init__(self, edge_broadcast: str) -> None:
        super().__init__()
        self.interleaved = edge_broadcast == "interleaved"
        self.nodes = nn.ModuleList(NormedConv(WIDTH, dilation) for dilation in DILATIONS)
        self.edge = nn.Conv2d(WIDTH, 2, 1, bias=False)
        self.gates = nn.Conv2d(2 * WIDTH, 2 * WIDTH, 1)
        self.candidate = nn.Conv2d(2 * WIDTH, WIDTH, 1)
        self.gamma = nn.Parameter(torch.zeros(1))
        self.merge = NormedConv(len(DILATIONS) * WIDTH)
        nn.init.normal_(self.gates.weight, std=0.01)
        nn.init.normal_(self.candidate.weight, std=0.01)

    def start(self, shallow: Tensor) -> list[Tensor]:
        """Return the three nodes: the same features seen at three distances."""
        return [node(shallow) for node in self.nodes]

    def passing(self, nodes: list[Tensor], rounds: int = 1) -> list[Tensor]:
        """Return the nodes after some rounds of messages."""
        return graph_step(
            nodes,
            self.edge,
            self.gates,
            self.candidate,
            self.gamma,
            interleaved=self.interleaved,
            rounds=rounds,
        )


class Graph(nn.Module):
    """Graph reasoning over the shallow features of both modalities."""

    def __init__(self, edge_broadcast: str) -> None:
        super().__init__()
        self.ir = Modality(edge_broadcast)
        self.vis = Modality(edge_broadcast)
        self.to_ir = nn.Conv2d(WIDTH, 1, 1, bias=False)
        self.to_vis = nn.Conv2d(WIDTH, 1, 1, bias=False)
        self.output = nn.Conv2d(2 * WIDTH, WIDTH, 1)

    def forward(self, shallow_ir: Tensor, shallow_vis: Tensor) -> tuple[Tensor, Tensor]:
        """Return one (B, 64, H, W) map for each modality."""
        pairs = list(zip(self.ir.start(shallow_ir), self.vis.start(shallow_vis), strict=True))
        for _ in range(ROUNDS):
            pairs = [self.exchange(ir, vis) for ir, vis in pairs]
        of_ir, of_vis = (
            side.passing(list(nodes), ROUNDS)
            for side, nodes in zip((self.ir, self.vis), zip(*pairs, strict=True), strict=True)
        )
        return self.ir.merge(torch.cat(of_ir, 1)), self.vis.merge(torch.cat(of_vis, 1))

    def join(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Return both modalities' maps in one."""
        joined: Tensor = self.output(torch.cat([ir, vis], 1))
        return joined

    def exchange(self, ir: Tensor, vis: Tensor) -> tuple[Tensor, Tensor]:
        """Return each node with what the other modality has at its pixels, both from the old."""
        for_ir = torch.sigmoid(self.to_ir(vis) - self.to_ir(ir))
        for_vis = torch.sigmoid(self.to_vis(ir) - self.to_vis(vis))
        return ir + vis * for_ir, vis + ir * for_vis
