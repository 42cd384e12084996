"""Estimated transforms against true ones, for folders: `eval --truth`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fusecli.errors import InputError
from fusecli.evaluation.cases import unmatched
from fusecli.evaluation.plots import Shot
from fusecli.evaluation.scoring import Scores
from fusecli.metrics import MetricSpec
from fusecli.metrics.registration import Misplacement
from fusecli.ops.resample import positions
from fusecli.outcome import Outcome, Stopwatch
from fusecli.pairs import Pair
from fusecli.registration.transform import Transform, check_sizes, load


@dataclass(frozen=True, slots=True)
class TransformCase:
    """The true transform of one pair and every method's estimate.

    Args:
        key: Of the pair.
        truth: Path of the true transform.
        fused: Path of each method's transform, in the order of the methods.
    """

    key: str
    truth: str
    fused: tuple[str, ...]


def match(
    pairs: Iterable[Pair], methods: dict[str, str], truth: str, *, skip: bool = False
) -> tuple[list[TransformCase], int]:
    """Return what can be scored, in the order of the pairs, and how many pairs were left out.

    Args:
        pairs: Whose keys name the transforms.
        methods: Name of each method and its folder: of transforms, or what `register` wrote.
        truth: Folder of true transforms.
        skip: Leave out pairs for which a transform is missing.

    Raises:
        InputError: `read.missing`, `pair.unmatched`: one is missing and `skip` is off; `pair.none`.
    """
    pairs = list(pairs)
    sides = {name: _folder(source) for name, source in (methods | {"truth": truth}).items()}
    missing = {
        name: [pair.key for pair in pairs if not _file(folder, pair.key).is_file()]
        for name, folder in sides.items()
    }
    lost = set().union(*missing.values())
    if lost and (not skip or len(lost) == len(pairs)):
        shown = {name: str(folder) for name, folder in sides.items()}
        raise unmatched(missing, shown, len(pairs), "transforms")
    cases = [
        TransformCase(
            pair.key,
            str(_file(sides["truth"], pair.key)),
            tuple(str(_file(sides[name], pair.key)) for name in methods),
        )
        for pair in pairs
        if pair.key not in lost
    ]
    return cases, len(lost)


def _folder(source: str) -> Path:
    folder = Path(source)
    if not folder.is_dir():
        raise InputError(
            f"there is no folder of transforms {source}",
            code="read.missing",
            hint="fusecli register OUT writes them to OUT/transforms, fusecli warp to OUT/truth",
        )
    inner = folder / "transforms"
    return inner if inner.is_dir() else folder


def _file(folder: Path, key: str) -> Path:
    return folder / f"{key}.json"


class TransformScorer:
    """Reads transforms and measures how far they are from the truth.

    Args:
        methods: Names, in the order of `TransformCase.fused`.
        specs: Metrics that need a `transform`.
    """

    def __init__(self, methods: Sequence[str], specs: tuple[MetricSpec, ...]) -> None:
        self.scores = Scores(tuple(methods), specs)

    @property
    def conversion(self) -> dict[str, str]:
        """What is measured, in words."""
        return {
            "distances": "between the estimated and the true place in the moving image, in pixels, "
            "over the pixels of the fixed image whose true place lies inside the moving one"
        }

    def shots(self, cases: Sequence[TransformCase], keys: Sequence[str]) -> list[Shot]:
        """Return no pictures: transforms have none."""
        return []

    def __call__(self, case: TransformCase) -> Outcome:
        """Score one case; the values go to `scores`."""
        watch, notes = Stopwatch(), dict[str, str]()
        with watch("read"):
            truth = load(Path(case.truth))
        rows = []
        for method, path in zip(self.scores.methods, case.fused, strict=True):
            with watch("read"):
                estimate = load(Path(path))
            check_sizes(estimate, truth.fixed_size, truth.moving_size)
            if not estimate.accepted:
                notes[f"register.rejected.{method}"] = f"{method} left a pair as it was"
            with watch("run"):
                off = misplacement(estimate, truth)
                rows.append([spec.compute(off).item() for spec in self.scores.specs])
        self.scores.sizes[case.key] = truth.fixed_size
        self.scores.rows[case.key] = np.array(rows)
        return Outcome(case.key, ms=watch.ms, notes=notes)


def misplacement(estimate: Transform, truth: Transform) -> Misplacement:
    """Return how far the places that an estimate names are from the true ones."""
    true = truth.displacement().double()
    distances = (estimate.displacement().double() - true).norm(dim=1)[0]
    inside = _inside(positions(truth.fixed_size, true) + true, truth.moving_size)
    corners = distances[[0, 0, -1, -1], [0, -1, -1, 0]]
    return Misplacement(distances[inside], corners)


def _inside(places: Tensor, size: tuple[int, int]) -> Tensor:
    x, y = places[0]
    return torch.logical_and(
        torch.logical_and(x >= 0, x <= size[1] - 1), torch.logical_and(y >= 0, y <= size[0] - 1)
    )
