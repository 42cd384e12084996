"""What `eval` writes into its report folder."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fusecli.errors import InputError
from fusecli.evaluation import plots, tables, targets
from fusecli.evaluation.page import Page, render
from fusecli.evaluation.plots import Region, Shot
from fusecli.evaluation.scoring import Scores
from fusecli.evaluation.tables import Board, Kind
from fusecli.metrics import MetricSpec
from fusecli.outcome import Outcome, RunReport
from fusecli.report import Reporter, relative
from fusecli.text import as_json
from fusecli.version import __version__
from fusecli.writing import write_atomic

PICTURES = 6  # pairs on a contact sheet
SUFFIXES: dict[Kind, str] = {
    "text": "txt",
    "csv": "csv",
    "md": "md",
    "latex": "tex",
    "html": "html",
}
SIDES = {"higher": "at least", "lower": "at most", "zero": "within", "one": "as near to 1 as"}


@dataclass(frozen=True)
class Check:
    """A bound that `--fail-under` sets.

    Args:
        spec: The metric.
        bound: The worst mean (median for `contrast`) that is accepted.
    """

    spec: MetricSpec
    bound: float

    def results(self, board: Board) -> list[tuple[str, bool]]:
        """Return a sentence for each method, and whether its mean holds; an undefined one fails."""
        column = board.specs.index(self.spec)
        found = []
        for row, method in enumerate(board.methods):
            centre = float(board.centres[row, column])
            held = self.spec.badness(centre) <= self.spec.badness(self.bound)
            side = SIDES[self.spec.direction]
            value = f"{centre:.6g}" if np.isfinite(centre) else "undefined"
            sentence = f"{self.spec.key} of {method} is {value}, wanted {side} {self.bound:g}"
            found.append((sentence, held))
        return found


@dataclass
class EvalReport(RunReport):
    """A run report that also knows whether the requested checks held."""

    checks: list[tuple[str, bool]] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """6 where a check does not hold; otherwise as in other runs."""
        code = super().exit_code
        broken = not all(held for _, held in self.checks)
        return 6 if broken and code in (0, 3) else code

    @property
    def warnings(self) -> list[dict[str, str]]:
        """Those of the items, and each check that does not hold."""
        broken = [{"code": "check", "message": text} for text, held in self.checks if not held]
        return super().warnings + broken

    def as_dict(self) -> dict[str, Any]:
        """Return the document that `--json` prints."""
        checks = [{"check": text, "held": held} for text, held in self.checks]
        return super().as_dict() | ({"checks": checks} if checks else {})


@dataclass(frozen=True)
class Layout:
    """Which files a report consists of.

    Args:
        folder: Where.
        kinds: Tables beside the files that every report has.
        figures: Kinds of plots.
        region: What the pictures magnify.
        targets: Whether there is a table of labelled targets.
    """

    folder: Path
    kinds: tuple[Kind, ...] = ()
    figures: tuple[str, ...] = ()
    region: Region | None = None
    targets: bool = False

    @property
    def paths(self) -> list[Path]:
        """Every file that will be written."""
        names = ["summary.csv", "per_image.csv", "report.json", "report.html"]
        names += ["targets.csv"] if self.targets else []
        names += [f"table.{SUFFIXES[kind]}" for kind in self.kinds]
        names += [f"plots/{figure}.png" for figure in self.figures]
        return [self.folder / name for name in names]

    def check_free(self) -> None:
        """Refuse to replace an earlier report.

        Raises:
            InputError: `out.exists`.
        """
        present = [path for path in self.paths if path.exists()]
        if not present:
            return
        raise InputError(
            f"{len(present)} files of this report exist already",
            code="out.exists",
            facts=[relative(path) for path in present[:10]],
            hint="--overwrite replaces them; or choose another --out",
            details={"count": len(present)},
        )


def described(specs: Iterable[MetricSpec]) -> list[dict[str, Any]]:
    """Return what each metric is, ready for JSON."""
    return [
        {
            "key": spec.key,
            "label": spec.label,
            "direction": spec.direction,
            "definition": spec.about,
            "source": spec.source,
            "version": spec.version,
            "min_size": spec.min_size,
        }
        for spec in specs
    ]


def document(
    board: Board, report: EvalReport, methods: Mapping[str, str], about: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the contents of `report.json`.

    Args:
        board: The scores.
        report: Of the run.
        methods: Name to source.
        about: Further values: what was done to the input, the command line.
    """
    ranks = {
        method: round(float(rank), 6) if np.isfinite(rank) else None
        for method, rank in zip(board.methods, board.mean_ranks, strict=True)
    }
    return {
        "schema": "fusecli/eval/1",
        "version": __version__,
        "started": report.started,
        "images": len(board.keys),
        "methods": dict(methods),
        **about,
        "definitions": described(board.specs),
        "statistics": "over the images where a metric is defined; std divides by their number",
        "metrics": board.summary(),
        "mean_rank": ranks,
        "checks": [{"check": sentence, "held": held} for sentence, held in report.checks],
        "failures": report.failures,
    }


