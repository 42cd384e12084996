"""A folder of pairs through one network: what `fusecli fuse` does once its arguments are valid."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fusecli import checkpoint, ops
from fusecli.errors import MissingError
from fusecli.fusion import Choices, Network
from fusecli.fusion.item import FuseItem
from fusecli.fusion.network import Fuser
from fusecli.fusion.preparation import against_bf16
from fusecli.fusion.workers import FuseHere, InferenceWorker, lanes
from fusecli.outcome import Outcome, RunReport
from fusecli.registration.align import AlignedReport, Alignment
from fusecli.report import Reporter
from fusecli.run import stream
from fusecli.run.outputs import remove_leftovers
from fusecli.run.plan import Job, Plan
from fusecli.run.record import Manifest, Record
from fusecli.runtime import Runtime


@dataclass(frozen=True)
class Engine:
    """Which network runs, and where.

    Args:
        network: What was chosen.
        runtime: Devices, precision, threads.
        seed: For `--weights random`.
        backend: Name of the joblib backend.
        pool: What it does with work; None for threads here.
    """

    network: Network
    runtime: Runtime
    seed: int = 0
    backend: str = "threading"
    pool: stream.Pool | None = None

    def load(self) -> checkpoint.Loaded:
        """Return the network.

        Raises:
            MissingError: The weights cannot be used (exit 5).
        """
        return checkpoint.load(self.network.model, self.network.weights, seed=self.seed)


class FusingRun:
    """One run of one network over many pairs.

    Args:
        engine: The network.
        choices: Of the pixels.
        record: Where the run is recorded, if it is.
        alignment: How one side is brought onto the other; None where they match.
        sheets: Folder of the sheets that `choices.compare` asks for.

    Raises:
        MissingError: The weights cannot be used (exit 5).
    """

    def __init__(
        self,
        engine: Engine,
        choices: Choices,
        record: Record | None = None,
        alignment: Alignment | None = None,
        sheets: Path | None = None,
    ) -> None:
        self.loaded = engine.load()
        runtime, self.why = engine.runtime.settled(against_bf16(self.loaded, choices.tone))
        self.engine = replace(engine, runtime=runtime)
        self.choices, self.alignment, self.sheets = choices, alignment, sheets
        self.manifest = Manifest(record, "fuse", self.settings()) if record else None

    def settings(self) -> dict[str, Any]:
        """Return everything that changes results; the fingerprint of the run is made of it."""
        engine = self.engine
        return {
            "command": "fuse",
            "model": engine.network.model,
            "options": self.loaded.options,
            "weights": self.loaded.sha256 or f"random {engine.seed}",
            "precision": engine.runtime.precision,
            "device": sorted({device.type for device in engine.runtime.devices}),
            "batch_size": engine.network.batch_size,
            **dataclasses.asdict(engine.network.tiling()),
            **dataclasses.asdict(self.choices),
            "align": self.alignment and self.alignment.settings(),
        }

    def is_done(self, job: Job) -> bool:
        """Return whether the result of a job is up to date."""
        return self.manifest is not None and self.manifest.is_done(job)

    def fuse(
        self, jobs: Plan, *, out: str, reporter: Reporter, fail_fast: bool = False
    ) -> RunReport:
        """Fuse every job and return what became of them.

        Raises:
            InputError: Another run is at work in the same folder, or it cannot be written to.
        """
        engine, loaded = self.engine, self.loaded
        runtime = engine.runtime
        if loaded.label == "random":
            reporter.warn("the weights are random: the results mean nothing", "weights.random")
        reporter.detail(
            f"{loaded.spec.title} ({loaded.label}) on {runtime.as_dict()['device']} in "
            f"{runtime.precision} ({self.why}), {runtime.jobs} reading and writing threads"
        )
        kind = RunReport if self.alignment is None else AlignedReport
        report = kind("fuse", "fused", out)
        report.extra = {
            "manifest": str(self.manifest.record.path) if self.manifest else None,
            "model": {
                "name": engine.network.model,
                "weights": loaded.label,
                "sha256": loaded.sha256,
                "licence": loaded.licence,
            },
            "runtime": runtime.as_dict() | {"backend": engine.backend},
        }
        with self.manifest or nullcontext(), self._work(reporter) as work:
            remove_leftovers(path for job in jobs for path in self._files(job))
            stream.run(
                jobs,
                work,
                report=report,
                reporter=reporter,
                manifest=self.manifest,
                total=len(jobs),
                # besides the readers and writers, one thread waits for each pair in a network
                threads=runtime.jobs + engine.network.batch_size * sum(map(lanes, runtime.devices)),
                fail_fast=fail_fast,
                pool=engine.pool,
            )
        for name, why in ops.taken().items():
            reporter.detail(f"{name}: {why}")
        return report

    def _files(self, job: Job) -> Iterator[str]:
        if job.out != "-":
            yield job.out
        if self.sheets is not None:
            yield str(self.sheets / f"{job.key}.png")

    @contextmanager
    def _work(self, reporter: Reporter) -> Iterator[stream.Work]:
        if self.engine.pool is not None:
            yield FuseElsewhere(
                self.engine, self.choices, self.loaded.sha256, self.sheets, self.alignment
            )
            return
        worker = InferenceWorker(
            _fusers(self.loaded, self.engine, self.choices), self.engine.network.batch_size
        )
        reporter.detail(worker.fuser.about_tiles())
        try:
            yield FuseItem(worker, self.choices, self.sheets, self.alignment)
        finally:
            worker.close()


# Workers of Dask are threads of one process, and random weights come from torch's global numbers.
_LOADING = threading.Lock()


class FuseElsewhere:
    """`FuseItem` in another process: it takes the place of a network, which is loaded there.

    Args:
        engine: The network.
        choices: Of the pixels.
        sha256: Of the weights that this run is made with.
        sheets: As in `FuseItem`.
        alignment: As in `FuseItem`.
    """

    def __init__(
        self,
        engine: Engine,
        choices: Choices,
        sha256: str | None,
        sheets: Path | None = None,
        alignment: Alignment | None = None,
    ) -> None:
        self.engine, self.choices, self.sha256 = replace(engine, pool=None), choices, sha256
        self.sheets, self.alignment = sheets, alignment
        # Sums in another number of threads differ in their last bits, and so may grey levels.
        self.threads = torch.get_num_threads()
        self._work: FuseItem | None = None

    def __call__(self, job: Job) -> Outcome:
        """Read, fuse and write one pair.

        Raises:
            MissingError: The weights there are not those here (`weights.differ`).
        """
        if self._work is None:
            self._work = self._loaded()
        return self._work(job)

    def _loaded(self) -> FuseItem:
        engine = self.engine
        torch.set_num_threads(self.threads)
        with _LOADING:
            loaded = engine.load()
        if loaded.sha256 != self.sha256:
            raise MissingError(
                f"this worker has other weights of {engine.network.model}: {loaded.sha256}",
                code="weights.differ",
                hint="install the same fusecli everywhere, or name a shared file with --weights",
            )
        (fuser, *_) = _fusers(loaded, engine, self.choices)
        return FuseItem(FuseHere(fuser), self.choices, self.sheets, self.alignment)


def _fusers(loaded: checkpoint.Loaded, engine: Engine, choices: Choices) -> list[Fuser]:
    return [
        Fuser(
            loaded.network,
            loaded.spec,
            loaded.options,
            device=device,
            dtype=engine.runtime.dtype,
            tone=choices.tone,
            tiling=engine.network.tiling(),
        )
        for device in engine.runtime.devices
    ]
