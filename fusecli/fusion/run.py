"""What `fusecli fuse` does to each pair, with the network that does it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
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
from fusecli.run.plan import Job
from fusecli.run.work import Work
from fusecli.runtime import Runtime

# Workers of Dask are threads of one process, and random weights come from torch's global numbers.
_LOADING = threading.Lock()


class FuseWork(Work):
    """`FuseItem` with its network, which a copy in another process loads again.

    Args:
        network: Which network runs.
        choices: Of the pixels.
        runtime: Devices, precision, threads.
        seed: For `--weights random`.
        alignment: How one side is brought onto the other; None where they match.
        sheets: Folder of the sheets that `choices.compare` asks for.

    Raises:
        MissingError: The weights cannot be used (exit 5).
    """

    def __init__(
        self,
        network: Network,
        choices: Choices,
        runtime: Runtime,
        *,
        seed: int = 0,
        alignment: Alignment | None = None,
        sheets: Path | None = None,
    ) -> None:
        self.network, self.choices, self.seed = network, choices, seed
        self.alignment, self.sheets = alignment, sheets
        self.loaded = self._load()
        self.sha256 = self.loaded.sha256
        self.runtime, self.why = runtime.settled(against_bf16(self.loaded, choices.tone))
        # besides the readers and writers, one thread waits for each pair in a network
        self.waiting = network.batch_size * sum(map(lanes, self.runtime.devices))
        # Sums in another number of threads differ in their last bits, and so may grey levels.
        self.threads = torch.get_num_threads()
        self._item: FuseItem | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {name: part for name, part in vars(self).items() if name != "loaded"} | {
            "_item": None
        }

    def settings(self) -> dict[str, Any]:
        """Return everything that changes results; the fingerprint of the run is made of it."""
        return {
            "command": "fuse",
            "model": self.network.model,
            "options": self.loaded.options,
            "weights": self.sha256 or f"random {self.seed}",
            "precision": self.runtime.precision,
            "device": sorted({device.type for device in self.runtime.devices}),
            "batch_size": self.network.batch_size,
            **asdict(self.network.tiling()),
            **asdict(self.choices),
            "align": self.alignment and self.alignment.settings(),
        }

    def files(self, job: Job) -> Iterator[str]:
        """Yield the names of all files of a job."""
        if job.out != "-":
            yield job.out
        if self.sheets is not None:
            yield str(self.sheets / f"{job.key}.png")

    def report(self, out: str, backend: str) -> RunReport:
        """Return the report to be filled: which network runs, and where."""
        kind = RunReport if self.alignment is None else AlignedReport
        report = kind("fuse", "fused", out)
        report.extra = {
            "model": {
                "name": self.network.model,
                "weights": self.loaded.label,
                "sha256": self.sha256,
                "licence": self.loaded.licence,
            },
            "runtime": self.runtime.as_dict() | {"backend": backend},
        }
        return report

    @contextmanager
    def ready(self, reporter: Reporter, here: bool) -> Iterator[None]:
        """Start the network, and say which it is and what path it takes."""
        loaded, runtime = self.loaded, self.runtime
        if loaded.label == "random":
            reporter.warn("the weights are random: the results mean nothing", "weights.random")
        reporter.detail(
            f"{loaded.spec.title} ({loaded.label}) on {runtime.as_dict()['device']} in "
            f"{runtime.precision} ({self.why}), {runtime.jobs} reading and writing threads"
        )
        if here:
            worker = InferenceWorker(self._fusers(loaded), self.network.batch_size)
            reporter.detail(worker.fuser.about_tiles())
            self._item = FuseItem(worker, self.choices, self.sheets, self.alignment)
            try:
                yield
            finally:
                worker.close()
                self._item = None
        else:
            yield
        for name, why in ops.taken().items():
            reporter.detail(f"{name}: {why}")

    def __call__(self, job: Job) -> Outcome:
        """Read, fuse and write one pair.

        Raises:
            MissingError: The weights in another process are not those here (`weights.differ`).
        """
        if self._item is None:
            self._item = self._elsewhere()
        return self._item(job)

    def _elsewhere(self) -> FuseItem:
        """Return the work in another process, with a network of its own."""
        torch.set_num_threads(self.threads)
        with _LOADING:
            loaded = self._load()
        if loaded.sha256 != self.sha256:
            raise MissingError(
                f"this worker has other weights of {self.network.model}: {loaded.sha256}",
                code="weights.differ",
                hint="install the same fusecli everywhere, or name a shared file with --weights",
            )
        (fuser, *_) = self._fusers(loaded)
        return FuseItem(FuseHere(fuser), self.choices, self.sheets, self.alignment)

    def _load(self) -> checkpoint.Loaded:
        return checkpoint.load(self.network.model, self.network.weights, seed=self.seed)

    def _fusers(self, loaded: checkpoint.Loaded) -> list[Fuser]:
        return [
            Fuser(
                loaded.network,
                loaded.spec,
                loaded.options,
                device=device,
                dtype=self.runtime.dtype,
                tone=self.choices.tone,
                tiling=self.network.tiling(),
            )
            for device in self.runtime.devices
        ]
