"""What a run is going to write, decided and checked before any pixel is computed."""

from __future__ import annotations

import itertools
import string
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from fusecli.errors import InputError, UsageError
from fusecli.io.pairs import Pair
from fusecli.report import relative

SUFFIXES = {"png": ".png", "tiff": ".tif", "jpeg": ".jpg", "webp": ".webp", "npy": ".npy"}
FORMATS = {
    ".png": "png", ".tif": "tiff", ".tiff": "tiff", ".jpg": "jpeg", ".jpeg": "jpeg",
    ".webp": "webp", ".npy": "npy",
}  # fmt: skip
HOLDS = {
    "png": ("uint8", "uint16"),
    "tiff": ("uint8", "uint16", "float32"),
    "jpeg": ("uint8",),
    "webp": ("uint8",),
    "npy": ("uint8", "uint16", "float32"),
}
FIELDS = ("key", "stem", "parent", "model", "index")


@dataclass(frozen=True, slots=True)
class Job:
    """One pair and where its result goes.

    Args:
        key: Of the pair.
        ir: Path of the infrared image.
        vis: Path of the visible image.
        out: Path of the result; `-` is standard output.
        format: Key of `SUFFIXES`.
    """

    key: str
    ir: str
    vis: str
    out: str
    format: str


@dataclass(frozen=True)
class Target:
    """Where results go: a folder, one file, or standard output.

    Args:
        out: As given with `--out`.
        name: Template of the stem, see `FIELDS`.
        format: `auto` or a key of `SUFFIXES`.
        dtype: `auto` or the type asked for.
        grid: `ir` or `vis`: whose file type `auto` follows.
        model: For the template.
    """

    out: str
    name: str = "{key}"
    format: str = "auto"
    dtype: str = "auto"
    grid: str = "vis"
    model: str = ""

    def __post_init__(self) -> None:
        _check_template(self.name)
        self._check_format()

    @property
    def is_file(self) -> bool:
        """True when `--out` names an image file, or standard output."""
        return self.out == "-" or PurePosixPath(self.out).suffix.lower() in FORMATS

    def job(self, pair: Pair, index: int) -> Job:
        """Return where one pair goes; `index` is its place in the full order of keys."""
        format = self._format_for(pair)
        if self.is_file:
            return Job(pair.key, pair.ir, pair.vis, self.out, format)
        place = PurePosixPath(pair.key)
        parent = "" if str(place.parent) == "." else str(place.parent)
        stem = self.name.format(
            key=pair.key, stem=place.name, parent=parent, model=self.model, index=index
        )
        _check_inside(stem, pair.key)
        out = str(Path(self.out) / (stem + SUFFIXES[format]))
        return Job(pair.key, pair.ir, pair.vis, out, format)

    def _check_format(self) -> None:
        suffix = PurePosixPath(self.out).suffix.lower()
        if self.out == "-" and self.format == "auto":
            raise UsageError(
                "-o - needs to know the file type", code="out.format", hint="add --format png"
            )
        format = self.format
        if suffix in FORMATS:
            if format not in ("auto", FORMATS[suffix]):
                raise UsageError(
                    f"--format {format} contradicts the name {self.out}", code="out.format"
                )
            format = FORMATS[suffix]
        if format != "auto" and self.dtype not in ("auto", *HOLDS[format]):
            able = ", ".join(name for name, types in HOLDS.items() if self.dtype in types)
            raise UsageError(
                f"a {format} file cannot hold {self.dtype}",
                code="out.format",
                hint=f"formats that can: {able}",
            )

    def _format_for(self, pair: Pair) -> str:
        if self.is_file and self.out != "-":
            return FORMATS[PurePosixPath(self.out).suffix.lower()]
        if self.format != "auto":
            return self.format
        suffix = PurePosixPath(pair.vis if self.grid == "vis" else pair.ir).suffix.lower()
        tiff = suffix in (".tif", ".tiff") or self.dtype == "float32"
        if self.dtype == "auto":  # the result then has the type of the visible image
            tiff = tiff or _holds_floats(pair.vis)
        return "tiff" if tiff else "png"


def _holds_floats(path: str) -> bool:
    suffix = PurePosixPath(path).suffix.lower()
    if suffix != ".npy":
        return suffix == ".pfm"
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False).dtype.kind == "f"
    except (OSError, ValueError):
        return False  # it will fail again, with a reason, when it is read


def _check_template(name: str) -> None:
    try:
        parts = list(string.Formatter().parse(name))
    except ValueError as error:
        raise UsageError(f"--name {name}: {error}", code="usage.name") from None
    for _, field, spec, conversion in parts:
        if field is None:
            continue
        if field not in FIELDS or conversion or "{" in (spec or ""):
            raise UsageError(
                f"--name {name}: '{field}' is not a field",
                code="usage.name",
                hint=f"the fields are {', '.join('{' + f + '}' for f in FIELDS)}",
            )
    try:
        name.format(key="k", stem="s", parent="p", model="m", index=0)
    except (ValueError, IndexError, KeyError) as error:
        raise UsageError(f"--name {name}: {error}", code="usage.name") from None


def _check_inside(stem: str, key: str) -> None:
    place = PurePosixPath(stem)
    if place.is_absolute() or ".." in place.parts or not place.name or ":" in place.parts[0]:
        raise InputError(
            f"the result of '{key}' would be written outside the output folder: {stem}",
            code="out.outside",
            hint="keys and --name may neither start with / nor contain ..",
        )


def plan(
    pairs: Iterable[Pair], target: Target, *, overwrite: bool = False, limit: int | None = None
) -> list[Job]:
    """Return the jobs of a run in the order of their keys.

    Raises:
        InputError: Nothing to do; several items for one output file; two results with one name;
            results that exist already without `overwrite`.
    """
    jobs = [target.job(pair, index) for index, pair in enumerate(itertools.islice(pairs, limit))]
    if not jobs:
        raise InputError("there is nothing to do: no pair was found", code="pair.none")
    if target.is_file and len(jobs) > 1:
        raise UsageError(
            f"--out {target.out} is one file, but there are {len(jobs)} pairs",
            code="out.file",
            hint="name a folder, or pick one pair with --limit 1",
        )
    if not target.is_file and Path(target.out).exists() and not Path(target.out).is_dir():
        raise InputError(
            f"{relative(target.out)} exists and is not a folder",
            code="out.not-a-folder",
            hint="choose another --out",
        )
    _check_distinct(jobs)
    if not overwrite:
        check_free(jobs)
    return jobs


def _check_distinct(jobs: list[Job]) -> None:
    keys: dict[str, str] = {}
    for job in jobs:
        other = keys.setdefault(job.out, job.key)
        if other is not job.key:
            raise InputError(
                f"'{other}' and '{job.key}' would both be written to {relative(job.out)}",
                code="out.collision",
                hint="let --name contain {key}",
            )


def check_free(jobs: Iterable[Job]) -> None:
    """Refuse to replace files.

    Raises:
        InputError: Names the count and the option that replaces them (`out.exists`).
    """
    present = [job.out for job in jobs if job.out != "-" and Path(job.out).exists()]
    if present:
        many = len(present) > 1
        raise InputError(
            f"{len(present)} of the results exist{'' if many else 's'} already",
            code="out.exists",
            facts=_first(relative(path) for path in present),
            hint="--overwrite replaces them",
            details={"count": len(present)},
        )


def _first(lines: Iterator[str], count: int = 10) -> list[str]:
    return list(itertools.islice(lines, count))
