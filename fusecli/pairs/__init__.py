"""Files, keys and pairs: which infrared image belongs to which visible one.

A file's key is its relative path, `/`-separated, without the suffix, in Unicode NFC. Two files
pair when their keys are equal. Everything here is text and `os.scandir`: a million pairs of
`Path` objects would take twice the memory, and `fusecli --help` must not pay for numpy.
"""

import csv
import json
import os
import shlex
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import IO, Literal

from fusecli.errors import InputError, UsageError
from fusecli.pairs import mismatch, times
from fusecli.pairs.files import (
    Found,
    check_key,
    check_out,
    check_some,
    find_files,
    is_inside,
    key_maker,
    key_of,
    keyed_files,
    natural,
    real_path,
    scan,
    twins,
)
from fusecli.pairs.times import Timing

__all__ = ["Pair", "PairedFolder", "find_files", "find_pairs", "read_pair_list"]

LONGEST_LINE = 1 << 16  # of a pair list, in characters; two paths stay far below

Side = Literal["ir", "vis"]


@dataclass(frozen=True, slots=True)
class Pair:
    """One infrared and one visible file that belong together.

    Args:
        key: Relative path without suffix, `/`-separated, NFC. It names the output.
        ir: Path of the infrared file.
        vis: Path of the visible file.
    """

    key: str
    ir: str
    vis: str


@dataclass(frozen=True, slots=True)
class PairedFolder:
    """All pairs of two sources, and what was left over.

    Args:
        pairs: In key order (in natural order with `pair_by="order"`).
        unmatched_ir: Infrared paths without a partner; empty unless `unpaired="skip"`.
        unmatched_vis: Visible paths without a partner; empty unless `unpaired="skip"`.
        ignored: Files passed over because their suffix is not one of `SUFFIXES`.
    """

    pairs: tuple[Pair, ...]
    unmatched_ir: tuple[str, ...]
    unmatched_vis: tuple[str, ...]
    ignored: int


def find_pairs(
    ir: str,
    vis: str,
    *,
    recursive: bool = False,
    ir_suffix: str = "",
    vis_suffix: str = "",
    pair_regex: str | None = None,
    pair_by: Literal["key", "order", "time"] = "key",
    timing: Timing | None = None,
    unpaired: Literal["error", "skip"] = "error",
    out: str | None = None,
    reference: Side = "vis",
) -> PairedFolder:
    """Return the pairs of two sources, each a file, a folder or a glob.

    Args:
        ir: Infrared source.
        vis: Visible source. It may be the same folder as `ir` when a suffix tells them apart.
        recursive: Descend into sub-folders; their names become part of the key.
        ir_suffix: Stripped from the end of infrared stems before keys are compared.
        vis_suffix: The same for visible stems.
        pair_regex: Its group `key`, or else all its groups joined by `/`, matched against the
            relative path, is the key.
        pair_by: `order` sorts both sides naturally and pairs by position; `time` takes times from
            names, and leaves frames without a partner out.
        timing: How times are read and compared, for `time`.
        unpaired: `skip` goes on without the files that have no partner.
        out: Output path; refused where it would feed outputs back as inputs.
        reference: The side that names the pair where the two keys may differ.

    Raises:
        InputError: `read.missing`, `read.permission`, `pair.empty`, `pair.none`,
            `pair.unmatched`, `pair.duplicate`, `pair.same`, `pair.count`, `pair.order`,
            `pair.time`, `pair.key`.
        UsageError: `pair.regex`, `pair.options`, `out.inside`.
    """
    if pair_regex is not None and (ir_suffix or vis_suffix or pair_by != "key"):
        raise UsageError(
            "--pair-regex already says how keys are made",
            code="pair.options",
            hint="leave out --ir-suffix, --vis-suffix and --pair-by",
        )
    found_ir, found_vis = scan(ir, recursive), scan(vis, recursive)
    if out is not None:
        for source, found in ((ir, found_ir), (vis, found_vis)):
            check_out(out, source, found, recursive)
    if real_path(found_ir.base) == real_path(found_vis.base) and found_ir.paths == found_vis.paths:
        found_ir, found_vis = _sides_of_one_folder(found_ir, ir_suffix, vis_suffix)
    for source, found, side in ((ir, found_ir, "infrared"), (vis, found_vis, "visible")):
        check_some(source, found, side, recursive)
    ignored = found_ir.ignored + found_vis.ignored

    left_ir: list[str] = []
    left_vis: list[str] = []
    if pair_by == "time":
        pairs, left_ir, left_vis = _pair_by_time(found_ir, found_vis, timing or Timing(), reference)
    elif (found_ir.single and found_vis.single) or pair_by == "order":
        pairs = _pair_by_order(found_ir, found_vis, ir_suffix, vis_suffix, reference)
    else:
        several = twins(found_ir) | twins(found_vis)
        key_ir, lost_ir = keyed_files(found_ir, key_maker(pair_regex, ir_suffix, several))
        key_vis, lost_vis = keyed_files(found_vis, key_maker(pair_regex, vis_suffix, several))
        common = sorted(key for key in key_ir if key in key_vis)
        pairs = [Pair(key, key_ir[key], key_vis[key]) for key in common]
        left_ir = lost_ir + [key_ir[key] for key in sorted(key_ir) if key not in key_vis]
        left_vis = lost_vis + [key_vis[key] for key in sorted(key_vis) if key not in key_ir]
        if not pairs or (unpaired == "error" and (left_ir or left_vis)):
            raise mismatch.explain(
                len(pairs),
                left_ir,
                left_vis,
                [key_of(found_ir.relative(path)) for path in found_ir.paths],
                [key_of(found_vis.relative(path)) for path in found_vis.paths],
                given=pair_regex is not None or bool(ir_suffix or vis_suffix),
            )
    _check_distinct(pairs, found_ir, found_vis)
    return PairedFolder(tuple(pairs), tuple(left_ir), tuple(left_vis), ignored)


