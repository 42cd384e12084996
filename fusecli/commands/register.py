"""`fusecli register`: one image of each pair onto the grid of the other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from fusecli.commands.options import (
    Infrared,
    Inputs,
    Output,
    Running,
    Talk,
    Visible,
    flag,
    grouped,
    offering,
)
from fusecli.commands.resampling import Border, Fill, Interpolation
from fusecli.errors import UsageError
from fusecli.registration import METHODS, check_combination, check_weights


@dataclass(frozen=True, kw_only=True)
class Estimation:
    """How the transform is found."""

    fixed: Annotated[
        Literal["vis", "ir"],
        flag("Registration", "--fixed", help="The side that stays; the other moves."),
    ] = "vis"
    method: Annotated[
        str,
        flag(
            "Registration",
            "--method",
            metavar="NAME",
            autocompletion=offering(*METHODS),
            help=f"One of {', '.join(METHODS)}.",
        ),
    ] = "auto"
    weights: Annotated[
        str | None,
        flag(
            "Registration",
            "--weights",
            metavar="SPEC",
            help="Of a trained register, for reconet and auto: file, or name in the manifest.",
        ),
    ] = None
    transform: Annotated[
        Literal["auto", "translation", "euclidean", "similarity", "affine", "homography", "dense"],
        flag(
            "Registration",
            "--transform",
            help="Family; auto is affine, and dense where that is verified to be better.",
        ),
    ] = "auto"
    per: Annotated[
        Literal["pair", "folder"],
        flag("Registration", "--per", help="folder: one transform for all pairs, a fixed rig."),
    ] = "pair"
    init: Annotated[
        str | None,
        flag(
            "Registration",
            "--init",
            metavar="FILE",
            help="Transform to begin from, or a bare 3x3 matrix, fixed to moving.",
        ),
    ] = None
    fov_ratio: Annotated[
        float | None,
        flag(
            "Registration",
            "--fov-ratio",
            metavar="R",
            help="Begin where the visible camera sees R times as wide as the infrared one.",
        ),
    ] = None
    apply: Annotated[
        str | None,
        flag(
            "Registration",
            "--apply",
            metavar="PATH",
            help="Estimate nothing: apply a transform file, or those of a folder by key.",
        ),
    ] = None
    max_side: Annotated[
        int,
        flag("Registration", "--max-side", min=64, help="Longer side of the working images."),
    ] = 1024
    min_gain: Annotated[
        float,
        flag("Registration", "--min-gain", help="Rise of the agreement that is required."),
    ] = 0.0
    on_reject: Annotated[
        Literal["fail", "identity"],
        flag("Registration", "--on-reject", help="identity: pass refused pairs on as they are."),
    ] = "fail"


@dataclass(frozen=True, kw_only=True)
class Results:
    """What is written besides the moved image, and how pixels are made."""

    interpolation: Interpolation = "linear"
    border: Border = "constant"
    fill: Fill = 0.0
    save_field: Annotated[
        Literal["none", "npz", "flo", "tiff"],
        flag("Registration", "--save-field", help="Write every transform as a field too."),
    ] = "none"
    save_mask: Annotated[
        bool, flag("Registration", "--save-mask", help="Also write OUT/.mask/KEY.png.")
    ] = False
    preview: Annotated[
        Literal["none", "checker", "overlay", "field"],
        flag("Registration", "--preview", help="Also write OUT/.preview/KEY.png."),
    ] = "none"
    metadata: Annotated[
        Literal["keep", "drop"],
        flag("Resampling", "--metadata", help="EXIF, XMP, ICC and GeoTIFF tags."),
    ] = "keep"


@grouped
def register(
    ir: Infrared = None,
    vis: Visible = None,
    *,
    estimation: Estimation,
    results: Results,
    inputs: Inputs,
    output: Output,
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
    from fusecli.commands.pairing import choose_pool, choose_record, rehearse, select_pairs
    from fusecli.run.parts import Shard
    from fusecli.run.plan import Target, plan

    moving: Literal["vis", "ir"] = "ir" if estimation.fixed == "vis" else "vis"
    target = Target(output.out, output.name, output.format, grid=moving, typed=moving)
    _check(estimation, results, target.is_file)
    shard = Shard.parse(running.shard)
    record = choose_record(output, shard, is_file=target.is_file)
    jobs = plan(
        select_pairs(ir, vis, inputs, output.out, reporter),
        target,
        overwrite=output.overwrite,
        known=record.known if record and output.resume else None,
        limit=inputs.limit,
        shard=shard,
    )
    if running.dry_run and not output.resume:
        return rehearse("register", jobs, output.out, reporter)

    from fusecli.registration.align import Alignment
    from fusecli.registration.learned import LearnedRegister
    from fusecli.registration.move import Resampling
    from fusecli.registration.run import RegisterRun, Rules
    from fusecli.registration.transform import load_start
    from fusecli.runtime import Runtime

    start = load_start(Path(estimation.init)) if estimation.init is not None else None
    view = estimation.fov_ratio
    alignment = Alignment(
        estimation.method,
        estimation.transform,
        start,
        estimation.max_side,
        estimation.min_gain,
        Path(estimation.apply) if estimation.apply is not None else None,
        on_reject=estimation.on_reject,
        learned=LearnedRegister.of(estimation.weights, estimation.fixed),
        view=1 / view if view and estimation.fixed == "ir" else view,
    )
    rules = Rules(
        estimation.fixed,
        estimation.per,
        Resampling(results.interpolation, results.border, results.fill),
        results.save_field,
        results.save_mask,
        results.preview,
        results.metadata,
        output.quality,
    )
    runtime = Runtime.resolve(running.device, running.precision, running.jobs)
    run = RegisterRun(
        alignment,
        rules,
        jobs,
        out=None if target.is_file else Path(output.out),
        threads=runtime.jobs,
        record=record,
        reporter=reporter,
        pool=choose_pool(running, runtime, output.out),
    )
    if running.dry_run:
        return rehearse("register", jobs, output.out, reporter, run.is_done)
    return reporter.finish(run.register(output.out, running.fail_fast))


def _check(estimation: Estimation, results: Results, is_file: bool) -> None:
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
            "--per folder": estimation.per == "folder",
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
    if is_file and (results.save_mask or results.preview != "none"):
        raise UsageError(
            "--save-mask and --preview need a folder as --out",
            code="usage.register",
            hint="name a folder, as in -o aligned/",
        )
