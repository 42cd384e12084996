"""Published checkpoints, in the layouts of their authors, to networks of ours.

They are pickles, a format that can run code: only torch's restricted reader ever sees one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fusecli import checkpoint
from fusecli.errors import InputError, MissingError
from fusecli.models import find, parse_options


def convert(
    sources: Sequence[Path], model: str, options: Mapping[str, str]
) -> tuple[nn.Module, dict[str, Any]]:
    """Return a network filled from published checkpoints, and its options.

    Args:
        sources: One file, or several whose contents belong together (RFN-Nest's two).
        model: Name of the network.
        options: Options that the checkpoint was trained with.

    Raises:
        InputError: `weights.pickle`: not a checkpoint, or one that wants to run code.
        MissingError: Keys or shapes that do not fit, NaN, or a network without published layout.
    """
    spec = find(model)
    resolved = parse_options(spec, options)
    if spec.adapt is None:
        raise MissingError(f"no published layout of {spec.title} is known", code="weights.layout")
    published: dict[str, Any] = {}
    for source in sources:
        for key, value in _unpickle(source).items():
            if key in published:
                raise MissingError(
                    f"{source} repeats '{key}' of an earlier file",
                    code="weights.layout",
                    hint="give each part once, as in: autoencoder.model fusion.model OUT",
                )
            published[key] = value
    network = checkpoint.untrained(spec, resolved)
    names = ", ".join(str(source) for source in sources)
    checkpoint.fill(network, spec.adapt(published), source=names, title=spec.title)
    return network, resolved


def _unpickle(path: Path) -> dict[str, Any]:
    """Return a checkpoint's dictionary, read in torch's restricted mode only."""
    if not path.is_file():
        raise InputError(f"there is no file {path}", code="weights.missing")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for files that are no checkpoints
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            f"{path} is not a plain checkpoint: it is damaged, or wants to run code on loading",
            code="weights.pickle",
            facts=[reason[0][:200]],
            hint="fusecli loads tensors only; save the state dict alone with torch.save",
        ) from None
    if not isinstance(content, dict):
        raise InputError(
            f"{path} holds a {type(content).__name__}, not a dictionary of tensors",
            code="weights.pickle",
        )
    return content