def _sides_of_one_folder(found: Found, ir_suffix: str, vis_suffix: str) -> tuple[Found, Found]:
    """Split one folder that holds both sides; a side without suffix gets the rest."""
    if not (ir_suffix or vis_suffix):
        return found, found

    def carry(suffix: str) -> set[str]:
        suffix = unicodedata.normalize("NFC", suffix)
        return {path for path in found.paths if suffix and key_of(path).endswith(suffix)}

    ir, vis = carry(ir_suffix), carry(vis_suffix)
    if not ir_suffix:
        ir = set(found.paths) - vis
    if not vis_suffix:
        vis = set(found.paths) - ir
    return replace(found, paths=sorted(ir)), replace(found, paths=sorted(vis), ignored=0)


def _pair_by_order(
    ir: Found, vis: Found, ir_suffix: str, vis_suffix: str, reference: Side
) -> list[Pair]:
    if len(ir.paths) != len(vis.paths):
        raise InputError(
            f"--pair-by order needs equal counts: {len(ir.paths)} infrared and "
            f"{len(vis.paths)} visible images",
            code="pair.count",
            hint="leave --pair-by order out, and files pair by name",
            details={"ir": len(ir.paths), "vis": len(vis.paths)},
        )
    # Only the reference names the pairs, so only its keys must differ.
    named, suffix = (vis, vis_suffix) if reference == "vis" else (ir, ir_suffix)
    keys, _ = keyed_files(named, key_maker(None, suffix, twins(named)))
    key_of_path = {path: key for key, path in keys.items()}
    ordered = zip(
        sorted(ir.paths, key=lambda path: natural(ir.relative(path))),
        sorted(vis.paths, key=lambda path: natural(vis.relative(path))),
        strict=True,
    )
    matched = list(ordered)
    _check_order([(ir.relative(i), vis.relative(v)) for i, v in matched])
    return [Pair(key_of_path[v if reference == "vis" else i], i, v) for i, v in matched]


def _check_order(names: Sequence[tuple[str, str]]) -> None:
    """Refuse an order that pairs across folders, or numbers that both sides share otherwise."""
    folders: dict[str, str] = {}
    back: dict[str, str] = {}
    for one, other in names:
        a, b = os.path.dirname(one), os.path.dirname(other)
        if folders.setdefault(a, b) != b or back.setdefault(b, a) != a:
            raise _bad_order("the folders do not hold equally many", one, other)
    numbers = [(mismatch.last_number(one), mismatch.last_number(other)) for one, other in names]
    shared = {a for a, _ in numbers} & {b for _, b in numbers}
    steps = {None if a is None or b is None else b - a for a, b in numbers}
    if len(steps) > 1 and 2 * len(shared) >= len({a for a, _ in numbers}):
        # counters of their own may differ by any number, but then by one and the same
        one, other = next(pair for pair, (a, b) in zip(names, numbers, strict=True) if a != b)
        raise _bad_order("both sides share their numbers, and these differ", one, other)


