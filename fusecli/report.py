"""What a run tells the user: progress while it works, a summary, errors, and one JSON document.

Standard output is data, standard error is talk: everything drawn here goes to stderr except the
documents of `--json` and the paths of `--print`.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Self

from fusecli import __version__
from fusecli.errors import FusecliError
from fusecli.progress import (
    BarProgress,
    JsonlProgress,
    PlainProgress,
    Progress,
    ProgressMode,
    SilentProgress,
)
from fusecli.text import as_json, markup, talk, write_path

EXAMPLES = 3  # failures of each code shown on the terminal
JSON_FAILURES = 100  # failures in the JSON document; the manifest has all


@dataclass(slots=True)
class Outcome:
    """What became of one item.

    Args:
        key: The item's key.
        status: `done`, `skipped` (already up to date) or `failed`.
        out: Path of the file written.
        error: Why it failed.
        ms: Milliseconds spent, by name: `read`, `run`, `write`.
        notes: Code to message of warnings that the run collects and counts.
        record: Further JSON-ready values for the manifest.
        parts: Finished files that still wait for their final names, and these names.
    """

    key: str
    status: Literal["done", "skipped", "failed"] = "done"
    out: str | None = None
    error: FusecliError | None = None
    ms: dict[str, float] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)
    parts: list[tuple[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class Kind:
    """Failures of one code, told together.

    Args:
        hint: Of the first.
        count: How many there are.
    """

    hint: str | None
    count: int = 0


@dataclass
class RunReport:
    """The result of one command over many items; also the `fusecli/run/1` document."""

    command: str
    verb: str
    out: str
    found: int = 0
    done: int = 0
    skipped: int = 0
    failed: int = 0
    failures: list[dict[str, Any]] = field(default_factory=list)
    kinds: dict[str, Kind] = field(default_factory=dict)
    notes: dict[str, tuple[int, str]] = field(default_factory=dict)
    seconds: float = 0.0
    ms: dict[str, float] = field(default_factory=dict)
    signal: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    started: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))

    def add(self, outcome: Outcome) -> None:
        """Count one outcome; keep the first failures, and the times of what was done."""
        setattr(self, outcome.status, getattr(self, outcome.status) + 1)
        if (error := outcome.error) is not None:
            kind = self.kinds.setdefault(error.code, Kind(error.hint))
            kind.count += 1
            # the first of each code is kept, however late it comes: it is what the user sees
            if len(self.failures) < JSON_FAILURES or kind.count == 1:
                failure = {"key": outcome.key, "code": error.code, "message": error.message}
                self.failures.append({**failure, "hint": error.hint})
        for name, value in outcome.ms.items():
            self.ms[name] = self.ms.get(name, 0.0) + value
        for code, message in outcome.notes.items():
            count, first = self.notes.get(code, (0, message))
            self.notes[code] = (count + 1, first)

    @property
    def exit_code(self) -> int:
        """0 all done, 3 some items failed, 4 all failed, 128 + signal when interrupted."""
        if self.signal is not None:
            return 128 + self.signal
        if not self.failed:
            return 0
        return 3 if self.done or self.skipped else 4

    @property
    def warnings(self) -> list[dict[str, str]]:
        """Warnings collected from the items, each once with its count."""
        return [
            {"code": code, "message": message if count == 1 else f"{message} ({count} items)"}
            for code, (count, message) in sorted(self.notes.items())
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return the document that `--json` prints."""
        document: dict[str, Any] = {
            "schema": "fusecli/run/1",
            "command": self.command,
            "version": __version__,
            "ok": self.exit_code == 0,
            "exit_code": self.exit_code,
            "started": self.started,
            "elapsed_s": round(self.seconds, 3),
            "counts": {
                "found": self.found,
                "done": self.done,
                "skipped": self.skipped,
                "failed": self.failed,
            },
            "out": self.out,
            "rate": {
                "items_per_s": round(self.done / self.seconds, 3) if self.seconds else 0.0,
                **{f"{name}_s": round(value / 1000, 3) for name, value in self.ms.items()},
            },
            "failures": sorted(self.failures, key=lambda failure: failure["key"]),
            "failed_by_code": {code: kind.count for code, kind in sorted(self.kinds.items())},
            "warnings": self.warnings,
        }
        return document | self.extra

    def summary(self) -> str:
        """Return the closing line."""
        counts = f"{self.verb} {self.done}, skipped {self.skipped}, failed {self.failed}"
        line = f"{counts} in {self.seconds:.1f} s -> {self.out}"
        if self.signal is None:
            return line
        left = self.found - self.done - self.skipped - self.failed
        further = "; the same command with --resume does them" if self.extra.get("manifest") else ""
        return f"stopped, {left} of {self.found} left{further}: {line}"


