"""What a run is going to write, decided and checked before any pixel is computed."""

from __future__ import annotations

import difflib
import itertools
import os
import string
from array import array
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fusecli.errors import InputError, UsageError
from fusecli.pairs import Pair
from fusecli.report import relative
from fusecli.run import outputs
from fusecli.run.parts import Shard

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
# What people ask for and do not get; a folder called `run.v2` is none of these.
OTHER_FILES = (
    ".bmp", ".gif", ".pgm", ".ppm", ".pfm", ".jp2", ".j2k", ".jxl", ".heic", ".heif", ".avif",
    ".exr", ".hdr", ".dng", ".raw", ".npz", ".mat", ".h5", ".pdf", ".svg", ".zip", ".seq", ".csq",
    ".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv",
)  # fmt: skip
FIELDS = ("key", "stem", "parent", "model", "index")
EXAMPLE = "as in --name '{key}_{model}'"


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

    @property
    def inputs(self) -> dict[str, str]:
        """The two paths by name."""
        return {"ir": self.ir, "vis": self.vis}


@dataclass(frozen=True)
class Target:
    """Where results go: a folder, one file, or standard output.

    Args:
        out: As given with `--out`.
        name: Template of the stem, see `FIELDS`.
        format: `auto` or a key of `SUFFIXES`.
        dtype: `auto` or the type asked for.
        grid: `ir` or `vis`: whose file type `auto` follows.
        typed: `ir` or `vis`: whose pixel type the result has where `dtype` is `auto`.
        model: For the template.
    """

    out: str
    name: str = "{key}"
    format: str = "auto"
    dtype: str = "auto"
    grid: str = "vis"
    model: str = ""
    typed: str = "vis"

    def __post_init__(self) -> None:
        _check_template(self.name)
        self._check_format()

    @property
    def is_file(self) -> bool:
        """True when `--out` names an image file, or standard output."""
        return self.out == "-" or _suffix(self.out) in FORMATS

    def job(self, pair: Pair, index: int) -> Job:
        """Return where one pair goes; `index` is its place in the full order of keys."""
        format = self._format_for(pair)
        if self.is_file:
            return Job(pair.key, pair.ir, pair.vis, self.out, format)
        parent, _, name = pair.key.rpartition("/")
        stem = self.name.format(
            key=pair.key, stem=name, parent=parent, model=self.model, index=index
        )
        _check_inside(stem, pair.key)
        out = os.path.join(self.out, stem + SUFFIXES[format])  # noqa: PTH118 - a million times
        return Job(pair.key, pair.ir, pair.vis, out, format)

    def _check_format(self) -> None:
        suffix = _suffix(self.out)
        if self.out == "-" and self.format == "auto":
            raise UsageError(
                "-o - needs to know the file type", code="out.format", hint="add --format png"
            )
        if suffix not in FORMATS and not Path(self.out).is_dir():
            _check_folder(self.out, suffix)
        format = self.format
        if suffix in FORMATS:
            if format not in ("auto", FORMATS[suffix]):
                raise UsageError(
                    f"--format {format} contradicts the name {self.out}",
                    code="out.format",
                    hint=f"leave --format out, or let the name end in {SUFFIXES[format]}",
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
            return FORMATS[_suffix(self.out)]
        if self.format != "auto":
            return self.format
        suffix = _suffix(pair.vis if self.grid == "vis" else pair.ir)
        tiff = suffix in (".tif", ".tiff") or self.dtype == "float32"
        if self.dtype == "auto":
            tiff = tiff or _holds_floats(pair.vis if self.typed == "vis" else pair.ir)
        return "tiff" if tiff else "png"


def _check_folder(out: str, suffix: str) -> None:
    """Refuse a folder that would bear the name of a file that nobody writes."""
    near = difflib.get_close_matches(suffix, FORMATS, n=1, cutoff=0.75)
    if not near and suffix not in OTHER_FILES:
        return
    raise UsageError(
        f"--out {out} looks like a file, but {suffix} files are not written",
        code="out.format",
        hint=f"files: {' '.join(FORMATS)}; for a folder of this name write {out}/",
    )


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()  # noqa: PTH122 - a million times


def _holds_floats(path: str) -> bool:
    suffix = _suffix(path)
    if suffix != ".npy":
        return suffix == ".pfm"
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False).dtype.kind == "f"
    except Exception:  # its header is Python source: anything can be wrong
        return False  # it will fail again, with a reason, when it is read


def _check_template(name: str) -> None:
    try:
        parts = list(string.Formatter().parse(name))
    except ValueError as error:
        raise UsageError(f"--name {name}: {error}", code="usage.name", hint=EXAMPLE) from None
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
        raise UsageError(f"--name {name}: {error}", code="usage.name", hint=EXAMPLE) from None


