"""The record of what was written from what, which lets a run that was cut off go on.

A manifest is a file of JSON lines: a header for each run, then a line for each item. One process
writes it. The line of a result is written before the result gets its name, so a kill may leave a
recorded file missing, which is then made again, but never a finished file that nobody remembers.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from fusecli.errors import InputError
from fusecli.outcome import Outcome
from fusecli.report import relative
from fusecli.run import outputs
from fusecli.run.parts import Shard
from fusecli.run.plan import Job
from fusecli.text import as_json
from fusecli.version import __version__
from fusecli.writing import refused

SCHEMA = "fusecli/manifest/1"
FOLDER = ".fusecli"


def fingerprint(settings: Mapping[str, Any]) -> str:
    """Return 16 hexadecimal digits that change with anything that changes results."""
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def manifest_path(out: str, chosen: str, shard: Shard) -> Path:
    """Return where the record of a shard goes.

    Args:
        out: Folder of the results.
        chosen: As in `--manifest`; `auto` is a hidden folder in `out`.
        shard: Each has a file of its own.
    """
    path = Path(out, FOLDER, "manifest.jsonl") if chosen == "auto" else Path(chosen)
    if shard.count > 1:
        path = path.with_name(f"{path.stem}-{shard.index}-of-{shard.count}{path.suffix}")
    return path


# --- what is known ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Known:
    """What the last run that made a result has said about it; small, for there may be a million.

    Args:
        started: When that run began.
        state: See `signature`; empty when the item failed.
        ours: This shard's own manifest has a line about it.
    """

    started: str
    state: bytes
    ours: bool


def state_of(inputs: Mapping[str, str], checksum: bool) -> dict[str, Any] | None:
    """Return size and modification time of each input, or its SHA-256; None where one is missing.

    Args:
        inputs: Paths by name.
        checksum: Read the files instead of trusting times.
    """
    try:
        if checksum:
            return {name: _sha256(path) for name, path in inputs.items()}
        found = {name: Path(path).stat() for name, path in inputs.items()}
    except OSError:
        return None  # reading it gives the better message
    return {name: [stat.st_size, stat.st_mtime] for name, stat in found.items()}


def _sha256(path: str) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def signature(fp: str, state: Mapping[str, Any]) -> bytes:
    """Return 12 bytes that stand for the options and inputs of one result."""
    text = json.dumps([fp, state], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=12).digest()


def read(path: Path, checksum: bool = False) -> dict[str, Known]:
    """Return what the manifests of all shards know, by path of the result relative to OUT.

    Args:
        path: Of one of them.
        checksum: Compare the SHA-256 of inputs; a line without is as good as none.
    """
    stem = re.sub(r"-\d+-of-\d+$", "", path.stem)
    name = re.compile(rf"{re.escape(stem)}(-\d+-of-\d+)?{re.escape(path.suffix)}")
    known: dict[str, Known] = {}
    if path.parent.is_dir():
        for sibling in sorted(path.parent.iterdir()):
            if name.fullmatch(sibling.name):
                _read_one(sibling, known, checksum, ours=sibling == path)
    return known


def _read_one(path: Path, known: dict[str, Known], checksum: bool, ours: bool) -> None:
    started = ""
    for line in _lines(path):
        if line.get("schema") == SCHEMA:
            started = str(line.get("started", ""))
        out, status = line.get("out"), line.get("status")
        if not isinstance(out, str) or status not in ("done", "skipped", "failed"):
            continue
        before = known.get(out)
        if status == "skipped" or (before is not None and before.started > started):
            if before is not None and ours:
                known[out] = Known(before.started, before.state, True)
            continue
        inputs = line.get("sha256" if checksum else "in")
        state = b""
        if status == "done" and inputs:
            state = signature(str(line.get("fp")), inputs)
        known[out] = Known(started, state, ours or (before is not None and before.ours))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a manifest; one torn by a kill is no line."""
    with path.open("rb") as file:
        for text in file:
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                continue
            if isinstance(line, dict):
                yield line


@dataclass(frozen=True)
class Record:
    """Where a run keeps its record, and what it takes over from earlier ones.

    Args:
        path: See `manifest_path`.
        out: Folder of the results.
        shard: Which part of the run this is.
        known: What earlier runs recorded; empty unless `--resume`.
        replaces: Results may be there already.
        checksum: Compare contents of inputs instead of their times.
    """

    path: Path
    out: str
    shard: Shard = Shard()
    known: Mapping[str, Known] = field(default_factory=dict)
    replaces: bool = False
    checksum: bool = False


# --- writing it ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Task:
    """A job and what is known about its result; crosses to other processes."""

    job: Job
    known: bytes = b""

    @property
    def key(self) -> str:
        """The job's."""
        return self.job.key


