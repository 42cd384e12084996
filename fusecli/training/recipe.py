"""A training run as numbers: the recipe after the user had their say, the rate at each step.

No torch here: a wrong flag is refused before anything heavy is imported.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fusecli.errors import UsageError
from fusecli.models import ModelSpec, Stage


@dataclass(frozen=True)
class TrainOptions:
    """Everything that decides a training run, resolved.

    Args:
        model: Name of the network.
        spec: Its description.
        options: All its options, resolved.
        stages: Stages to run in turn, with the user's numbers.
        steps: Optimiser steps of each stage; None takes the stage's epochs.
        init: Weights to start from: a file or a name; None starts untrained.
        seed: Of everything random.
        augment: Flip and turn crops.
        accumulate: Batches added up for one optimiser step.
        max_time: Seconds after which the run saves and ends.
        eval_every: Epochs between validations.
        save_every: Epochs between checkpoints.
        keep: Numbered checkpoints kept.
        deterministic: Deterministic kernels only.
        compile: Run the network through `torch.compile`.
        tensorboard: Also log for TensorBoard.
        command: The command line, for the model card.
    """

    model: str
    spec: ModelSpec
    options: Mapping[str, Any]
    stages: tuple[Stage, ...]
    steps: int | None = None
    init: str | None = None
    seed: int = 0
    augment: bool = True
    accumulate: int = 1
    max_time: float | None = None
    eval_every: int = 1
    save_every: int = 1
    keep: int = 3
    deterministic: bool = False
    compile: bool = False
    tensorboard: bool = False
    command: str = ""

    @property
    def recipe(self) -> dict[str, Any]:
        """The options that only training reads."""
        return {o.name: self.options[o.name] for o in self.spec.options if o.recipe}

    def plain(self) -> dict[str, bool | int | float | str]:
        """Return the options that are one value each."""
        kinds = bool | int | float | str
        return {name: value for name, value in vars(self).items() if isinstance(value, kinds)}

    def steps_of(self, stage: Stage, pairs: int) -> int:
        """Return the optimiser steps of a stage over so many pairs."""
        if self.steps is not None:
            return self.steps
        return max(1, math.ceil(stage.epochs * pairs / (stage.batch_size * self.accumulate)))

    def epoch(self, stage: Stage, pairs: int, step: int) -> int:
        """Return the passes over the pairs completed before a step."""
        return step * stage.batch_size * self.accumulate // pairs

    def trajectory(self) -> dict[str, Any]:
        """Return what a continued run must share with its beginning, ready for JSON.

        How long it goes on, where it runs and what it writes may change.
        """
        return {
            "model": self.model,
            "options": dict(self.options),
            "init": self.init,
            "seed": self.seed,
            "augment": self.augment,
            "accumulate": self.accumulate,
            "stages": [
                {name: value for name, value in as_table(stage).items() if name != "epochs"}
                for stage in self.stages
            ],
        }


def as_table(stage: Stage) -> dict[str, Any]:
    """Return the numbers and words of a stage, without its functions."""
    table = {f.name: getattr(stage, f.name) for f in dataclasses.fields(stage)}
    table |= {"weights": dict(stage.weights), "trains": list(stage.trains)}
    return {name: value for name, value in table.items() if not callable(value)}


def resolve_stages(
    spec: ModelSpec,
    *,
    stage: str | None = None,
    steps: int | None = None,
    loss: Mapping[str, float] | None = None,
    **overrides: Any,
) -> tuple[Stage, ...]:
    """Return the stages to train, with the user's numbers in place of the recipe's.

    Args:
        spec: The network.
        stage: Name of the only stage to run; None runs all in turn, but for those of 0 epochs,
            which a recipe merely offers.
        steps: Optimiser steps in place of epochs, where the user gave them.
        loss: Term to weight; a term is changed in every chosen stage that has it.
        overrides: Fields of `Stage` (`crop`, `lr`, ...); None keeps the recipe's value.

    Raises:
        UsageError: A network without recipe, an unknown stage or term, a number out of range.
    """
    if not spec.stages:
        raise UsageError(
            f"{spec.title} has no training recipe", code="train.recipe", hint="fusecli models list"
        )
    stages = [s for s in spec.stages if (s.epochs if stage is None else s.name == stage)]
    if not stages:
        known = [s.name for s in spec.stages]
        near = difflib.get_close_matches(stage or "", known, n=1)
        raise UsageError(
            f"{spec.title} has no stage '{stage}'",
            code="train.stage",
            facts=[f"its stages, in order: {', '.join(known)}"],
            hint=f"did you mean --stage {near[0]}?" if near else None,
        )
    for term, weight in (loss or {}).items():
        _check_term(spec, stages, term, weight)
    changed = {name: value for name, value in overrides.items() if value is not None}
    resolved = []
    for one in stages:
        weights = {term: (loss or {}).get(term, w) for term, w in one.weights.items()}
        one = dataclasses.replace(one, weights=weights, **changed)
        _check_numbers(one, steps)
        resolved.append(one)
    return tuple(resolved)


def _check_term(spec: ModelSpec, stages: list[Stage], term: str, weight: float) -> None:
    known = sorted({name for s in stages for name in s.weights})
    if term not in known:
        near = difflib.get_close_matches(term, known, n=1)
        raise UsageError(
            f"{spec.title} has no loss term '{term}'",
            code="train.loss",
            facts=[f"stage {s.name}: {', '.join(s.weights)}" for s in stages],
            hint=f"did you mean --loss {near[0]}={weight:g}?" if near else None,
        )
    if not math.isfinite(weight) or weight < 0:
        raise UsageError(
            f"--loss {term}={weight}: a weight is a number from 0 upwards",
            code="train.loss",
            hint=f"--loss {term}=0 leaves the term out",
        )


def _check_numbers(stage: Stage, steps: int | None) -> None:
    if steps is None and not stage.epochs:
        raise UsageError(
            f"stage {stage.name} has no length of its own",
            code="train.number",
            hint=f"add --epochs or --steps to --stage {stage.name}",
        )
    whole = {
        "steps": 1 if steps is None else steps,
        "batch-size": stage.batch_size,
        "crop": stage.crop,
    }
    for name, number in whole.items():
        if number < 1:
            raise UsageError(
                f"--{name} {number}: must be at least 1",
                code="train.number",
                hint=f"leave --{name} out for the recipe's own",
            )
    if not stage.lr > 0 or stage.clip_grad < 0:
        raise UsageError(
            f"--lr {stage.lr:g} must be above 0 and --clip-grad {stage.clip_grad:g} not below it",
            code="train.number",
            hint="--lr 1e-3 is usual; --clip-grad 0 clips nothing",
        )
    if stage.optimizer not in ("adam", "adamw"):
        raise UsageError(
            f"there is no optimizer '{stage.optimizer}'", code="train.optimizer", hint="adam, adamw"
        )
    if stage.misalign.startswith("shift") and not re.fullmatch(r"shift:[1-9]\d*", stage.misalign):
        raise UsageError(
            f"'{stage.misalign}' is not a shift in pixels",
            code="train.misalign",
            hint="for example --misalign shift:10",
        )
    learning_rate(stage, 0, 1, 0)  # refuses a schedule that cannot be read


def learning_rate(stage: Stage, step: int, steps: int, epoch: int) -> float:
    """Return the learning rate of one step.

    Args:
        stage: Its `lr`, `schedule` and `warmup` decide.
        step: Number of the step, from 0.
        steps: Steps of the whole stage.
        epoch: Passes over the pairs completed before this step.

    Raises:
        UsageError: A schedule that is none of `constant`, `cosine`, `step:EPOCHS:FACTOR[:FLOOR]`.
    """
    rate = stage.lr
    kind, *numbers = stage.schedule.split(":")
    try:
        if kind == "cosine" and not numbers:
            rate *= (1 + math.cos(math.pi * step / steps)) / 2
        elif kind == "step" and len(numbers) in (2, 3):
            every, factor = int(numbers[0]), float(numbers[1])
            floor = float(numbers[2]) if len(numbers) == 3 else 0.0
            rate = max(rate * factor ** (epoch // every), min(floor, rate))
        elif kind != "constant" or numbers:
            raise ValueError(kind)
    except (ValueError, ZeroDivisionError):
        raise UsageError(
            f"'{stage.schedule}' is not a schedule",
            code="train.schedule",
            hint="use constant, cosine or step:EPOCHS:FACTOR[:FLOOR], as in step:20:0.5:1e-6",
        ) from None
    if step < stage.warmup:
        rate *= (step + 1) / stage.warmup
    return rate


def parse_weights(assignments: Mapping[str, str]) -> dict[str, float]:
    """Return the loss weights of `NAME=W` assignments.

    Raises:
        UsageError: A weight that is no number.
    """
    weights = {}
    for term, text in assignments.items():
        try:
            weights[term] = float(text)
        except ValueError:
            raise UsageError(
                f"--loss {term}={text}: the weight is not a number",
                code="train.loss",
                hint=f"as in --loss {term}=0.5",
            ) from None
    return weights


def parse_duration(text: str) -> float:
    """Return the seconds of `8h`, `30m`, `90s` or `1h30m`.

    Raises:
        UsageError: Anything else.
    """
    parts = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", text)
    if parts is None or not text:
        raise UsageError(
            f"--max-time {text}: not a duration", code="train.time", hint="for example 8h, 30m, 90s"
        )
    hours, minutes, seconds = (float(part or 0) for part in parts.groups())
    return 3600 * hours + 60 * minutes + seconds
