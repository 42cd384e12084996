"""One call from two images to a verified transform."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import NamedTuple

import cv2
import numpy as np
import torch

from fusecli.errors import InputError
from fusecli.fields import Matrix, check_matrix, folds, grid_scaling, translation
from fusecli.images.boxes import Box, crop
from fusecli.registration import dense, judge
from fusecli.registration.candidates import Guess, Views, decoys, guesses, turned
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
from fusecli.registration.frames import content

SMALLEST = 24
"""Shortest side, in pixels, for which a registration is attempted."""

Bend = Callable[[Image, Image], Image | None]
"""Fixed image and the moving one brought near, (H, W) each, to what is left to move, (H, W, 2)."""

_Bend = Callable[[Image, Image, Matrix], Image | None]

_JUDGED = 512
"""Longer side, in pixels, at which a registration is judged."""
_OVERLAP = 0.15
"""Share of the smaller view that both images must see."""
_UPRIGHT = 60.0
"""Degrees by which a camera may be rotated: more, and mirrored, is a wrong picture or option."""
_ABOVE_CHANCE = 2.0
"""How many times the agreement of the middle decoy a doubtful result must reach."""


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
        confidence: See `judge.Evidence`.
        refusal: Why it is not to be trusted; empty when it is accepted.
        attempts: What was tried, in turn, the accepted one last.
    """

    matrix: Matrix
    field: Image | None
    shape: str
    method: str
    before: float
    after: float
    confidence: float
    refusal: str = ""
    attempts: tuple["Attempt", ...] = ()

    @property
    def accepted(self) -> bool:
        """Return whether the transform may be used."""
        return not self.refusal


class Attempt(NamedTuple):
    """What one try of a method came to.

    Args:
        method: And the span that it was looked for in.
        confidence: See `judge.Evidence`.
        needed: Confidence below which it is not to be trusted.
        decoy: What agreed as well though it cannot be right; empty where nothing did.
    """

    method: str
    confidence: float
    needed: float
    decoy: str = ""

    def __str__(self) -> str:
        beside = f", but no better than {self.decoy}" if self.decoy else ""
        return f"{self.method} {self.confidence:.1f} of {self.needed:g}{beside}"


class _Trial(NamedTuple):
    """A guess before the judge."""

    guess: Guess
    evidence: judge.Evidence
    refusal: str
    decoy: str = ""

    def margin(self) -> float:
        """Return by how much the guess is more certain than it has to be."""
        return self.evidence.confidence - self.guess.needs

    def attempt(self) -> Attempt:
        """Return what is told of it."""
        confidence = round(self.evidence.confidence, 2)
        return Attempt(self.guess.name, confidence, self.guess.needs, self.decoy)


