"""Progress on standard error: a bar, lines for logs, JSON lines, or nothing."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

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

from fusecli.text import as_json, markup

if TYPE_CHECKING:
    from fusecli.report import Outcome

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
