"""Score networks on test sets, aligned and with the infrared image shifted, beside published ones.

    python -m benchmarks.quality ../shared/data
    python -m benchmarks.quality ../shared/data -m reconet -m mfeif=best.safetensors --shifts 0

A set is a folder with `ir/` and `vi/`. Each pair is fused on luma, rounded to 8 bits and scored
against its aligned infrared, also where the network was given a shifted one: by `d` pixels to the
left and up, both images cut to the common area. `benchmarks/peers.csv` holds the scores of networks
whose authors published their weights, run the same way; the rank is the mean of the ranks in VIF,
Qabf, SSIM, SCD, MI and Nabf among them and the networks asked for. CC is reported but does not
count: the plain average of the two images wins it.
"""

import argparse
import csv
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from benchmarks.timing import table
from fusecli import checkpoint, images, metrics
from fusecli.fusion.network import Fuser
from fusecli.metrics import Plane, Scene
from fusecli.pairs import find_pairs
from fusecli.runtime import DTYPES

RANKED = ("vif:sum", "qabf:255", "ssim:skimage_sum", "scd:sum", "mi:nats", "nabf:smfnet")
KEPT = RANKED[:3]  # the scores whose loss under a shift is watched
KEYS = (*RANKED, "cc:mean")
LABELS = {metrics.find(key).label: key for key in KEYS}  # as papers print them
PEERS = Path(__file__).with_name("peers.csv")


def read_set(folder: Path, visible: str = "vi") -> list[tuple[str, Tensor, Tensor]]:
    """Return (key, infrared, visible) luma of a set, (1, 1, H, W) in 0..1, rounded to 8 bits.

    Args:
        folder: Has the folders `ir` and `visible`.
        visible: Name of the second one.
    """

    def luma(path: str) -> Tensor:
        pixels = images.read(path).pixels
        unit = images.to_unit(images.luma(pixels), images.limits(pixels, "auto"))
        return eight_bits(torch.from_numpy(unit)[None, None])

    found = find_pairs(str(folder / "ir"), str(folder / visible))
    return [(pair.key, luma(pair.ir), luma(pair.vis)) for pair in found.pairs]


def eight_bits(unit: Tensor) -> Tensor:
    """Return 0..1 rounded to the 256 levels of a stored image."""
    return (unit * 255).round() / 255


def shifted(ir: Tensor, vis: Tensor, shift: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return (displaced infrared, visible, aligned infrared) of the common area."""
    height, width = ir.shape[-2:]
    there = ir[..., shift:, shift:]
    here = slice(0, height - shift), slice(0, width - shift)
    return there, vis[..., *here], ir[..., *here]


def score(
    fuser: Fuser, pairs: Iterable[tuple[str, Tensor, Tensor]], shift: int
) -> dict[str, float]:
    """Return the mean of each metric over the pairs."""
    specs, rows = metrics.select(",".join(KEYS)), []
    for _, ir, vis in pairs:
        moved, vis, ir = shifted(ir, vis, shift)
        fused = fuser(moved, vis)
        planes = [Plane((image.double() * 255).round()) for image in (ir, vis, fused)]
        measured = metrics.measure(specs, Scene(*planes))
        rows.append({spec.key: float(measured[spec.key]) for spec in specs})
    return {key: fmean(row[key] for row in rows) for key in KEYS}


def mean_ranks(scores: dict[str, dict[str, float]]) -> dict[str, float]:
    """Return the mean of the ranks of each network (1 is best; equal values share a rank)."""
    ranks: dict[str, list[int]] = {name: [] for name in scores}
    for key in RANKED:
        badness = {name: metrics.find(key).badness(row[key]) for name, row in scores.items()}
        for name, own in badness.items():
            ranks[name].append(1 + sum(other < own for other in badness.values()))
    return {name: fmean(row) for name, row in ranks.items()}


def read_peers(name: str) -> dict[str, dict[str, float]]:
    """Return the published networks' scores on a set; none for a set they were not run on."""
    with PEERS.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["set"] == name]
    return {row["network"]: {key: float(row[key]) for key in KEYS} for row in rows}


def measure(
    sets: Sequence[Path], chosen: dict[str, Fuser], shifts: Sequence[int]
) -> list[dict[str, Any]]:
    """Return one object per set, network and shift."""
    rows = []
    for folder in sets:
        pairs = read_set(folder)
        for name, fuser in chosen.items():
            for shift in shifts:
                row = {"set": folder.name, "network": name, "shift": shift, "pairs": len(pairs)}
                rows.append(row | score(fuser, pairs, shift))
                print(json.dumps(rows[-1]), file=sys.stderr)
    return rows


def report(rows: Sequence[dict[str, Any]]) -> str:
    """Return the tables in Markdown: scores beside the peers', and what a shift leaves of them."""
    parts = []
    labels = {key: metrics.find(key).label + metrics.find(key).arrow for key in KEYS}
    for name in dict.fromkeys(row["set"] for row in rows):
        own = [row for row in rows if row["set"] == name]
        aligned = {f"**{r['network']}**": r for r in own if r["shift"] == 0}
        everyone = read_peers(name) | aligned
        if aligned:
            ranks = mean_ranks(everyone)
            lines: list[dict[str, object]] = [
                {"network": who}
                | {labels[key]: f"{everyone[who][key]:.3f}" for key in KEYS}
                | {"mean rank": f"{ranks[who]:.1f}"}
                for who in sorted(everyone, key=ranks.__getitem__)
            ]
            parts.append(f"### {name}, {own[0]['pairs']} pairs\n\n{table(lines)}")
        moved = [row for row in own if row["shift"]]
        if moved and aligned:
            lines = []
            for row in moved:
                whole = aligned[f"**{row['network']}**"]
                kept = {labels[k][:-1]: f"{100 * row[k] / whole[k]:.0f} %" for k in KEPT}
                lines.append({"network": row["network"], "shift": f"{row['shift']} px"} | kept)
            parts.append(f"### {name}, kept under a shift\n\n{table(lines)}")
    return "\n\n".join(parts)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of the data sets")
    parser.add_argument(
        "-m", "--model", action="append", metavar="NAME[=WEIGHTS]",
        help="may be repeated; without it, every network with shipped weights",
    )  # fmt: skip
    parser.add_argument("--sets", default="tno-test,roadscene-test")
    parser.add_argument("--shifts", default="0,3,5,8,11", help="pixels")
    parser.add_argument("--precision", choices=tuple(DTYPES), default="fp32")
    parser.add_argument("--json", action="store_true", help="objects instead of tables")
    chosen = parser.parse_args()
    named = chosen.model or [entry.name for entry in checkpoint.entries()]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    fusers = {}
    for word in named:
        model, _, weights = word.partition("=")
        loaded = checkpoint.load(model, weights or None)
        if loaded.spec.role == "fuser":
            fusers[word if model in fusers else model] = Fuser(
                loaded.network, loaded.spec, loaded.options,
                device=device, dtype=DTYPES[chosen.precision],
            )  # fmt: skip
    sets = [chosen.data / name for name in chosen.sets.split(",")]
    rows = measure(sets, fusers, [int(shift) for shift in chosen.shifts.split(",")])
    print(json.dumps(rows, indent=1) if chosen.json else report(rows))


if __name__ == "__main__":
    main()
