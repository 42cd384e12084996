"""`fusecli fuse`: pairs of images to fused images."""

from __future__ import annotations

import importlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from fusecli import models
from fusecli.commands.options import (
    Infrared,
    Inputs,
    Output,
    Pixels,
    Running,
    Talk,
    Visible,
    grouped,
    offering,
)
from fusecli.errors import UsageError
from fusecli.registration import METHODS, check_method, check_weights

PANEL = "Fusion"


@grouped
def fuse(
    ir: Infrared = None,
    vis: Visible = None,
    *,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME",
            autocompletion=models.fusers,
            rich_help_panel=PANEL,
            help=f"Network: {', '.join(models.fusers())}.",
            show_default=True,
        ),
    ] = "duet",
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            metavar="SPEC",
            autocompletion=offering("random"),
            rich_help_panel=PANEL,
            help="File, name in the weight manifest, or random (untrained).",
        ),
    ] = None,
    align: Annotated[
        str,
        typer.Option(
            "--align",
            metavar="METHOD",
            autocompletion=offering("none", *METHODS),
            rich_help_panel=PANEL,
            help=f"Register first: {', '.join(METHODS)}; or stored transforms, a file or folder.",
        ),
    ] = "none",
    align_weights: Annotated[
        str | None,
        typer.Option(
            "--align-weights",
            metavar="SPEC",
            rich_help_panel=PANEL,
            help="Of a trained register, for --align reconet and auto: file or name.",
        ),
    ] = None,
    on_reject: Annotated[
        Literal["identity", "fail"],
        typer.Option(
            "--on-reject",
            rich_help_panel=PANEL,
            help="What --align cannot register is fused as it is, or fails.",
        ),
    ] = "identity",
    batch_size: Annotated[
        int,
        typer.Option(
            "--batch-size",
            min=1,
            rich_help_panel=PANEL,
            help="Pairs of equal size in one forward pass.",
        ),
    ] = 1,
    tile: Annotated[
        str,
        typer.Option(
            "--tile",
            metavar="N",
            autocompletion=offering("auto", "off"),
            rich_help_panel=PANEL,
            help="Edge of the pieces of large images: auto, off or pixels.",
        ),
    ] = "auto",
    tile_overlap: Annotated[
        int | None,
        typer.Option(
            "--tile-overlap",
            min=0,
            rich_help_panel=PANEL,
            show_default="model's",
            help="Pixels shared by neighbouring pieces.",
        ),
    ] = None,
    reader: Annotated[
        Literal["image", "thermal"],
        typer.Option(
            "--reader",
            rich_help_panel="Input",
            help="thermal: FLIR files give degrees and, without VIS, their photograph too.",
        ),
    ] = "image",
    compare: Annotated[
        Literal["none", "side", "checker", "zoom"],
        typer.Option(
            "--compare",
            rich_help_panel=PANEL,
            help="Also write OUT/.compare/KEY.png beside the sources.",
        ),
    ] = "none",
    inputs: Inputs,
    output: Output,
    pixels: Pixels,
    running: Running,
    talk: Talk,
) -> int:
    """Fuse every infrared/visible pair of two folders.

    [dim]fusecli fuse ir/ vis/ -o out/[/]
    [dim]fusecli fuse ir/ vis/ -o out/ --align auto[/]
    [dim]fusecli fuse flir/ rgb/ -o out/ --ir-suffix _ir --vis-suffix _rgb --ir-range -10:60[/]
    [dim]fusecli fuse flir/ -o out/ --reader thermal[/]
    """
    reporter = talk.reporter(output.out)
    models.check(model, models.fusers())
    from fusecli.commands.pairing import (
        choose_pool,
        choose_record,
        rehearse,
        select_pairs,
        select_single,
    )
    from fusecli.images.values import parse_range
    from fusecli.run.parts import Shard
    from fusecli.run.plan import Target, plan

    target = Target(output.out, output.name, output.format, pixels.out_dtype, pixels.grid, model)
    if compare != "none" and target.is_file:
        raise UsageError(
            "--compare needs a folder as --out",
            code="usage.compare",
            hint=f"-o out/ --compare {compare}",
        )
    edge = _tile_edge(tile)
    _check_align(align, align_weights, on_reject, pixels)
    for rule in (pixels.ir_range, pixels.vis_range):
        parse_range(rule)
    shard = Shard.parse(running.shard)
    record = choose_record(output, shard, is_file=target.is_file)
    if reader == "thermal":
        importlib.import_module("flyr")  # missing, it is better noticed now than in every item
    photos = ir if reader == "thermal" and vis is None else None  # each is both sides of its pair
    if photos is not None and pixels.fit == "error":  # where the sizes always differ
        pixels = replace(pixels, fit="ir-to-vis")
    jobs = plan(
        select_pairs(ir, vis, inputs, output.out, reporter)
        if photos is None
        else select_single(photos, inputs, output.out),
        target,
        overwrite=output.overwrite,
        known=record.known if record and output.resume else None,
        limit=inputs.limit,
        shard=shard,
    )
    if running.dry_run and not output.resume:
        return rehearse("fuse", jobs, output.out, reporter)

    from fusecli.memory import keep_freed_memory

    keep_freed_memory()
    from fusecli.fusion.network import Tiling
    from fusecli.fusion.pair import Rules
    from fusecli.fusion.ranges import measured
    from fusecli.fusion.run import Engine, FusingRun
    from fusecli.registration.align import Alignment
    from fusecli.registration.learned import LearnedRegister
    from fusecli.runtime import Runtime

    rules = Rules(
        **asdict(pixels),
        reader=reader,
        quality=output.quality,
        compare=compare,
    )
    runtime = Runtime.resolve(running.device, running.precision, running.jobs)
    if rules.range_scope == "all":
        reporter.detail(f"measuring the ranges of {len(jobs)} pairs")
        rules = measured(rules, jobs.pairs, runtime.jobs)
    engine = Engine(
        model,
        weights,
        runtime,
        batch_size,
        Tiling(edge, tile_overlap),
        running.seed,
        running.backend,
        choose_pool(running, runtime, output.out),
    )
    alignment = None
    if align in METHODS:
        learned = LearnedRegister.of(align_weights, pixels.grid)
        alignment = Alignment(align, on_reject=on_reject, learned=learned)
    elif align != "none":
        alignment = Alignment(stored=Path(align), on_reject=on_reject)
    sheets = Path(output.out, ".compare") if compare != "none" else None
    run = FusingRun(engine, rules, record, alignment, sheets)
    if running.dry_run:
        return rehearse("fuse", jobs, output.out, reporter, run.is_done)
    report = run.fuse(jobs, out=output.out, reporter=reporter, fail_fast=running.fail_fast)
    return reporter.finish(report)


