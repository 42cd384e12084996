"""Results on their way to their names: whole or not at all, and nothing left lying about.

A result is written as `.NAME.RANDOM.part` beside its final place and renamed once it is complete.
Threads and other machines write the parts; the main process gives them their names, so that one
place decides what exists.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from fusecli import writing

Write = Callable[[BinaryIO], None]
Parts = Sequence[tuple[str, str]]  # a part and its final name


def stage(files: Iterable[tuple[str, bytes | Write]]) -> list[tuple[str, str]]:
    """Write every file as a part, or none.

    Args:
        files: Final name and content, or what writes it into an open file. The one that matters
            comes last, so that where it is, the others are too. `-` is standard output and
            written at once.

    Returns:
        Part and final name of each, for `place`.
    """
    parts: list[tuple[str, str]] = []
    try:
        for path, data in files:
            if path == "-" and isinstance(data, bytes):
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
                continue
            parts.append((writing.write_part(path, data), path))
    except BaseException:
        discard(parts)
        raise
    return parts


def place(parts: Parts) -> None:
    """Give every part its final name, in order."""
    for part, final in parts:
        Path(part).replace(final)


def discard(parts: Parts) -> None:
    """Remove parts that will not get a name."""
    for part, _ in parts:
        writing.discard(part)


@lru_cache(maxsize=64)
def listing(folder: str) -> tuple[frozenset[str], dict[str, list[str]]]:
    """Return the names in a folder, and the parts left there by final name.

    One listing answers for all results of a folder: asking for each of a million is what makes
    network file systems crawl. It is kept, so use it while a run is planned, never later.
    """
    try:
        names = [path.name for path in Path(folder).iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        names = []
    parts: dict[str, list[str]] = {}
    for name in names:
        prefix = writing.part_of(name)
        if prefix is not None:
            parts.setdefault(prefix, []).append(name)
    return frozenset(names), parts


def exists(path: str) -> bool:
    """Return whether a file was there when its folder was listed."""
    folder, name = os.path.split(path)
    return name in listing(folder)[0]


def remove_leftovers(paths: Iterable[str]) -> int:
    """Remove the parts that a killed run left of these results; return how many.

    Parts of other results stay: another shard may be writing them.
    """
    listing.cache_clear()
    removed = 0
    for path in paths:
        folder, name = os.path.split(path)
        for part in listing(folder)[1].get(writing.part_prefix(name), ()):
            writing.discard(str(Path(folder, part)))
            removed += 1
    listing.cache_clear()
    return removed
