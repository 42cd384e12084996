"""The folder of a training run: what is in it, and how it is written and read back.

config.toml          every resolved option
metrics.jsonl        one line every few steps, one per validation
samples/             infrared | visible | result of some held-out crops
last.safetensors     the latest weights
best.safetensors     the weights with the smallest validation loss of the stage
last.state.pt        all that `--resume` needs
checkpoints/         the latest few weights, by stage and step
card.md              what was trained, on what, how far
"""

from __future__ import annotations

import io
import json
import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fusecli import checkpoint
from fusecli.errors import InputError, MissingError, UsageError
from fusecli.images import encode, from_unit, write_atomic
from fusecli.text import as_json
from fusecli.training.recipe import TrainOptions
from fusecli.version import __version__

CONTENTS = ("config.toml", "metrics.jsonl", "samples", "last.safetensors", "best.safetensors",
            "last.state.pt", "checkpoints", "card.md")  # fmt: skip


class RunFolder:
    """Writer of one RUN; every file appears whole or not at all.

    Args:
        path: The folder.
        model: Name of the network, stored with its weights.
        options: Its options, stored with its weights.
        keep: Numbered checkpoints to keep.
        tensorboard: Also write TensorBoard events.

    Raises:
        MissingError: TensorBoard is asked for and not installed.
    """

    def __init__(
        self,
        path: Path,
        *,
        model: str,
        options: Mapping[str, Any],
        keep: int = 3,
        tensorboard: bool = False,
    ) -> None:
        self.path, self.model, self.options, self.keep = path, model, options, keep
        self.board: Any = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise MissingError(
                    "--log tensorboard needs the package tensorboard",
                    code="extra.missing",
                    hint="pip install 'fusecli[tensorboard]'",
                ) from None
            self.board = SummaryWriter(str(path / "tensorboard"))

    def write_text(self, name: str, text: str) -> None:
        """Write a small file."""
        write_atomic(str(self.path / name), text.encode("utf-8", "backslashreplace"))

    def log(self, record: Mapping[str, Any]) -> None:
        """Add a line to `metrics.jsonl`."""
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        if self.board is not None:
            for name, value in record.items():
                if isinstance(value, float):
                    self.board.add_scalar(f"{record['stage']}/{name}", value, record["step"])

    def rewind(self, stages: list[str], stage: int, step: int) -> None:
        """Drop the lines of `metrics.jsonl` that lie after a step: they will be written again."""
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return
        kept = []
        for line in path.read_text("utf-8").splitlines():
            record = json.loads(line)
            if (stages.index(record["stage"]), record["step"]) <= (stage, step):
                kept.append(line + "\n")
        self.write_text(path.name, "".join(kept))

    def save_weights(self, name: str, network: nn.Module, **about: Any) -> None:
        """Write `NAME.safetensors`."""
        checkpoint.save(
            self.path / f"{name}.safetensors",
            network,
            model=self.model,
            options=self.options,
            extra=about,
        )

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Write `last.state.pt`."""
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        write_atomic(str(self.path / "last.state.pt"), buffer.getvalue())

    def keep_checkpoint(self, stage: str, step: int) -> None:
        """Copy `last.safetensors` to a numbered file and remove all but the latest few."""
        if not self.keep:
            return
        folder = self.path / "checkpoints"
        folder.mkdir(exist_ok=True)
        last = (self.path / "last.safetensors").read_bytes()
        write_atomic(str(folder / f"{stage}-{step:07d}.safetensors"), last)
        numbered = sorted(folder.glob("*.safetensors"), key=lambda file: file.stat().st_mtime_ns)
        for old in numbered[: -self.keep]:
            old.unlink()

    def save_samples(self, stage: str, step: int, rows: torch.Tensor) -> None:
        """Write one PNG of images side by side.

        Args:
            stage: Its name.
            step: Its step.
            rows: (N, 3, H, W) in 0..1: infrared, visible and result of each crop.
        """
        sheet = rows.permute(0, 2, 1, 3).flatten(0, 1).flatten(1)
        (self.path / "samples").mkdir(exist_ok=True)
        picture = encode(from_unit(sheet.numpy(), np.uint8), format="png")
        write_atomic(str(self.path / "samples" / f"{stage}-{step:07d}.png"), picture)


def refuse(path: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse a folder that already holds a run.

    Raises:
        UsageError: `out.exists`, without `resume` and `overwrite`.
    """
    present = [name for name in CONTENTS if (path / name).exists()]
    if present and not (resume or overwrite):
        raise UsageError(
            f"{path} already holds a training run",
            code="out.exists",
            facts=present,
            hint="go on with it (--resume), replace it (--overwrite), or choose another folder",
        )


def prepare(path: Path, *, overwrite: bool) -> None:
    """Make the folder; with `overwrite` remove the run that it holds.

    Raises:
        InputError: The folder cannot be made.
    """
    try:
        for old in (path / name for name in CONTENTS if overwrite):
            if old.is_dir():
                shutil.rmtree(old)
            else:
                old.unlink(missing_ok=True)
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot write to {path}: {error}",
            code="write.folder",
            hint="name another place, as in -o runs/mine",
        ) from None


def read_state(path: Path) -> dict[str, Any] | None:
    """Return what `last.state.pt` holds, or None where no checkpoint was written yet.

    Raises:
        MissingError: A file that cannot be read.
    """
    file = path / "last.state.pt"
    if not file.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise MissingError(
            f"cannot resume from {file}: {error}",
            code="train.state",
            hint=f"start again from the weights: --init {path / 'last.safetensors'}",
        ) from None
    return state


def to_toml(tables: Mapping[str, Any]) -> str:
    """Return TOML of tables of plain values; a list of tables becomes `[[name]]`.

    None, which TOML does not know, is left out.
    """
    lines: list[str] = []
    for name, table in tables.items():
        many = isinstance(table, list)
        for one in table if many else [table]:
            lines.append(f"[[{name}]]" if many else f"[{name}]")
            lines += [f"{_key(k)} = {_value(v)}" for k, v in one.items() if v is not None]
            lines.append("")
    return "\n".join(lines)


def _key(text: str) -> str:
    return text if text.replace("_", "").replace("-", "").isalnum() else json.dumps(text)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, bool | int | float | str):
        return as_json(value)  # one notation for both languages
    return as_json(str(value))


def card(options: TrainOptions, facts: Mapping[str, str], pairs: int) -> str:
    """Return the model card of a run.

    Args:
        options: What was asked for.
        facts: What came of it.
        pairs: Number of training pairs.
    """
    spec = options.spec
    chosen = ", ".join(f"{name}={value}" for name, value in options.options.items())
    lines = [
        f"# {spec.title}, trained by fusecli {__version__}",
        "",
        f"- Paper: {spec.paper}",
        f"- Model: `{options.model}`; {chosen}",
        *(f"- {name}: {value}" for name, value in facts.items()),
        f"- Command: `{options.command}`",
        "",
        "| stage | steps | batch | crop | rate | loss |",
        "|---|---|---|---|---|---|",
    ]
    for stage in options.stages:
        loss = ", ".join(f"{term} {weight:g}" for term, weight in stage.weights.items() if weight)
        lines.append(
            f"| {stage.name} | {options.steps_of(stage, pairs)} | {stage.batch_size} |"
            f" {stage.crop} | {stage.lr:g} {stage.schedule} | {loss} |"
        )
    return "\n".join(lines) + "\n"
