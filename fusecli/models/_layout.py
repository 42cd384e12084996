"""Published checkpoints: which of their keys is which of ours, and nothing left over.

A network file describes each layout that its authors published as a table from their keys to
ours, put together from `convolution` and `batch_norm`; `translate` applies one to a state dict.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fusecli.errors import MissingError

if TYPE_CHECKING:
    from torch import Tensor


def convolution(theirs: str, ours: str, *, bias: bool = True) -> dict[str, str]:
    """Return the rows of one convolution (or linear layer), from their prefix to ours."""
    names = ("weight", "bias") if bias else ("weight",)
    return {f"{theirs}.{name}": f"{ours}.{name}" for name in names}


def batch_norm(theirs: str, ours: str) -> dict[str, str]:
    """Return the rows of one batch norm, running statistics included."""
    names = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    return {f"{theirs}.{name}": f"{ours}.{name}" for name in names}


def without_prefix(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return `state` with `prefix` taken off every key; unchanged where some key lacks it."""
    if not all(key.startswith(prefix) for key in state):
        return dict(state)
    return {key.removeprefix(prefix): value for key, value in state.items()}


def joined(parts: Mapping[str, Any], separator: str) -> dict[str, Any]:
    """Return a dictionary of state dicts as one: keys are part, separator, key.

    The `module.` of a data-parallel run is taken off; a value that is no state dict stays.
    """
    flat: dict[str, Any] = {}
    for part, content in parts.items():
        if isinstance(content, Mapping):
            bare = without_prefix(content, "module.")
            flat |= {f"{part}{separator}{key}": value for key, value in bare.items()}
        else:
            flat[part] = content
    return flat


def translate(
    state: Mapping[str, Any], table: Mapping[str, str], *, title: str
) -> dict[str, Tensor]:
    """Return `state` under our keys.

    Args:
        state: A published state dict: key to tensor.
        table: Their key to our key, every entry of the layout.
        title: The network's name, for the message.

    Raises:
        MissingError: `weights.layout`, when a key of the layout is missing or one is unknown.
    """
    missing = [key for key in table if key not in state]
    unknown = [key for key in state if key not in table]
    if missing or unknown:
        raise MissingError(
            f"not a published {title} checkpoint: {len(missing)} of {len(table)} keys missing, "
            f"{len(unknown)} unknown",
            code="weights.layout",
            facts=[f"missing: {key}" for key in missing[:5]]
            + [f"unknown: {key}" for key in unknown[:5]],
            hint="check -m NAME and --set; fusecli models show NAME lists the variants",
        )
    return {table[key]: value for key, value in state.items()}
