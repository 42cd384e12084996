"""Weights drawn by a fixed rule from the official keys, as the `rule_*` goldens were made."""

import math
import zlib
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor


def fill(
    shapes: Mapping[str, Iterable[int]], prefix: str = "", gain: float = 2.0
) -> dict[str, Tensor]:
    """Return a tensor for each official key, without the prefix.

    Each is drawn with the generator seeded by the CRC-32 of prefix + key. `gain` is 2.0, and 0.5
    for SMFNet. MFEIF's one exception is left to its test.
    """
    return {key: _draw(prefix + key, tuple(shape), gain) for key, shape in shapes.items()}


def shapes_of(state: Mapping[str, Tensor], table: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
    """Return the shape of each official key, given our state dict and the table theirs -> ours."""
    return {theirs: tuple(state[ours].shape) for theirs, ours in table.items()}


def _draw(key: str, shape: tuple[int, ...], gain: float) -> Tensor:
    draw = np.random.default_rng(zlib.crc32(key.encode()))
    kind = key.rpartition(".")[2]
    if kind == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    if kind in ("running_var", "temperature", "scale", "gamma"):
        values = 0.5 + draw.uniform(size=shape)
    elif kind in ("running_mean", "bias"):
        values = 0.1 * draw.normal(size=shape)
    elif len(shape) == 1:
        values = 1 + 0.1 * draw.normal(size=shape)
    else:
        values = draw.normal(size=shape) * math.sqrt(gain / math.prod(shape[1:]))
    return torch.from_numpy(np.asarray(values, dtype=np.float32))
