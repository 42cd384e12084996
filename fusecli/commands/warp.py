"""`fusecli warp`: misaligned copies with known truth."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from fusecli.errors import UsageError
from fusecli.options import Infrared, Inputs, Output, Running, Talk, Visible, grouped
from fusecli.warps import Choices, Drawn, Resampling

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fusecli.pairs import Pair
    from fusecli.report import Reporter


@grouped
def warp(
    ir: Infrared = None,
    vis: Visible = None,
    *,
    drawn: Drawn,
    resampling: Resampling,
    inputs: Inputs,
    output: Output,
    choices: Choices,
    running: Running,
    talk: Talk,
) -> int:
    """Make misaligned copies with exact ground truth.

    [dim]fusecli warp ir/ vis/ -o set/ --kind mixed --preset mild --variants 5 --seed 7[/]
    [dim]fusecli warp ir/ -o shifted/ --kind shift --shift 9 --exact[/]
    """
    reporter = talk.reporter(output.out)
    recipe = drawn.recipe()
    if not math.isfinite(choices.noise):
        raise UsageError(
            f"--noise {choices.noise} is not a number",
            code="usage.magnitude",
            hint="--noise 2 is two percent of the image's range",
        )
    from fusecli.commands.pairing import carry_out, choose_place, rehearse, start
    from fusecli.run.plan import Target

    paired = vis is not None or inputs.pairs is not None
    which = choices.which
    single = Target(output.out, output.name, output.format, grid=which, typed=which)
    _check(choices, paired, single.is_file)
    target = single
    if paired:
        target = Target(
            str(Path(output.out, which)), output.name, output.format, grid=which, typed=which
        )
    jobs, record = start(
        lambda: _items(ir, vis, inputs, output.out, reporter, choices.variants, paired),
        target,
        inputs,
        output,
        running,
        folder=which if paired else "",
    )
    if running.dry_run and not output.resume:
        return rehearse("warp", jobs, output.out, reporter)

    from fusecli.outcome import RunReport
    from fusecli.run.work import Run
    from fusecli.warps.item import WarpItem

    out = None if single.is_file else Path(output.out)
    work = WarpItem(recipe, choices, resampling, seed=running.seed, paired=paired, out=out)
    run = Run(work, jobs, record, choose_place(running, output.out))
    return carry_out(run, RunReport("warp", "warped", output.out), running, reporter)


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


def _check(choices: Choices, paired: bool, is_file: bool) -> None:
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
    if is_file and choices.preview != "none":
        raise UsageError(
            "--preview needs a folder as --out", code="usage.warp", hint="as in -o set/"
        )
    if not paired and choices.which == "vis":
        raise UsageError(
            "--which vis needs a visible side", code="usage.warp", hint="fusecli warp IR VIS -o OUT"
        )
    if not paired and choices.link != "copy":
        raise UsageError(
            "--link is about the side that is not warped, and there is none",
            code="usage.warp",
            hint="fusecli warp IR VIS -o OUT",
        )
    if choices.crop_valid and choices.link != "copy":
        raise UsageError(
            "--crop-valid changes files that --link would share",
            code="usage.warp",
            hint=f"leave --link {choices.link} out",
        )
