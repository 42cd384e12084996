"""Measure how the cost of `fusecli fuse` grows with image size, folder, batch and jobs.

    python -m benchmarks.scaling [-m reconet] [--json]

Each row is a process of its own. `CPU ms a unit` is its CPU time, less that of a run on one tiny
pair, for each megapixel or each pair; `of first` compares that with the first row of its kind: at
most 1 is linear or better. CPU time says nothing of how well threads overlap, `elapsed s` does on
a machine that has nothing else to do.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fuse_folder import draw_pairs, measured

TINY = (16, 16)


@dataclass(frozen=True)
class Case:
    """One run.

    Args:
        grows: What is larger than in the row before.
        value: How large.
        size: Height and width.
        pairs: In the folder.
        unit: What the cost is divided by.
        units: How many of it there are.
        options: Of `fusecli fuse`.
    """

    grows: str
    value: str
    size: tuple[int, int]
    pairs: int
    unit: str
    units: float
    options: tuple[str, ...] = ()


def cases() -> list[Case]:
    """Return the runs, those of one kind after each other."""
    found = []
    for pairs in (20, 100, 500):
        found.append(Case("folder", f"{pairs} pairs", (120, 160), pairs, "pair", pairs))
    for batch in ("1", "2", "4", "8"):
        options = ("--batch-size", batch)
        found.append(Case("batch", batch, (240, 320), 24, "pair", 24, options))
    for jobs in ("1", "2", "4", "8"):
        found.append(Case("jobs", jobs, (240, 320), 24, "pair", 24, ("--jobs", jobs)))
    # last, because the peak of a process is at least what its parent, which drew the pairs, had
    for height, width in ((480, 640), (960, 1280), (1920, 2560)):
        area = height * width / 1e6
        found.append(Case("size", f"{width}x{height}", (height, width), 2, "megapixel", 2 * area))
    return found


def run(model: str, case: Case) -> tuple[float, float, float]:
    """Return CPU seconds, elapsed seconds and the peak memory in MiB."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw_pairs(folder, case.pairs, case.size)
        report, peak, spent = measured(
            [sys.executable, "-m", "fusecli", "fuse", str(folder / "ir"), str(folder / "vis"),
             "-o", str(folder / "out"), "-m", model, "--json", *case.options]
        )  # fmt: skip
    return spent, report["elapsed_s"], peak


def measure(model: str) -> list[dict[str, object]]:
    """Return one row for each case."""
    start, _, _ = run(model, Case("start", "", TINY, 1, "pair", 1))
    firsts: dict[str, float] = {}
    rows: list[dict[str, object]] = []
    for case in cases():
        spent, elapsed, peak = run(model, case)
        cost = 1000 * (spent - start) / case.units
        rows.append(
            {
                "grows": case.grows,
                "to": case.value,
                "unit": case.unit,
                "CPU ms a unit": cost,
                "of first": cost / firsts.setdefault(case.grows, cost),
                "elapsed s": elapsed,
                "peak MiB": round(peak),
            }
        )
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a Markdown table, or a JSON list of its rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--model", default="reconet")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    rows = measure(given.model)
    if given.json:
        print(json.dumps(rows))
        return
    from benchmarks.timing import table

    print(table(rows))


if __name__ == "__main__":
    main()
