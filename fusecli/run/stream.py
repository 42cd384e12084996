"""Items through a bounded set of joblib threads, their outcomes back to the main thread.

One item is in work per thread and nothing is queued before or after it, so memory does not depend
on how many items there are. What a thread returns is a small record; pixels never leave it.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol

from joblib import Parallel, delayed

from fusecli.errors import FusecliError
from fusecli.outcome import Outcome, RunReport
from fusecli.report import Reporter
from fusecli.run.outputs import discard, place
from fusecli.run.record import Manifest


class Item(Protocol):
    """Anything with a key."""

    @property
    def key(self) -> str:
        """Name of the item, unique in a run."""
        ...


Work = Callable[[Any], Outcome]
Pool = Callable[[Work, Iterator[Item]], Iterator[tuple[Item, Outcome]]]


class Stop:
    """Set when no further item may start: by a signal, or by `--fail-fast`."""

    def __init__(self) -> None:
        self.requested = False
        self.signal: int | None = None


@contextmanager
def graceful_stop(told: Callable[[], None] = lambda: None) -> Iterator[Stop]:
    """Turn the first SIGINT or SIGTERM into a request to stop; the second leaves at once.

    `told` is called at the first: whoever pressed a key wants to see that it was heard.
    Signals reach the main thread only; elsewhere (a notebook's worker) nothing is installed.
    """
    stop = Stop()

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.signal is not None:
            os._exit(128 + number)
        stop.requested, stop.signal = True, number
        told()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def run(
    items: Iterable[Any],
    work: Work,
    *,
    report: RunReport,
    reporter: Reporter,
    total: int | None = None,
    threads: int = 1,
    fail_fast: bool = False,
    manifest: Manifest | None = None,
    pool: Pool | None = None,
) -> RunReport:
    """Apply `work` to every item and count what became of each.

    Args:
        items: Read lazily, one at a time; may be longer than memory.
        work: Runs in a thread. What it raises becomes the item's failure.
        report: Filled in place.
        reporter: Shows progress and prints paths.
        total: Number of items, where it is known.
        threads: Items in work at the same time.
        fail_fast: Start no further item after the first failure.
        manifest: Records each item before its files get their names, and knows which items are
            up to date; then items need `out` and `inputs` too.
        pool: Where the work is done; threads of this process unless it says otherwise.

    Returns:
        `report`, with counts, times and the signal that ended the run, if one did.
    """
    start = time.monotonic()
    report.found = total or 0
    taken = 0
    settle: Callable[[Any, Outcome], Outcome] = _place
    if manifest is not None:
        items, work, settle = manifest.tasks(items), manifest.careful(work), manifest.settle

    detailed = reporter.verbose > 1
    with (
        graceful_stop(reporter.stopping) as stop,
        reporter.progress(report.command, total) as progress,
    ):

        def until_stopped() -> Iterator[Item]:
            nonlocal taken
            for item in items:
                if stop.requested:
                    return
                taken += 1
                yield item

        def alarmed(item: Any) -> Outcome:
            try:
                return work(item)
            except Exception:
                stop.requested = True  # at once: other threads would take many items until we look
                raise

        if pool is None:
            outcomes = in_threads(threads, detailed)(
                alarmed if fail_fast else work, until_stopped()
            )
        else:
            outcomes = pool(work, until_stopped())
        try:
            for item, outcome in outcomes:
                stop.requested = stop.requested or (fail_fast and outcome.error is not None)
                outcome = settle(item, outcome)
                report.add(outcome)
                progress.item(outcome)
                reporter.item(outcome)
                for line in outcome.decisions:
                    reporter.detail(line)
        except BaseException as error:
            stop.requested = True
            for _, outcome in outcomes:  # what is in flight is dropped without a trace
                discard(outcome.parts)
            # The signal that asked us to stop may have ended worker processes first.
            if stop.signal is None or not isinstance(error, Exception):
                raise
    report.signal = stop.signal
    report.found = report.found or taken
    report.seconds = time.monotonic() - start
    return report


def attempt(work: Work, item: Item, detailed: bool = False) -> tuple[Item, Outcome]:
    """Return an item with what became of it; one bad pair must not end a run of a million."""
    try:
        return item, work(item)
    except Exception as error:
        return item, Outcome(item.key, "failed", error=as_failure(error, detailed))


def in_threads(threads: int, detailed: bool = False) -> Pool:
    """Return the pool that works on `threads` items at a time in this process."""

    def run(work: Work, items: Iterator[Item]) -> Iterator[tuple[Item, Outcome]]:
        parallel = Parallel(
            n_jobs=threads,
            backend="threading",
            return_as="generator_unordered",
            pre_dispatch=threads,
            batch_size=1,
        )
        outcomes: Iterator[tuple[Item, Outcome]] = parallel(
            delayed(attempt)(work, item, detailed) for item in items
        )
        return outcomes

    return run


def _place(item: Item, outcome: Outcome) -> Outcome:
    try:
        place(outcome.parts)
    except OSError as error:
        discard(outcome.parts)
        return Outcome(item.key, "failed", error=as_failure(error))
    return outcome


def as_failure(error: Exception, with_traceback: bool = False) -> FusecliError:
    """Return what an item raised as an error with a code: what we foresaw, the system, or a bug."""
    if isinstance(error, FusecliError):
        return error
    if isinstance(error, MemoryError):
        return FusecliError(
            "not enough memory for this image", code="memory", hint="try --tile 512"
        )
    if isinstance(error, OSError):
        place = f": {error.filename}" if error.filename else ""
        return FusecliError(f"{error.strerror or error}{place}", code="os.error")
    text = f"{type(error).__name__}: {error}"
    if with_traceback:
        text = "".join(traceback.format_exception(error)).rstrip()
    return FusecliError(
        f"internal error: {text}",
        code="internal",
        hint="this is a bug of fusecli: report it with what --json prints",
    )
