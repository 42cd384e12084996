"""`fusecli fuse`: pairs of images to fused images."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fusecli import models
from fusecli.errors import UsageError
from fusecli.fusion import Aligning, Choices, Network
from fusecli.options import Infrared, Inputs, Output, Running, Talk, Visible, grouped
from fusecli.registration import METHODS, check_method, check_weights

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fusecli.pairs import Pair


@grouped
def fuse(
    ir: Infrared = None,
    vis: Visible = None,
    *,
    network: Network,
    aligning: Aligning,
    inputs: Inputs,
    output: Output,
    choices: Choices,
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
    models.check(network.model, models.fusers())
    from fusecli.commands.pairing import (
        carry_out,
        choose_place,
        rehearse,
        select_pairs,
        select_single,
        start,
    )
    from fusecli.images.values import parse_range
    from fusecli.run.plan import Target

    target = Target(
        output.out, output.name, output.format, choices.out_dtype, choices.grid, network.model
    )
    if choices.compare != "none" and target.is_file:
        raise UsageError(
            "--compare needs a folder as --out",
            code="usage.compare",
            hint=f"-o out/ --compare {choices.compare}",
        )
    network.tiling()
    _check_align(aligning, choices.fit)
    for rule in (choices.ir_range, choices.vis_range):
        parse_range(rule)
    if choices.reader == "thermal":
        importlib.import_module("flyr")  # missing, it is better noticed now than in every item
    # each photograph of a thermal camera is both sides of its pair
    photos = ir if choices.reader == "thermal" and vis is None else None
    if photos is not None and choices.fit == "error":  # where the sizes always differ
        choices = replace(choices, fit="ir-to-vis")

    def pairs() -> Iterable[Pair]:
        if photos is not None:
            return select_single(photos, inputs, output.out)
        return select_pairs(ir, vis, inputs, output.out, reporter)

    jobs, record = start(pairs, target, inputs, output, running)
    if running.dry_run and not output.resume:
        return rehearse("fuse", jobs, output.out, reporter)

    from fusecli.memory import keep_freed_memory

    keep_freed_memory()
    from fusecli.fusion.ranges import measured
    from fusecli.fusion.run import FuseWork
    from fusecli.registration.pair import alignment_by
    from fusecli.run.work import Run

    place = choose_place(running, output.out)
    if choices.range_scope == "all":
        reporter.detail(f"measuring the ranges of {len(jobs)} pairs")
        choices = measured(choices, jobs.pairs, place.runtime.jobs)
    work = FuseWork(
        network,
        choices,
        place.runtime,
        seed=running.seed,
        alignment=alignment_by(
            aligning.align, aligning.align_weights, aligning.on_reject, choices.grid
        ),
        sheets=Path(output.out, ".compare") if choices.compare != "none" else None,
    )
    report = work.report(output.out, place.backend)
    return carry_out(Run(work, jobs, record, place), report, running, reporter)


def _check_align(aligning: Aligning, fit: str) -> None:
    """Refuse an alignment that does not exist, or options that contradict it.

    Raises:
        MissingError: `weights.missing`.
        UsageError: `register.method`, `register.weights` or `usage.align`.
    """
    align, weights, on_reject = aligning.align, aligning.align_weights, aligning.on_reject
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
    if fit != "error":
        raise UsageError(
            "--align brings both images onto one grid: --fit has nothing to do",
            code="usage.align",
            hint=f"leave --fit {fit} out",
        )
    if align not in METHODS and not Path(align).exists():
        check_method(align)
    check_weights(align, weights is not None, "--align-weights")
