"""What became of an item, and of a whole run."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Self

from fusecli.errors import FusecliError
from fusecli.version import __version__

JSON_FAILURES = 100  # failures in the JSON document; the manifest has all


@dataclass(slots=True)
class Outcome:
    """What became of one item.

    Args:
        key: The item's key.
        status: `done`, `skipped` (already up to date) or `failed`.
        out: Path of the file written.
        error: Why it failed.
        ms: Milliseconds spent, by name: `read`, `run`, `write`.
        notes: Code to message of warnings that the run collects and counts.
        record: Further JSON-ready values for the manifest.
        parts: Finished files that still wait for their final names, and these names.
        decisions: Lines for `-v`.
    """

    key: str
    status: Literal["done", "skipped", "failed"] = "done"
    out: str | None = None
    error: FusecliError | None = None
    ms: dict[str, float] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)
    parts: list[tuple[str, str]] = field(default_factory=list)
    decisions: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Kind:
    """Failures of one code, told together.

    Args:
        hint: Of the first.
        count: How many there are.
    """

    hint: str | None
    count: int = 0


@dataclass
class RunReport:
    """The result of one command over many items; also the `fusecli/run/1` document."""

    command: str
    verb: str
    out: str
    found: int = 0
    done: int = 0
    skipped: int = 0
    failed: int = 0
    failures: list[dict[str, Any]] = field(default_factory=list)
    kinds: dict[str, Kind] = field(default_factory=dict)
    notes: dict[str, tuple[int, str]] = field(default_factory=dict)
    seconds: float = 0.0
    ms: dict[str, float] = field(default_factory=dict)
    signal: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    started: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))

    def add(self, outcome: Outcome) -> None:
        """Count one outcome; keep the first failures, and the times of what was done."""
        setattr(self, outcome.status, getattr(self, outcome.status) + 1)
        if (error := outcome.error) is not None:
            kind = self.kinds.setdefault(error.code, Kind(error.hint))
            kind.count += 1
            # the first of each code is kept, however late it comes: it is what the user sees
            if len(self.failures) < JSON_FAILURES or kind.count == 1:
                failure = {"key": outcome.key, "code": error.code, "message": error.message}
                self.failures.append({**failure, "hint": error.hint})
        for name, value in outcome.ms.items():
            self.ms[name] = self.ms.get(name, 0.0) + value
        for code, message in outcome.notes.items():
            count, first = self.notes.get(code, (0, message))
            self.notes[code] = (count + 1, first)

    @property
    def exit_code(self) -> int:
        """0 all done, 3 some items failed, 4 all failed, 128 + signal when interrupted."""
        if self.signal is not None:
            return 128 + self.signal
        if not self.failed:
            return 0
        return 3 if self.done or self.skipped else 4

    @property
    def warnings(self) -> list[dict[str, str]]:
        """Warnings collected from the items, each once with its count."""
        return [
            {"code": code, "message": message if count == 1 else f"{message} ({count} items)"}
            for code, (count, message) in sorted(self.notes.items())
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return the document that `--json` prints."""
        document: dict[str, Any] = {
            "schema": "fusecli/run/1",
            "command": self.command,
            "version": __version__,
            "ok": self.exit_code == 0,
            "exit_code": self.exit_code,
            "started": self.started,
            "elapsed_s": round(self.seconds, 3),
            "counts": {
                "found": self.found,
                "done": self.done,
                "skipped": self.skipped,
                "failed": self.failed,
            },
            "out": self.out,
            "rate": {
                "items_per_s": round(self.done / self.seconds, 3) if self.seconds else 0.0,
                **{f"{name}_s": round(value / 1000, 3) for name, value in self.ms.items()},
            },
            "failures": sorted(self.failures, key=lambda failure: failure["key"]),
            "failed_by_code": {code: kind.count for code, kind in sorted(self.kinds.items())},
            "warnings": self.warnings,
        }
        return document | self.extra

    def lines(self) -> list[str]:
        """Return the closing lines."""
        return [self.summary()]

    def summary(self) -> str:
        """Return the closing line."""
        counts = f"{self.verb} {self.done}, skipped {self.skipped}, failed {self.failed}"
        line = f"{counts} in {self.seconds:.1f} s -> {self.out}"
        if self.signal is None:
            return line
        left = self.found - self.done - self.skipped - self.failed
        further = "; the same command with --resume does them" if self.extra.get("manifest") else ""
        return f"stopped, {left} of {self.found} left{further}: {line}"


class Stopwatch:
    """Milliseconds of the parts of one item's work: `with watch("read"): ...`."""

    def __init__(self) -> None:
        self.ms: dict[str, float] = {}
        self._name = ""
        self._start = 0.0

    def __call__(self, name: str) -> Self:
        """Name the next part."""
        self._name = name
        return self

    def __enter__(self) -> Self:
        self._start = time.perf_counter()
        return self

    def __exit__(self, *exc: object) -> None:
        spent = 1000 * (time.perf_counter() - self._start)
        self.ms[self._name] = round(self.ms.get(self._name, 0.0) + spent, 3)
