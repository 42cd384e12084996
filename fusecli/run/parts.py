"""Disjoint parts of one run, for several machines that do not talk to each other."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass

from fusecli.errors import UsageError

SLURM = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_COUNT")


@dataclass(frozen=True)
class Shard:
    """The `index`-th of `count` parts, counted from 1.

    A key belongs to a part by a hash of the key alone, so neither the order of a listing nor what
    the other parts do matters.
    """

    index: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read `I/N`, or `slurm`: the place of this task in its job array.

        Raises:
            UsageError: Neither, or variables of Slurm that are missing or make no sense.
        """
        if text == "slurm":
            return cls._from_slurm()
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise UsageError(
                f"--shard {text} is neither I/N with I from 1 to N, nor slurm",
                code="usage.shard",
                hint="--shard 2/8 is the second of eight parts",
            )
        return cls(int(match[1]), int(match[2]))

    @classmethod
    def _from_slurm(cls) -> Shard:
        values = {name: os.environ.get(name, "") for name in SLURM}
        missing = [name for name, value in values.items() if not value.isdecimal()]
        if missing:
            raise UsageError(
                f"--shard slurm needs {', '.join(missing)}",
                code="usage.shard",
                hint="submit a job array: sbatch --array=0-31 ...",
            )
        task, first, count = map(int, values.values())
        step = int(os.environ.get("SLURM_ARRAY_TASK_STEP", "1"))
        index = (task - first) // step + 1
        if not 1 <= index <= count:
            raise UsageError(
                f"array task {task} is not one of {count} tasks from {first} on",
                code="usage.shard",
                hint="submit an array without gaps: sbatch --array=0-31 ...",
            )
        return cls(index, count)

    def has(self, key: str) -> bool:
        """Return whether an item belongs to this part."""
        if self.count == 1:
            return True
        digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.count == self.index - 1

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"