class _Judge:
    """The held-out measure, with the fixed image described once."""

    def __init__(self, views: Views) -> None:
        self.views = views
        self.size = fit_size(views.fixed.shape, _JUDGED)
        self.fixed = judge.self_similarity(shrink(views.fixed, self.size))

    @cached_property
    def start(self) -> tuple[Image, Image]:
        """Return descriptor and coverage of the moving image at the start."""
        return self.see(Guess(self.views.start, None, "", ""))

    @cached_property
    def other_side(self) -> "_Judge":
        """Return the judge on the grid of the moving image."""
        return _Judge(self.views.swapped())

    def see(self, guess: Guess) -> tuple[Image, Image]:
        """Return descriptor and coverage of the moving image under a guess."""
        fixed, moving = self.views[:2]
        matrix = rescale(guess.matrix, (fixed.shape, self.size), (moving.shape,) * 2)
        if guess.rest is None:
            view, covered = look(moving, matrix, self.size)
        else:
            view, covered = look_along(moving, matrix, resize_field(guess.rest, self.size))
        return judge.self_similarity(view), covered

    def evidence(self, guess: Guess) -> judge.Evidence:
        """Return how far the guess stands out, on the grid of the narrower view."""
        if guess.rest is None and self.views.wideness(guess.matrix) > judge.WIDER:
            return self.other_side.evidence(turned(guess))
        evidence = judge.judge(self.fixed, *self.see(guess))
        seen = max(1.0, self.views.wideness(guess.matrix))  # shares of the moving image
        return evidence._replace(overlap=min(1.0, evidence.overlap * seen))

    def compare(self, one: Guess, other: Guess | None = None) -> tuple[float, float]:
        """Return the agreement of two guesses, the start for lack of another, where both see."""
        first, second = self.see(one), self.start if other is None else self.see(other)
        both = (first[1] > 0.99) & (second[1] > 0.99)
        one_value, other_value = (
            judge.agreement(self.fixed, view, both) for view, _ in (first, second)
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

    Constant frames around the images take no part.

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
    nothing = Estimate(laid, None, "affine", method, 0.0, 0.0, 0.0)
    hopeless = _hopeless(fixed) or _hopeless(moving)
    if hopeless:
        return replace(nothing, refusal=hopeless)
    boxes = content(fixed), content(moving)
    inner = crop(fixed, boxes[0]), crop(moving, boxes[1])
    grids = fit_size(inner[0].shape, max_side), fit_size(inner[1].shape, max_side)
    given = _cropped(laid if start is None else start, boxes)
    origin = rescale(given, (inner[0].shape, grids[0]), (inner[1].shape, grids[1]))
    views = Views(shrink(inner[0], grids[0]), shrink(inner[1], grids[1]), origin, start is None)
    court = _Judge(views)

    trials = list(_tried(court, method, transform))
    attempts = tuple(trial.attempt() for trial in trials)
    if not trials:
        return replace(nothing, refusal=f"{method} found no correspondence")
    guess, evidence, refusal, _ = max(trials, key=lambda trial: (not trial.refusal, trial.margin()))
    if not refusal:
        guess = _improved(court, guess, transform, method, learned)
    after, before = court.compare(guess)
    if not refusal and after < before:
        as_they_come = Guess(origin, None, guess.shape, guess.method)
        if court.evidence(as_they_come).confidence >= judge.CONFIDENT:
            # the images lie right as they come, closer than this method can tell
            guess, after = as_they_come, before
    result = _full_size(guess, grids, boxes, (fixed.shape, moving.shape))
    refusal = refusal or _refusal(after - before, min_gain, result.matrix, fixed.shape)
    if refusal:
        result = replace(result, matrix=laid, field=None, shape="affine")
    return replace(
        result, before=before, after=after, confidence=evidence.confidence,
        refusal=refusal, attempts=attempts,
    )  # fmt: skip


def _hopeless(image: Image) -> str:
    """Return why an image cannot be registered at all, or nothing."""
    height, width = image.shape
    if min(height, width) < SMALLEST:
        return f"an image of {width}x{height} pixels is too small to register"
    if float(image.max()) - float(image.min()) <= 1e-6 * max(1.0, float(np.abs(image).max())):
        return "an image is flat: there is nothing to register"
    return ""


def _tried(court: _Judge, method: str, transform: str) -> Iterator[_Trial]:
    """Yield every guess with its verdict, up to the first that is accepted."""
    for guess in guesses(court.views, method, transform):
        evidence = court.evidence(guess)
        decoy, refusal = "", ""
        if evidence.confidence < guess.needs:
            refusal = "the images do not agree where registered"
        elif evidence.overlap < _OVERLAP:
            refusal = f"the images overlap on {100 * evidence.overlap:.0f} % of the smaller only"
        elif abs(turn := court.views.turn(guess.matrix)) > _UPRIGHT:
            refusal = f"the moving image seems to lie turned by {turn:.0f} degrees: turn it first"
        elif evidence.confidence < judge.BEYOND_DOUBT and guess.rest is None:
            decoy = _rival(court, guess, evidence)
            refusal = decoy and f"the images agree no better than {decoy}"
        yield _Trial(guess, evidence, refusal, decoy)
        if not refusal:
            return


def _rival(court: _Judge, guess: Guess, evidence: judge.Evidence) -> str:
    """Return what agrees about as well as a guess though it cannot be right, or nothing.

    One of the images is turned or mirrored and registered again from where the guess has it. What
    these decoys reach is what chance, a horizon or the outline of a skull are worth.
    """
    chance = []
    for name, decoy in decoys(court.views, guess):
        reached = court.evidence(decoy)
        if reached.agreement >= evidence.agreement or reached.confidence >= evidence.confidence:
            return name
        chance.append(reached.agreement)
    expected = max(0.0, float(np.median(chance)))
    return "" if evidence.agreement >= _ABOVE_CHANCE * expected else "chance lets them"


def _improved(
    court: _Judge, guess: Guess, transform: str, method: str, learned: Bend | None
) -> Guess:
    """Return an accepted guess, with a field where one is asked for or verified to be better."""
    if transform not in ("auto", "dense") or guess.rest is not None or method == "phase":
        return guess
    bends: dict[str, _Bend] = {} if method == "reconet" else {guess.method: _by_blocks}
    if learned is not None:
        bends["reconet"] = partial(_by_network, learned)
    best = guess
    for name, bend in bends.items():
        rest = bend(*court.views[:2], guess.matrix)
        if rest is None or float(folds(torch.from_numpy(rest).permute(2, 0, 1)[None])[0]) > 0:
            continue
        bent = guess._replace(rest=rest, shape="dense", method=name)
        better, value = court.compare(bent, best)
        if better > value or (transform == "dense" and best is guess):
            best = bent
    return best


def _by_blocks(fixed: Image, moving: Image, matrix: Matrix) -> Image:
    return dense.bend(fixed, moving, matrix, max(fixed.shape))


def _by_network(learned: Bend, fixed: Image, moving: Image, matrix: Matrix) -> Image | None:
    view, _ = look(moving, matrix, fixed.shape)
    return learned(fixed, view)


def _refusal(gain: float, min_gain: float, matrix: Matrix, size: tuple[int, ...]) -> str:
    """Return why a result that agrees is not to be used all the same, or nothing."""
    if gain < min_gain:
        return f"the agreement rises by {gain:.4f}, {min_gain:g} needed"
    try:
        check_matrix(matrix, size)
    except InputError as error:
        return error.message
    return ""


def _cropped(matrix: Matrix, boxes: tuple[Box, Box]) -> Matrix:
    """Return a fixed-to-moving matrix of whole images for the boxes in them."""
    (top, left, *_), (down, across, *_) = boxes
    return translation(-across, -down) @ matrix @ translation(left, top)


def _full_size(
    guess: Guess,
    grids: tuple[tuple[int, int], tuple[int, int]],
    boxes: tuple[Box, Box],
    sizes: tuple[tuple[int, ...], tuple[int, ...]],
) -> Estimate:
    """Return a guess of the working grids as an estimate for the images themselves."""
    (top, left, *fixed), (down, across, *moving) = boxes
    matrix = rescale(guess.matrix, (grids[0], fixed), (grids[1], moving))
    matrix = translation(across, down) @ matrix @ translation(-left, -top)
    field = None
    if guess.rest is not None:
        below, beside = sizes[0][0] - top - fixed[0], sizes[0][1] - left - fixed[1]
        rest = resize_field(guess.rest, fixed)
        bordered = cv2.copyMakeBorder(rest, top, below, left, beside, cv2.BORDER_REPLICATE)
        rest = np.asarray(bordered, np.float32)
        here = places(np.zeros_like(rest))
        # in steps of 1/256 px, far below any accuracy, the file of a field is half as large
        field = np.rint(256 * (carry(matrix, here + rest) - here)) / np.float32(256)
    return Estimate(matrix / matrix[2, 2], field, guess.shape, guess.method, 0.0, 0.0, 0.0)
