"""`fusecli train`: train or fine-tune a network on pairs of images."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

from fusecli import models
from fusecli.errors import UsageError
from fusecli.options import (
    Computing,
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
    from fusecli.report import Reporter
    from fusecli.training.recipe import TrainOptions


def _presets() -> list[str]:
    from fusecli.warps import presets

    return ["none", *presets()]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What is trained, on what, into which folder."""

    out: Annotated[
        str,
        flag("Run", "--out", "-o", metavar="RUN", show_default=False, help="Folder of the run."),
    ]
    model: Annotated[
        str,
        flag(
            "Run",
            "--model",
            "-m",
            metavar="NAME",
            autocompletion=models.names,
            help=f"One of {', '.join(models.names())}.",
        ),
    ] = "duet"
    init: Annotated[
        str | None,
        flag("Run", "--init", metavar="SPEC", help="Weights to start from: file or name."),
    ] = None
    val_ir: Annotated[
        str | None, flag("Run", "--val-ir", metavar="IR", help="Infrared images to validate on.")
    ] = None
    val_vis: Annotated[
        str | None, flag("Run", "--val-vis", metavar="VIS", help="Their visible partners.")
    ] = None
    val_fraction: Annotated[
        float,
        flag(
            "Run",
            "--val-fraction",
            min=0.0,
            max=0.9,
            help="Share of the pairs held back otherwise, chosen by their keys.",
        ),
    ] = 0.1
    resume: Annotated[bool, flag("Run", "--resume", help="Go on with the run in RUN.")] = False
    overwrite: Annotated[bool, flag("Run", "--overwrite", help="Replace the run in RUN.")] = False
    dry_run: Annotated[
        bool, flag("Run", "--dry-run", "-n", help="Show what would be trained; write nothing.")
    ] = False


@dataclass(frozen=True, kw_only=True)
class RecipeOptions:
    """Numbers in place of the recipe's; they apply to every stage that runs."""

    set: Annotated[
        list[str] | None,
        flag("Recipe", "--set", metavar="NAME=VALUE", help="Option of the model or its recipe."),
    ] = None
    stage: Annotated[
        str | None,
        flag("Recipe", "--stage", metavar="NAME", help="Run this stage only, not all in turn."),
    ] = None
    epochs: Annotated[
        int | None, flag("Recipe", "--epochs", min=1, help="Passes over the pairs.")
    ] = None
    steps: Annotated[
        int | None, flag("Recipe", "--steps", min=1, help="Optimiser steps, instead of epochs.")
    ] = None
    max_time: Annotated[
        str | None,
        flag("Recipe", "--max-time", metavar="TIME", help="Save and end then: 8h, 30m, 90s."),
    ] = None
    batch_size: Annotated[
        int | None, flag("Recipe", "--batch-size", min=1, help="Crops in a batch.")
    ] = None
    crop: Annotated[
        int | None, flag("Recipe", "--crop", min=1, metavar="PX", help="Edge of the crops.")
    ] = None
    lr: Annotated[float | None, flag("Recipe", "--lr", help="Learning rate.")] = None
    optimizer: Annotated[
        Literal["adam", "adamw"] | None, flag("Recipe", "--optimizer", help="Of every stage.")
    ] = None
    schedule: Annotated[
        str | None,
        flag(
            "Recipe",
            "--schedule",
            metavar="RULE",
            autocompletion=offering("constant", "cosine"),
            help="constant, cosine or step:EPOCHS:FACTOR[:FLOOR].",
        ),
    ] = None
    warmup: Annotated[
        int | None, flag("Recipe", "--warmup", min=0, help="Steps in which the rate rises.")
    ] = None
    accumulate: Annotated[
        int, flag("Recipe", "--accumulate", min=1, help="Batches in one optimiser step.")
    ] = 1
    clip_grad: Annotated[
        float | None, flag("Recipe", "--clip-grad", help="Largest gradient norm; 0: any.")
    ] = None
    loss: Annotated[
        list[str] | None,
        flag("Recipe", "--loss", metavar="NAME=W", help="Weight of a loss term; repeatable."),
    ] = None
    misalign: Annotated[
        str | None,
        flag(
            "Recipe",
            "--misalign",
            metavar="PRESET",
            autocompletion=_presets,
            help="none, shift:PX (moves the infrared crop), or a preset of fusecli warp "
            "(distorts the visible crop).",
        ),
    ] = None
    augment: Annotated[
        bool, flag("Recipe", "--augment/--no-augment", help="Flip and turn the crops.")
    ] = True


@dataclass(frozen=True, kw_only=True)
class LoopOptions:
    """How the loop runs and what it writes."""

    eval_every: Annotated[
        int, flag("Loop", "--eval-every", min=1, help="Epochs between validations.")
    ] = 1
    save_every: Annotated[
        int, flag("Loop", "--save-every", min=1, help="Epochs between checkpoints.")
    ] = 1
    keep: Annotated[int, flag("Loop", "--keep", min=0, help="Numbered checkpoints kept.")] = 3
    log: Annotated[
        list[str] | None,
        flag(
            "Loop",
            "--log",
            metavar="KIND",
            autocompletion=offering("jsonl", "tensorboard"),
            help="jsonl (always on) or tensorboard; repeatable.",
        ),
    ] = None
    deterministic: Annotated[
        bool, flag("Loop", "--deterministic", help="Deterministic kernels; slower.")
    ] = False
    compile: Annotated[
        bool, flag("Loop", "--compile", help="Compile the network with torch.compile.")
    ] = False
    devices: Annotated[
        int | None,
        flag("Loop", "--devices", min=1, help="Processes, one per GPU; the same as torchrun."),
    ] = None


