"""`fusecli warp`: misaligned copies with known truth."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

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
from fusecli.warps import presets, recipe

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fusecli.pairs import Pair
    from fusecli.report import Reporter


def _magnitude(name: str, metavar: str, help: str) -> Any:
    return flag("Warp", name, metavar=metavar, help=help, show_default="preset's")


@dataclass(frozen=True, kw_only=True)
class Magnitudes:
    """The largest value of each component."""

    shift: Annotated[float | None, _magnitude("--shift", "PX", "Along each axis.")] = None
    rotate: Annotated[float | None, _magnitude("--rotate", "DEG", "About the centre.")] = None
    scale: Annotated[float | None, _magnitude("--scale", "PCT", "Growth or shrinkage.")] = None
    shear: Annotated[float | None, _magnitude("--shear", "DEG", "Lean of the y axis.")] = None
    perspective: Annotated[
        float | None,
        _magnitude("--perspective", "FRAC", "Moves of the corners, as a fraction of the side."),
    ] = None
    elastic_alpha: Annotated[
        float | None, _magnitude("--elastic-alpha", "PX", "Largest elastic displacement.")
    ] = None
    elastic_sigma: Annotated[
        float | None, _magnitude("--elastic-sigma", "PX", "Its smoothness.")
    ] = None

    def given(self) -> dict[str, float]:
        """Return those that were asked for."""
        values = {part.name: getattr(self, part.name) for part in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Misalignment:
    """What is drawn, of which side."""

    which: Annotated[
        Literal["ir", "vis"],
        flag("Warp", "--which", help="The side that is warped; the other is copied."),
    ] = "ir"
    kind: Annotated[
        Literal["shift", "rigid", "similarity", "affine", "perspective", "elastic", "mixed"] | None,
        flag(
            "Warp",
            "--kind",
            help="mixed is affine with elastic, and the default of the ReCoNet presets.",
            show_default="affine",
        ),
    ] = None
    preset: Annotated[
        str,
        flag(
            "Warp",
            "--preset",
            metavar="NAME",
            autocompletion=offering(*presets()),
            help=f"Sets every magnitude below: {', '.join(presets())}.",
        ),
    ] = "medium"
    exact: Annotated[
        bool, flag("Warp", "--exact", help="Take magnitudes as they are: draw no less.")
    ] = False
    variants: Annotated[
        int, flag("Warp", "--variants", min=1, max=9999, help="Warps of each image.")
    ] = 1
    noise: Annotated[
        float,
        flag("Warp", "--noise", metavar="SIGMA", min=0, help="Percent of the range, Gaussian."),
    ] = 0.0
    crop_valid: Annotated[
        bool, flag("Warp", "--crop-valid", help="Crop both sides to the area valid in both.")
    ] = False
    link: Annotated[
        Literal["copy", "hard", "sym"],
        flag("Output", "--link", help="How untouched files get into OUT."),
    ] = "copy"


@dataclass(frozen=True, kw_only=True)
class Results:
    """What is written besides the warped image, and how pixels are made."""

    interpolation: Interpolation = "cubic"
    border: Border = "reflect"
    fill: Fill = 0.0
    save_field: Annotated[
        Literal["none", "npz", "flo", "tiff"],
        flag("Warp", "--save-field", help="Write every truth as a field too."),
    ] = "none"
    save_mask: Annotated[
        bool, flag("Warp", "--save-mask/--no-save-mask", help="Write OUT/.mask/KEY.png.")
    ] = True
    preview: Annotated[
        Literal["none", "grid", "field"],
        flag("Warp", "--preview", help="Also write OUT/.preview/KEY.png."),
    ] = "none"
    metadata: Annotated[
        Literal["keep", "drop"],
        flag("Resampling", "--metadata", help="EXIF, XMP and ICC of the warped image."),
    ] = "keep"


@grouped
def warp(
    ir: Infrared = None,
    vis: Visible = None,
    *,
    misalignment: Misalignment,
    magnitudes: Magnitudes,
    results: Results,
    inputs: Inputs,
    output: Output,
    running: Running,
    talk: Talk,
) -> int:
    """Make misaligned copies with exact ground truth.

    [dim]fusecli warp ir/ vis/ -o set/ --kind mixed --preset mild --variants 5 --seed 7[/]
    [dim]fusecli warp ir/ -o shifted/ --kind shift --shift 9 --exact[/]
    """
    reporter = talk.reporter(output.out)
    drawn = recipe(misalignment.preset, misalignment.kind, magnitudes.given())
    if not math.isfinite(misalignment.noise):
        raise UsageError(
            f"--noise {misalignment.noise} is not a number",
            code="usage.magnitude",
            hint="--noise 2 is two percent of the image's range",
        )
    from fusecli.commands.pairing import choose_pool, choose_record, rehearse
    from fusecli.run.parts import Shard
    from fusecli.run.plan import Target, plan

    paired = vis is not None or inputs.pairs is not None
    which = misalignment.which
    single = Target(output.out, output.name, output.format, grid=which, typed=which)
    _check(misalignment, results, paired, single.is_file)
    target = single
    if paired:
        target = Target(
            str(Path(output.out, which)), output.name, output.format, grid=which, typed=which
        )
    shard = Shard.parse(running.shard)
    record = choose_record(output, shard, is_file=single.is_file)
    pairs = _items(ir, vis, inputs, output.out, reporter, misalignment.variants, paired)
    jobs = plan(
        pairs,
        target,
        overwrite=output.overwrite,
        known=_below(record.known, which, paired) if record and output.resume else None,
        limit=inputs.limit,
        shard=shard,
    )
    if running.dry_run and not output.resume:
        return rehearse("warp", jobs, output.out, reporter)

    from fusecli.registration.move import Resampling
    from fusecli.runtime import Runtime
    from fusecli.warps.item import Rules, WarpRun

    rules = Rules(
        drawn,
        misalignment.exact,
        running.seed,
        misalignment.variants,
        paired,
        which,
        misalignment.link,
        Resampling(results.interpolation, results.border, results.fill),
        misalignment.crop_valid,
        misalignment.noise,
        results.save_field,
        results.save_mask,
        results.preview,
        results.metadata,
        output.quality,
    )
    runtime = Runtime.resolve(running.device, running.precision, running.jobs)
    run = WarpRun(
        rules,
        jobs,
        out=None if single.is_file else Path(output.out),
        threads=runtime.jobs,
        record=record,
        reporter=reporter,
        pool=choose_pool(running, runtime, output.out),
    )
    if running.dry_run:
        return rehearse("warp", jobs, output.out, reporter, run.is_done)
    return reporter.finish(run.warp(output.out, running.fail_fast))


def _items(
    ir: str | None,
    vis: str | None,
    inputs: Inputs,
    out: str,
    reporter: Reporter,
    variants: int,
    paired: bool,
) -> Iterable[Pair]:
    """Return what is warped: pairs, or single images as pairs of an image with itself."""
    from fusecli.commands.pairing import select_pairs, select_single
    from fusecli.pairs.variants import Variants

    if paired or ir is None:
        return Variants(select_pairs(ir, vis, inputs, out, reporter), variants)
    return Variants(select_single(ir, inputs, out), variants)


def _below(known: Iterable[str], folder: str, paired: bool) -> set[str]:
    """Return the results that earlier runs recorded, relative to the folder of the warped side."""
    prefix = f"{folder}/" if paired else ""
    return {name.removeprefix(prefix) for name in known if name.startswith(prefix)}


def _check(misalignment: Misalignment, results: Results, paired: bool, is_file: bool) -> None:
    """Refuse options that contradict each other.

    Raises:
        UsageError: `usage.warp` or `out.file`.
    """
    if is_file and paired:
        raise UsageError(
            "a warped pair makes a test set of several folders: --out must be a folder",
            code="out.file",
            hint="name a folder, as in -o set/, or leave VIS out",
        )
    if is_file and results.preview != "none":
        raise UsageError(
            "--preview needs a folder as --out", code="usage.warp", hint="as in -o set/"
        )
    if not paired and misalignment.which == "vis":
        raise UsageError(
            "--which vis needs a visible side", code="usage.warp", hint="fusecli warp IR VIS -o OUT"
        )
    if not paired and misalignment.link != "copy":
        raise UsageError(
            "--link is about the side that is not warped, and there is none",
            code="usage.warp",
            hint="fusecli warp IR VIS -o OUT",
        )
    if misalignment.crop_valid and misalignment.link != "copy":
        raise UsageError(
            "--crop-valid changes files that --link would share",
            code="usage.warp",
            hint=f"leave --link {misalignment.link} out",
        )