class Reporter:
    """Everything one command says, after `--json`, `--print`, `--progress`, `-q` and `-v`.

    Args:
        json: One document on stdout at the end, also on errors.
        paths: Separator after each written path on stdout; None prints none.
        progress: How to show progress.
        quiet: Errors only.
        verbose: 1 adds decisions, 2 adds tracebacks.
    """

    def __init__(
        self,
        *,
        json: bool = False,
        paths: str | None = None,
        progress: ProgressMode = "auto",
        quiet: bool = False,
        verbose: int = 0,
    ) -> None:
        self.json, self.paths, self.quiet, self.verbose = json, paths, quiet, verbose
        self.mode = progress
        self.console = talk()

    def progress(self, command: str, total: int | None) -> Progress:
        """Return the display for `total` items; None is a number not known beforehand."""
        mode = self.mode
        if mode == "auto":
            mode = (
                "bar" if self.console.is_terminal and not self.console.is_dumb_terminal else "plain"
            )
        if self.quiet or mode == "none":
            return SilentProgress()
        if mode == "bar":
            return BarProgress(command, total, self.console)
        return (PlainProgress if mode == "plain" else JsonlProgress)(command, total)

    def item(self, outcome: Outcome) -> None:
        """Print the path of a finished item where `--print` asked for it."""
        if self.paths is not None and outcome.status == "done" and outcome.out is not None:
            write_path(outcome.out, self.paths)

    def detail(self, message: str) -> None:
        """Say something that only `-v` wants to know."""
        if self.verbose and not self.quiet:
            self.console.print(f"[dim]{markup(message)}[/]")

    def note(self, message: str, **values: Any) -> None:
        """Say how far a long item is: a line, or a `progress` event with the values."""
        if self.mode == "jsonl":
            event = {"v": 1, "event": "progress", **values}
            print(as_json(event), file=sys.stderr, flush=True)
        elif not self.quiet:
            self.console.print(markup(message))

    def stopping(self) -> None:
        """Say that a signal was heard."""
        if self.mode != "jsonl" and not self.quiet:
            # from within a signal handler: no lock of Rich may be asked for
            line = "\nstopping after the items in work; once more stops at once\n"
            os.write(2, line.encode())

    def warn(self, message: str, code: str = "warning") -> None:
        """Say something that may matter."""
        if self.mode == "jsonl":
            event = {"v": 1, "event": "warning", "code": code, "message": message}
            print(as_json(event), file=sys.stderr, flush=True)
        elif not self.quiet:
            self.console.print(f"[yellow]warning:[/] {markup(message)}")

    def finish(self, report: RunReport) -> int:
        """Show failures, warnings and the summary, print the document; return the exit code."""
        if self.mode == "jsonl":
            event = {"v": 1, "event": "result", **report.as_dict()}
            print(as_json(event), file=sys.stderr, flush=True)
        elif not self.quiet:
            for warning in report.warnings:
                self.console.print(f"[yellow]warning:[/] {markup(warning['message'])}")
            self._failures(report)
            self.console.print(markup(report.summary()))
        if self.json:
            write_json(report.as_dict())
        return report.exit_code

    def _failures(self, report: RunReport) -> None:
        if not report.failed:
            return
        self.console.print(f"[red]{report.failed} of {report.found} items failed[/]")
        failures = sorted(report.failures, key=lambda failure: failure["key"])
        for code, kind in sorted(report.kinds.items(), key=lambda item: -item[1].count):
            examples = [failure for failure in failures if failure["code"] == code][:EXAMPLES]
            self.console.print(f"  [bold]{code}[/]: {kind.count} of {report.found}")
            for one in examples:
                self.console.print(f"    {markup(one['key'])}: {markup(one['message'])}")
            if kind.count > len(examples):
                self.console.print(f"    … and {kind.count - len(examples)} more")
            if kind.hint:
                self.console.print(f"    [bold]hint:[/] {markup(kind.hint)}")


def write_json(document: dict[str, Any]) -> None:
    """Print one JSON document on stdout."""
    sys.stdout.write(as_json(document, default=str, allow_nan=False) + "\n")
    sys.stdout.flush()


def show_error(error: FusecliError, *, json: bool = False) -> None:
    """Print an error: what is wrong, at most ten facts, one hint; with `json` also the document."""
    console = talk()
    console.print(f"[bold red]error:[/] {markup(error.message)}")
    for fact in error.facts[:10]:
        console.print(f"  {markup(fact)}")
    if error.hint:
        console.print(f"[bold]hint:[/] {markup(error.hint)}")
    if json:
        document = {"schema": "fusecli/error/1", "ok": False, "exit_code": error.exit_code}
        write_json(document | {"version": __version__, "error": error.as_dict()})


def show_bug(error: BaseException, *, json: bool = False, verbose: bool = False) -> None:
    """Print a bug of ours, with the traceback only when `-vv` was given."""
    console = talk()
    if verbose:
        console.print_exception()
    name = f"{type(error).__name__}: {error}"
    console.print(f"[bold red]internal error:[/] {markup(name)}")
    hint = "this is a bug; run again with -vv and report what it prints"
    console.print(f"[bold]hint:[/] {hint}")
    if json:
        found: dict[str, Any] = {
            "code": "internal",
            "message": name,
            "hint": hint,
            "facts": [],
            "details": {},
        }
        write_json(
            {"schema": "fusecli/error/1", "ok": False, "exit_code": 1, "version": __version__}
            | {"error": found}
        )


def relative(path: str | os.PathLike[str]) -> str:
    """Return a path relative to the working directory where that is shorter."""
    text = os.fspath(path)
    try:
        short = os.path.relpath(text)
    except ValueError:  # another drive on Windows
        return text
    return short if len(short) < len(text) else text


class Stopwatch:
    """Milliseconds of the parts of one item's work: `with watch("read"): ...`."""

    def __init__(self) -> None:
        self.ms: dict[str, float] = {}
        self._name = ""
        self._start = 0.0

    def __call__(self, name: str) -> Self:
        """Name the next part."""
        self._name = name
        return self

    def __enter__(self) -> Self:
        self._start = time.perf_counter()
        return self

    def __exit__(self, *exc: object) -> None:
        spent = 1000 * (time.perf_counter() - self._start)
        self.ms[self._name] = round(self.ms.get(self._name, 0.0) + spent, 3)
