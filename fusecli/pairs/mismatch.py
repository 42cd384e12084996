"""Why two folders do not pair, and the options that would make them.

Only reached on the way to an error, so it may take its time; still, nothing here compares every
name with every other: a folder can hold a million.
"""

import difflib
import os
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence

from fusecli.errors import InputError

SHOWN = 10  # names listed for each side
CANDIDATES = 8  # suffix combinations tried on all keys
SAMPLED = 2000  # keys of each side from which combinations are guessed

# Folders of a frame, the kind of camera, the frame: with the stem as key, or with its number.
LAYOUT_PATTERNS = (r"^(.+)/[^/]+/([^/.]+)", r"^(.+)/[^/]+/[^/]*?([0-9]+)[^0-9/]*$")
LAYOUTS = {
    ("lwir", "visible"): "KAIST",
    ("infrared", "visible"): "RGBT234 and LasHeR",
    ("ir", "rgb"): "VTUAV",
}
# Tried when no suffix helps: the digits of the name, then those of the path.
NUMBER_PATTERNS = (r"([0-9]+)[^0-9/]*$", r"^[^0-9]*([0-9]+)")


def explain(
    paired: int,
    left_ir: Sequence[str],
    left_vis: Sequence[str],
    names_ir: Sequence[str],
    names_vis: Sequence[str],
    *,
    given: bool = False,
) -> InputError:
    """Return the error for files without a partner.

    Args:
        paired: How many pairs there are.
        left_ir: Infrared paths without a partner.
        left_vis: Visible paths without a partner.
        names_ir: Relative paths without image suffix of all infrared files.
        names_vis: The same of all visible files.
        given: The user has said how keys are made: names as they are may be better.
    """
    total = max(len(names_ir), len(names_vis))
    suggestion = _suggest(names_ir, names_vis, paired, given)
    details = {
        "paired": paired,
        "unmatched_ir": list(left_ir[:100]),
        "unmatched_vis": list(left_vis[:100]),
        "unmatched": [len(left_ir), len(left_vis)],
    }
    hints = []
    if suggestion:
        count, options = suggestion
        hints.append(f"{count} of {total} match with {options}{_layout(names_ir, names_vis)}")
        details["suggestion"] = options
    if not paired:
        if not suggestion and len(names_ir) == len(names_vis):
            hints.append("if both sides are in the same order, use --pair-by order")
        return InputError(
            f"none of {len(names_ir)} infrared and {len(names_vis)} visible images pair up",
            code="pair.none",
            facts=[f"{a}   {b}" for a, b in _near_misses(left_ir, left_vis)],
            hint="; ".join(hints) or None,
            details=details,
        )
    counts = [
        f"{len(left)} {side}"
        for left, side in ((left_ir, "infrared"), (left_vis, "visible"))
        if left
    ]
    if left_ir and left_vis:
        message = f"{counts[0]} and {counts[1]} images have no partner"
    else:
        one = len(left_ir) + len(left_vis) == 1
        other = "visible" if left_ir else "infrared"
        message = f"{counts[0]} image{' has' if one else 's have'} no {other} partner"
    hints.append("use --unpaired skip to leave the rest out")
    return InputError(
        message,
        code="pair.unmatched",
        facts=[*_lines(left_ir), *_lines(left_vis)],
        hint="; ".join(hints),
        details=details,
    )


def nearest_sibling(path: str) -> str | None:
    """Return a hint that names the entry beside a missing path that is spelled most like it."""
    folder, name = os.path.split(path.rstrip(os.sep))
    try:
        siblings = os.listdir(folder or ".")
    except OSError:
        return f"there is no folder '{folder}' either"
    near = difflib.get_close_matches(name, siblings, n=1)
    return f"did you mean '{os.path.join(folder, near[0])}'?" if near else None


def _lines(paths: Sequence[str]) -> list[str]:
    """Return the first names of one side, two to a line: at most ten facts for both sides."""
    shown = list(paths[:SHOWN])
    return ["   ".join(shown[i : i + 2]) for i in range(0, len(shown), 2)]


def _near_misses(ir: Sequence[str], vis: Sequence[str]) -> list[tuple[str, str]]:
    """Return two pairs of paths whose names are alike."""
    by_name = sorted(vis, key=os.path.basename)
    names = [os.path.basename(path) for path in by_name]
    misses = []
    for path in sorted(ir, key=os.path.basename)[:50]:
        ratio, best = max(
            (difflib.SequenceMatcher(None, os.path.basename(path), name).ratio(), place)
            for place, name in enumerate(names[:200])
        )
        misses.append((ratio, path, by_name[best]))
    misses.sort(key=lambda miss: (-miss[0], miss[1]))
    return [(a, b) for _, a, b in misses[:2]]


