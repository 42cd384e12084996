"""From the arguments of a paired command to its pairs; shared by fuse, register, warp and eval."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from fusecli.commands.options import Inputs
from fusecli.errors import UsageError

if TYPE_CHECKING:
    from fusecli.io.pairs import Pair
    from fusecli.pipeline.planning import Job
    from fusecli.report import Reporter


def select_pairs(
    ir: str | None, vis: str | None, inputs: Inputs, out: str, reporter: Reporter
) -> Iterable[Pair]:
    """Return the pairs of two folders, files or globs, or of a pair list, in the order of keys.

    Raises:
        UsageError: Neither IR and VIS nor `--pairs`, or both.
        InputError: No pair, or files without a partner.
    """
    from fusecli.io.pairs import find_pairs, read_pair_list

    if inputs.pairs is not None:
        if ir is not None or vis is not None:
            raise UsageError(
                "--pairs replaces IR and VIS; give one or the other", code="usage.pairs"
            )
        return read_pair_list(inputs.pairs)
    if ir is None or vis is None:
        missing = "IR and VIS are" if ir is None else "VIS is"
        raise UsageError(
            f"{missing} missing",
            code="usage.arguments",
            hint="name an infrared and a visible folder, or a list with --pairs FILE",
        )
    found = find_pairs(
        ir,
        vis,
        recursive=inputs.recursive,
        ir_suffix=inputs.ir_suffix,
        vis_suffix=inputs.vis_suffix,
        pair_regex=inputs.pair_regex,
        pair_by=inputs.pair_by,
        unpaired=inputs.unpaired,
        out=out,
    )
    left_out = len(found.unmatched_ir) + len(found.unmatched_vis)
    if left_out:
        reporter.warn(f"{left_out} files without a partner are left out", "pair.unmatched")
    if found.ignored:
        reporter.detail(f"{found.ignored} files with other suffixes are ignored")
    return found.pairs


def rehearse(command: str, jobs: Sequence[Job], out: str, reporter: Reporter) -> int:
    """Print what a run would write, for `--dry-run`, and return exit code 0."""
    from fusecli.report import RunReport

    if reporter.json:
        report = RunReport(command, "would write", out, found=len(jobs), extra={"dry_run": True})
        return reporter.finish(report)
    for job in jobs:
        sys.stdout.write(f"{job.ir} + {job.vis} -> {job.out}\n")
    if not reporter.quiet:
        reporter.console.print(f"would {command} {len(jobs)} pairs -> {out}; nothing was written")
    return 0