def _bad_order(why: str, ir: str, vis: str) -> InputError:
    return InputError(
        f"--pair-by order would pair '{ir}' with '{vis}': {why}",
        code="pair.order",
        hint="pair by the numbers in the names: --pair-regex '([0-9]+)[^0-9/]*$', with further "
        "groups for folders",
    )


def _pair_by_time(
    ir: Found, vis: Found, timing: Timing, reference: Side
) -> tuple[list[Pair], list[str], list[str]]:
    """Return pairs of nearest frames, and the frames of both sides that have no partner."""
    places = times.match_times(
        times.times_of([ir.relative(path) for path in ir.paths], timing, "infrared"),
        times.times_of([vis.relative(path) for path in vis.paths], timing, "visible"),
        timing,
    )
    named = vis if reference == "vis" else ir
    keys, _ = keyed_files(named, key_maker(None, "", twins(named)))
    key_of_path = {path: key for key, path in keys.items()}
    pairs = []
    for i, v in places:
        one, other = ir.paths[i], vis.paths[v]
        pairs.append(Pair(key_of_path[other if reference == "vis" else one], one, other))
    used_ir, used_vis = {i for i, _ in places}, {v for _, v in places}
    left_ir = [path for place, path in enumerate(ir.paths) if place not in used_ir]
    return pairs, left_ir, [p for place, p in enumerate(vis.paths) if place not in used_vis]


def _check_distinct(pairs: Iterable[Pair], ir: Found, vis: Found) -> None:
    """Refuse a file that is on both sides."""
    if ir.single or vis.single:
        same = [pair for pair in pairs if os.path.samefile(pair.ir, pair.vis)]
    else:
        # Looking up a million inodes is slow; within folders that differ no name can coincide.
        base_ir, base_vis = real_path(ir.base), real_path(vis.base)
        nested = base_ir == base_vis or is_inside(base_ir, base_vis) or is_inside(base_vis, base_ir)
        same = [p for p in pairs if nested and os.path.abspath(p.ir) == os.path.abspath(p.vis)]
    if same:
        raise InputError(
            f"{len(same)} {'file is' if len(same) == 1 else 'files are'} on both sides",
            code="pair.same",
            facts=[pair.ir for pair in same[:10]],
            hint=_apart(ir),
        )


def _apart(found: Found) -> str:
    """Return how the two sides of one folder can be told apart."""
    kinds = sorted({os.path.basename(os.path.dirname(path)) for path in found.paths})
    if len(kinds) != 2 or found.single:
        return (
            "give two folders, or tell one folder's files apart with --ir-suffix and --vis-suffix"
        )
    globs = [shlex.quote(os.path.join(found.base, "**", kind, "*")) for kind in kinds]
    how = shlex.quote(mismatch.LAYOUT_PATTERNS[0])
    return f"name each side's folders, infrared first: {' '.join(globs)} --pair-regex {how}"


def read_pair_list(file: str) -> Iterator[Pair]:
    """Yield the pairs of a list, in its order, without holding it in memory.

    The list is CSV, TSV or JSON lines with the columns `ir`, `vis` and optionally `name`, the key.
    Without a name the key is the visible path as written, without suffix. Relative paths start at
    the list, or at the working directory for standard input.

    Args:
        file: `.csv`, `.tsv` or `.jsonl`; any other name, and `-` for standard input, is judged by
            its first line.

    Raises:
        InputError: `read.missing`, `read.permission`, `pair.list` (a line that is no pair),
            `pair.key` (a name that would leave the output folder) or `pair.duplicate`.
    """
    folder = "" if file == "-" else os.path.dirname(file)
    seen: set[int] = set()  # hashes: a million keys as text would take several times the memory
    for number, row in _rows(file):
        where = f"{_list_name(file)}, line {number}: "
        ir, vis, name = row.get("ir"), row.get("vis"), row.get("name")
        if not (ir and vis and isinstance(ir, str) and isinstance(vis, str)) or "\0" in ir + vis:
            raise _bad_list(file, number, "needs both 'ir' and 'vis'")
        if name is not None and not isinstance(name, str):
            raise _bad_list(file, number, "has a 'name' that is not text")
        key = unicodedata.normalize("NFC", name) if name else key_of(os.path.normpath(vis))
        try:
            check_key(key, where, typed=bool(name))
        except InputError as error:
            if not name:
                error.hint = "add a column 'name' with the key of the output"
            raise
        if hash(key) in seen:
            raise InputError(
                f"{where}the key '{key}' occurs twice",
                code="pair.duplicate",
                hint="give each pair its own 'name'",
                details={"key": key, "line": number},
            )
        seen.add(hash(key))
        yield Pair(key, os.path.join(folder, ir), os.path.join(folder, vis))


