"""Train any network by its recipe: one loop, seeded, resumable, on one device or several."""

from __future__ import annotations

import hashlib
import json
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fusecli import checkpoint
from fusecli.errors import CheckError, InputError, UsageError
from fusecli.models import Sample, Stage
from fusecli.ops.resample import resample
from fusecli.outcome import Outcome, RunReport
from fusecli.pairs import Pair
from fusecli.report import Reporter, duration
from fusecli.run.stream import Stop, graceful_stop
from fusecli.runtime import Runtime
from fusecli.training.crops import CropPlan, Crops, Pictures, ahead, on_device
from fusecli.training.folder import RunFolder, card, prepare, read_state, refuse, to_toml
from fusecli.training.ranks import Ranks, joined
from fusecli.training.recipe import TrainOptions, as_table, learning_rate
from fusecli.training.step import Learner

LOG_EVERY = 10  # steps between two lines of metrics.jsonl
SAMPLES = 4  # held-out crops drawn at every validation


@dataclass
class TrainReport(RunReport):
    """The result of a training run; its items are optimiser steps."""

    best: dict[str, Any] = field(default_factory=dict)
    checkpoints: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the document that `--json` prints."""
        return super().as_dict() | {"best": self.best, "checkpoints": self.checkpoints}

    def summary(self) -> str:
        """Return the closing line."""
        score = f", best validation loss {self.best['loss']:.4g}" if self.best else ""
        return f"trained {self.done} steps{score} in {duration(self.seconds)} -> {self.out}"


def train(
    pairs: Sequence[Pair],
    validation: Sequence[Pair],
    out: Path,
    options: TrainOptions,
    runtime: Runtime,
    reporter: Reporter,
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> TrainReport:
    """Train a network on pairs and write RUN.

    Args:
        pairs: To learn from.
        validation: Held back; may be empty, then the latest weights count as the best.
        out: RUN.
        options: See `TrainOptions`.
        runtime: The first device, the precision and the number of threads are used.
        reporter: Shows progress.
        resume: Continue from `out`, where it holds a run.
        overwrite: Replace a run in `out`.

    Returns:
        Steps done, best validation loss, files written.

    Raises:
        InputError: Pictures that cannot be read or are too small.
        UsageError: RUN exists, or was started with other options.
        CheckError: `train.nonfinite`: the loss or a gradient became NaN or infinite; the weights
            before that step are saved.
    """
    with joined(runtime.devices[0]) as ranks, _kernels(options.deterministic), _stop() as stop:
        refuse(out, resume=resume, overwrite=overwrite)
        trainer = Trainer(pairs, validation, out, options, runtime, ranks, reporter, stop)
        ranks.any(False)  # nobody writes before everybody has looked
        if ranks.first:
            prepare(out, overwrite=overwrite)
        return trainer.run(read_state(out) if resume else None)


@contextmanager
def _kernels(deterministic: bool) -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(deterministic or before[0])
    torch.backends.cudnn.benchmark = not deterministic
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]


@contextmanager
def _stop() -> Iterator[Stop]:
    """Stop after the current step on SIGINT, SIGTERM, and SIGUSR1, which schedulers send early."""
    with graceful_stop() as stop:
        try:
            before = signal.signal(signal.SIGUSR1, lambda *_: signal.raise_signal(signal.SIGTERM))
        except (AttributeError, ValueError):  # Windows; not the main thread
            yield stop
            return
        try:
            yield stop
        finally:
            signal.signal(signal.SIGUSR1, before)


class Trainer:
    """One training run in one process; `run` is the loop.

    Args:
        pairs: To learn from.
        validation: Held back.
        out: RUN.
        options: See `TrainOptions`.
        runtime: Precision and threads.
        ranks: This process among its peers; its device is used.
        reporter: Shows progress.
        stop: Set by a signal.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        validation: Sequence[Pair],
        out: Path,
        options: TrainOptions,
        runtime: Runtime,
        ranks: Ranks,
        reporter: Reporter,
        stop: Stop,
    ) -> None:
        if not pairs:
            raise InputError("there are no pairs to train on", code="train.pairs")
        self.options, self.runtime, self.ranks, self.stop = options, runtime, ranks, stop
        self.reporter = reporter if ranks.first else Reporter(quiet=True)
        for stage in options.stages:
            ranks.share(stage.batch_size)
        smallest = max(_plan(options, stage).smallest for stage in options.stages)
        self.pictures = Pictures(pairs, smallest, threads=runtime.jobs)
        self.held_out = Pictures(validation, smallest, threads=runtime.jobs)
        keys = "\n".join([*(pair.key for pair in pairs), "", *(pair.key for pair in validation)])
        self.data = hashlib.sha256(keys.encode("utf-8", "surrogatepass")).hexdigest()
        self.network = _network(options).to(ranks.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if options.compile:
            self.network.compile()
        self.folder = RunFolder(
            out,
            model=options.model,
            options=options.options,
            keep=options.keep,
            tensorboard=options.tensorboard and ranks.first,
        )
        self.index = self.step = self.validated = 0
        self.best: dict[str, Any] = {}
        self.seconds = 0.0

    def run(self, state: dict[str, Any] | None = None) -> TrainReport:
        """Train every stage to its end, or until stopped.

        Args:
            state: What an earlier run of the same options saved; it goes on there.
        """
        options, start = self.options, time.monotonic()
        if state is not None:
            self._resume(state)
        before, left = self.seconds, self._steps_left()
        report = TrainReport("train", "trained", str(self.folder.path), found=left)
        report.extra = {"model": {"name": options.model}, "runtime": self.runtime.as_dict()}
        if self.ranks.first:
            self.folder.write_text("config.toml", to_toml(self._config()))
        cuda = [self.ranks.device] if self.ranks.device.type == "cuda" else []
        with self.reporter.progress("train", left) as progress, torch.random.fork_rng(cuda):
            while self.index < len(options.stages) and not self.stop.requested:
                self._enter(state)
                state = None
                if self.step != self.validated:  # stopped at the end of an epoch
                    self._validate_if_due()
                for batches in self._batches():
                    rate = learning_rate(self.stage, self.step, self.steps, self._epoch())
                    try:
                        values = self.learner.step(batches, rate)
                    except CheckError as error:
                        self._save()
                        raise self._diverged(error) from None
                    self.step += 1
                    self.seconds = before + time.monotonic() - start
                    outcome = Outcome(f"{self.stage.name}-{self.step}")
                    report.add(outcome)
                    progress.item(outcome)
                    self._log(values | {"lr": rate})
                    over = (
                        options.max_time is not None
                        and time.monotonic() - start >= options.max_time
                    )
                    if self.ranks.any(over or self.stop.requested):
                        self.stop.requested = True
                        break
                    self._validate_if_due()
                    self._save_if_due()
                if self.step == self.steps != self.validated:
                    self._validate()
                self._save()
                if self.step == self.steps:
                    self.index, self.step = self.index + 1, 0
        report.signal, report.seconds = self.stop.signal, time.monotonic() - start
        report.best = self.best
        report.checkpoints = [str(self.folder.path / f"{n}.safetensors") for n in ("last", "best")]
        return report

    def _enter(self, state: dict[str, Any] | None) -> None:
        """Begin the stage, or go on with it where `state` was saved."""
        self.stage = self.options.stages[self.index]
        self.steps = self.options.steps_of(self.stage, len(self.pictures))
        torch.manual_seed(self.options.seed + self.index)
        self.learner = Learner(self.network, self.stage, self.runtime.dtype, self.ranks)
        plan = _plan(self.options, self.stage)
        self.crops = Crops(self.pictures, plan, self.options.recipe)
        self.held_out_crops = Crops(self.held_out, plan, self.options.recipe)
        if state is None:
            self.best, self.validated = {}, 0
            return
        self.learner.restore(state["learner"])
        torch.set_rng_state(state["rng"])
        if state["cuda_rng"] is not None and self.ranks.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_rng"], self.ranks.device)

    def _batches(self) -> Iterator[list[Sample]]:
        """Yield this process's crops of each remaining step, `accumulate` batches at a time."""
        size, parts = self.stage.batch_size, self.options.accumulate

        def prepare(step: int) -> list[Sample]:
            first = step * size * parts
            starts = range(first, first + size * parts, size)
            return [self.crops.batch(range(s, s + size)[self.ranks.share(size)]) for s in starts]

        for batches in ahead(prepare, range(self.step, self.steps), self.runtime.jobs):
            yield [on_device(sample, self.ranks.device) for sample in batches]

    def _validate_if_due(self) -> None:
        if self._completes(self.options.eval_every) and self.step < self.steps:
            self._validate()

    def _save_if_due(self) -> None:
        if self._completes(self.options.save_every) and self.step < self.steps:
            self._save()

    def _completes(self, every: int) -> bool:
        """Return whether the last step completed an epoch whose number `every` divides."""
        return self._epoch() // every > self._epoch(self.step - 1) // every

    def _validate(self) -> None:
        """Score the held-out crops, draw some, and keep the weights if they are the best yet."""
        self.validated = self.step
        count, size = len(self.held_out), self.stage.batch_size
        if not count:
            return
        mine = range(self.ranks.rank, count, self.ranks.size)
        groups = (mine[start : start + size] for start in range(0, len(mine), size))
        samples = (
            on_device(self.held_out_crops.fixed(group), self.ranks.device) for group in groups
        )
        values = self.learner.validate(samples, count)
        if not self.ranks.first:
            return
        record = {f"val_{name}": value for name, value in values.items()}
        self.folder.log(self._place() | record)
        self.folder.save_samples(self.stage.name, self.step, self._rows(range(min(SAMPLES, count))))
        if not self.best or values["loss"] < self.best["loss"]:
            self.best = {**self._place(), "loss": values["loss"]}
            self.folder.save_weights("best", self.network, **self.best)
        self.reporter.note(
            f"{self.stage.name} {self.step}/{self.steps}: validation loss {values['loss']:.5g}"
            f" (best {self.best['loss']:.5g} at step {self.best['step']})",
            **self._place(),
            **record,
        )

    def _rows(self, pictures: range) -> Tensor:
        """Return infrared, visible and result of some held-out crops, (N, 3, H, W) in 0..1."""
        low, high = self.options.spec.input_range
        sample = on_device(self.held_out_crops.fixed(pictures), self.ranks.device)
        self.network.eval()
        with torch.no_grad():
            if self.options.spec.role == "register":
                result = resample(sample.vis, self.network(sample.vis, sample.ir))
            else:
                result = self.network(sample.ir, sample.vis)
        rows = torch.cat([sample.ir, sample.vis, result], 1)
        return ((rows.float().cpu() - low) / (high - low)).clamp(0, 1)

    def _log(self, values: dict[str, float]) -> None:
        if self.ranks.first and (self.step % LOG_EVERY == 0 or self.step == self.steps):
            self.folder.log(self._place() | values | {"seconds": round(self.seconds, 3)})

    def _save(self) -> None:
        """Write the latest weights and all that `--resume` needs."""
        if not self.ranks.first:
            return
        device = self.ranks.device
        self.folder.save_weights("last", self.network, **self._place())
        if not self.held_out:
            self.folder.save_weights("best", self.network, **self._place())
        self.folder.keep_checkpoint(self.stage.name, self.step)
        self.folder.save_state(
            {
                "index": self.index,
                "step": self.step,
                "validated": self.validated,
                "best": self.best,
                "seconds": self.seconds,
                "data": self.data,
                "trajectory": json.dumps(self.options.trajectory(), sort_keys=True),
                "learner": self.learner.state(),
                "rng": torch.get_rng_state(),
                "cuda_rng": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
            }
        )
        self.folder.write_text("card.md", self._card())

    def _resume(self, state: dict[str, Any]) -> None:
        """Take up the place of a saved run, after checking that it is the same run."""
        then, now = json.loads(state["trajectory"]), self.options.trajectory()
        now = json.loads(json.dumps(now))
        changed = [f"{k}: {then[k]} then, {now[k]} now" for k in now if then.get(k) != now[k]]
        if state["data"] != self.data:
            changed.append("the pairs, or which of them are held back")
        if changed:
            raise UsageError(
                f"{self.folder.path} was started with other options",
                code="train.resume",
                facts=changed,
                hint=f"give the options of {self.folder.path / 'config.toml'} again, or --overwrite"
                f" with --init {self.folder.path / 'last.safetensors'}",
            )
        self.index, self.step = state["index"], state["step"]
        self.best, self.validated = state["best"], state["validated"]
        self.seconds = state["seconds"]
        if self.ranks.first:
            names = [stage.name for stage in self.options.stages]
            self.folder.rewind(names, self.index, self.step)

    def _steps_left(self) -> int:
        stages = self.options.stages[self.index :]
        return sum(self.options.steps_of(s, len(self.pictures)) for s in stages) - self.step

    def _epoch(self, step: int | None = None) -> int:
        step = self.step if step is None else step
        return self.options.epoch(self.stage, len(self.pictures), step)

    def _place(self) -> dict[str, Any]:
        return {"stage": self.stage.name, "step": self.step, "epoch": self._epoch()}

    def _diverged(self, error: CheckError) -> CheckError:
        last = self.folder.path / "last.safetensors"
        return CheckError(
            f"{error.message} at step {self.step + 1} of stage {self.stage.name}",
            code=error.code,
            facts=[*error.facts, f"the weights before that step are in {last}"],
            hint=f"try a lower rate: --lr {self.stage.lr / 10:g}"
            + ("" if self.stage.clip_grad else ", or --clip-grad 1"),
        )

    def _config(self) -> dict[str, Any]:
        """Return every resolved option, as the tables of `config.toml`."""
        where = self.runtime.as_dict() | {"processes": self.ranks.size}
        return {
            "train": self.options.plain() | where,
            "set": dict(self.options.options),
            "stage": [as_table(stage) for stage in self.options.stages],
        }

    def _card(self) -> str:
        """Return the model card of the run so far."""
        best = f"{self.best['loss']:.5g} at step {self.best['step']}" if self.best else "none"
        facts = {
            "Data": f"{len(self.pictures)} pairs, {len(self.held_out)} more held back",
            "Reached": f"stage {self.stage.name}, step {self.step} of {self.steps}",
            "Best validation loss of that stage": best,
            "Time": f"{duration(self.seconds)} on {self.ranks.size} x {self.ranks.device},"
            f" {self.runtime.precision}, torch {torch.__version__}",
        }
        return card(self.options, facts, len(self.pictures))


def _plan(options: TrainOptions, stage: Stage) -> CropPlan:
    """Return how the crops of a stage are cut."""
    return CropPlan(
        seed=options.seed,
        crop=stage.crop,
        augment=options.augment,
        misalign=stage.misalign,
        input_range=options.spec.input_range,
    )


def _network(options: TrainOptions) -> nn.Module:
    """Return the network to start from."""
    if options.init is None:
        return checkpoint.untrained(options.spec, options.options, options.seed)
    return checkpoint.load(options.model, options.init, options.options).network
