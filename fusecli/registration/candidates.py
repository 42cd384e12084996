"""Transforms worth judging: what the methods offer for a pair, the best hopes first."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from fusecli.fields import Matrix, translation
from fusecli.registration import classical, judge, search
from fusecli.registration.features import Image
from fusecli.registration.refine import refine

_FURTHER = ("ecc", "feature", "mi")
"""What `auto` tries, in turn, when the search finds nothing that can be trusted."""
_CERTAIN = 26.0
"""Significance of a search peak below which larger angles, scales and shifts are tried as well."""

_TURNS = {
    "turned by 180 degrees": ((-1, 0), (0, -1)),
    "mirrored": ((-1, 0), (0, 1)),
    "upside down": ((1, 0), (0, -1)),
    "turned by 90 degrees": ((0, -1), (1, 0)),
    "turned by 270 degrees": ((0, 1), (-1, 0)),
}


class Guess(NamedTuple):
    """A transform on the working grids: fixed pixel x lies at matrix(x + rest(x)).

    Args:
        matrix: Fixed to moving.
        rest: (H, W, 2) on the fixed grid, or None.
        shape: Family of the transform.
        method: What found it.
        span: Where it was looked for, if not near the start.
        needs: Confidence that it takes: the more was tried, the more.
    """

    matrix: Matrix
    rest: Image | None
    shape: str
    method: str
    span: str = ""
    needs: float = judge.CONFIDENT

    @property
    def name(self) -> str:
        """Return the method, and the span beside it."""
        return f"{self.method} {self.span}".rstrip()


class Views(NamedTuple):
    """Two images on their working grids, and where to begin.

    Args:
        fixed: (H, W).
        moving: (H', W').
        start: Fixed to moving.
        free: Whether nobody vouches for the start.
    """

    fixed: Image
    moving: Image
    start: Matrix
    free: bool

    def swapped(self) -> "Views":
        """Return the same two images with the other one fixed."""
        return Views(self.moving, self.fixed, _inverse(self.start), self.free)

    def wideness(self, matrix: Matrix) -> float:
        """Return how many times the area that the moving image sees the fixed one sees."""
        return float(abs(np.linalg.det(matrix[:2, :2]))) * self.fixed.size / self.moving.size

    def turn(self, matrix: Matrix) -> float:
        """Return by how many degrees a matrix turns beyond the start, 180 where it mirrors."""
        slopes = (_inverse(self.start) @ matrix)[:2, :2]
        if np.linalg.det(slopes) <= 0:
            return 180.0
        return float(np.rad2deg(np.arctan2(slopes[1, 0] - slopes[0, 1], np.trace(slopes))))


def guesses(views: Views, method: str, transform: str) -> Iterator[Guess]:
    """Yield the transforms that a method offers, the best hopes first.

    Args:
        views: The two images.
        method: One of `registration.METHODS`.
        transform: One of `registration.TRANSFORMS`.
    """
    shape: str = "affine" if transform in ("auto", "dense") else transform
    searching = method in ("auto", "ngf", "reconet")
    if searching:
        yield from _oriented(views, shape)
    for name in _FURTHER if method == "auto" else (method,):
        if name in classical.METHODS:
            matrix = classical.METHODS[name](*views[:3], shape)
            if matrix is not None:
                kind = "translation" if name == "phase" else shape
                needs = judge.CONFIDENT_LATER if method == "auto" else judge.CONFIDENT
                yield Guess(matrix, None, kind, name, needs=needs)
    if method == "flow":
        yield Guess(views.start, classical.flow(*views[:3]), "dense", "flow")
    if searching and views.free and shape not in ("translation", "euclidean"):
        yield from _other_views(views, shape)


def _oriented(views: Views, shape: str) -> Iterator[Guess]:
    """Yield what is searched with the narrower view fixed: the other one then holds all of it."""
    if views.free or views.wideness(views.start) < judge.WIDER:
        yield from _searched(views, shape)
        return
    yield from map(turned, _searched(views.swapped(), shape))


def _searched(views: Views, shape: str) -> Iterator[Guess]:
    """Yield what the search finds near the start, then far from it."""
    fixed, moving, start, free = views
    near = search.search(fixed, moving, start, _restricted(search.NARROW, shape))
    if near[0].score >= _CERTAIN:
        yield _refined(views, [start, *_matrices(near)], shape)
    level = _isotropic(start, fixed.shape, moving.shape) if free else start
    far = search.search(fixed, moving, level, _restricted(search.WIDE, shape), peaks=6)
    starts = [start, *_matrices(near), *_matrices(far)]
    yield _refined(views, starts, shape)._replace(span="wide", needs=judge.CONFIDENT_FAR)


def _other_views(views: Views, shape: str) -> Iterator[Guess]:
    """Yield what is found where one camera sees a fraction of what the other one does."""
    for side in (views.swapped(), views):
        level = _isotropic(side.start, side.fixed.shape, side.moving.shape)
        found = search.search(side.fixed, side.moving, level, search.FRACTION, peaks=6)
        guess = _refined(side, _matrices(found), shape)
        guess = guess._replace(span="fraction", needs=judge.CONFIDENT_FRACTION)
        yield guess if side is views else turned(guess)


def decoys(views: Views, guess: Guess) -> Iterator[tuple[str, Guess]]:
    """Yield registrations from where the fixed image would lie turned or mirrored, by name.

    They are searched and refined as the guess was, on the grid of the narrower view.
    """
    if views.wideness(guess.matrix) > judge.WIDER:
        for name, decoy in decoys(views.swapped(), turned(guess)):
            yield name, turned(decoy)
        return
    height, width = views.fixed.shape
    there = translation((width - 1) / 2, (height - 1) / 2)
    for name, ((a, b), (c, d)) in _TURNS.items():
        around = there @ np.array([[a, b, 0], [c, d, 0], [0, 0, 1.0]]) @ np.linalg.inv(there)
        side = views._replace(start=guess.matrix @ around)
        span = _restricted(search.NARROW, guess.shape)
        near = search.search(side.fixed, side.moving, side.start, span)
        yield name, _refined(side, [side.start, *_matrices(near)], guess.shape)


def _matrices(found: Sequence[search.Candidate]) -> list[Matrix]:
    return [candidate.matrix for candidate in found]


def _refined(views: Views, starts: Sequence[Matrix], shape: str) -> Guess:
    matrix, _ = refine(views.fixed, views.moving, starts, shape, max(views.fixed.shape))
    return Guess(matrix, None, shape, "ngf")


def turned(guess: Guess) -> Guess:
    """Return a guess without a rest for the same images with the other one fixed."""
    return guess._replace(matrix=_inverse(guess.matrix))


def _inverse(matrix: Matrix) -> Matrix:
    return np.asarray(np.linalg.inv(matrix), np.float64)


def _restricted(span: search.Range, shape: str) -> search.Range:
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
    return centred(float(np.sqrt(across * along)), fixed, moving)


def centred(pitch: float, fixed: Sequence[int], moving: Sequence[int]) -> Matrix:
    """Return the matrix that lays centre on centre, a fixed pixel as wide as `pitch` moving ones.

    Args:
        pitch: Moving pixels for each fixed one.
        fixed: Height and width.
        moving: Height and width.
    """
    middle = (np.array(fixed[::-1]) - 1) / 2
    target = (np.array(moving[::-1]) - 1) / 2
    matrix = np.diag([pitch, pitch, 1.0])
    matrix[:2, 2] = target - pitch * middle
    return matrix
