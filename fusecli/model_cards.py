"""What is known of a network, from its description and its weights: the card of `models show`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from fusecli import checkpoint
from fusecli.models import ModelSpec, find
from fusecli.training.recipe import as_table

SIZE = (480, 640)


def count_parameters(spec: ModelSpec, options: Mapping[str, Any] | None = None) -> int:
    """Return the number of learnable parameters."""
    with torch.device("meta"):
        network = spec.network(options or spec.defaults())
    return sum(parameter.numel() for parameter in network.parameters())


def count_macs(spec: ModelSpec, options: Mapping[str, Any] | None = None) -> int:
    """Return the multiply-accumulates of one pair of 640x480 pixels.

    Convolutions and matrix products count, all else does not, as usual. Shapes are followed
    without computing anything.
    """
    height, width = (-(-side // spec.multiple_of) * spec.multiple_of for side in SIZE)
    with torch.device("meta"):
        network = spec.network(options or spec.defaults()).eval()
        image = torch.empty(1, 1, height, width)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(image, image)
    return int(counter.get_total_flops()) // 2


def describe(name: str) -> dict[str, Any]:
    """Return what is known of a network, ready for JSON."""
    spec = find(name)
    entries = [entry for entry in checkpoint.entries() if entry.model == name]
    return {
        "name": name,
        "title": spec.title,
        "paper": spec.paper,
        "role": spec.role,
        "parameters": count_parameters(spec),
        "macs_640x480": count_macs(spec),
        "input_range": list(spec.input_range),
        "tone": spec.tone,
        "multiple_of": spec.multiple_of,
        "min_size": spec.min_size,
        "tiling": spec.tiling,
        "options": [asdict(option) for option in spec.options],
        "recipe": [as_table(stage) for stage in spec.stages],
        "limits": list(spec.limits),
        "weights": [
            {
                "name": entry.name,
                "file": str(entry.path),
                "sha256": entry.sha256,
                "licence": entry.licence,
                "options": dict(entry.options),
                "card": _card_of(entry),
            }
            for entry in entries
        ],
    }


def card(name: str) -> str:
    """Return the same for people, as Markdown."""
    about = describe(name)
    low, high = about["input_range"]
    multiple = about["multiple_of"]
    sizes = f"any from {about['min_size']}" + (
        f", padded to multiples of {multiple}" if multiple > 1 else ""
    )
    lines = [
        f"# {about['title']} ({name})",
        "",
        f"- Paper: {about['paper']}",
        f"- Parameters: {about['parameters']:,}",
        f"- Multiply-accumulates at 640x480: {about['macs_640x480'] / 1e9:.2f} G",
        f"- Input: luma in {low:g}..{high:g}; output: {about['tone']}",
        f"- Sizes: {sizes}; tiling: {about['tiling']}",
        *(f"- Limit: {limit}" for limit in about["limits"]),
        "",
        "## Options (--set NAME=VALUE)",
        "",
        *(_option_line(option) for option in about["options"]),
        "",
        "## Recipe",
        "",
        *(_stage_line(stage) for stage in about["recipe"]),
    ]
    for weights in about["weights"]:
        lines += ["", f"## Weights: {weights['name']}", ""]
        lines += [f"- File: {weights['file']}", f"- SHA-256: {weights['sha256']}"]
        lines += [f"- Licence: {weights['licence']}"]
        if weights["card"]:
            lines += ["", weights["card"].strip()]
    if not about["weights"]:
        lines += ["", f"No trained weights here; fusecli train IR VIS -o RUN -m {name} makes some."]
    return "\n".join(lines)


def _option_line(option: Mapping[str, Any]) -> str:
    choices = f" ({', '.join(str(c) for c in option['choices'])})" if option["choices"] else ""
    only = "; training only" if option["recipe"] else ""
    return f"- {option['name']} = {option['default']}: {option['meaning']}{choices}{only}"


def _stage_line(stage: Mapping[str, Any]) -> str:
    on = ", ".join(f"{term} {weight:g}" for term, weight in stage["weights"].items() if weight)
    off = ", ".join(term for term, weight in stage["weights"].items() if not weight)
    offered = f" (offered: {off})" if off else ""
    moved = "" if stage["misalign"] == "none" else f", misaligned by {stage['misalign']}"
    return (
        f"- {stage['name']}: {on}{offered}; {stage['epochs']} epochs, batch {stage['batch_size']},"
        f" crop {stage['crop']}, {stage['optimizer']} {stage['lr']:g} {stage['schedule']}{moved}"
    )


def _card_of(entry: checkpoint.Entry) -> str | None:
    """Return the text of a shipped model card."""
    if entry.card is None:
        return None
    path = entry.folder / entry.card
    return path.read_text("utf-8") if path.is_file() else None
