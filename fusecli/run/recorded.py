"""A run over many items that a manifest records: what `fusecli register` and `warp` share."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any, Protocol

from fusecli.outcome import Outcome, RunReport
from fusecli.report import Reporter
from fusecli.run import stream
from fusecli.run.outputs import remove_leftovers
from fusecli.run.plan import Job, Plan
from fusecli.run.record import Manifest, Record


class Work(Protocol):
    """What is done to one item, in any thread or process."""

    def __call__(self, job: Job) -> Outcome:
        """Do it, up to the files that wait to be renamed."""

    def files(self, job: Job) -> Iterable[str]:
        """Return the paths it writes."""

    def settings(self) -> dict[str, Any]:
        """Return everything that changes results, with the name of the `command`."""


class RecordedRun:
    """Items, the work, and where it is recorded.

    Args:
        work: Of one item.
        jobs: What to do.
        threads: Items in work at the same time.
        record: Where the run is recorded, if it is.
        reporter: The voice of the command.
        pool: Where the work is done; threads of this process without it.
    """

    def __init__(
        self,
        work: Work,
        jobs: Plan,
        *,
        threads: int,
        record: Record | None,
        reporter: Reporter,
        pool: stream.Pool | None = None,
    ) -> None:
        self.work, self.jobs, self.threads = work, jobs, threads
        self.reporter, self.pool = reporter, pool
        settings = work.settings()
        self.manifest = Manifest(record, settings["command"], settings) if record else None

    def is_done(self, job: Job) -> bool:
        """Return whether the result of a job is up to date."""
        return self.manifest is not None and self.manifest.is_done(job)

    def run(self, report: RunReport, fail_fast: bool = False) -> RunReport:
        """Do every item and return the report of what became of them.

        Raises:
            InputError: Another run is at work in the same folder, or it cannot be written to.
        """
        report.extra = {"manifest": str(self.manifest.record.path) if self.manifest else None}
        with self.manifest or nullcontext():
            remove_leftovers(path for job in self.jobs for path in self.work.files(job))
            stream.run(
                self.jobs,
                self.work,
                report=report,
                reporter=self.reporter,
                manifest=self.manifest,
                total=len(self.jobs),
                threads=self.threads,
                fail_fast=fail_fast,
                pool=self.pool,
            )
            self.conclude()
        return report

    def conclude(self) -> None:
        """Write what belongs to the whole run; it is still the only one in the folder."""
