"""A folder of items as one run: the work, what it is done to, where it is recorded and done."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from fusecli.outcome import Outcome, RunReport
from fusecli.report import Reporter
from fusecli.run import stream
from fusecli.run.outputs import remove_leftovers
from fusecli.run.plan import Job, Plan
from fusecli.run.record import Manifest, Record
from fusecli.runtime import Runtime


class Work(ABC):
    """What is done to one item, in any thread or process.

    Attributes:
        waiting: Threads that wait for a network, besides those that read and write.
    """

    waiting: int = 0

    @abstractmethod
    def __call__(self, job: Job) -> Outcome:
        """Do it, up to the files that wait to be renamed."""

    @abstractmethod
    def files(self, job: Job) -> Iterable[str]:
        """Return the paths it writes."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Return everything that changes results, with the name of the `command`."""

    def ready(self, reporter: Reporter, here: bool) -> AbstractContextManager[object]:
        """Return a block in which it can be called.

        Args:
            reporter: The voice of the command.
            here: In this process; otherwise copies of it are called elsewhere.
        """
        return nullcontext()

    def conclude(self, plan: Plan) -> None:  # noqa: B027 - most works have nothing to add
        """Write what belongs to the whole run; it is still the only one in the folder."""


@dataclass(frozen=True)
class Place:
    """Where the work of a run is done.

    Args:
        runtime: Devices, precision, threads.
        backend: Name of the joblib backend.
        pool: What it does with work; None for threads of this process.
    """

    runtime: Runtime
    backend: str = "threading"
    pool: stream.Pool | None = None


class Run:
    """One run over many items.

    Args:
        work: Of one item.
        plan: What to do.
        record: Where the run is recorded, if it is.
        place: Where the work is done.
    """

    def __init__(self, work: Work, plan: Plan, record: Record | None, place: Place) -> None:
        self.work, self.plan, self.place = work, plan, place
        settings = work.settings()
        self.manifest = Manifest(record, settings["command"], settings) if record else None

    def is_done(self, job: Job) -> bool:
        """Return whether the result of a job is up to date."""
        return self.manifest is not None and self.manifest.is_done(job)

    def __call__(self, report: RunReport, reporter: Reporter, fail_fast: bool = False) -> RunReport:
        """Do every item and return the report of what became of them.

        Raises:
            InputError: Another run is at work in the same folder, or it cannot be written to.
        """
        manifest, place = self.manifest, self.place
        path = str(manifest.record.path) if manifest else None
        report.extra = {"manifest": path} | report.extra
        here = place.pool is None
        with manifest or nullcontext(), self.work.ready(reporter, here):
            remove_leftovers(path for job in self.plan for path in self.work.files(job))
            stream.run(
                self.plan,
                self.work,
                report=report,
                reporter=reporter,
                manifest=manifest,
                total=len(self.plan),
                threads=place.runtime.jobs + self.work.waiting,
                fail_fast=fail_fast,
                pool=place.pool,
            )
            self.work.conclude(self.plan)
        return report