def spread(keys: Sequence[str], count: int = PICTURES) -> list[str]:
    """Return some of the keys, evenly spread from the first to the last."""
    if len(keys) <= count:
        return list(keys)
    places = np.linspace(0, len(keys) - 1, count).round().astype(int)
    return [keys[place] for place in places]


class Scored(Protocol):
    """What has scored the cases: images, or transforms."""

    @property
    def scores(self) -> Scores:
        """The values."""
        ...

    @property
    def conversion(self) -> Mapping[str, str]:
        """What was measured, in words."""
        ...

    def shots(self, cases: Sequence[Any], keys: Sequence[str]) -> list[Shot]:
        """Return the pictures of some cases, where there are any."""
        ...


def publish(
    scorer: Scored,
    cases: Sequence[Any],
    methods: Mapping[str, str],
    checks: Sequence[Check],
    layout: Layout | None,
    report: EvalReport,
    reporter: Reporter,
) -> Board:
    """Turn scores into a board, hold them against the checks, and write the report if asked.

    Args:
        scorer: With its scores.
        cases: What was scored.
        methods: Name to source.
        checks: From `--fail-under`.
        layout: Of the report; None writes nothing.
        report: Gets the statistics and the outcome of the checks.
        reporter: Prints the paths written.
    """
    scores = scorer.scores
    board = Board(scores.methods, scores.specs, tuple(scores.keys), scores.table(), scores.joined())
    report.checks = [result for check in checks for result in check.results(board)]
    report.extra["metrics"] = board.summary()
    if layout is None:
        return board
    pictures = scorer.shots(cases, spread(scores.keys))
    rows, worst = targets.rows(scores), targets.worst(scores)
    held = scorer.shots(cases, sorted({key for key, _, _ in worst}))
    page = Page(
        title=" · ".join(board.methods) if len(board.methods) < 5 else "Image fusion scores",
        facts=_facts(board, scores, report),
        board=board,
        conversion=scorer.conversion,
        shots=pictures,
        region=layout.region,
        figures={kind: plots.draw(kind, board, pictures, layout.region) for kind in layout.figures},
        failures={failure["key"]: failure["message"] for failure in report.failures},
        checks=report.checks,
        targets=rows,
        worst=targets.sheet(held, worst),
        command=shlex.join(["fusecli", *sys.argv[1:]]),
    )
    types = {side: dict(counts) for side, counts in sorted(scores.types.items())}
    about: dict[str, Any] = {
        "command": page.command,
        "conversion": scorer.conversion,
        "types": types,
    }
    if layout.targets:
        about["targets"] = [row.as_dict() for row in rows]
    texts = {
        "summary.csv": tables.summary_csv(board),
        "per_image.csv": tables.per_image_csv(board),
        "report.json": as_json(document(board, report, methods, about), indent=1, allow_nan=False),
        "report.html": render(page),
    }
    if layout.targets:
        texts["targets.csv"] = tables.rows_csv(targets.COLUMNS, rows)
    texts |= {f"table.{SUFFIXES[kind]}": tables.write(board, kind) for kind in layout.kinds}
    files = {name: text.encode() for name, text in texts.items()}
    files |= {f"plots/{kind}.png": png for kind, png in page.figures.items()}
    for name, data in files.items():
        path = str(layout.folder / name)
        write_atomic(path, data)
        reporter.item(Outcome(name, out=path))
    return board


def _facts(board: Board, scores: Scores, report: EvalReport) -> dict[str, str]:
    sizes = {f"{width}x{height}" for height, width in scores.sizes.values()}
    return {
        "pairs": str(len(board.keys)) + (f" ({report.failed} failed)" if report.failed else ""),
        "methods": str(len(board.methods)),
        "metrics": str(len(board.specs)),
        "size": sizes.pop() if len(sizes) == 1 else f"{len(sizes)} sizes",
        "scored": report.started.replace("T", " ").rstrip("Z") + " UTC",
        "by": f"fusecli {__version__}",
    }
