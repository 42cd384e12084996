"""`fusecli eval`: scores of fused images, as tables, plots and a report."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fusecli.commands.presentation import Presentation
from fusecli.errors import UsageError
from fusecli.options import (
    Infrared,
    Inputs,
    Talk,
    Visible,
    assignments,
    flag,
    grouped,
    offering,
)

if TYPE_CHECKING:
    from rich.console import Console

    from fusecli.evaluation.cases import Case
    from fusecli.evaluation.labels import Labels
    from fusecli.evaluation.report import Check, EvalReport, Layout
    from fusecli.evaluation.scoring import Scorer
    from fusecli.evaluation.tables import Board, Kind
    from fusecli.evaluation.truth import TransformCase, TransformScorer
    from fusecli.metrics import MetricSpec
    from fusecli.pairs import Pair
    from fusecli.report import Reporter
    from fusecli.runtime import Runtime

GROUPS = (
    "standard",
    "purpose",
    "targets",
    "vifb",
    "rfn-nest",
    "smfnet",
    "linfeng",
    "liu",
    "fast",
    "all",
)
PAGE = 120  # characters across, where there is no terminal to ask


def _range(name: str, image: str) -> Any:
    return flag(
        "Scoring",
        name,
        metavar="RULE",
        autocompletion=offering("auto", "dtype"),
        help=f"What becomes 0..255 in {image} images: auto, dtype, LO:HI or pLO:pHI.",
    )


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """What is measured, and on which values."""

    metrics: Annotated[
        str,
        flag(
            "Scoring",
            "--metrics",
            metavar="LIST",
            autocompletion=offering(*GROUPS),
            help="Names (qabf), names with a convention (mi:nats), or groups: "
            f"{', '.join(GROUPS)}.",
        ),
    ] = "standard"
    reference: Annotated[
        str | None,
        flag("Scoring", "--reference", metavar="DIR", help="Ground truth, for :reference metrics."),
    ] = None
    targets: Annotated[
        str | None,
        flag(
            "Scoring",
            "--targets",
            metavar="FILE",
            help="Labelled targets: CSV, COCO JSON, or a folder of YOLO text files.",
        ),
    ] = None
    target_class: Annotated[
        str,
        flag(
            "Scoring",
            "--target-class",
            metavar="LIST",
            autocompletion=offering("all", "person"),
            help="Classes of targets that count, or all.",
        ),
    ] = "person,animal,hot"
    truth: Annotated[
        str | None,
        flag(
            "Scoring",
            "--truth",
            metavar="DIR",
            help="True transforms; FUSED are then folders of transforms, scored by distance.",
        ),
    ] = None
    compute: Annotated[
        Literal["luma", "rgb"],
        flag("Scoring", "--compute", help="On the luma, or on each channel and then the mean."),
    ] = "luma"
    ir_range: Annotated[str, _range("--ir-range", "infrared")] = "auto"
    vis_range: Annotated[str, _range("--vis-range", "visible")] = "auto"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """How the work is done; none of this changes a value beyond rounding."""

    jobs: Annotated[
        str, flag("Running", "--jobs", "-j", metavar="N", help="Images scored at the same time.")
    ] = "auto"
    device: Annotated[
        str,
        flag(
            "Running",
            "--device",
            metavar="D",
            autocompletion=offering("auto", "cpu", "cuda"),
            envvar="FUSECLI_DEVICE",
            help="auto, cpu, cuda or cuda:N.",
        ),
    ] = "auto"


@grouped
def evaluate(
    ir: Infrared = None,
    vis: Visible = None,
    fused: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=]FUSED...",
            help="Fused files, folders or globs: one for each method.",
            show_default=False,
        ),
    ] = None,
    *,
    scoring: Scoring,
    presentation: Presentation,
    inputs: Inputs,
    machine: Machine,
    talk: Talk,
) -> int:
    """Score fused images with the metrics papers use; compare methods.

    [dim]fusecli eval ir/ vis/ out/[/]
    [dim]fusecli eval ir/ vis/ ours=out_a gff=out_b -o report/ --table latex --plots box,contact[/]
    [dim]fusecli eval set/ir/ set/vis/ mine=est/transforms --truth set/truth[/]
    """
    reporter = talk.reporter()
    kinds, figures = presentation.kinds(), presentation.figures()
    region = presentation.region()
    _check_truth(scoring, presentation, figures)
    from fusecli.commands.pairing import select_pairs
    from fusecli.evaluation.cases import name_methods
    from fusecli.evaluation.report import EvalReport, Layout, publish
    from fusecli.evaluation.scoring import score
    from fusecli.images.values import parse_range
    from fusecli.metrics import select
    from fusecli.runtime import Runtime

    arguments = list(fused or ())
    if inputs.pairs is not None:  # then every positional is a method
        arguments = [text for text in (ir, vis, *arguments) if text is not None]
        ir = vis = None
    for rule in (scoring.ir_range, scoring.vis_range):
        parse_range(rule)
    methods = name_methods(arguments)
    at_hand: tuple[str, ...] = ("ir", "vis", "fused")
    at_hand += ("reference",) if scoring.reference is not None else ()
    at_hand += ("targets",) if scoring.targets is not None else ()
    wanted = scoring.metrics
    if scoring.truth is not None:
        at_hand, wanted = ("transform",), "registration" if wanted == "standard" else wanted
    checks = _checks(presentation.fail_under or (), at_hand)
    specs = select(wanted, at_hand)
    if scoring.targets is not None and not any("targets" in spec.needs for spec in specs):
        specs += select("targets", at_hand)
    specs += tuple(check.spec for check in checks if check.spec not in specs)
    out = presentation.out
    layout = (
        Layout(Path(out), kinds, figures, region, bool(scoring.targets))
        if out is not None
        else None
    )
    if layout is not None and not presentation.overwrite:
        layout.check_free()
    runtime = Runtime.resolve(machine.device, "fp32", machine.jobs)
    pairs = select_pairs(ir, vis, inputs, out or "", reporter)
    cases, lost, scorer = _work(pairs, methods, specs, scoring, inputs, runtime, reporter)
    if lost:
        reporter.warn(f"{lost} pairs that not every method has are left out", "pair.unmatched")
    cases = cases[: inputs.limit]
    report = EvalReport("eval", "scored", out or "standard output", found=len(cases))
    if presentation.dry_run:
        return _rehearse(cases, specs, layout, report, reporter)
    score(cases, scorer, runtime, report=report, reporter=reporter)
    report.extra = {"out": out, "runtime": runtime.as_dict() | {"precision": "fp64"}}
    if scorer.scores.rows and report.signal is None:
        board = publish(scorer, cases, methods, checks, layout, report, reporter)
        _show(board, kinds, talk, to_stdout=layout is None and not talk.json)
    return reporter.finish(report)


def _work(
    pairs: Iterable[Pair],
    methods: dict[str, str],
    specs: tuple[MetricSpec, ...],
    scoring: Scoring,
    inputs: Inputs,
    runtime: Runtime,
    reporter: Reporter,
) -> tuple[Sequence[Case | TransformCase], int, Scorer | TransformScorer]:
    """Return what to score, how many pairs were left out, and what scores it."""
    skip = inputs.unpaired == "skip"
    if scoring.truth is not None:
        from fusecli.evaluation import truth

        found, lost = truth.match(pairs, methods, scoring.truth, skip=skip)
        return found, lost, truth.TransformScorer(tuple(methods), specs)
    from fusecli.evaluation.cases import match
    from fusecli.evaluation.scoring import Rules, Scorer

    rules = Rules(scoring.ir_range, scoring.vis_range, scoring.compute)
    cases, lost = match(
        pairs, methods, reference=scoring.reference, recursive=inputs.recursive, skip=skip
    )
    labels = _labels(scoring, cases, reporter)
    return cases, lost, Scorer(tuple(methods), specs, rules, runtime.devices[0], labels)


def _labels(scoring: Scoring, cases: Sequence[Case], reporter: Reporter) -> Labels | None:
    """Return the labelled targets of `--targets`, and say which images are not among the pairs."""
    if scoring.targets is None:
        return None
    from fusecli.evaluation import labels

    found = labels.load(scoring.targets, scoring.target_class, cases)
    if found.unknown:
        some = ", ".join(found.unknown[:3])
        reporter.warn(
            f"{len(found.unknown)} labelled images are not among the pairs: {some}",
            "targets.unknown",
        )
    return found


def _check_truth(scoring: Scoring, presentation: Presentation, figures: tuple[str, ...]) -> None:
    """Refuse what makes no sense for transforms.

    Raises:
        UsageError: An option about pictures together with `--truth`.
    """
    if scoring.truth is None:
        return
    given = {
        "--reference": scoring.reference is not None,
        "--targets": scoring.targets is not None,
        "--compute": scoring.compute != "luma",
        "--ir-range": scoring.ir_range != "auto",
        "--vis-range": scoring.vis_range != "auto",
        "--roi": presentation.roi is not None,
        "--plots contact": "contact" in figures,
        "--plots zoom": "zoom" in figures,
    }
    for option, is_given in given.items():
        if is_given:
            raise UsageError(
                f"{option} is about pictures, and --truth scores transforms",
                code="usage.truth",
                hint=f"leave {option} out, or score the pictures in a run of their own",
            )


def _checks(texts: Sequence[str], images: tuple[str, ...]) -> list[Check]:
    """Return the bounds of `--fail-under`.

    Raises:
        UsageError: Not a metric, or not a number.
    """
    from fusecli.evaluation.report import Check
    from fusecli.metrics import select

    found = []
    for name, value in assignments(texts, "--fail-under").items():
        specs = select(name, images)
        try:
            bound = float(value)
        except ValueError:
            bound = math.nan
        if len(specs) > 1 or math.isnan(bound):
            problem = "is a group" if len(specs) > 1 else f"needs a number, not {value}"
            raise UsageError(
                f"--fail-under {name} {problem}",
                code="usage.fail_under",
                hint=f"a bound is written --fail-under {specs[0].key}=0.5",
            )
        found.append(Check(specs[0], bound))
    return found


def _rehearse(
    cases: Sequence[Case | TransformCase],
    specs: Sequence[MetricSpec],
    layout: Layout | None,
    report: EvalReport,
    reporter: Reporter,
) -> int:
    """Show what would be scored and written, and return exit code 0."""
    paths = [str(path) for path in layout.paths] if layout is not None else []
    keys = [spec.key for spec in specs]
    if reporter.json:
        report.verb = "would score"
        report.extra = {"dry_run": True, "metrics": keys, "files": paths}
        return reporter.finish(report)
    from fusecli.text import write_path

    for case in cases:
        write_path(" ".join((case.key, *case.fused)))
    reporter.note(f"would score {len(cases)} images with {', '.join(keys)}")
    if paths:
        reporter.note(f"would write {', '.join(paths)}")
    return 0


def _show(board: Board, kinds: Sequence[Kind], talk: Talk, *, to_stdout: bool) -> None:
    """Print the tables: to stdout where they are the product, else the text table to stderr."""
    from fusecli.evaluation import tables
    from fusecli.text import talk as console

    if not to_stdout:
        if not talk.quiet and talk.progress != "jsonl":
            _print(board, console(soft_wrap=False))
        return
    for kind in kinds:
        if kind == "text":
            _print(board, console(stderr=False, soft_wrap=False))
        else:
            sys.stdout.write(tables.write(board, kind))


def _print(board: Board, console: Console) -> None:
    """Print the text table, as wide as the terminal or, where there is none, as a page."""
    from fusecli.evaluation.tables import rich_table

    if not console.is_terminal:
        console.width = max(console.width, PAGE)
    console.print(rich_table(board, console.width))
