"""RFN-Nest's two published files, merged into one, to our keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fusecli.models._layout import convolution, translate

if TYPE_CHECKING:
    from torch import Tensor


def _published_block(theirs: str, ours: str) -> dict[str, str]:
    """Return the rows of one `block`."""
    return {
        key: value
        for index in (0, 1)
        for key, value in convolution(
            f"{theirs}.denseblock.{index}.conv2d", f"{ours}.{index}.conv"
        ).items()
    }


def _published() -> dict[str, str]:
    """Return the table of the two published files together; they share no key."""
    table = convolution("conv0.conv2d", "encoder.conv0.conv")
    for scale in (1, 2, 3, 4):
        table |= _published_block(f"DB{scale}_0", f"encoder.e{scale}")
    for node in ("11", "21", "31", "12", "22", "13"):
        table |= _published_block(f"DB{node[0]}_{node[1]}", f"decoder.d{node}")
    table |= convolution("conv_out.conv2d", "decoder.out.conv")
    names = {
        "conv_ir": "conv1",
        "conv_vi": "conv2",
        "bottelblock.0": "conv3",
        "bottelblock.1": "conv4",
        "bottelblock.2": "conv5",
        "conv_fusion": "conv6",
    }
    for scale in range(4):
        for theirs, ours in names.items():
            theirs = f"fusion_block{scale + 1}.{theirs}.conv2d"
            table |= convolution(theirs, f"fusion.{scale}.{ours}.conv")
    return table


LAYOUT = _published()


def adapt(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the two published state dicts, given merged into one, under our keys.

    Raises:
        MissingError: `weights.layout`, when keys are missing (one of the two files, for example)
            or unknown.
    """
    return translate(state, LAYOUT, title="RFN-Nest (auto-encoder and fusion files together)")
