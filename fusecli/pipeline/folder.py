"""A folder of pairs through one network: what `fusecli fuse` does once its arguments are valid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fusecli import checkpoint
from fusecli.pipeline import stream
from fusecli.pipeline.fusing import FusePair, Rules
from fusecli.pipeline.inference import Fuser, InferenceWorker, Tiling
from fusecli.pipeline.planning import Job
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


def fuse_folder(
    jobs: Sequence[Job],
    engine: Engine,
    rules: Rules,
    *,
    out: str,
    reporter: Reporter,
    fail_fast: bool = False,
) -> RunReport:
    """Fuse every job and return what became of them.

    Raises:
        MissingError: The weights cannot be used (exit 5).
    """
    runtime = engine.runtime
    loaded = checkpoint.load(engine.model, engine.weights, seed=engine.seed)
    if loaded.label == "random":
        reporter.warn("the weights are random: the results mean nothing", "weights.random")
    fusers = [
        Fuser(
            loaded.network,
            loaded.spec,
            loaded.options,
            device=device,
            dtype=runtime.dtype,
            tone=rules.tone,
            tiling=engine.tiling,
        )
        for device in runtime.devices
    ]
    reporter.detail(
        f"{loaded.spec.title} ({loaded.label}) on {runtime.as_dict()['device']} in "
        f"{runtime.precision}, {runtime.jobs} reading and writing threads"
    )
    report = RunReport("fuse", "fused", out)
    report.extra = {
        "model": {
            "name": engine.model,
            "weights": loaded.label,
            "sha256": loaded.sha256,
            "licence": loaded.licence,
        },
        "runtime": runtime.as_dict(),
    }
    worker = InferenceWorker(fusers, engine.batch_size)
    try:
        return stream.run(
            jobs,
            FusePair(worker, rules),
            report=report,
            reporter=reporter,
            total=len(jobs),
            # besides the readers and writers, one thread waits for each pair in a network
            threads=runtime.jobs + engine.batch_size * len(fusers),
            fail_fast=fail_fast,
        )
    finally:
        worker.close()
