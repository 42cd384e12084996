"""Measure each op's fast path against its definition.

    python -m benchmarks.ops [--device cpu|cuda] [--clock wall|cpu] [--rounds 5] [--json]

Sizes are those inside the networks at 640x480. `bytes` is what an ideal spelling moves, inputs read
and results written once; `of ceiling` is the larger share of the memory bandwidth and of the rate
of a wide convolution, both measured in the same run.
"""

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.timing import bandwidth, convolution_rate, interleaved, machine, table
from fusecli import ops
from fusecli.fusion.preparation import fold_batch_norm
from fusecli.models import reconet
from fusecli.ops.dynamic_conv import KERNEL_SIZES, dynamic_conv
from fusecli.ops.graph_step import graph_step
from fusecli.ops.local_similarity import local_similarity
from fusecli.ops.resample import integrate, resample
from fusecli.ops.transposed_attention import moments

HEIGHT, WIDTH = 480, 640


@dataclass(frozen=True)
class Case:
    """One op at one size.

    Args:
        name: Of the op.
        size: In words.
        call: Runs it.
        bytes: Moved at least.
        operations: Multiplications and additions.
    """

    name: str
    size: str
    call: Callable[[], object]
    bytes: float
    operations: float


def maps(channels: int, height: int, width: int, device: torch.device) -> Tensor:
    """Return random features in channels-last memory."""
    features = torch.randn(1, channels, height, width, device=device)
    return features.contiguous(memory_format=torch.channels_last)


def cases(device: torch.device) -> list[Case]:
    """Return every op at the size that its network gives it."""
    return [
        *cells(device),
        similarity(device),
        dynamic(device),
        messages(device),
        attention(device),
        *warps(device),
    ]


def cells(device: torch.device) -> list[Case]:
    found = []
    for variant, width in (("v0", 64), ("v1", 32)):
        network = fold_batch_norm(reconet.Fuser(variant).requires_grad_(False)).to(device)
        ir, vis = torch.rand(2, 1, 1, HEIGHT, WIDTH, device=device)
        pixels = HEIGHT * WIDTH
        found.append(
            Case(
                "recurrent_cell",
                f"{variant}, 3 loops",
                lambda network=network, pair=(ir, vis): network(*pair),
                3 * 4 * 4 * pixels,
                3 * 2 * pixels * (36 + 3 * width * (27 + 9)),
            )
        )
    return found


def similarity(device: torch.device) -> Case:
    features, guide = (maps(32, HEIGHT // 2, WIDTH // 2, device) for _ in range(2))
    return Case(
        "local_similarity",
        "32 channels, window 5",
        lambda: local_similarity(features, guide),
        3 * 4 * features.numel(),
        25 * 4 * 2 * features.numel(),
    )


def dynamic(device: torch.device) -> Case:
    features = maps(32, HEIGHT // 2, WIDTH // 2, device)
    kernels = [torch.randn(1, 32, k, k, device=device) / k for k in KERNEL_SIZES]
    mixing = torch.randn(32, 96, 1, 1, device=device) / 10
    return Case(
        "dynamic_conv",
        "32 channels",
        lambda: dynamic_conv(features, kernels, mixing),
        2 * 4 * features.numel(),
        2 * features.numel() * (83 + 96),
    )


def messages(device: torch.device) -> Case:
    nodes = [maps(64, HEIGHT // 2, WIDTH // 2, device) for _ in range(3)]
    layers = [nn.Conv2d(64, 2, 1, bias=False), nn.Conv2d(128, 128, 1), nn.Conv2d(128, 64, 1)]
    weights = [layer.to(device).requires_grad_(False) for layer in layers]
    gamma = torch.full((1,), 0.5, device=device)
    return Case(
        "graph_step",
        "3 nodes of 64 channels, 2 rounds",
        lambda: graph_step(nodes, *weights, gamma, interleaved=True, rounds=2),
        6 * 4 * nodes[0].numel(),
        6 * 2 * (128 * 128 + 128 * 64) * nodes[0].numel() / 64,
    )


def attention(device: torch.device) -> Case:
    q, k, _ = maps(192, HEIGHT, WIDTH, device).chunk(3, 1)
    return Case(
        "transposed_attention",
        "sums of 64 channels",
        lambda: moments(q, k),
        2 * 4 * q.numel(),
        2 * 64 * q.numel(),
    )


def warps(device: torch.device) -> list[Case]:
    image = torch.rand(1, 1, HEIGHT, WIDTH, device=device)
    field = 4 * torch.randn(1, 2, HEIGHT, WIDTH, device=device)
    return [
        Case("resample", "1 channel", lambda: resample(image, field), 16 * image.numel(), 0),
        Case(
            "integrate", "7 steps", lambda: integrate(field), 7 * 16 * image.numel(), 0
        ),
    ]  # fmt: skip


def with_ops(mode: str, call: Callable[[], object]) -> Callable[[], object]:
    """Return a call under one value of FUSECLI_OPS."""

    def under_mode() -> None:
        os.environ["FUSECLI_OPS"] = mode
        call()

    return under_mode


@torch.inference_mode()
def measure(device: torch.device, clock: str, rounds: int) -> list[dict[str, object]]:
    """Return one row for each op."""
    moved = bandwidth(device, clock)
    done = convolution_rate(device, torch.float32, clock)
    rows: list[dict[str, object]] = []
    for case in cases(device):
        modes = [with_ops("eager", case.call), with_ops("auto", case.call)]
        plain, fast = interleaved(modes, device, rounds=rounds, clock=clock)
        share = max(case.bytes / fast / moved, case.operations / fast / done)
        rows.append(
            {
                "op": case.name,
                "size": case.size,
                "path": ops.taken()[case.name],
                "plain ms": 1000 * plain,
                "ms": 1000 * fast,
                "ratio": plain / fast,
                "MB": case.bytes / 1e6,
                "Gop": case.operations / 1e9,
                "of ceiling": f"{share:.0%}",
            }
        )
    return rows


def main() -> None:
    """Print a table, or a JSON list of its rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    rows = measure(device, arguments.clock, arguments.rounds)
    print(json.dumps(rows) if arguments.json else f"{machine(device)}\n\n{table(rows)}")


if __name__ == "__main__":
    main()
