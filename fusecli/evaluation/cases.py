"""Which images are scored together: pairs of sources, and what each method made of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fusecli.errors import InputError, UsageError
from fusecli.pairs import Pair
from fusecli.pairs.files import find_files, scan

LISTED = 10


@dataclass(frozen=True, slots=True)
class Case:
    """One pair of sources and what each method made of it.

    Args:
        key: Of the pair.
        ir: Path of the infrared image.
        vis: Path of the visible image.
        fused: Path of each method's image, in the order of the methods.
        reference: Path of the ground truth, or None.
    """

    key: str
    ir: str
    vis: str
    fused: tuple[str, ...]
    reference: str | None = None


def name_methods(arguments: Sequence[str]) -> dict[str, str]:
    """Return name and source of every `[NAME=]FUSED` argument.

    Raises:
        UsageError: None is given, or two have one name.
    """
    if not arguments:
        raise UsageError(
            "nothing to score: FUSED is missing",
            code="usage.arguments",
            hint="name a folder of fused images after IR and VIS",
        )
    methods: dict[str, str] = {}
    for argument in arguments:
        name, sign, source = argument.partition("=")
        if not (sign and name and source) or os.sep in name or Path(argument).exists():
            name, source = _own_name(argument), argument
        if name in methods:
            raise UsageError(
                f"two methods are called {name}",
                code="usage.methods",
                facts=[methods[name], source],
                hint=f"give them names: {name}-a={methods[name]} {name}-b={source}",
            )
        methods[name] = source
    return methods


def _own_name(source: str) -> str:
    """Return the name of a folder, the stem of a file, or the folder that a glob starts from."""
    path = Path(source).resolve()
    while not path.exists() and any(sign in path.name for sign in "*?["):
        path = path.parent
    return path.stem if path.is_file() else path.name


def match(
    pairs: Iterable[Pair],
    methods: dict[str, str],
    *,
    reference: str | None = None,
    recursive: bool = False,
    skip: bool = False,
) -> tuple[list[Case], int]:
    """Return what can be scored, in the order of the pairs, and how many pairs were left out.

    Args:
        pairs: Of sources.
        methods: Name and source of each method.
        reference: Folder, file or glob of ground truth.
        recursive: Descend into folders.
        skip: Leave out pairs for which a method or the reference has no image.

    Raises:
        InputError: `pair.unmatched`: an image is missing and `skip` is off; `pair.none`.
    """
    pairs = list(pairs)
    sides = methods | ({"reference": reference} if reference is not None else {})
    files = {name: _files(source, recursive, pairs) for name, source in sides.items()}
    missing = {name: [p.key for p in pairs if p.key not in found] for name, found in files.items()}
    lost = set().union(*missing.values())
    if lost and (not skip or len(lost) == len(pairs)):
        examples = {name: next(iter(found.values())) for name, found in files.items()}
        shown = {name: f"{sides[name]}, with {Path(file).name}" for name, file in examples.items()}
        raise unmatched(missing, shown, len(pairs), "images")
    cases = [
        Case(
            pair.key,
            pair.ir,
            pair.vis,
            tuple(files[name][pair.key] for name in methods),
            files["reference"][pair.key] if reference is not None else None,
        )
        for pair in pairs
        if pair.key not in lost
    ]
    return cases, len(lost)


def _files(source: str, recursive: bool, pairs: list[Pair]) -> dict[str, str]:
    if len(pairs) == 1 and (found := scan(source, recursive)).single:
        return {pairs[0].key: found.paths[0]}  # one file is the partner of one pair by any name
    return find_files(source, recursive)


def unmatched(
    missing: dict[str, list[str]], sides: dict[str, str], total: int, things: str
) -> InputError:
    """Return the error about what some methods lack.

    Args:
        missing: Name of each method to the keys it has nothing for.
        sides: Name of each method to where that was looked for.
        total: Number of pairs.
        things: What is missing, in the plural.
    """
    lacking = {name: keys for name, keys in missing.items() if keys}
    common = total - len(set().union(*lacking.values()))
    counts = ", ".join(f"{name} lacks {len(keys)}" for name, keys in lacking.items())
    facts = []
    for name, keys in lacking.items():
        more = f"   and {len(keys) - 3} more" if len(keys) > 3 else ""
        facts.append(f"{name} ({sides[name]}): {'   '.join(keys[:3])}{more}")
    return InputError(
        f"{counts} of {total} {things}",
        code="pair.unmatched" if common else "pair.none",
        facts=facts[:LISTED],
        hint=f"--unpaired skip scores all methods on the {common} that they share"
        if common
        else f"{things} must carry the names of their pairs",
        details={name: keys[:100] for name, keys in lacking.items()},
    )