def _check_align(align: str, weights: str | None, on_reject: str, pixels: Pixels) -> None:
    """Refuse an alignment that does not exist, or options that contradict it.

    Raises:
        MissingError: `weights.missing`.
        UsageError: `register.method`, `register.weights` or `usage.align`.
    """
    if align == "none":
        given = {
            f"--on-reject {on_reject}": on_reject != "identity",
            f"--align-weights {weights}": weights is not None,
        }
        for option, asked in given.items():
            if asked:
                raise UsageError(
                    f"{option} is about --align, which is off",
                    code="usage.align",
                    hint=f"--align auto {option}",
                )
        return
    if pixels.fit != "error":
        raise UsageError(
            "--align brings both images onto one grid: --fit has nothing to do",
            code="usage.align",
            hint=f"leave --fit {pixels.fit} out",
        )
    if align not in METHODS and not Path(align).exists():
        check_method(align)
    check_weights(align, weights is not None, "--align-weights")


def _tile_edge(text: str) -> int | None:
    """Return the edge in pixels; None for `auto`, 0 for `off`."""
    if text in ("auto", "off"):
        return None if text == "auto" else 0
    if not text.isdecimal() or int(text) < 16:
        raise UsageError(
            f"--tile {text} is neither auto, off nor a number of at least 16",
            code="usage.tile",
            hint="--tile auto cuts only what does not fit into memory",
        )
    return int(text)
