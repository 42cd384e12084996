"""Pairs that must be refused, and hard ones that should be found: what registration makes of them.

    python -m benchmarks.wrong_pairs ../shared/data --wrong 560 --hard 140

A wrong pair is a visible image with an infrared one that shows another scene (as it is, blurred, or
in the same constant frame), that is turned or mirrored, or that is noise. Everything that is
accepted is an error, and listed. A hard pair is a true one whose infrared image sees a fraction of
the view, is rotated, or covers the visible one in part. It is found when its corners lie within
3 % of the longer side of the infrared image from where they belong. The published pairs are
themselves a few pixels off.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch

from benchmarks.timing import table
from fusecli import images
from fusecli.fields import Matrix, corners, linear, translation
from fusecli.pairs import find_pairs
from fusecli.registration.align import luma_of
from fusecli.registration.estimate import Estimate, estimate
from fusecli.registration.features import Image, carry, fit_size, look, shrink

SETS = ("roadscene-test", "tno-test", "msrs-test", "extra-train/nir-country", "medical-dev")
SIDE = 320  # longer side of the images, in pixels
FRAME = 24  # pixels


class Two(NamedTuple):
    """A visible and an infrared luma of one scene, (H, W) float32 on one grid."""

    key: str
    fixed: Image
    moving: Image


class Trial(NamedTuple):
    """A pair to register: what is done to it, and where the moving image belongs, if anywhere."""

    kind: str
    key: str
    fixed: Image
    moving: Image
    truth: Matrix | None = None  # from the moving image to the fixed one


def pairs(data: Path) -> list[Two]:
    """Return the pairs of all sets, one set after the other and again."""
    rows = [_of_set(data / name) for name in SETS]
    most = max(map(len, rows))
    return [row[k] for k in range(most) for row in rows if k < len(row)]


def _of_set(folder: Path) -> list[Two]:
    found = find_pairs(str(folder / "ir"), str(folder / "vi")).pairs
    twos = []
    for pair in found:
        vis, ir = (luma_of(images.read(str(path))) for path in (pair.vis, pair.ir))
        if vis.shape == ir.shape:
            size = fit_size(vis.shape, SIDE)
            twos.append(Two(f"{folder.name}/{pair.key}", shrink(vis, size), shrink(ir, size)))
    return twos


def _noise(image: Image, draw: np.random.Generator) -> Image:
    return _blurred(draw.normal(size=image.shape), 1.5)


def _blurred(image: np.ndarray, sigma: float) -> Image:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.float32)


def framed(image: Image) -> Image:
    """Return the image within a constant frame."""
    sides = (FRAME,) * 4
    return np.asarray(cv2.copyMakeBorder(image, *sides, cv2.BORDER_CONSTANT, value=1.0), np.float32)


# the infrared images of this scene and of another one, to a wrong infrared image
WRONG: dict[str, Callable[[Image, Image, np.random.Generator], Image]] = {
    "other scene": lambda own, other, draw: other,
    "turned by 180": lambda own, other, draw: own[::-1, ::-1],
    "turned by 90": lambda own, other, draw: own.T[::-1],
    "mirrored": lambda own, other, draw: own[:, ::-1],
    "noise": lambda own, other, draw: _noise(own, draw),
    "blurred": lambda own, other, draw: _blurred(other, 4.0),
    "framed": lambda own, other, draw: framed(other),
}


def wrong(twos: list[Two]) -> Iterator[Trial]:
    """Yield wrong pairs without end, kind after kind."""
    draw = np.random.default_rng(17)
    for round_, kind in enumerate(cycle(WRONG)):
        at = round_ % len(twos)
        step = 1 + round_ // (len(WRONG) * len(twos))
        own, other = twos[at], twos[(at + step) % len(twos)]
        moving = np.ascontiguousarray(WRONG[kind](own.moving, other.moving, draw), np.float32)
        fixed = framed(own.fixed) if kind == "framed" else own.fixed
        yield Trial(kind, f"{own.key} with {other.key}", fixed, moving)


HARD = {
    **{f"view of 1/{ratio:g}": (1 / ratio, 0.0, 0.0) for ratio in (1.3, 2, 3, 4)},
    **{f"rotated by {angle}": (1.0, angle, 0.0) for angle in (10, 20, 45)},
    **{f"overlap of {share:.0%}": (1.0, 0.0, 1 - share) for share in (0.7, 0.5, 0.35)},
}
"""Scale of the view, degrees, and shift as a share of the width."""


def hard(twos: list[Two]) -> Iterator[Trial]:
    """Yield hard true pairs without end, kind after kind."""
    for round_, (kind, (scale, angle, shift)) in enumerate(cycle(HARD.items())):
        two = twos[round_ // len(HARD) % len(twos)]
        height, width = two.moving.shape
        size = (round(height * scale), round(width * scale))
        middle = ((width - 1) / 2, (height - 1) / 2)
        inset = translation((width - size[1]) // 2 + round(shift * width), (height - size[0]) // 2)
        seen = linear(middle, rotate=angle) @ inset  # from the infrared image to the visible one
        view, covered = look(two.moving, seen, size)
        filled = np.where(covered > 0, view, 0).astype(np.float32)
        yield Trial(kind, two.key, two.fixed, filled, seen)


def right(found: Estimate, trial: Trial) -> bool:
    """Return whether an accepted answer lies where it should."""
    assert trial.truth is not None
    points = carry(trial.truth, corners(trial.moving.shape))
    gap = carry(found.matrix, points) - corners(trial.moving.shape)
    return float(np.linalg.norm(gap, axis=1).mean()) <= 0.03 * max(trial.moving.shape)


def main() -> None:
    """Run the bench and print its two tables; exit 1 when a wrong pair was accepted."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, help="folder that holds the sets")
    parser.add_argument("--wrong", type=int, default=560, help="pairs that must be refused")
    parser.add_argument("--hard", type=int, default=140, help="true pairs")
    given = parser.parse_args()
    torch.set_num_threads(1)
    twos, start = pairs(given.data), time.process_time()
    accepted: dict[str, list[bool]] = {}
    for trial in islice(wrong(twos), given.wrong):
        found = estimate(trial.fixed, trial.moving)
        accepted.setdefault(trial.kind, []).append(found.accepted)
        if found.accepted:
            print(f"accepted: {trial.kind}, {trial.key}: {found.attempts[-1]}", flush=True)
    outcomes: dict[str, list[tuple[bool, bool]]] = {}
    for trial in islice(hard(twos), given.hard):
        found = estimate(trial.fixed, trial.moving)
        outcome = (found.accepted, found.accepted and right(found, trial))
        outcomes.setdefault(trial.kind, []).append(outcome)
    refused = [
        {"wrong pairs": kind, "tried": len(these), "accepted": sum(these)}
        for kind, these in accepted.items()
    ]
    reached = [
        {
            "hard pairs": kind,
            "tried": len(these),
            "found": sum(good for _, good in these),
            "accepted, wrong": sum(taken and not good for taken, good in these),
        }
        for kind, these in outcomes.items()
    ]
    print(*(table(rows) for rows in (refused, reached) if rows), sep="\n\n")
    print(f"\n{time.process_time() - start:.0f} CPU seconds")
    sys.exit(any(any(these) for these in accepted.values()))


if __name__ == "__main__":
    main()
