"""Write what is derived from the code, tables and completions: `python -m docs.tables`.

A table stands between `<!-- NAME -->` and `<!-- end -->` in `README.md` or `docs/metrics.md`.
Networks and metrics are what the code has. What was measured is read where it was recorded: scores
in the model cards (`weights/*.md`), speed in `benchmarks/RESULTS.md`, registration on its page.
"""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Any

from benchmarks.quality import LABELS
from fusecli import metrics, models
from fusecli.completions.__main__ import write
from fusecli.model_cards import count_parameters

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "docs" / "metrics.md")
ABOUT = {  # where it was published, and what to know before choosing it
    "duet": ("none: our own", "default; fastest"),
    "reconet": ("ReCoNet, ECCV 2022", "smallest"),
    "reconet-plus": (
        "ReCoNet with its register, ECCV 2022",
        "moves the visible image, then fuses",
    ),
    "rfvif": (
        "RFVIF, Information Fusion 2023",
        "hardly shows small warm targets; tiles in 4 passes",
    ),
    "smfnet": ("SMFNet, arXiv 2024", "attention over the whole image: tiles in 12 passes"),
    "mfeif": ("MFEIF, IEEE TCSVT 2022", "treats both images alike"),
    "rfn-nest": ("RFN-Nest, Information Fusion 2021", "nested auto-encoder; four scales"),
}


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in Markdown."""
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    lines += [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join(lines) + "\n"


def recorded(page: Path, heading: str) -> list[dict[str, str]]:
    """Return the first table below a heading that contains some words, as one dict per row."""
    parts = re.split(r"^#+ ", page.read_text("utf-8"), flags=re.MULTILINE)
    below = next((part for part in parts if heading in part.partition("\n")[0]), "")
    lines = dropwhile(lambda line: not line.startswith("|"), below.splitlines())
    rows = [
        [cell.strip() for cell in line.strip()[1:-1].split("|")]
        for line in takewhile(lambda line: line.startswith("|"), lines)
    ]
    return [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]  # after the rule


def every_metric() -> str:
    """Return one row per metric, by name; the convention that a bare name means comes first."""
    specs = sorted(map(metrics.find, metrics.keys()), key=lambda s: (s.name, not s.plain))
    names = [spec.name for spec in specs]
    rows = []
    for spec in specs:
        key = f"**`{spec.key}`**" if spec.plain or names.count(spec.name) == 1 else f"`{spec.key}`"
        rows.append((key, f"{spec.label} {spec.arrow}", spec.about, spec.source))
    return table(("key", "paper's name", "what it is", "where from"), rows)


def every_group() -> str:
    """Return one row per group of metrics."""
    return table(
        ("group", "metrics"), ((f"`{n}`", ", ".join(keys)) for n, keys in metrics.GROUPS.items())
    )


def shipped() -> dict[str, dict[str, Any]]:
    """Return the entries of the networks' own weights in the manifest."""
    listed = json.loads((ROOT / "weights" / "manifest.json").read_text("utf-8"))["weights"]
    return {entry["model"]: entry for entry in listed if entry["name"] == entry["model"]}


def every_network() -> str:
    """Return one row per network that fuses."""
    entries = shipped()

    def rows() -> Iterator[Sequence[object]]:
        for name in sorted(models.fusers(), key=[*ABOUT, *models.fusers()].index):
            spec = models.find(name)
            paper, note = ABOUT.get(name, (spec.title, next(iter(spec.limits), "")))
            size, weights = f"{count_parameters(spec):,}", "no"
            if name in entries:
                options = entries[name]["options"]
                built = {
                    option.name: option.default for option in spec.options if not option.recipe
                }
                changed = [f"{n} {options[n]}" for n, v in built.items() if options.get(n, v) != v]
                weights = ", ".join([f"[yes](weights/{entries[name]['card']})", *changed])
                if (own := f"{count_parameters(spec, options):,}") != size:
                    size += f" (shipped: {own})"
            yield f"`{name}`", paper, size, weights, note

    return table(("`--model`", "paper", "parameters", "weights shipped", "notes"), rows())


def every_score() -> str:
    """Return the scores of the model cards on aligned pairs, and the authors' own, by test set."""
    scores: dict[str, list[list[str]]] = {}
    pairs = ""
    for name, entry in shipped().items():
        for row in recorded(ROOT / "weights" / entry["card"], "Scores"):
            pairs = row["set"] or pairs  # written once for several rows
            if row.get("weights", "these") == "these" and row.get("shift", "0 px") == "0 px":
                scores.setdefault(pairs, []).append([f"`{name}`", *(row[n] for n in LABELS)])
    with (ROOT / "benchmarks" / "peers.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            pairs = next((known for known in scores if known.startswith(f"{row['set']},")), "")
            if pairs and "published" in row["network"]:
                figures = [f"{float(row[key]):.3f}" for key in LABELS.values()]
                scores[pairs].append([f"{row['network'].split()[0]}, its authors'", *figures])
    header = [f"{name} {metrics.find(key).arrow}" for name, key in LABELS.items()]
    rows = ([pairs, *row] for pairs, found in sorted(scores.items()) for row in found)
    return table(("set", "weights", *header), rows)


def every_speed() -> str:
    """Return how fast a folder is fused, beside a plain loop over the same network."""
    rows = recorded(ROOT / "benchmarks" / "RESULTS.md", "fuse_folder.py")
    columns = {
        "model": "network", "plain pairs/s": "plain loop, pairs/s",
        "fusecli pairs/s": "fusecli, pairs/s", "ratio": "ratio",
    }  # fmt: skip
    return table([*columns.values()], ([row.get(name, "–") for name in columns] for row in rows))


def every_registration() -> str:
    """Return what each method leaves of a known misalignment."""
    rows = recorded(ROOT / "docs" / "registration.md", "Misaligned pairs")
    columns = {
        "method": "method", "consistency mean": "mean error, px", "median": "median, px",
        "worse than nothing": "worse than nothing", "refused": "refused, of 20",
    }  # fmt: skip
    return table([*columns.values()], ([row.get(name, "–") for name in columns] for row in rows))


TABLES = {
    "metrics": every_metric,
    "groups": every_group,
    "networks": every_network,
    "scores": every_score,
    "speed": every_speed,
    "registration": every_registration,
}


def filled(text: str) -> str:
    """Return a page with its tables as the code and the measurements have them."""
    place = re.compile(rf"(<!-- ({'|'.join(TABLES)}) -->\n).*?(<!-- end -->)", re.DOTALL)
    return place.sub(lambda found: found[1] + TABLES[found[2]]() + found[3], text)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page.read_text("utf-8")), "utf-8")
    write(ROOT / "completions")
