"""Labelled targets from CSV, COCO JSON or YOLO text files, and the pairs that they belong to."""

from __future__ import annotations

import csv
import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from fusecli.errors import InputError
from fusecli.evaluation.cases import Case
from fusecli.metrics.targets import Box

COLUMNS = ("stem", "x", "y", "w", "h", "class")


class Label(NamedTuple):
    """One box as its file has it.

    Args:
        key: Key or stem of the pair.
        group: Column `set`: a folder that the pair's files lie in; empty without one.
        left: Of the box, pixels; a share of the width where `relative`.
        top: The same of the height.
        width: Of the box.
        height: Of the box.
        kind: Class.
        relative: Whether the numbers are shares of the image's size.
    """

    key: str
    group: str
    left: float
    top: float
    width: float
    height: float
    kind: str
    relative: bool = False

    def box(self, size: tuple[int, int], kinds: frozenset[str] | None) -> Box | None:
        """Return the box in whole pixels; None where no pixel of it lies in the image.

        Args:
            size: Height and width of the image.
            kinds: Classes that count; None is all.
        """
        tall, wide = size if self.relative else (1, 1)
        left, top = round(self.left * wide), round(self.top * tall)
        width, height = max(round(self.width * wide), 1), max(round(self.height * tall), 1)
        inside = left < size[1] and top < size[0] and left + width > 0 and top + height > 0
        counts = kinds is None or self.kind in kinds
        return Box(left, top, width, height, self.kind, counts) if inside else None


@dataclass(frozen=True)
class Labels:
    """The labels of the pairs that are scored.

    Args:
        by_key: Key of a pair to its labels.
        kinds: Classes that count; None is all.
        unknown: Images of the file that are not among the pairs.
    """

    by_key: Mapping[str, tuple[Label, ...]]
    kinds: frozenset[str] | None
    unknown: tuple[str, ...] = ()

    def boxes(self, key: str, size: tuple[int, int]) -> tuple[tuple[Box, ...], int]:
        """Return the boxes of a pair, and how many labels lie outside the image.

        Args:
            key: Of the pair.
            size: Height and width of its images.
        """
        placed = [label.box(size, self.kinds) for label in self.by_key.get(key, ())]
        boxes = tuple(box for box in placed if box is not None)
        return boxes, len(placed) - len(boxes)


def load(source: str, classes: str, cases: Sequence[Case]) -> Labels:
    """Read labels and give them to the pairs that they name.

    Args:
        source: CSV file, COCO JSON, or a folder of YOLO text files.
        classes: Those that count, comma-separated; `all` is every class.
        cases: What is scored.

    Raises:
        InputError: `targets.read`, `targets.empty`, `targets.class`, `targets.none`,
            `targets.ambiguous`; `read.missing`.
    """
    labels = read(source)
    if not labels:
        raise InputError(
            f"there is no label in {source}",
            code="targets.empty",
            hint="every line, annotation or text file names an image and a box in it",
        )
    kinds = _chosen(classes, Counter(label.kind for label in labels), source)
    by_key, unknown = _matched(labels, cases, source)
    return Labels(by_key, kinds, unknown)


def _chosen(classes: str, known: Counter[str], source: str) -> frozenset[str] | None:
    wanted = frozenset(filter(None, (word.strip() for word in classes.split(","))))
    if wanted == {"all"}:
        return None
    if not wanted & known.keys():
        there = ", ".join(f"{kind} ({count})" for kind, count in known.most_common(10))
        raise InputError(
            f"no label of {source} is of the class {' or '.join(sorted(wanted)) or '(none)'}",
            code="targets.class",
            facts=[f"there are: {there}"],
            hint=f"--target-class {known.most_common(1)[0][0]}, or --target-class all",
        )
    return wanted


def _matched(
    labels: Iterable[Label], cases: Sequence[Case], source: str
) -> tuple[dict[str, tuple[Label, ...]], tuple[str, ...]]:
    """Return labels by the key of their pair, and the images that are no pair.

    A set counts where one of the file's sets is a folder of a pair; then it decides.
    """
    named = defaultdict(list)
    for label in labels:
        named[label.group, label.key].append(label)
    groups = {group for group, _ in named if group}
    folders = {case.key: set(PurePath(case.key).parts) | _folders(case) for case in cases}
    grouped = any(groups & parts for parts in folders.values())
    places: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        for name in {case.key, PurePath(case.key).name}:
            places[name].append(case.key)
    found: dict[str, tuple[Label, ...]] = {}
    unknown = []
    for (group, stem), boxes in named.items():
        keys = [
            key for key in places.get(stem, ()) if not (group and grouped) or group in folders[key]
        ]
        if len(keys) > 1 and stem in keys:
            keys = [stem]
        if not keys:
            unknown.append(f"{group}/{stem}" if group else stem)
        elif len(keys) > 1 or keys[0] in found:
            raise InputError(
                f"{stem} of {source} names several images: it is not clear which is meant",
                code="targets.ambiguous",
                facts=keys[:10],
                hint="write the key, which is the path without suffix, or score one set at a time",
            )
        else:
            found[keys[0]] = tuple(boxes)
    if not found:
        raise InputError(
            f"no label of {source} belongs to any of the {len(cases)} pairs",
            code="targets.none",
            facts=[f"labelled: {', '.join(unknown[:3])}", f"pairs: {', '.join(list(folders)[:3])}"],
            hint="the stem of an image, or its key (the path without suffix), names its pair",
        )
    return found, tuple(unknown)