@grouped
def train(
    ir: Infrared = None,
    vis: Visible = None,
    *,
    run: RunOptions,
    recipe: RecipeOptions,
    loop: LoopOptions,
    inputs: Inputs,
    computing: Computing,
    talk: Talk,
) -> int:
    """Train or fine-tune a network by its recipe, or by yours.

    [dim]fusecli train ir/ vis/ -o runs/a -m duet[/]
    [dim]fusecli train --pairs all.csv -o runs/b -m mfeif --max-time 8h --precision bf16 --resume[/]
    """
    if run.resume and run.overwrite:
        raise UsageError(
            "--resume and --overwrite exclude each other",
            code="usage.exclusive",
            hint="--resume goes on with the run, --overwrite removes it and begins anew",
        )
    if (run.val_ir is None) != (run.val_vis is None):
        raise UsageError(
            "--val-ir and --val-vis belong together",
            code="usage.arguments",
            hint="--val-ir FOLDER --val-vis FOLDER; without both, --val-fraction holds pairs back",
        )
    for kind in loop.log or ():
        if kind not in ("jsonl", "tensorboard"):
            raise UsageError(
                f"--log {kind} is neither jsonl nor tensorboard",
                code="usage.log",
                hint="--log tensorboard writes both",
            )
    if loop.devices is not None and "RANK" not in os.environ:
        _start_processes(loop.devices)
    models.check(run.model)
    reporter = talk.reporter()
    from fusecli.commands.pairing import select_pairs
    from fusecli.training.recipe import TrainOptions, parse_duration, parse_weights, resolve_stages

    spec = models.find(run.model)
    options = TrainOptions(
        model=run.model,
        spec=spec,
        options=models.parse_options(spec, assignments(recipe.set or (), "--set")),
        stages=resolve_stages(
            spec,
            stage=recipe.stage,
            steps=recipe.steps,
            loss=parse_weights(assignments(recipe.loss or (), "--loss")),
            epochs=recipe.epochs,
            batch_size=recipe.batch_size,
            crop=recipe.crop,
            lr=recipe.lr,
            optimizer=recipe.optimizer,
            schedule=recipe.schedule,
            warmup=recipe.warmup,
            clip_grad=recipe.clip_grad,
            misalign=recipe.misalign,
        ),
        steps=recipe.steps,
        init=run.init,
        seed=computing.seed,
        augment=recipe.augment,
        accumulate=recipe.accumulate,
        max_time=parse_duration(recipe.max_time) if recipe.max_time else None,
        eval_every=loop.eval_every,
        save_every=loop.save_every,
        keep=loop.keep,
        deterministic=loop.deterministic,
        compile=loop.compile,
        tensorboard="tensorboard" in (loop.log or ()),
        command=shlex.join(["fusecli", *sys.argv[1:]]),
    )
    pairs = list(select_pairs(ir, vis, inputs, run.out, reporter))[: inputs.limit]
    from fusecli.training.crops import split

    if run.val_ir is not None:
        held = list(select_pairs(run.val_ir, run.val_vis, Inputs(), run.out, reporter))
    else:
        pairs, held = split(pairs, run.val_fraction)
    if run.dry_run:
        return _rehearse(options, len(pairs), len(held), reporter)

    from fusecli.runtime import Runtime
    from fusecli.training.loop import train

    runtime = Runtime.resolve(computing.device, computing.precision, computing.jobs)
    report = train(
        pairs,
        held,
        Path(run.out),
        options,
        runtime,
        reporter,
        resume=run.resume,
        overwrite=run.overwrite,
    )
    first = os.environ.get("RANK", "0") == "0"  # of several processes one reports
    return reporter.finish(report) if first else report.exit_code


def _rehearse(options: TrainOptions, pairs: int, held_back: int, reporter: Reporter) -> int:
    """Show what would be trained and return exit code 0."""
    from fusecli.outcome import RunReport
    from fusecli.training.recipe import as_table

    stages = [as_table(s) | {"steps": options.steps_of(s, pairs)} for s in options.stages]
    if reporter.json:
        report = RunReport("train", "would train", "", found=sum(s["steps"] for s in stages))
        report.extra = {"dry_run": True, "pairs": pairs, "held_back": held_back, "stages": stages}
        return reporter.finish(report)
    reporter.note(f"would train {options.model} on {pairs} pairs, {held_back} held back")
    for stage in stages:
        loss = ", ".join(
            f"{term} {weight:g}" for term, weight in stage["weights"].items() if weight
        )
        reporter.note(
            f"  {stage['name']}: {stage['steps']} steps of {stage['batch_size']} crops of"
            f" {stage['crop']} px, {stage['optimizer']} {stage['lr']:g} {stage['schedule']}; {loss}"
        )
    return 0


def _start_processes(count: int) -> NoReturn:
    """Become torchrun, which starts this command line once per process."""
    arguments, skip = [], False
    for argument in sys.argv[1:]:
        if not skip and not argument.startswith("--devices="):
            arguments.append(argument)
        skip = argument == "--devices"
        if skip:
            arguments.pop()
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    os.execv(sys.executable, [sys.executable, *launcher, "-m", "fusecli", *arguments])
