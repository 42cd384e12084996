"""Compare the pictures that `fusecli fuse` makes with those of the plain networks, on test sets.

    python -m benchmarks.parity ../shared/data [-m mfeif] [--sets tno-test,hard-dev]
                                [--precision fp32,auto] [--side 0] [--pairs 0] [--json]

Plain is a network as it was trained: float32, NCHW, batch norm not folded, every op its definition,
the whole image at once. Against it stand the same network as `fuse` prepares it, in each precision
on whole images, on crops with odd sides, on several pairs in one batch and in tiles. Pictures are
8-bit luma; a difference is told as the largest and the mean of a picture in grey levels, the worst
picture of all sets. What lies beyond its limit is marked, and the exit status is 1.

All of it takes hours on a small machine: without `--side` and `--pairs` a few pairs of each set are
seen, and only the middle of them; 0 is all there is. Networks that measure the whole image are in
tiles on the first set only. Infrared of another size is resampled to the visible grid, and a pair
too small for a network is left out.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import reduce
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.quality import read_set
from benchmarks.timing import table
from fusecli import checkpoint
from fusecli.checkpoint import Loaded
from fusecli.fusion import Tiling
from fusecli.fusion.network import Fuser, pad_to, stretch
from fusecli.fusion.pair import Sides, fit
from fusecli.fusion.preparation import against_bf16
from fusecli.runtime import DTYPES, Runtime

SETS = "tno-test,roadscene-test,misaligned-dev,vifb-dev,hard-dev"
LIMITS = {"fp32": (1, 0.05), "bf16": (2, 0.3)}  # grey levels: largest, mean
PAIRS, SIDE = 2, 96  # what is seen of each set unless told otherwise, but for
SIDES = {"duet": 256, "reconet": 256, "smfnet": 64}
BATCH, BATCH_SIDE = 2, 65
TILE = 48
CPU = torch.device("cpu")

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Difference:
    """How far one picture is from another, in grey levels."""

    largest: int
    mean: float

    @classmethod
    def of(cls, expected: Tensor, found: Tensor) -> "Difference":
        """Compare pictures of 0..1 as 8-bit files would hold them."""
        levels = (np.rint(255 * image.numpy()) for image in (expected, found))
        difference = np.abs(np.subtract(*levels))
        return cls(int(difference.max()), float(difference.mean()))

    def worse(self, other: "Difference") -> "Difference":
        """Return the larger of both in either respect."""
        return Difference(max(self.largest, other.largest), max(self.mean, other.mean))


@contextmanager
def definitions() -> Iterator[None]:
    """Let every op run as it is defined."""
    before = os.environ.get("FUSECLI_OPS", "auto")
    os.environ["FUSECLI_OPS"] = "eager"
    try:
        yield
    finally:
        os.environ["FUSECLI_OPS"] = before


@torch.inference_mode()
def plain(loaded: Loaded, ir: Tensor, vis: Tensor) -> Tensor:
    """Return what the network as trained makes of a pair, (1, 1, H, W) in 0..1."""
    spec, (height, width) = loaded.spec, ir.shape[-2:]
    low, high = spec.input_range
    rows, columns = (side + -side % spec.multiple_of for side in (height, width))
    padded = (pad_to(image, rows, columns, spec.padding) for image in (ir, vis))
    with definitions():
        fused = loaded.network(*(low + (high - low) * image for image in padded))
    fused = (fused[..., :height, :width] - low) / (high - low)
    return stretch(fused) if spec.tone == "stretch" else fused.clamp(0, 1)


class Subject:
    """One network, plain and as `fuse` runs it in some precisions.

    Attributes:
        worst: Precision to way of running to the worst of all pictures seen so far.
    """

    def __init__(self, loaded: Loaded, precisions: Sequence[str]) -> None:
        self.loaded = loaded
        self.fusers = {
            precision: {
                tile: Fuser(
                    loaded.network, loaded.spec, loaded.options,
                    device=CPU, dtype=DTYPES[precision], tiling=Tiling(tile),
                )
                for tile in (0, TILE)
            }
            for precision in precisions
        }  # fmt: skip
        self.worst: dict[str, dict[str, Difference]] = {name: {} for name in precisions}

    def see(self, way: str, pairs: Sequence[Pair]) -> None:
        """Compare the pictures of some pairs of one size.

        Args:
            way: `whole`, `odd` or `batch`; with `tiled` in pieces too, where that is possible.
            pairs: Run at once.
        """
        expected = torch.cat([plain(self.loaded, *pair) for pair in pairs])
        ir, vis = (torch.cat(images) for images in zip(*pairs, strict=True))
        for precision, fusers in self.fusers.items():
            tiled = way == "tiled"
            if tiled and self.loaded.spec.tiling == "never":
                return
            worst = self.worst[precision]
            for picture, found in zip(expected, fusers[tiled * TILE](ir, vis), strict=True):
                now = Difference.of(picture, found)
                worst[way] = now.worse(worst.get(way, now))


def cut(pair: Pair, height: int, width: int) -> Pair:
    """Return the middle of both images, at most so large."""
    ir, vis = pair
    top, left = max(0, ir.shape[-2] - height) // 2, max(0, ir.shape[-1] - width) // 2
    inside = slice(top, top + height), slice(left, left + width)
    return ir[..., *inside], vis[..., *inside]


def read(folder: Path) -> list[Pair]:
    """Return the pairs of a set on the visible grid, (1, 1, H, W) luma in 0..1."""
    pairs = []
    for _, ir, vis in read_set(folder):
        on_grid = fit(Sides(ir[0, 0].numpy(), vis[0, 0].numpy()), "ir-to-vis")[:2]
        ir, vis = (torch.from_numpy(np.ascontiguousarray(image))[None, None] for image in on_grid)
        pairs.append((ir, vis))
    return pairs


def some(pairs: Sequence[Pair], count: int) -> Sequence[Pair]:
    """Return so many of the pairs, evenly spread; all of them for 0."""
    if not 0 < count < len(pairs):
        return pairs
    return [pairs[index * len(pairs) // count] for index in range(count)]


def measure(
    loaded: Loaded, precisions: Sequence[str], pairs: Sequence[Pair], tiled: bool
) -> dict[str, dict[str, Difference]]:
    """Return precision to way of running to the worst of some pairs of one set.

    All are seen whole, the first with odd sides and, if `tiled`, in tiles, the first ones in a
    batch, cut to a size that they have in common.
    """
    subject, (height, width) = Subject(loaded, precisions), pairs[0][0].shape[-2:]
    for pair in pairs:
        subject.see("whole", [pair])
    if tiled:
        subject.see("tiled", pairs[:1])
    subject.see("odd", [cut(pairs[0], (height - 1) // 2 * 2 - 1, (width - 1) // 2 * 2 - 1)])
    together = pairs[:BATCH]
    shape = [min(BATCH_SIDE, *(pair[0].shape[axis] for pair in together)) for axis in (-2, -1)]
    subject.see("batch", [cut(pair, *shape) for pair in together])
    return subject.worst


def precisions(loaded: Loaded, wanted: Sequence[str]) -> list[str]:
    """Return the precisions that some words mean for a network here, each once."""
    unsafe = against_bf16(loaded)
    words = {"auto": Runtime.resolve("cpu", "auto").settled(unsafe)[0].precision}
    return list(dict.fromkeys(words.get(word, word) for word in wanted))


@dataclass(frozen=True)
class Row:
    """What was seen of one network in one precision on one set.

    Args:
        network: Its name.
        precision: `fp32` or `bf16`.
        set: Folder of the pictures.
        pairs: How many were seen.
        side: The longest side seen, in pixels.
        worst: Way of running to the worst of all pictures.
    """

    network: str
    precision: str
    set: str
    pairs: int
    side: int
    worst: dict[str, Difference]

    @property
    def within(self) -> bool:
        """Whether every picture keeps the limits of its precision."""
        largest, mean = LIMITS[self.precision]
        return all(d.largest <= largest and d.mean <= mean for d in self.worst.values())


def rows(
    sets: Sequence[Path],
    names: Sequence[str],
    wanted: Sequence[str],
    side: int | None,
    count: int | None,
) -> Iterator[Row]:
    """Yield what is found, as soon as it is.

    Args:
        sets: Folders with `ir/` and `vi/`.
        names: Networks with shipped weights.
        wanted: Precisions; `auto` is what it means here.
        side: Longest side of what is seen; 0 is everything, None is by network.
        count: Pairs of each set; 0 is all, None is by network.
    """
    for number, folder in enumerate(sets):
        everything = read(folder)
        for name in names:
            loaded = checkpoint.load(name)
            able = [p for p in everything if min(p[0].shape[-2:]) >= loaded.spec.min_size + 2]
            pairs = some(able, PAIRS if count is None else count)
            edge = SIDES.get(name, SIDE) if side is None else side
            edge = edge or max(max(pair[0].shape) for pair in pairs)
            tiled = loaded.spec.tiling == "exact" or number == 0  # in passes tiles take long
            seen = [cut(pair, edge, edge) for pair in pairs]
            found = measure(loaded, precisions(loaded, wanted), seen, tiled)
            for precision, worst in found.items():
                yield Row(name, precision, folder.name, len(pairs), edge, worst)


def summary(found: Sequence[Row]) -> list[dict[str, object]]:
    """Return one line for each network and precision, of all sets together."""
    lines = []
    for network, precision in dict.fromkeys((row.network, row.precision) for row in found):
        own = [r for r in found if (r.network, r.precision) == (network, precision)]
        line: dict[str, object] = {
            "network": network,
            "precision": precision,
            "pairs": sum(row.pairs for row in own),
            "longest side": max(row.side for row in own),
        }
        for way in ("whole", "odd", "batch", "tiled"):
            seen = [row.worst[way] for row in own if way in row.worst]
            worst = reduce(Difference.worse, seen, Difference(0, 0.0))
            line[way] = f"{worst.largest}, {worst.mean:.3f}" if seen else "not tiled"
        line["limits"] = "{}, {}".format(*LIMITS[precision])
        beyond = [row.set for row in own if not row.within]
        line["verdict"] = f"**beyond** on {', '.join(beyond)}" if beyond else "within"
        lines.append(line)
    return lines


def main() -> None:
    """Print a Markdown table, or a JSON list of what it sums up."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of the data sets")
    parser.add_argument("-m", "--model", action="append")
    parser.add_argument("--sets", default=SETS)
    parser.add_argument("--precision", default="fp32,auto")
    parser.add_argument("--side", type=int, help="longest side of what is seen; 0: everything")
    parser.add_argument("--pairs", type=int, help="of each set; 0: all")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = []
    for row in rows(
        [given.data / name for name in given.sets.split(",")],
        given.model or [entry.name for entry in checkpoint.entries()],
        given.precision.split(","),
        given.side,
        given.pairs,
    ):
        found.append(row)
        print(json.dumps(asdict(row)), file=sys.stderr, flush=True)
    if given.json:
        print(json.dumps([asdict(row) | {"within": row.within} for row in found]))
    else:
        print(f"{given.sets.replace(',', ', ')}: largest and mean difference in grey levels.\n")
        print(table(summary(found)))
    sys.exit(not all(row.within for row in found))


if __name__ == "__main__":
    main()