def _check_inside(stem: str, key: str) -> None:
    parts = stem.split("/")
    # Windows alone takes a colon for a drive or a stream; elsewhere times stand in names
    colon = os.sep == "\\" and ":" in stem
    if not parts[0] or not parts[-1] or ".." in parts or colon:
        raise InputError(
            f"the result of '{key}' would be written outside the output folder: {stem}",
            code="out.outside",
            hint="keys and --name may neither start with / nor contain ..",
        )


class Plan:
    """The jobs of a run in the order of its pairs, made anew each time they are asked for.

    So a million of them take no more room than their pairs do, and none for a list on disk.

    Args:
        pairs: Can be gone through more than once.
        target: Where results go.
        limit: Stop after this many pairs.
        shard: Of these, the part that is this process's.
    """

    def __init__(
        self,
        pairs: Iterable[Pair],
        target: Target,
        *,
        limit: int | None = None,
        shard: Shard | None = None,
    ) -> None:
        self.pairs, self.target, self.limit = pairs, target, limit
        self.shard = shard or Shard()
        self._length: int | None = None

    def everything(self) -> Iterator[Job]:
        """Yield the jobs of all shards."""
        for index, pair in enumerate(itertools.islice(self.pairs, self.limit)):
            yield self.target.job(pair, index)

    def __iter__(self) -> Iterator[Job]:
        return (job for job in self.everything() if self.shard.has(job.key))

    def __len__(self) -> int:
        if self._length is None:
            self._length = sum(1 for _ in self)
        return self._length


def plan(
    pairs: Iterable[Pair],
    target: Target,
    *,
    overwrite: bool = False,
    known: Container[str] | None = None,
    limit: int | None = None,
    shard: Shard | None = None,
) -> Plan:
    """Return the jobs of a run, all of them checked.

    Args:
        pairs: Can be gone through more than once.
        target: Where results go.
        overwrite: Results may exist.
        known: Results that may exist, by path relative to the output folder: see `--resume`.
        limit: Stop after this many pairs.
        shard: See `Plan`.

    Raises:
        InputError: Nothing to do; several items for one output file; two results with one name;
            results that exist already and may not.
    """
    jobs = Plan(pairs, target, limit=limit, shard=shard)
    outputs.listing.cache_clear()
    hashes, present = array("q"), []
    for job in jobs.everything():
        hashes.append(hash(job.out))
        if not overwrite and job.out != "-" and jobs.shard.has(job.key) and outputs.exists(job.out):
            present.append(job.out)
    if not hashes:
        raise InputError(
            "there is nothing to do: no pair was found",
            code="pair.none",
            hint="below the first line of a --pairs list each line is a pair: ir/1.png,vis/1.png",
        )
    if target.is_file and len(hashes) > 1:
        raise UsageError(
            f"--out {target.out} is one file, but there are {len(hashes)} pairs",
            code="out.file",
            hint="name a folder, or pick one pair with --limit 1",
        )
    if not target.is_file and Path(target.out).exists() and not Path(target.out).is_dir():
        raise InputError(
            f"{relative(target.out)} exists and is not a folder",
            code="out.not-a-folder",
            hint="choose another --out",
        )
    _check_distinct(jobs, hashes)
    _check_free(present, target.out, known)
    return jobs


def _check_distinct(jobs: Plan, hashes: array[int]) -> None:
    unique, counts = np.unique(np.asarray(hashes), return_counts=True)
    shared = set(unique[counts > 1].tolist())
    keys: dict[str, str] = {}
    for job in jobs.everything() if shared else ():
        if hash(job.out) in shared and keys.setdefault(job.out, job.key) is not job.key:
            raise InputError(
                f"'{keys[job.out]}' and '{job.key}' would both be written to {relative(job.out)}",
                code="out.collision",
                hint="let --name contain {key}",
            )


def _check_free(present: list[str], out: str, known: Container[str] | None) -> None:
    if known is not None:
        present = [path for path in present if Path(path).relative_to(out).as_posix() not in known]
    if not present:
        return
    one = len(present) == 1
    if known is None:
        message = f"{len(present)} of the results exist{'s' if one else ''} already"
        code, hint = "out.exists", "--resume goes on where a run stopped; --overwrite replaces them"
    else:
        message = f"{len(present)} of the results {'was' if one else 'were'} not written by fusecli"
        code, hint = "out.foreign", "--overwrite replaces them; or choose another --out"
    facts = [relative(path) for path in present[:10]]
    raise InputError(message, code=code, facts=facts, hint=hint, details={"count": len(present)})
