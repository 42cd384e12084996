"""Statistics of a whole image of which a network may see only one tile at a time.

A network says with `whole_image` what it measures over all pixels. Given a whole image, that is
measured then and there. In tiles it is gathered first, in passes over all of them (`Passes`): the
first gathers what depends on no other statistic, the second what depends on these, and so on. What
is not known yet is NaN, which spreads to all that is made from it, so that a measure without NaN is
one whose time has come. Once all is known, what remains of the network is local.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Values = tuple[Tensor, ...]
How = Literal["sum", "mean", "max"]


def whole_image(
    owner: object, measure: Callable[..., Values], *maps: Tensor, how: How = "sum"
) -> Values:
    """Return what is measured over the whole image that some maps belong to.

    Args:
        owner: Tells this place in the network from all others; lives as long as the network.
        measure: Maps to values whose shapes do not depend on height and width.
        maps: Each (B, C, H, W), all of one height and width.
        how: What becomes of the measures of two halves of an image.
    """
    if torch.compiler.is_compiling() or (passes := _running.get()) is None:
        return measure(*maps)
    return passes.values(owner, measure, maps, how)


def in_passes() -> bool:
    """Return whether this is a tile of an image that somebody gathers statistics of."""
    return _running.get() is not None


def image_mean(owner: object, features: Tensor) -> Tensor:
    """Return the means over the whole image, (B, C, 1, 1)."""
    return whole_image(owner, lambda f: (f.mean((2, 3), keepdim=True),), features, how="mean")[0]


def image_max(owner: object, features: Tensor) -> Tensor:
    """Return the maxima over the whole image, (B, C, 1, 1)."""
    return whole_image(owner, lambda f: (f.amax((2, 3), keepdim=True),), features, how="max")[0]


@dataclass(frozen=True)
class Core:
    """The part of a tile that no other tile has.

    Args:
        rows: Of the tile, in pixels.
        columns: The same.
        height: Of the whole tile.
        width: The same.
    """

    rows: slice
    columns: slice
    height: int
    width: int

    def of(self, features: Tensor) -> Tensor:
        """Return this part of a (B, C, h, w) map, whose scale divides the tile's corners."""
        down, across = self.height // features.shape[-2], self.width // features.shape[-1]
        rows = slice(self.rows.start // down, self.rows.stop // down)
        return features[..., rows, self.columns.start // across : self.columns.stop // across]


class Passes:
    """The statistics of one batch of images, gathered from their tiles.

    Attributes:
        found: How many more the pass that is running has found in its first tile.
    """

    def __init__(self) -> None:
        self.found: int | None = None
        self._known: dict[tuple[int, int], Values] = {}
        self._totals: dict[tuple[int, int], _Total] = {}
        self._core: Core | None = None
        self._gathers = False
        self._uses: Counter[int] = Counter()
        self._seen = 0

    @contextmanager
    def gathering(self, core: Core) -> Iterator[None]:
        """Take what one tile has to add to this pass; the block ends early when that was all."""
        try:
            with self._tile(core, gathers=True):
                yield
        except _EnoughSeenError:
            pass
        self.found = self._seen

    @contextmanager
    def knowing(self, core: Core) -> Iterator[None]:
        """Answer with what has been gathered."""
        with self._tile(core, gathers=False):
            yield

    def settle(self) -> None:
        """End a pass: what it found in all tiles is known from now on."""
        self._known |= {key: total.values() for key, total in self._totals.items()}
        self._totals, self.found = {}, None

    @contextmanager
    def _tile(self, core: Core, gathers: bool) -> Iterator[None]:
        self._core, self._gathers = core, gathers
        self._uses, self._seen = Counter(), 0
        token = _running.set(self)
        try:
            yield
        finally:
            _running.reset(token)

    def values(
        self, owner: object, measure: Callable[..., Values], maps: tuple[Tensor, ...], how: How
    ) -> Values:
        """Return what is known in the place of a measure, or NaN."""
        key = id(owner), self._uses[id(owner)]  # a network may come to one place several times
        self._uses[id(owner)] += 1
        if key in self._known:
            return self._known[key]
        assert self._core is not None
        cores = [self._core.of(features) for features in maps]
        values = measure(*cores)
        if self._gathers and not any(value.isnan().any() for value in values):
            pixels = cores[0].shape[-2] * cores[0].shape[-1]
            self._totals.setdefault(key, _Total(how)).add(values, pixels)
            self._seen += 1
            if self._seen == self.found:
                raise _EnoughSeenError
        return tuple(torch.full_like(value, torch.nan) for value in values)


_running: ContextVar[Passes | None] = ContextVar("passes", default=None)


class _EnoughSeenError(Exception):
    """A tile has nothing more to add to a pass."""


class _Total:
    """What the measures of several tiles make together, in double precision."""

    def __init__(self, how: How) -> None:
        self._how = how
        self._parts: list[Tensor] = []
        self._like: Values = ()
        self._pixels = 0

    def add(self, values: Values, pixels: int) -> None:
        """Add the measures of one tile, made from so many positions."""
        weight = pixels if self._how == "mean" else 1
        more = [weight * value.cpu().double() for value in values]  # some devices have no double
        join = torch.maximum if self._how == "max" else torch.add
        self._parts = (
            [join(*pair) for pair in zip(self._parts, more, strict=True)] if self._like else more
        )
        self._like, self._pixels = values, self._pixels + pixels

    def values(self) -> Values:
        """Return the measures of the whole."""
        over = self._pixels if self._how == "mean" else 1
        pairs = zip(self._parts, self._like, strict=True)
        return tuple((part / over).to(like.device, like.dtype) for part, like in pairs)
