"""A folder of pairs through one network: what `fusecli fuse` does once its arguments are valid."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from fusecli import checkpoint, ops
from fusecli.pipeline import stream
from fusecli.pipeline.fusing import FusePair, Rules
from fusecli.pipeline.inference import Fuser, InferenceWorker, Tiling
from fusecli.pipeline.manifest import Manifest, Record
from fusecli.pipeline.outputs import remove_leftovers
from fusecli.pipeline.planning import Job, Plan
from fusecli.report import Reporter, RunReport
from fusecli.runtime import Runtime


@dataclass(frozen=True)
class Engine:
    """Which network runs, and how.

    Args:
        model: Name of the network.
        weights: As in `--weights`; None is the network's own.
        runtime: Devices, precision, threads.
        batch_size: Pairs of equal size in one forward pass.
        tiling: See `Tiling`.
        seed: For `--weights random`.
    """

    model: str
    weights: str | None
    runtime: Runtime
    batch_size: int = 1
    tiling: Tiling = Tiling()
    seed: int = 0


class FusingRun:
    """One run of one network over many pairs.

    Args:
        engine: The network.
        rules: Of the pixels.
        record: Where the run is recorded, if it is.

    Raises:
        MissingError: The weights cannot be used (exit 5).
    """

    def __init__(self, engine: Engine, rules: Rules, record: Record | None = None) -> None:
        self.engine, self.rules = engine, rules
        self.loaded = checkpoint.load(engine.model, engine.weights, seed=engine.seed)
        self.manifest = Manifest(record, "fuse", self.settings()) if record else None

    def settings(self) -> dict[str, Any]:
        """Return everything that changes results; the fingerprint of the run is made of it."""
        engine, rules = self.engine, dataclasses.asdict(self.rules)
        del rules["compare_folder"]
        return {
            "command": "fuse",
            "model": engine.model,
            "options": self.loaded.options,
            "weights": self.loaded.sha256 or f"random {engine.seed}",
            "precision": engine.runtime.precision,
            "device": sorted({device.type for device in engine.runtime.devices}),
            "batch_size": engine.batch_size,
            **dataclasses.asdict(engine.tiling),
            **rules,
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
            f"{runtime.precision}, {runtime.jobs} reading and writing threads"
        )
        report = RunReport("fuse", "fused", out)
        report.extra = {
            "manifest": str(self.manifest.record.path) if self.manifest else None,
            "model": {
                "name": engine.model,
                "weights": loaded.label,
                "sha256": loaded.sha256,
                "licence": loaded.licence,
            },
            "runtime": runtime.as_dict(),
        }
        with self.manifest or nullcontext():
            remove_leftovers(path for job in jobs for path in self._files(job))
            worker = self._worker()
            try:
                stream.run(
                    jobs,
                    FusePair(worker, self.rules),
                    report=report,
                    reporter=reporter,
                    manifest=self.manifest,
                    total=len(jobs),
                    # besides the readers and writers, one thread waits for each pair in a network
                    threads=runtime.jobs + engine.batch_size * len(runtime.devices),
                    fail_fast=fail_fast,
                )
            finally:
                worker.close()
        for name, why in ops.taken().items():
            reporter.detail(f"{name}: {why}")
        return report

    def _files(self, job: Job) -> Iterator[str]:
        if job.out != "-":
            yield job.out
        if self.rules.compare_folder is not None:
            yield str(self.rules.compare_folder / f"{job.key}.png")

    def _worker(self) -> InferenceWorker:
        fusers = [
            Fuser(
                self.loaded.network,
                self.loaded.spec,
                self.loaded.options,
                device=device,
                dtype=self.engine.runtime.dtype,
                tone=self.rules.tone,
                tiling=self.engine.tiling,
            )
            for device in self.engine.runtime.devices
        ]
        return InferenceWorker(fusers, self.engine.batch_size)
