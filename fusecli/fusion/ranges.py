"""Percentiles of a whole sequence, so that its brightness does not flicker from image to image."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from math import ceil, gcd

import numpy as np
from joblib import Parallel, delayed

from fusecli import images
from fusecli.errors import InputError
from fusecli.fusion import Choices
from fusecli.images import thermal
from fusecli.pairs import Pair

SAMPLED = 1 << 24  # pixels of a side that are looked at, spread evenly over all its images

Pixels = Callable[[Pair], tuple[np.ndarray, np.ndarray | None]]


def measured(choices: Choices, pairs: Iterable[Pair], threads: int) -> Choices:
    """Return choices whose percentiles have become limits measured over all pairs.

    Files that cannot be read are left out here: they fail when their turn comes.

    Args:
        choices: With `range_scope` set to `all`.
        pairs: The whole input, whatever part of it this run works on; gone through several times.
        threads: Files read at the same time.

    Raises:
        InputError: Images of several types, which share no percentiles (`range.mixed`).
    """

    def infrared(pair: Pair) -> tuple[np.ndarray, np.ndarray | None]:
        picture = thermal.read(pair.ir) if choices.reader == "thermal" else images.read(pair.ir)
        return images.as_grey(picture, choices.ir_luma), picture.invalid

    def visible(pair: Pair) -> tuple[np.ndarray, np.ndarray | None]:
        inside = choices.reader == "thermal" and pair.vis == pair.ir
        picture = thermal.read_both(pair.ir)[1] if inside else images.read(pair.vis)
        return picture.pixels, picture.invalid

    return dataclasses.replace(
        choices,
        ir_range=_over_all("infrared", choices.ir_range, infrared, pairs, threads),
        vis_range=_over_all("visible", choices.vis_range, visible, pairs, threads),
    )


def _over_all(side: str, rule: str, read: Pixels, pairs: Iterable[Pair], threads: int) -> str:
    if images.parse_range(rule)[0] not in ("auto", "percentiles"):
        return rule
    quota = ceil(SAMPLED / sum(1 for _ in pairs))

    def sample(pair: Pair) -> np.ndarray | None:
        try:
            pixels, invalid = read(pair)
        except InputError:
            return None
        values = (pixels if invalid is None else pixels[~invalid]).ravel()
        step = ceil(values.size / quota)
        while step > 1 and gcd(step, pixels.shape[1]) > 1:
            step += 1  # a step that divides the width would look at a few columns only
        return values[::step].copy()

    first = next((found for found in map(sample, pairs) if found is not None), None)
    if first is None or (rule == "auto" and first.dtype == np.uint8):
        return rule
    parallel = Parallel(n_jobs=threads, backend="threading", pre_dispatch=2 * threads)
    samples = [found for found in parallel(delayed(sample)(p) for p in pairs) if found is not None]
    types = sorted({str(found.dtype) for found in samples})
    if len(types) > 1:
        raise InputError(
            f"--range-scope all needs {side} images of one type; there are {' and '.join(types)}",
            code="range.mixed",
            hint="give fixed limits with --ir-range LO:HI, or fuse the types in separate runs",
        )
    low, high = images.limits(np.concatenate(samples), rule)
    return f"{low!r}:{high!r}" if low < high else rule
