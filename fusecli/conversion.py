"""Published checkpoints, in the layouts of their authors, to networks of ours.

They are pickles, a format that can run code: only torch's restricted reader ever sees one.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fusecli import checkpoint
from fusecli.errors import InputError, MissingError, UsageError
from fusecli.models import ModelSpec, Option, find, parse_options

CHANGES = 2  # options that may differ from their defaults without the user saying so


def convert(
    sources: Sequence[Path], model: str, options: Mapping[str, str]
) -> tuple[nn.Module, dict[str, Any]]:
    """Return a network filled from published checkpoints, and its options.

    Args:
        sources: One file, or several whose contents belong together (RFN-Nest's two).
        model: Name of the network.
        options: Options that the checkpoint was trained with. Those left out are taken from the
            shapes of the tensors where these tell.

    Raises:
        InputError: `weights.pickle`: not a checkpoint, or one that wants to run code.
        MissingError: Keys or shapes that do not fit, NaN, or a network without published layout.
    """
    spec = find(model)
    resolved = parse_options(spec, options)
    if spec.adapt is None:
        raise MissingError(
            f"no published layout of {spec.title} is known",
            code="weights.layout",
            hint=f"fusecli train IR VIS -o RUN -m {model} trains one",
        )
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
    tensors = spec.adapt(published)
    resolved |= _recognised(spec, tensors, resolved, keep=options)
    network = checkpoint.untrained(spec, resolved)
    names = ", ".join(str(source) for source in sources)
    checkpoint.fill(network, tensors, source=names, title=spec.title)
    return network, resolved


def _recognised(
    spec: ModelSpec, tensors: Mapping[str, Tensor], options: Mapping[str, Any], keep: Mapping
) -> dict[str, Any]:
    """Return the fewest changes of options with which a network has these keys and shapes.

    Args:
        spec: Description of the network.
        tensors: Under our keys.
        options: All of them, as the user gave them or by default.
        keep: Those that the user gave.

    Returns:
        Nothing where the options fit already, or where no change of `CHANGES` of them makes them.
    """
    wanted = {key: value.shape for key, value in tensors.items()}
    changes = [
        (option.name, value)
        for option in spec.options
        if not option.recipe and option.name not in keep
        for value in _alternatives(option)
        if value != option.default
    ]
    for count in range(CHANGES + 1):
        for chosen in itertools.combinations(changes, count):
            changed = dict(chosen)
            if len(changed) == count and _shapes(spec, {**options, **changed}) == wanted:
                return changed
    return {}


def _alternatives(option: Option) -> Sequence[Any]:
    """Return the choices of an option; of one without choices, what switches it off."""
    if option.choices or isinstance(option.default, str):
        return option.choices
    return (True, False) if isinstance(option.default, bool) else (type(option.default)(),)


def _shapes(spec: ModelSpec, options: Mapping[str, Any]) -> dict[str, torch.Size] | None:
    """Return the shapes of a network's tensors, without their memory; None: no such network."""
    try:
        with torch.device("meta"):
            network = spec.network(options)
    except UsageError:
        return None
    return {key: value.shape for key, value in network.state_dict().items()}


def _unpickle(path: Path) -> dict[str, Any]:
    """Return a checkpoint's dictionary, read in torch's restricted mode only."""
    if not path.is_file():
        raise InputError(
            f"there is no file {path}",
            code="weights.missing",
            hint="fusecli models convert takes a file that its authors published",
        )
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
            hint="save what network.state_dict() returns with torch.save",
        )
    return content
