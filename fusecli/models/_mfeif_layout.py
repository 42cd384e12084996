"""MFEIF's published file: three state dicts, to our keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fusecli.models._layout import batch_norm, convolution, joined, translate

if TYPE_CHECKING:
    from torch import Tensor


def _published() -> dict[str, str]:
    """Return the table of the published file, its three parts told apart by `PART/`."""

    def block(theirs: str, ours: str) -> dict[str, str]:
        return convolution(f"{theirs}.conv", f"{ours}.conv") | batch_norm(
            f"{theirs}.bn", f"{ours}.bn"
        )

    table = block("ext/conv_1", "extractor.stem")
    for index, path in enumerate("abc"):
        for layer in range(3):
            table |= block(f"ext/conv_{path}{layer + 1}", f"extractor.paths.{index}.{layer}")
    for index in (1, 2, 3):
        table |= convolution(f"att/conv_{index}.conv_1", f"attention.conv{index}a")
        table |= convolution(f"att/conv_{index}.conv_2", f"attention.conv{index}b")
    table |= convolution("att/conv_4", "attention.out")
    for index in (1, 2, 3, 4):
        table |= block(f"con/conv_{index}", f"decoder.d{index}")
    return table


LAYOUT = _published()


def adapt(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the published dictionary of three state dicts under our keys.

    The parts are `ext`, `con` and `att`, with or without `module.` before each key. The result is
    for `variant=journal, temperature=0`.

    Raises:
        MissingError: `weights.layout`, when keys are missing or unknown.
    """
    return translate(joined(state, "/"), LAYOUT, title="MFEIF")
