"""Pairs of frames by the times in their names: two cameras that trigger on their own.

A time is found by itself, as a date with a time of day, as a time of day, or as seconds,
milliseconds, microseconds or nanoseconds since 1970; or it is read with `--time-format`. Two
frames are a pair when each is the nearest of the other side to the other.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median

from fusecli.errors import InputError, UsageError

LONE_GAP = 0.5  # seconds; the largest gap where no side has a second frame to tell a period

# After a point any digits are a fraction; elsewhere those of milli-, micro- and nanoseconds are,
# and others count something.
_REST = r"(?:[.,](\d{1,9})|[-_]?(\d{3}|\d{6}|\d{9}))?(?!\d)"
_CLOCK = rf"(\d\d)[-_:.h]?(\d\d)[-_:.m]?(\d\d){_REST}"
_DATED = re.compile(rf"(?<!\d)(\d{{4}})[-_:.]?(\d\d)[-_:.]?(\d\d)[-_ T]?{_CLOCK}")
_SINCE_1970 = re.compile(r"(?<!\d)([1-3]\d{9})(?:\.(\d{1,9})|(\d{3}|\d{6}|\d{9}))?(?!\d)")
_OF_DAY = re.compile(rf"(?<!\d)(\d\d)[-_:.h](\d\d)[-_:.m](\d\d){_REST}")  # 000123 counts
_DIRECTIVES = {
    "%Y": r"\d{4}", "%m": r"\d\d", "%d": r"\d\d", "%H": r"\d\d", "%M": r"\d\d", "%S": r"\d\d",
    "%y": r"\d\d", "%j": r"\d{3}", "%f": r"\d{1,6}", "%b": r"[^\W\d_]+", "%%": "%",
}  # fmt: skip


@dataclass(frozen=True)
class Timing:
    """How frames are paired by time.

    Args:
        format: Of the times in names, as for `strptime`; None finds them.
        max_gap: Largest distance in seconds; None is half the period of the faster camera.
        offset: Seconds added to infrared times, for clocks that differ.
    """

    format: str | None = None
    max_gap: float | None = None
    offset: float = 0.0


def seconds_of(name: str) -> float | None:
    """Return the time in a name, in seconds; None where there is none."""
    if match := _DATED.search(name):
        *parts, point, fraction = match.groups()
        try:
            moment = datetime(*map(int, parts), tzinfo=UTC)  # type: ignore[misc, arg-type]
        except ValueError:
            pass  # a month 13: some other number
        else:
            return moment.timestamp() + _fraction(point or fraction)
    if match := _SINCE_1970.search(name):
        return int(match[1]) + _fraction(match[2] or match[3])
    if match := _OF_DAY.search(name):
        hours, minutes, seconds = map(int, match.groups()[:3])
        if hours < 24 and minutes < 60 and seconds < 60:
            return 3600 * hours + 60 * minutes + seconds + _fraction(match[4] or match[5])
    return None


def _fraction(digits: str | None) -> float:
    return int(digits) / 10 ** len(digits) if digits else 0.0


def reader(format: str | None) -> Callable[[str], float | None]:
    """Return the function from a stem to its time in seconds.

    Raises:
        UsageError: `pair.time`: the format holds no time.
    """
    if format is None:
        return seconds_of
    pieces = re.split(r"(%.)", format)
    unknown = [piece for piece in pieces[1::2] if piece not in _DIRECTIVES]
    if unknown or len(pieces) == 1:
        raise UsageError(
            f"--time-format {format} {'has no ' + unknown[0] if unknown else 'holds no time'}",
            code="pair.time",
            hint=f"such as --time-format %Y%m%d_%H%M%S_%f; known are {' '.join(_DIRECTIVES)}",
        )
    pattern = re.compile("".join(_DIRECTIVES.get(piece) or re.escape(piece) for piece in pieces))

    def read(name: str) -> float | None:
        match = pattern.search(name)
        try:
            moment = datetime.strptime(match[0], format) if match else None
        except ValueError:
            return None
        return moment.replace(tzinfo=UTC).timestamp() if moment else None

    return read


def times_of(names: Sequence[str], timing: Timing, side: str) -> list[tuple[float, int]]:
    """Return the time of each name with its place, in order of time.

    Args:
        names: Relative paths; the time stands in the last part.
        timing: How it is read.
        side: For the error.

    Raises:
        InputError: `pair.time`: a name without a time.
    """
    read = reader(timing.format)
    times = [read(os.path.splitext(os.path.basename(name))[0]) for name in names]
    without = [name for name, time in zip(names, times, strict=True) if time is None]
    if without:
        raise InputError(
            f"{len(without)} of {len(names)} {side} names hold no time",
            code="pair.time",
            facts=without[:3],
            hint="say how times are written, such as --time-format %Y%m%d_%H%M%S_%f",
        )
    return sorted((time, place) for place, time in enumerate(times) if time is not None)


def match_times(
    ir: Sequence[tuple[float, int]], vis: Sequence[tuple[float, int]], timing: Timing
) -> list[tuple[int, int]]:
    """Return the places of frames that are each other's nearest, in order of time.

    Raises:
        InputError: `pair.none`: no two frames are near enough.
    """
    moved = [(time + timing.offset, place) for time, place in ir]
    limit = timing.max_gap if timing.max_gap is not None else _default_gap(ir, vis)
    pairs, nearest = [], float("inf")
    for number, (time, place) in enumerate(moved):
        other = _nearest(vis, time)
        gap = abs(vis[other][0] - time)
        nearest = min(nearest, gap)
        # a hair more than the limit is the limit: decimal fractions are not exact
        if gap <= limit + 1e-6 and _nearest(moved, vis[other][0]) == number:
            pairs.append((place, vis[other][1]))
    if not pairs:
        raise InputError(
            f"no infrared and visible frame are within {limit:.3g} s of each other; the nearest "
            f"two are {nearest:.3g} s apart",
            code="pair.none",
            hint="allow more with --max-gap SECONDS, or give the difference of the clocks with "
            "--offset SECONDS",
            details={"nearest_s": nearest, "max_gap_s": limit},
        )
    return pairs


def _nearest(times: Sequence[tuple[float, int]], time: float) -> int:
    """Return the index of the nearest time; of two, the earlier."""
    after = bisect_left(times, (time, -1))
    near = [index for index in (after - 1, after) if 0 <= index < len(times)]
    return min(near, key=lambda index: abs(times[index][0] - time))


def _default_gap(*sides: Sequence[tuple[float, int]]) -> float:
    periods = []
    for times in sides:
        steps = [b[0] - a[0] for a, b in zip(times, times[1:], strict=False) if b[0] > a[0]]
        periods += [median(steps)] if steps else []
    return min(periods) / 2 if periods else LONE_GAP
