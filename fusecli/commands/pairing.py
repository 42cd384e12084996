"""From the arguments of a paired command to its pairs; shared by fuse, register, warp and eval."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from fusecli.errors import UsageError
from fusecli.options import Inputs, Output, Running

if TYPE_CHECKING:
    from fusecli.outcome import RunReport
    from fusecli.pairs import Pair
    from fusecli.report import Reporter
    from fusecli.run.parts import Shard
    from fusecli.run.plan import Job, Plan, Target
    from fusecli.run.record import Record
    from fusecli.run.work import Place, Run

TIMING = ("time_format", "max_gap", "offset")  # options of --pair-by time


def select_pairs(
    ir: str | None, vis: str | None, inputs: Inputs, out: str, reporter: Reporter
) -> Iterable[Pair]:
    """Return the pairs of two folders, files or globs, or of a pair list, in the order of keys.

    They can be gone through more than once; those of a list stay on disk.

    Raises:
        UsageError: Neither IR and VIS nor `--pairs`, or both.
        InputError: No pair, or files without a partner.
    """
    from fusecli.pairs import find_pairs
    from fusecli.pairs.files import pixel_limit
    from fusecli.pairs.times import Timing

    pixel_limit()  # a wrong variable is better noticed now than in every item
    if inputs.pairs is not None:
        if ir is not None or vis is not None:
            raise UsageError(
                "--pairs replaces IR and VIS; give one or the other",
                code="usage.pairs",
                hint=f"leave {' and '.join(p for p in (ir, vis) if p)} out, or --pairs",
            )
        _refuse_matching(inputs, "a list of pairs says already which files belong together")
        return PairList(inputs.pairs)
    if ir is None or vis is None:
        missing = "IR and VIS are" if ir is None else "VIS is"
        raise UsageError(
            f"{missing} missing",
            code="usage.arguments",
            hint="name an infrared and a visible folder, or a list with --pairs FILE",
        )
    for name in TIMING:
        if getattr(inputs, name) != getattr(Inputs, name) and inputs.pair_by != "time":
            raise UsageError(
                f"--{name.replace('_', '-')} is about times, which --pair-by "
                f"{inputs.pair_by} does not look at",
                code="usage.pairs",
                hint="add --pair-by time",
            )
    found = find_pairs(
        ir,
        vis,
        recursive=inputs.recursive,
        ir_suffix=inputs.ir_suffix,
        vis_suffix=inputs.vis_suffix,
        pair_regex=inputs.pair_regex,
        pair_by=inputs.pair_by,
        timing=Timing(inputs.time_format, inputs.max_gap, inputs.offset),
        unpaired=inputs.unpaired,
        out=out,
    )
    left_out = len(found.unmatched_ir) + len(found.unmatched_vis)
    if left_out:
        reporter.warn(f"{left_out} files without a partner are left out", "pair.unmatched")
    if found.ignored:
        reporter.detail(f"{found.ignored} files with other suffixes are ignored")
    return found.pairs


def select_single(ir: str, inputs: Inputs, out: str) -> list[Pair]:
    """Return each file of a source as a pair of itself with itself, in the order of keys.

    Raises:
        UsageError: Options that are about pairs (`usage.pairs`), or an OUT inside the source.
        InputError: No file, or two of one key.
    """
    from fusecli.pairs import Pair
    from fusecli.pairs.files import check_out, find_files, scan

    _refuse_matching(inputs, "give VIS too, or leave it out", "unpaired")
    check_out(out, ir, scan(ir, inputs.recursive), inputs.recursive)
    return [Pair(key, path, path) for key, path in find_files(ir, inputs.recursive).items()]


def _refuse_matching(inputs: Inputs, hint: str, *also: str) -> None:
    """Refuse options about how files find their partners where nothing is to be found."""
    for name in ("ir_suffix", "vis_suffix", "pair_regex", "pair_by", *TIMING, *also):
        if getattr(inputs, name) != getattr(Inputs, name):
            raise UsageError(
                f"--{name.replace('_', '-')} is about finding pairs",
                code="usage.pairs",
                hint=hint,
            )


class PairList:
    """The pairs of a list, read from disk each time: a list may be longer than memory.

    Args:
        file: As in `--pairs`. What can be read only once (standard input, a pipe) is copied to a
            temporary file first.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self._copy = None if Path(file).is_file() else self._copied()

    def __iter__(self) -> Iterator[Pair]:
        from fusecli.pairs import Pair, read_pair_list

        if self._copy is None:
            yield from read_pair_list(self.file)
            return
        self._copy.seek(0)
        while line := self._copy.readline():  # no read-ahead: others may be going through it too
            yield Pair(*json.loads(line))

    def _copied(self) -> IO[str]:
        from fusecli.pairs import read_pair_list

        copy = tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n")  # noqa: SIM115 - read later
        for pair in read_pair_list(self.file):
            copy.write(json.dumps([pair.key, pair.ir, pair.vis]) + "\n")
        return copy


