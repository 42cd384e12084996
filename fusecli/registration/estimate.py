"""One call from two images to a verified transform."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from fusecli.errors import InputError
from fusecli.fields import Matrix, check_matrix, folds, grid_scaling
from fusecli.registration import classical, dense
from fusecli.registration import judge as score
from fusecli.registration import search as ngf
from fusecli.registration.features import (
    Image,
    carry,
    fit_size,
    look,
    look_along,
    places,
    rescale,
    resize_field,
    shrink,
)
from fusecli.registration.refine import refine

SMALLEST = 24
"""Shortest side, in pixels, for which a registration is attempted."""

Bend = Callable[[Image, Image], Image | None]
"""Fixed image and the moving one brought near, (H, W) each, to what is left to move, (H, W, 2)."""

_Bend = Callable[[Image, Image, Matrix], Image | None]

_FURTHER = ("ecc", "feature", "mi")
"""What `auto` tries, in turn, when the search finds nothing that can be trusted."""
_CERTAIN = 26.0
"""Significance of a search peak below which larger angles, scales and shifts are tried as well."""
_JUDGED = 512
"""Longer side, in pixels, at which a registration is judged."""


@dataclass(frozen=True)
class Estimate:
    """A transform from fixed to moving, and what speaks for it.

    Args:
        matrix: 3x3. With a field, the best matrix without it.
        field: (H, W, 2) float32, the whole displacement from fixed pixel to moving place, or None.
        shape: Family of the transform: `translation` to `homography`, or `dense`.
        method: What found it.
        before: Agreement of the images as they come, grid laid over grid.
        after: Agreement of the registered images, over the area seen in both cases.
        confidence: See `score.Evidence`.
        refusal: Why it is not to be trusted; empty when it is accepted.
    """

    matrix: Matrix
    field: Image | None
    shape: str
    method: str
    before: float
    after: float
    confidence: float
    refusal: str = ""

    @property
    def accepted(self) -> bool:
        """Return whether the transform may be used."""
        return not self.refusal


class _Guess(NamedTuple):
    """A transform on the working grids: fixed pixel x lies at matrix(x + rest(x))."""

    matrix: Matrix
    rest: Image | None
    shape: str
    method: str
    needs: float = score.CONFIDENT


class _Judge:
    """The held-out measure, with the fixed image described once."""

    def __init__(self, fixed: Image, moving: Image, start: Matrix) -> None:
        self.size = fit_size(fixed.shape, _JUDGED)
        self.grid = fixed.shape
        self.moving = moving
        self.fixed = score.self_similarity(shrink(fixed, self.size))
        self.start = self.see(_Guess(start, None, "", ""))

    def see(self, guess: _Guess) -> tuple[Image, Image]:
        """Return descriptor and coverage of the moving image under a guess."""
        matrix = rescale(guess.matrix, (self.grid, self.size), (self.moving.shape,) * 2)
        if guess.rest is None:
            view, covered = look(self.moving, matrix, self.size)
        else:
            view, covered = look_along(self.moving, matrix, resize_field(guess.rest, self.size))
        return score.self_similarity(view), covered

    def evidence(self, guess: _Guess) -> score.Evidence:
        """Return how far the guess stands out."""
        return score.judge(self.fixed, *self.see(guess))

    def compare(self, one: _Guess, other: _Guess | None = None) -> tuple[float, float]:
        """Return the agreement of two guesses, the start for lack of another, where both see."""
        first, second = self.see(one), self.start if other is None else self.see(other)
        both = (first[1] > 0.99) & (second[1] > 0.99)
        one_value, other_value = (
            score.agreement(self.fixed, view, both) for view, _ in (first, second)
        )
        return one_value, other_value


def estimate(
    fixed: Image,
    moving: Image,
    *,
    method: str = "auto",
    transform: str = "auto",
    start: Matrix | None = None,
    max_side: int = 1024,
    min_gain: float = 0.0,
    learned: Bend | None = None,
) -> Estimate:
    """Return how `moving` lies on `fixed`. The same input gives the same result.

    Args:
        fixed: (H, W) float32, any range, finite.
        moving: (H', W') float32; sizes and resolutions may differ.
        method: One of `registration.METHODS`.
        transform: One of `registration.TRANSFORMS`.
        start: Fixed-to-moving matrix to begin from; the grids laid over each other without it.
        max_side: Longer side of the working images.
        min_gain: Rise of the agreement below which the result is refused.
        learned: A trained register: the field of `reconet`, and a further try of `auto`.
    """
    laid = grid_scaling(fixed.shape, moving.shape)
    given = laid if start is None else start
    nothing = Estimate(laid, None, "affine", method, 0.0, 0.0, 0.0)
    hopeless = _hopeless(fixed) or _hopeless(moving)
    if hopeless:
        return replace(nothing, refusal=hopeless)
    grids = fit_size(fixed.shape, max_side), fit_size(moving.shape, max_side)
    small = shrink(fixed, grids[0]), shrink(moving, grids[1])
    origin = rescale(given, (fixed.shape, grids[0]), (moving.shape, grids[1]))
    judge = _Judge(*small, origin)

    best = None
    for guess in _guesses(*small, origin, method, transform, free=start is None):
        evidence = judge.evidence(guess)
        margin = evidence.confidence - guess.needs
        if best is None or margin > best[1].confidence - best[0].needs:
            best = guess, evidence
        if margin >= 0:
            break
    if best is None:
        return replace(nothing, refusal=f"{method} found no correspondence")
    guess, evidence = best
    if transform in ("auto", "dense") and guess.rest is None and method != "phase":
        bends: dict[str, _Bend] = {} if method == "reconet" else {guess.method: _by_blocks}
        if learned is not None:
            bends["reconet"] = partial(_by_network, learned)
        guess = _bent(*small, guess, judge, bends, insist=transform == "dense")
    after, before = judge.compare(guess)
    as_they_come = _Guess(origin, None, guess.shape, guess.method)
    if after < before and judge.evidence(as_they_come).confidence >= score.CONFIDENT:
        # the images lie right as they come, closer than this method can tell
        guess, after = as_they_come, before
    refusal = _refusal(evidence, after - before, min_gain, guess, small[0].shape)
    result = _full_size(guess, grids, (fixed.shape, moving.shape))
    if refusal:
        result = replace(result, matrix=laid, field=None, shape="affine")
    return replace(
        result, before=before, after=after, confidence=evidence.confidence, refusal=refusal
    )


def _hopeless(image: Image) -> str:
    """Return why an image cannot be registered at all, or nothing."""
    height, width = image.shape
    if min(height, width) < SMALLEST:
        return f"an image of {width}x{height} pixels is too small to register"
    if float(image.max()) - float(image.min()) <= 1e-6 * max(1.0, float(np.abs(image).max())):
        return "an image is flat: there is nothing to register"
    return ""


def _guesses(
    fixed: Image, moving: Image, start: Matrix, method: str, transform: str, free: bool
) -> Iterator[_Guess]:
    """Yield the transforms that a method offers, the best hopes first."""
    shape: str = "affine" if transform in ("auto", "dense") else transform
    if method in ("auto", "ngf", "reconet"):
        yield from _searched(fixed, moving, start, shape, free)
    for name in _FURTHER if method == "auto" else (method,):
        if name in classical.METHODS:
            matrix = classical.METHODS[name](fixed, moving, start, shape)
            if matrix is not None:
                kind = "translation" if name == "phase" else shape
                yield _Guess(matrix, None, kind, name)
    if method == "flow":
        yield _Guess(start, classical.flow(fixed, moving, start), "dense", "flow")


def _searched(
    fixed: Image, moving: Image, start: Matrix, shape: str, free: bool
) -> Iterator[_Guess]:
    """Yield what the search finds near the start, then far from it."""
    near = ngf.search(fixed, moving, start, _restricted(ngf.NARROW, shape))
    far: list[ngf.Candidate] = []

    def refined() -> _Guess:
        starts = [start, *(candidate.matrix for candidate in near + far)]
        matrix, _ = refine(fixed, moving, starts, shape, max(fixed.shape))
        needs = score.CONFIDENT_FAR if far else score.CONFIDENT
        return _Guess(matrix, None, shape, "ngf", needs)

    if near[0].score >= _CERTAIN:
        yield refined()
    level = _isotropic(start, fixed.shape, moving.shape) if free else start
    far = ngf.search(fixed, moving, level, _restricted(ngf.WIDE, shape), peaks=6)
    yield refined()


def _restricted(span: ngf.Range, shape: str) -> ngf.Range:
    """Return the range without what the shape does not allow."""
    if shape == "translation":
        return span._replace(angles=(0.0,), scales=(1.0,))
    return span._replace(scales=(1.0,)) if shape == "euclidean" else span


def _isotropic(start: Matrix, fixed: tuple[int, ...], moving: tuple[int, ...]) -> Matrix:
    """Return a start that does not stretch: grids of other proportions show another field of view.

    Proportions within 5 % are taken for a resized image and kept.
    """
    across, along = start[0, 0], start[1, 1]
    if abs(np.log(across / along)) < 0.05:
        return start
    pitch = np.sqrt(across * along)
    middle = (np.array(fixed[::-1]) - 1) / 2
    target = (np.array(moving[::-1]) - 1) / 2
    matrix = np.diag([pitch, pitch, 1.0])
    matrix[:2, 2] = target - pitch * middle
    return matrix


def _bent(
    fixed: Image,
    moving: Image,
    guess: _Guess,
    judge: _Judge,
    bends: Mapping[str, _Bend],
    insist: bool,
) -> _Guess:
    """Return the guess with the smooth rest that is verified to be best, or insisted on."""
    best = guess
    for name, bend in bends.items():
        rest = bend(fixed, moving, guess.matrix)
        if rest is None or float(folds(torch.from_numpy(rest).permute(2, 0, 1)[None])[0]) > 0:
            continue
        bent = guess._replace(rest=rest, shape="dense", method=name)
        better, value = judge.compare(bent, best)
        if better > value or (insist and best is guess):
            best = bent
    return best


def _by_blocks(fixed: Image, moving: Image, matrix: Matrix) -> Image:
    return dense.bend(fixed, moving, matrix, max(fixed.shape))


def _by_network(learned: Bend, fixed: Image, moving: Image, matrix: Matrix) -> Image | None:
    view, _ = look(moving, matrix, fixed.shape)
    return learned(fixed, view)


def _refusal(
    evidence: score.Evidence, gain: float, min_gain: float, guess: _Guess, size: tuple[int, ...]
) -> str:
    """Return why a result is not to be trusted, or nothing."""
    if evidence.confidence < guess.needs:
        return (
            f"the images do not agree where registered "
            f"(confidence {evidence.confidence:.1f}, {guess.needs} needed)"
        )
    if evidence.overlap < 0.15:
        return f"the images overlap on {100 * evidence.overlap:.0f} % of the fixed image only"
    if gain < min_gain:
        return f"the agreement rises by {gain:.4f}, {min_gain:g} needed"
    try:
        check_matrix(guess.matrix, size)
    except InputError as error:
        return error.message
    return ""


def _full_size(
    guess: _Guess,
    grids: tuple[tuple[int, int], tuple[int, int]],
    sizes: tuple[tuple[int, ...], tuple[int, ...]],
) -> Estimate:
    """Return a guess of the working grids as an estimate for the images themselves."""
    matrix = rescale(guess.matrix, (grids[0], sizes[0]), (grids[1], sizes[1]))
    field = None
    if guess.rest is not None:
        rest = resize_field(guess.rest, sizes[0])
        here = places(np.zeros_like(rest))
        # in steps of 1/256 px, far below any accuracy, the file of a field is half as large
        field = np.rint(256 * (carry(matrix, here + rest) - here)) / np.float32(256)
    return Estimate(matrix / matrix[2, 2], field, guess.shape, guess.method, 0.0, 0.0, 0.0)