@dataclass(frozen=True)
class Careful:
    """Work that skips what is up to date, and notices inputs that change under its hands.

    Args:
        work: Does one job; leaves its results as parts, see `outputs.stage`.
        fp: Of the run.
        checksum: Compare contents of inputs instead of their times.
    """

    work: Callable[[Any], Outcome]
    fp: str
    checksum: bool = False

    def __call__(self, task: Task) -> Outcome:
        """Do one job, or find that it was done.

        Raises:
            InputError: An input changed while it was read (`read.changed`).
        """
        job = task.job
        sums = state_of(job.inputs, True) if self.checksum else None
        times = state_of(job.inputs, False)
        if is_current(task, self.fp, sums if self.checksum else times):
            return Outcome(job.key, "skipped", out=job.out)
        outcome = self.work(job)
        if times is None or state_of(job.inputs, False) != times:
            outputs.discard(outcome.parts)
            raise InputError(
                f"the inputs of '{job.key}' changed while they were read",
                code="read.changed",
                hint="run again with --resume when nothing writes to them any more",
            )
        outcome.record["in"] = times
        if sums is not None:
            outcome.record["sha256"] = sums
        return outcome


def is_current(task: Task, fp: str, state: Mapping[str, Any] | None) -> bool:
    """Return whether a result is there and was made from these inputs with these settings."""
    if not task.known or state is None or task.known != signature(fp, state):
        return False
    return Path(task.job.out).exists()


class Manifest:
    """The one writer of a run's record. A context manager; holds a lock while it is open.

    Args:
        record: Where it is kept, and what is known.
        command: Of the run.
        settings: What changes results: options, hash of the weights, kind of device.
    """

    def __init__(self, record: Record, command: str, settings: Mapping[str, Any]) -> None:
        self.record, self.fp = record, fingerprint(settings)
        self.header = {
            "schema": SCHEMA,
            "command": command,
            "version": __version__,
            "started": datetime.now(UTC).isoformat(timespec="microseconds"),
            "fp": self.fp,
            "shard": str(record.shard),
            "options": dict(settings),
        }

    def __enter__(self) -> Self:
        """Lock the record and write the header.

        Raises:
            InputError: Another process writes it (`out.locked`), or it cannot be written.
        """
        path = self.record.path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o644)
            if not lock(self._lock):
                os.close(self._lock)
                raise InputError(
                    f"another run of fusecli is writing to {relative(self.record.out)}",
                    code="out.locked",
                    hint="wait for it, or divide the work with --shard I/N",
                )
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | _BINARY, 0o644)
            self._end = _whole_lines(self._file)
            self._append(self.header)
        except OSError as error:
            raise refused(relative(path), error) from None
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._file)
        os.close(self._lock)

    def is_done(self, job: Job) -> bool:
        """Return whether the result of a job is up to date."""
        (task,) = self.tasks([job])
        return is_current(task, self.fp, state_of(job.inputs, self.record.checksum))

    def careful(self, work: Callable[[Any], Outcome]) -> Careful:
        """Return the work that the tasks of this manifest need."""
        return Careful(work, self.fp, self.record.checksum)

    def tasks(self, jobs: Iterable[Job]) -> Iterator[Task]:
        """Yield each job with what is known about its result."""
        for job in jobs:
            known = self.record.known.get(self._relative(job.out))
            yield Task(job, known.state if known else b"")

    def settle(self, task: Task, outcome: Outcome) -> Outcome:
        """Record an outcome and give its results their names, in this order.

        Returns:
            The outcome, or a failure where the record or a name could not be written.
        """
        job = task.job
        out = self._relative(job.out)
        line: dict[str, Any] = {"key": job.key, "status": outcome.status, **job.inputs, "out": out}
        if outcome.status == "done":
            try:
                if self.record.replaces:
                    # Were it still there after a kill, the new line would vouch for old pixels.
                    Path(job.out).unlink(missing_ok=True)
                self._append(line | outcome.record | {"fp": self.fp, "ms": outcome.ms})
                outputs.place(outcome.parts)
                return outcome
            except OSError as error:
                outputs.discard(outcome.parts)
                outcome = Outcome(job.key, "failed", error=refused(job.out, error))
                line["status"] = "failed"
        if outcome.error is not None:
            why = outcome.error
            problem: dict[str, Any] = {
                "code": why.code, "message": why.message, "hint": why.hint,
            }  # fmt: skip
            if why.details:
                problem["details"] = why.details
            line |= {"fp": self.fp, "error": problem}
        elif out in self.record.known and self.record.known[out].ours:
            return outcome  # skipped, and this shard's own record says why
        with suppress(OSError):  # a full disk: the report still has it
            self._append(line)
        return outcome

    def _relative(self, out: str) -> str:
        return Path(os.path.relpath(out, self.record.out)).as_posix()

    def _append(self, line: Mapping[str, Any]) -> None:
        data = as_json(line, separators=(",", ":")).encode() + b"\n"
        os.lseek(self._file, self._end, os.SEEK_SET)
        written = 0
        try:
            while written < len(data):
                written += os.write(self._file, data[written:])
        except OSError:
            os.ftruncate(self._file, self._end)  # half a line would swallow the next one
            raise
        self._end += written


_BINARY = getattr(os, "O_BINARY", 0)


def _whole_lines(file: int) -> int:
    """Cut a torn last line off and return the length that is left."""
    end = os.lseek(file, 0, os.SEEK_END)
    start, tail = end, b""
    while start and b"\n" not in tail:
        size = min(start, 65536)
        start -= size
        os.lseek(file, start, os.SEEK_SET)
        tail = os.read(file, size)
    keep = start + tail.rfind(b"\n") + 1
    if keep < end:
        os.ftruncate(file, keep)
    return keep


def lock(file: int) -> bool:
    """Lock a file for this process until it ends; return False when another one has it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return True  # a file system without locks: we cannot know better
    return True
