"""`fusecli register`: one image of each pair onto the grid of the other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fusecli.errors import UsageError
from fusecli.options import Infrared, Inputs, Output, Running, Side, Talk, Visible, grouped
from fusecli.registration import (
    Choices,
    Estimation,
    Resampling,
    check_combination,
    check_weights,
)


@grouped
def register(
    ir: Infrared = None,
    vis: Visible = None,
    *,
    estimation: Estimation,
    resampling: Resampling,
    inputs: Inputs,
    output: Output,
    choices: Choices,
    running: Running,
    talk: Talk,
) -> int:
    """Bring the infrared image of every pair onto the grid of the visible one.

    [dim]fusecli register ir/ vis/ -o ir_reg/[/]
    [dim]fusecli register ir/ vis/ -o ir_reg/ --per folder --preview overlay[/]
    """
    reporter = talk.reporter(output.out)
    check_combination(estimation.method, estimation.transform)
    check_weights(estimation.method, estimation.weights is not None)
    from fusecli.commands.pairing import carry_out, choose_place, rehearse, select_pairs, start
    from fusecli.run.plan import Target

    moving: Side = "ir" if choices.fixed == "vis" else "vis"
    target = Target(output.out, output.name, output.format, grid=moving, typed=moving)
    _check(estimation, choices, target.is_file)
    jobs, record = start(
        lambda: select_pairs(ir, vis, inputs, output.out, reporter),
        target,
        inputs,
        output,
        running,
    )
    if running.dry_run and not output.resume:
        return rehearse("register", jobs, output.out, reporter)

    from fusecli.registration.align import AlignedReport, Alignment
    from fusecli.registration.item import RegisterItem, estimate_rig
    from fusecli.registration.learned import LearnedRegister
    from fusecli.registration.transform import load_start
    from fusecli.run.work import Run

    view = estimation.fov_ratio
    alignment = Alignment(
        estimation.method,
        estimation.transform,
        load_start(Path(estimation.init)) if estimation.init is not None else None,
        estimation.max_side,
        estimation.min_gain,
        Path(estimation.apply) if estimation.apply is not None else None,
        on_reject=estimation.on_reject,
        learned=LearnedRegister.of(estimation.weights, choices.fixed),
        view=1 / view if view and choices.fixed == "ir" else view,
    )
    if choices.per == "folder" and alignment.stored is None:
        reporter.detail("estimating the camera rig from all pairs")
        alignment = replace(alignment, rig=estimate_rig(alignment, choices.fixed, jobs))
    out = None if target.is_file else Path(output.out)
    work = RegisterItem(alignment, choices, resampling, out)
    run = Run(work, jobs, record, choose_place(running, output.out))
    report = AlignedReport("register", "registered", output.out)
    return carry_out(run, report, running, reporter)


def _check(estimation: Estimation, choices: Choices, is_file: bool) -> None:
    """Refuse options that contradict each other or name nothing.

    Raises:
        UsageError: `usage.register`.
    """
    if estimation.apply is not None:
        given = {
            "--init": estimation.init is not None,
            "--fov-ratio": estimation.fov_ratio is not None,
            "--method": estimation.method != "auto",
            "--weights": estimation.weights is not None,
            "--transform": estimation.transform != "auto",
            "--per folder": choices.per == "folder",
            "--min-gain": estimation.min_gain != 0,
        }
        for option, asked in given.items():
            if asked:
                raise UsageError(
                    f"{option} is about estimating, and --apply estimates nothing",
                    code="usage.register",
                    hint=f"leave {option} out, or --apply",
                )
        if not Path(estimation.apply).exists():
            raise UsageError(
                f"--apply {estimation.apply} is neither a file nor a folder",
                code="register.missing",
                hint="fusecli register IR VIS -o OUT stores its transforms: --apply OUT/transforms",
            )
    if estimation.fov_ratio is not None:
        if not 0.05 <= estimation.fov_ratio <= 20:
            raise UsageError(
                f"--fov-ratio {estimation.fov_ratio:g} is not between 0.05 and 20",
                code="usage.register",
                hint="2 where the visible camera sees twice as wide as the infrared one",
            )
        if estimation.init is not None:
            raise UsageError(
                "--fov-ratio and --init are both a start",
                code="usage.register",
                hint="give one of them",
            )
    if is_file and (choices.save_mask or choices.preview != "none"):
        raise UsageError(
            "--save-mask and --preview need a folder as --out",
            code="usage.register",
            hint="name a folder, as in -o aligned/",
        )
