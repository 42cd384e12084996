"""What a run tells the user: progress while it works, a summary, errors, and one JSON document.

Standard output is data, standard error is talk: everything drawn here goes to stderr except the
documents of `--json` and the paths of `--print`. Progress is a bar, lines for logs, JSON lines, or
nothing.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any, Literal, Protocol, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

from fusecli.errors import FusecliError
from fusecli.outcome import Outcome, RunReport
from fusecli.text import as_json, markup, talk, write_path
from fusecli.version import __version__

EXAMPLES = 3  # failures of each code shown on the terminal
HEARTBEAT = 30.0  # seconds between two lines of plain progress

ProgressMode = Literal["auto", "bar", "plain", "jsonl", "none"]


def duration(seconds: float) -> str:
    """Return seconds as `19m40s`."""
    whole = int(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


class Progress(Protocol):
    """Shown while a command works. A context manager; `item` is called from one thread."""

    def __enter__(self) -> Self:
        """Start."""
        ...

    def __exit__(self, *exc: object) -> None:
        """End, whatever happened."""
        ...

    def item(self, outcome: Outcome) -> None:
        """Count one item."""
        ...


class SilentProgress:
    """Nothing at all: `--progress none`, `-q`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def item(self, outcome: Outcome) -> None:
        """Ignore the item."""


class PlainProgress(SilentProgress):
    """A line at the start, one every 30 s, one at the end: for logs."""

    def __init__(self, command: str, total: int | None) -> None:
        self.command, self.total = command, total
        self.count = self.failed = 0
        self.start = self.last = time.monotonic()

    def __enter__(self) -> Self:
        print(f"{self.command} 0/{self._total()}", file=sys.stderr, flush=True)
        return self

    def __exit__(self, *exc: object) -> None:
        self._line()

    def item(self, outcome: Outcome) -> None:
        """Count one item, and say so when half a minute has passed."""
        self.count += 1
        self.failed += outcome.status == "failed"
        if time.monotonic() - self.last >= HEARTBEAT:
            self._line()

    def _total(self) -> str:
        return "?" if self.total is None else str(self.total)

    def _line(self) -> None:
        self.last = time.monotonic()
        rate = self.count / max(self.last - self.start, 1e-9)
        line = f"{self.command} {self.count}/{self._total()}"
        if self.total:
            line += f" {100 * self.count / self.total:.1f}%"
        line += f" {rate:.1f} it/s {self.failed} failed"
        if self.total and rate and self.count < self.total:
            line += f" ETA {duration((self.total - self.count) / rate)}"
        print(line, file=sys.stderr, flush=True)


class JsonlProgress(SilentProgress):
    """One JSON object a line on stderr, for programs that watch a run."""

    def __init__(self, command: str, total: int | None) -> None:
        self.command, self.total = command, total
        self.count = self.failed = 0

    def __enter__(self) -> Self:
        self._event("start", command=self.command, total=self.total)
        return self

    def item(self, outcome: Outcome) -> None:
        """Report one item, then the counts so far."""
        self.count += 1
        self.failed += outcome.status == "failed"
        error = outcome.error.as_dict() if outcome.error else None
        self._event("item", key=outcome.key, status=outcome.status, out=outcome.out, error=error)
        self._event("progress", count=self.count, total=self.total, failed=self.failed)

    def _event(self, event: str, **values: Any) -> None:
        line = as_json({"v": 1, "event": event, **values})
        print(line, file=sys.stderr, flush=True)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f} items/s" if speed else "first item", style="dim")


class BarProgress(SilentProgress):
    """A Rich bar with count, rate, failures and the time left."""

    def __init__(self, command: str, total: int | None, console: Console) -> None:
        self.bar = RichProgress(
            SpinnerColumn(style="cyan"),
            TextColumn("[bold]{task.description}"),
            # Rich's own colours are those of errors
            BarColumn(None, complete_style="cyan", finished_style="green", pulse_style="cyan"),
            MofNCompleteColumn(),
            _Rate(),
            TextColumn("{task.fields[failed]}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=console,
            transient=True,
        )
        self.failed = 0
        self.told: set[str] = set()
        self.task: TaskID = self.bar.add_task(command, total=total, failed="")

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.bar.stop()

    def item(self, outcome: Outcome) -> None:
        """Advance the bar; the first failure of each kind is also printed above it."""
        if outcome.error is not None:
            self.failed += 1
        if outcome.error is not None and outcome.error.code not in self.told:
            self.told.add(outcome.error.code)
            message = f"[red]failed[/] {markup(outcome.key)}: {markup(outcome.error.message)}"
            self.bar.console.print(message, highlight=False)
        note = f"[red]{self.failed} failed[/]" if self.failed else ""
        self.bar.update(self.task, advance=1, failed=note)


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
            for line in report.lines():
                self.console.print(markup(line))
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
                # of messages only the traceback of a bug has lines
                lines = one["message"].split("\n") if code == "internal" else [one["message"]]
                message = "\n".join(map(markup, lines))
                self.console.print(f"    {markup(one['key'])}: {message}")
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
