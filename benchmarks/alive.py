"""Do the shipped weights need what their papers are about, and the infrared image at all?

    python -m benchmarks.alive ../shared/data
    python -m benchmarks.alive ../shared/data -m mfeif --pairs 12

For every network with weights, the mean change of the picture in grey levels when one part of it
is replaced by something neutral (the parts are named in the network's own file); the share of its
contrast with which a hot square of 4, 8, 16 and 32 px arrives; and the controls: what the picture
changes when the infrared image is constant, and the share of VIF, Qabf and SSIM that is still
scored when the network was given the infrared image of another scene. A robustness that this
control shows as well is that of leaving the infrared out.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.quality import KEPT, eight_bits, read_set
from benchmarks.timing import table
from fusecli import checkpoint, metrics, models
from fusecli.fusion.network import Fuser
from fusecli.metrics import Plane, Scene

SETS = ("tno-test", "roadscene-test")
EDGE = 128  # of the crops from the middle of each pair, in pixels
SQUARES = (4, 8, 16, 32)  # edges of the hot squares, in pixels
DEAD = 1.0  # grey levels of change below which a part does nothing that could be seen

Pair = tuple[Tensor, Tensor]


def fuser(name: str, part: str | None = None) -> Fuser:
    """Return a network with its shipped weights, one part of it neutral."""
    loaded = checkpoint.load(name)
    if part is not None:
        loaded.spec.parts[part](loaded.network)
    return Fuser(loaded.network, loaded.spec, loaded.options, device=torch.device("cpu"))


def change(before: Sequence[Tensor], after: Sequence[Tensor]) -> float:
    """Return the mean distance of pictures in grey levels."""
    gaps = [float((a - b).abs().mean()) for a, b in zip(before, after, strict=True)]
    return 255 * sum(gaps) / len(gaps)


def parts_alive(name: str, pairs: Sequence[Pair]) -> dict[str, float]:
    """Return by how many grey levels the pictures change without each part."""
    parts = models.find(name).parts
    if not parts:
        return {}
    whole = [fuser(name)(ir, vis) for ir, vis in pairs]
    return {
        part: change(whole, [fuser(name, part)(ir, vis) for ir, vis in pairs]) for part in parts
    }


def square(edge: int, size: int = 112) -> Pair:
    """Return an infrared image with a hot square in its middle and a visible one without it."""
    generator = torch.Generator().manual_seed(edge)
    texture = 0.02 * torch.randn(2, 1, 1, size, size, generator=generator)
    ir, vis = texture[0] + 0.3, texture[1] + 0.4
    start = (size - edge) // 2
    ir[..., start : start + edge, start : start + edge] += 0.4
    return ir, vis


def arrives(network: Fuser, edge: int) -> float:
    """Return the share of a square's contrast that is in the fused picture."""
    ir, vis = square(edge)
    fused = network(ir, vis)

    def step(image: Tensor) -> float:
        size = image.shape[-1]
        start = (size - edge) // 2
        inside = image[..., start : start + edge, start : start + edge]
        near = image[..., start - 12 : start + edge + 12, start - 12 : start + edge + 12]
        border = edge + 8  # the ring begins 4 px outside
        hole = near[..., 8 : 8 + border, 8 : 8 + border]
        ring = (near.sum() - hole.sum()) / (near.numel() - hole.numel())
        return float(inside.mean() - ring)

    return step(fused) / step(ir)


def kept(network: Fuser, pairs: Sequence[Pair]) -> dict[str, float]:
    """Return the share of each score that is left with the infrared image of the next scene."""
    specs = metrics.select(",".join(KEPT))
    right, wrong = dict.fromkeys(KEPT, 0.0), dict.fromkeys(KEPT, 0.0)
    others = [ir for ir, _ in (*pairs[1:], pairs[0])]
    for (ir, vis), other in zip(pairs, others, strict=True):
        for totals, given in ((right, ir), (wrong, other)):
            fused = network(given, vis)
            planes = [Plane((x.double() * 255).round()) for x in (ir, vis, fused)]
            measured = metrics.measure(specs, Scene(*planes))
            for spec in specs:
                totals[spec.key] += float(measured[spec.key])
    return {key: wrong[key] / right[key] for key in KEPT}


def without_infrared(network: Fuser, pairs: Sequence[Pair]) -> float:
    """Return by how many grey levels the pictures change when the infrared is its own mean."""
    before = [network(ir, vis) for ir, vis in pairs]
    return change(
        before, [network(torch.full_like(ir, float(ir.mean())), vis) for ir, vis in pairs]
    )


def middle(image: Tensor) -> Tensor:
    """Return the middle of an image, at most EDGE x EDGE."""
    top, left = (max(0, (size - EDGE) // 2) for size in image.shape[-2:])
    return eight_bits(image[..., top : top + EDGE, left : left + EDGE])


def scenes(data: Path, count: int) -> list[Pair]:
    """Return crops of pairs, in turn from each set, all of one size so that they can be swapped."""
    found = [read_set(data / name)[: -(-count // len(SETS))] for name in SETS]
    crops = [(middle(ir), middle(vis)) for pairs in found for _, ir, vis in pairs]
    return [pair for pair in crops if pair[0].shape[-2:] == (EDGE, EDGE)][:count]


def report(names: Sequence[str], pairs: Sequence[Pair]) -> str:
    """Return the tables in Markdown."""
    by_part: list[dict[str, object]] = []
    by_network: list[dict[str, object]] = []
    for name in names:
        for part, levels in parts_alive(name, pairs).items():
            about = {"network": name, "part": part, "change, levels": f"{levels:.2f}"}
            by_part.append(about | {"": "dead" if levels < DEAD else ""})
        network = fuser(name)
        row: dict[str, object] = {"network": name}
        row |= {f"square {edge} px, %": f"{100 * arrives(network, edge):.0f}" for edge in SQUARES}
        row["infrared constant, levels"] = f"{without_infrared(network, pairs):.1f}"
        for key, share in kept(network, pairs).items():
            row[f"wrong scene keeps {metrics.find(key).label}, %"] = f"{100 * share:.0f}"
        by_network.append(row)
    return "\n\n".join(table(rows) for rows in (by_part, by_network) if rows)


@torch.no_grad()
def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help=f"folder of the sets {' and '.join(SETS)}")
    parser.add_argument("-m", "--model", action="append", help="network; all with weights if none")
    parser.add_argument("--pairs", type=int, default=8, help="how many pairs, by default 8")
    args = parser.parse_args()
    os.environ["FUSECLI_OPS"] = "eager"  # the definitions: a part is replaced in them
    names = args.model or sorted({entry.model for entry in checkpoint.entries()})
    print(report(names, scenes(args.data, args.pairs)))


if __name__ == "__main__":
    main()