def _folders(case: Case) -> set[str]:
    return {part for path in (case.ir, case.vis) for part in Path(path).resolve().parent.parts}


# ---- files


def read(source: str) -> list[Label]:
    """Return every label of a file or folder, told apart by what it is.

    Raises:
        InputError: `read.missing`; `targets.read`: the contents are not labels.
    """
    path = Path(source)
    if not path.exists():
        raise InputError(
            f"there is no {source}",
            code="read.missing",
            hint="--targets takes a CSV file, COCO JSON or a folder of YOLO text files",
        )
    if path.is_dir():
        return _read_yolo(path)
    try:
        text = path.read_text("utf-8-sig")
    except (UnicodeDecodeError, OSError) as error:
        raise _unreadable(source, str(error)) from error
    return _read_coco(text, source) if text.lstrip()[:1] in ("{", "[") else _read_csv(text, source)


def _unreadable(source: str, problem: str) -> InputError:
    return InputError(
        f"{source} cannot be read as labels: {problem}",
        code="targets.read",
        hint=f"a CSV file has the columns {','.join(COLUMNS)}; COCO JSON and YOLO text files serve",
    )


def _numbers(texts: Iterable[Any], where: str) -> tuple[float, float, float, float]:
    """Return left, top, width and height, or say what is wrong with them."""
    try:
        x, y, w, h = (float(text) for text in texts)
    except (TypeError, ValueError) as error:
        raise _unreadable(where, "a box is four numbers") from error
    if not all(map(math.isfinite, (x, y, w, h))) or w <= 0 or h <= 0:
        raise _unreadable(where, f"a box of {w:g} x {h:g} at {x:g}, {y:g} has no area")
    return x, y, w, h


def _read_csv(text: str, source: str) -> list[Label]:
    if not text.strip():
        return []
    rows = csv.DictReader(text.splitlines())
    names = {name.strip(): name for name in rows.fieldnames or ()}
    if "key" in names:
        names.setdefault("stem", names["key"])
    if lacking := [column for column in COLUMNS if column not in names]:
        raise _unreadable(source, f"there is no column {', '.join(lacking)}")
    labels = []
    for row in rows:
        where = f"{source}, line {rows.line_num},"
        box = _numbers([row[names[side]] for side in "xywh"], where)
        group = (row[names["set"]] or "").strip() if "set" in names else ""
        stem, kind = ((row[names[column]] or "").strip() for column in ("stem", "class"))
        labels.append(Label(stem, group, *box, kind))
    return labels


def _read_coco(text: str, source: str) -> list[Label]:
    try:
        document = json.loads(text)
        stems = {
            image["id"]: str(PurePath(image["file_name"]).with_suffix(""))
            for image in document["images"]
        }
        kinds = {kind["id"]: str(kind["name"]) for kind in document.get("categories", ())}
        return [
            Label(
                stems[note["image_id"]],
                "",
                *_numbers(note["bbox"], f"{source}, annotation {note.get('id')},"),
                kinds.get(note.get("category_id"), str(note.get("category_id"))),
            )
            for note in document["annotations"]
        ]
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise _unreadable(source, f"not COCO JSON ({error!r})") from error


def _read_yolo(folder: Path) -> list[Label]:
    """Read lines of class, middle and size, in shares of the image, from one file per image."""
    names = _class_names(folder)
    labels = []
    for path in sorted(folder.rglob("*.txt")):
        if path.name in ("classes.txt", "obj.names"):
            continue
        key = path.relative_to(folder).with_suffix("").as_posix()
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1):
            if not (words := line.split()):
                continue
            x, y, w, h = _numbers(words[1:5], f"{path}, line {number},")
            kind = names.get(words[0], words[0])
            labels.append(Label(key, "", x - w / 2, y - h / 2, w, h, kind, relative=True))
    return labels


def _class_names(folder: Path) -> dict[str, str]:
    """Return number to name from classes.txt, or from data.yaml here or one folder up."""
    plain = folder / "classes.txt"
    if plain.is_file():
        lines = plain.read_text("utf-8", "replace").splitlines()
        return {str(number): line.strip() for number, line in enumerate(lines) if line.strip()}
    for path in (folder / "data.yaml", folder.parent / "data.yaml"):
        if path.is_file():
            text = path.read_text("utf-8", "replace")
            listed = re.search(r"^names:\s*\[([^]]*)\]", text, re.MULTILINE)
            if listed:
                words = [word.strip(" '\"\n") for word in listed[1].split(",")]
                return {str(number): word for number, word in enumerate(words)}
            rows = re.findall(r"^\s+(\d+):\s*(.+?)\s*$", text, re.MULTILINE)
            return {number: word.strip("'\"") for number, word in rows}
    return {}