def _suggest(
    names_ir: Sequence[str], names_vis: Sequence[str], paired: int, given: bool
) -> tuple[int, str] | None:
    """Return how many pairs the best options make, and the options, where that is worth saying."""
    # Chance makes a pair or two; advice should bring at least half of the files together.
    worth = max(paired, (min(len(names_ir), len(names_vis)) - 1) // 2)
    best = (worth, "")
    if given and (count := _matches(names_ir, names_vis)) > best[0]:
        best = (count, "the names as they are: leave --ir-suffix, --vis-suffix, --pair-regex out")
    for ir_suffix, vis_suffix in _suffix_candidates(names_ir, names_vis):
        count = _matches(
            [name.removesuffix(ir_suffix) for name in names_ir],
            [name.removesuffix(vis_suffix) for name in names_vis],
        )
        if count > best[0]:
            best = (count, _suffix_options(ir_suffix, vis_suffix))
    if best[1]:
        return best
    for pattern in (*LAYOUT_PATTERNS, *NUMBER_PATTERNS):
        parts = re.compile(pattern)
        count = _matches(_groups(parts, names_ir), _groups(parts, names_vis))
        if count > best[0]:
            best = (count, f"--pair-regex {shlex.quote(pattern)}")
    return best if best[1] else None


def _suffix_options(ir_suffix: str, vis_suffix: str) -> str:
    given = (("--ir-suffix", ir_suffix), ("--vis-suffix", vis_suffix))
    # A value that begins with a dash would be read as an option.
    return " ".join(
        f"{option}{'=' if value.startswith('-') else ' '}{shlex.quote(value)}"
        for option, value in given
        if value
    )


def _groups(pattern: re.Pattern[str], names: Sequence[str]) -> list[str]:
    found = (pattern.search(name) for name in names)
    return ["/".join(match.groups()) for match in found if match]


def _layout(names_ir: Sequence[str], names_vis: Sequence[str]) -> str:
    """Return the data set that keeps the kind of camera in this place, in brackets."""
    kinds = [
        {name.split("/")[-2].lower() for name in names[:SAMPLED] if "/" in name}
        for names in (names_ir, names_vis)
    ]
    if any(len(kind) != 1 for kind in kinds):
        return ""
    known = LAYOUTS.get((kinds[0].pop(), kinds[1].pop()))
    return f" (folders as in {known})" if known else ""


def last_number(name: str) -> int | None:
    """Return the last number in the last part of a path."""
    digits = re.findall(r"[0-9]+", os.path.splitext(os.path.basename(name))[0])
    return int(digits[-1]) if digits else None


def _matches(keys_ir: Iterable[str], keys_vis: Iterable[str]) -> int:
    """Return the number of pairs, or 0 where a key is ambiguous."""
    ir, vis = Counter(keys_ir), Counter(keys_vis)
    common = ir.keys() & vis.keys()
    if any(ir[key] > 1 or vis[key] > 1 for key in common):
        return 0
    return len(common)


def _suffix_candidates(names_ir: Sequence[str], names_vis: Sequence[str]) -> list[tuple[str, str]]:
    """Return the endings in which names that begin alike differ, the most frequent first.

    Sorted together, names that share a beginning are neighbours: `0001_ir` comes next to
    `0001_rgb`.
    """
    merged = sorted(
        [(name, 0) for name in names_ir[:SAMPLED]] + [(name, 1) for name in names_vis[:SAMPLED]]
    )
    votes: Counter[tuple[str, str]] = Counter()
    for (first, side), (second, other) in zip(merged, merged[1:], strict=False):
        if side == other:
            continue
        ir, vis = (first, second) if side == 0 else (second, first)
        shared = len(os.path.commonprefix((ir, vis)))
        # Step back to the separator: `_vis` and `_visible` differ in more than `ible`.
        word = re.search(r"[^\W_]*$", ir[:shared])
        start = word.start() if word else shared
        separator = re.search(r"[-_. ]+$", ir[:start])
        if separator:
            start = separator.start()
        for cut in dict.fromkeys((start, shared)):  # the first wins where both help
            endings = (ir[cut:], vis[cut:])
            if cut and ir[cut - 1] != "/" and endings != ("", "") and "/" not in "".join(endings):
                votes[endings] += 1
    return [endings for endings, _ in votes.most_common(CANDIDATES)]