def start(
    pairs: Callable[[], Iterable[Pair]],
    target: Target,
    inputs: Inputs,
    output: Output,
    running: Running,
    folder: str = "",
) -> tuple[Plan, Record | None]:
    """Return what a run is going to do, all of it checked, and where that is recorded.

    Args:
        pairs: Finds them, once the options are known to be sound.
        target: Where results go.
        inputs: The options concerned.
        output: The options concerned.
        running: The options concerned.
        folder: Of the results inside OUT, where the record lies.

    Raises:
        InputError: See `plan`.
        UsageError: Options that make no sense or exclude each other.
    """
    from fusecli.run.parts import Shard
    from fusecli.run.plan import plan

    shard = Shard.parse(running.shard)
    record = choose_record(output, shard, is_file=target.is_file)
    known = None
    if record is not None and output.resume:
        within = f"{folder}/" if folder else ""
        known = {name.removeprefix(within) for name in record.known if name.startswith(within)}
    jobs = plan(
        pairs(),
        target,
        overwrite=output.overwrite,
        known=known,
        limit=inputs.limit,
        shard=shard,
    )
    return jobs, record


def carry_out(run: Run, report: RunReport, running: Running, reporter: Reporter) -> int:
    """Do what was planned, or list it for `--dry-run`, and return the exit code."""
    if running.dry_run:
        return rehearse(report.command, run.plan, report.out, reporter, run.is_done)
    return reporter.finish(run(report, reporter, running.fail_fast))


def choose_record(output: Output, shard: Shard, *, is_file: bool) -> Record | None:
    """Return where the record of a run goes and what earlier runs left; None for no record.

    Args:
        output: The options concerned.
        shard: Of this run.
        is_file: OUT is one file, which has no record.

    Raises:
        UsageError: Options that exclude each other.
    """
    from fusecli.run.record import Record, manifest_path, read

    if output.resume and output.overwrite:
        raise UsageError(
            "--resume and --overwrite exclude each other",
            code="usage.resume",
            hint="--resume keeps what is up to date, --overwrite makes everything anew",
        )
    if is_file or output.manifest == "none":
        why = "an --out that is one file" if is_file else "--manifest none"
        needed = {"--resume": output.resume, "--checksum": output.checksum}
        needed["--manifest"] = is_file and output.manifest not in ("auto", "none")
        for flag, given in needed.items():
            if given:
                raise UsageError(
                    f"{flag} needs the record of a run, which {why} does not have",
                    code="usage.resume",
                    hint="name a folder as --out, and leave --manifest as it is",
                )
        return None
    path = manifest_path(output.out, output.manifest, shard)
    known = read(path, output.checksum) if output.resume else {}
    replaces = output.resume or output.overwrite
    return Record(path, output.out, shard, known, replaces, output.checksum)


def choose_place(running: Running, out: str) -> Place:
    """Return where the work of a run is done.

    Raises:
        MissingError: No such device.
        UsageError: A backend that is unknown or cannot be used.
        ImportError: Its package is not installed.
    """
    from fusecli.run import clusters
    from fusecli.run.work import Place
    from fusecli.runtime import Runtime

    runtime = Runtime.resolve(running.device, running.precision, running.jobs)
    if running.backend == "threading":
        return Place(runtime)

    clusters.check(running.backend, runtime)
    if out == "-":
        raise UsageError(
            f"-o - cannot be written by the processes of --backend {running.backend}",
            code="usage.backend",
            hint="leave --backend out: one image needs no second process",
        )
    everything = running.jobs == "auto" and running.backend in clusters.CLUSTERS
    jobs = None if everything else runtime.jobs
    pool = clusters.pool(running.backend, jobs=jobs, chunk=running.chunk)
    return Place(runtime, running.backend, pool)


def rehearse(
    command: str,
    jobs: Plan,
    out: str,
    reporter: Reporter,
    is_done: Callable[[Job], bool] | None = None,
) -> int:
    """Print what a run would write, for `--dry-run`, and return exit code 0.

    Args:
        command: Its name.
        jobs: What was asked for.
        out: The output folder.
        reporter: The voice of the command.
        is_done: Says which results are up to date, where `--resume` was given.
    """
    from fusecli.outcome import RunReport
    from fusecli.text import markup, write_path

    report = RunReport(command, "would write", out, extra={"dry_run": True})
    for job in jobs:
        report.found += 1
        if is_done is not None and is_done(job):
            report.skipped += 1
        elif not reporter.json:
            sources = job.ir if job.ir == job.vis else f"{job.ir} + {job.vis}"
            write_path(f"{sources} -> {job.out}")
    if reporter.json:
        return reporter.finish(report)
    if not reporter.quiet:
        todo = f"would {command} {report.found - report.skipped} pairs"
        skipped = f", {report.skipped} are up to date" if is_done is not None else ""
        reporter.console.print(markup(f"{todo} -> {out}{skipped}; nothing was written"))
    return 0
