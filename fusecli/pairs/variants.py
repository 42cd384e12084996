"""Each pair several times over, under keys of its own: the items of `fusecli warp`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from fusecli.pairs import Pair


class Variants:
    """Every pair as often as it is warped: `KEY_w00`, `KEY_w01`, and so on.

    Args:
        pairs: Can be gone through more than once.
        count: Warps of each; a single one keeps the key as it is.
    """

    def __init__(self, pairs: Iterable[Pair], count: int) -> None:
        self.pairs, self.count = pairs, count

    def __iter__(self) -> Iterator[Pair]:
        for pair in self.pairs:
            if self.count == 1:
                yield pair
                continue
            digits = max(2, len(str(self.count - 1)))
            for number in range(self.count):
                yield dataclasses.replace(pair, key=f"{pair.key}_w{number:0{digits}d}")


def split(key: str, count: int) -> tuple[str, int]:
    """Return the key of the pair, and the number of the variant, of one of `count` variants."""
    if count == 1:
        return key, 0
    stem, _, number = key.rpartition("_w")
    return stem, int(number)