def _rows(file: str) -> Iterator[tuple[int, dict[str, object]]]:
    """Yield line numbers and rows of a pair list."""
    try:
        # utf-8-sig: spreadsheets put a byte order mark in front.
        with ExitStack() as stack:
            stream: IO[str] = sys.stdin
            if file != "-":
                stream = stack.enter_context(open(file, encoding="utf-8-sig", newline=""))
            lines = _lines(file, stream)
            first = next(lines, "")
            kind = os.path.splitext(file)[1].lower()
            if kind == ".jsonl" or first.lstrip().startswith("{"):
                yield from _json_rows(file, first, lines)
            else:
                tabs = kind == ".tsv" or (kind != ".csv" and "\t" in first)
                yield from _table_rows(file, first, lines, "\t" if tabs else ",")
    except FileNotFoundError:
        raise InputError(f"there is no pair list '{file}'", code="read.missing",
                         hint=mismatch.nearest_sibling(file)) from None  # fmt: skip
    except UnicodeDecodeError as error:
        raise InputError(
            f"{_list_name(file)} is not UTF-8 text: {error.reason}",
            code="pair.list",
            hint=f"iconv -f latin1 -t utf-8 {shlex.quote(file)} > pairs.csv",
        ) from None
    except OSError as error:
        raise InputError(
            f"cannot read {_list_name(file)}: {error.strerror}",
            code="read.permission" if isinstance(error, PermissionError) else "read.failed",
            hint=f"ls -ld {shlex.quote(file)} shows what it is and who may read it",
        ) from None


def _lines(file: str, stream: IO[str]) -> Iterator[str]:
    number = 0
    while line := stream.readline(LONGEST_LINE):
        number += 1
        if len(line) == LONGEST_LINE:
            raise _bad_list(file, number, "is longer than any pair")
        yield line


def _json_rows(
    file: str, first: str, lines: Iterator[str]
) -> Iterator[tuple[int, dict[str, object]]]:
    for number, line in enumerate(_chain(first, lines), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise _bad_list(file, number, "is not JSON") from None
        if not isinstance(row, dict):
            raise _bad_list(file, number, "is not a JSON object")
        yield number, row


def _table_rows(
    file: str, first: str, lines: Iterator[str], delimiter: str
) -> Iterator[tuple[int, dict[str, object]]]:
    table = csv.reader(_chain(first, lines), delimiter=delimiter, strict=True)
    try:
        columns = [column.strip().lower() for column in next(table, [])]
        if not {"ir", "vis"} <= set(columns):
            raise _bad_list(file, 1, f"has no columns 'ir' and 'vis' but {first.strip()[:60]!r}")
        for row in table:
            if row:
                if len(row) > len(columns):
                    raise _bad_list(file, table.line_num, "has more fields than the first line")
                yield table.line_num, dict(zip(columns, row, strict=False))
    except csv.Error as error:
        raise _bad_list(file, table.line_num, f"cannot be read: {error}") from None


def _chain(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _list_name(file: str) -> str:
    return "the pair list on stdin" if file == "-" else file


def _bad_list(file: str, line: int, what: str) -> InputError:
    return InputError(
        f"{_list_name(file)}, line {line} {what}",
        code="pair.list",
        hint="the first line names the columns: ir,vis or ir,vis,name (JSON lines: "
        '{"ir": "a.png", "vis": "b.png"})',
        details={"line": line},
    )
