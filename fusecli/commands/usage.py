"""Command lines that cannot be parsed: what is wrong with them, and what was meant."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from fusecli import config
from fusecli.errors import FusecliError, UsageError

# What other programs call it, and the first of ours that the command at hand has.
MEANINGS: dict[str, tuple[str, ...]] = {
    "threads workers num-workers cores cpus parallel processes": ("--jobs N",),
    "gpu cuda": ("--device cuda",),
    "cpu": ("--device cpu",),
    "mps": ("--device mps",),
    "half fp16 amp": ("--precision fp16",),
    "bf16": ("--precision bf16",),
    "output output-dir outdir out-dir dest dst save save-dir result results": ("--out PATH",),
    "checkpoint ckpt pretrained weight": ("--weights SPEC",),
    "network net arch algorithm": ("--model NAME",),
    "method": ("--model NAME",),
    "register registration warp": ("--align auto",),
    "resize scale size": ("--fit ir-to-vis",),
    "force replace": ("--overwrite",),
    "continue restart skip-existing": ("--resume",),
    "silent": ("--quiet",),
    "debug": ("--verbose",),
    "batch bs": ("--batch-size N",),
    "epoch num-epochs iterations iters": ("--epochs N", "--steps N"),
    "learning-rate": ("--lr X",),
    "tile-size patch patch-size": ("--tile N",),
    "ext extension type": ("--format png",),
    "bits depth dtype": ("--out-dtype uint16",),
    "gray grayscale grey": ("--chroma drop",),
    "color colour": ("--chroma keep",),
    "regex pattern": ("--pair-regex RE",),
    "list filelist": ("--pairs FILE",),
    "recurse subfolders": ("--recursive",),
    "metric": ("--metrics LIST",),
    "gt ground-truth": ("--reference DIR", "--truth DIR"),
}
SOURCES = ("ir", "infrared", "thermal", "vis", "vi", "visible", "rgb", "input", "inputs", "source")
ONCE = ("model", "out", "weights", "align")  # options whose second value would undo the first


def usage_error(error: typer.TyperException) -> FusecliError:
    """Return bad usage, found while the command line was parsed, as an error of ours."""
    context = getattr(error, "ctx", None)
    hint = f"{context.command_path} --help shows every option" if context else None
    possibilities: list[str] = getattr(error, "possibilities", None) or []
    if possibilities:
        hint = f"did you mean {possibilities[0]}?"
    message = getattr(error, "format_message", lambda: str(error))()
    first, *rest = message.splitlines() or ["bad usage"]
    message, _, guess = first.partition(" Did you mean ")
    message = message.split(" (Possible options:")[0].rstrip(". ")
    if guess:
        hint = f"did you mean {guess}"
    message = message[:1].lower() + message[1:].replace("Value error, ", "")
    message = message.replace("Input should be", "should be").split(", unable to parse")[0]
    given, found, choices = message.rpartition(": ")[2].partition(" is not one of ")
    if found and (near := difflib.get_close_matches(given, choices.split(", "), n=1)):
        hint = f"did you mean {near[0]}?"
    meant = _meant(error, context)
    if meant is not None:
        hint = meant
    facts = [line.strip() for line in rest]
    parameter = getattr(error, "param", None)
    if context and parameter is not None and context.get_parameter_source(parameter.name):
        place = config.origin(context, parameter.name)
        if place not in ("command line", "built in"):
            facts.append(f"set by {place}")
    return UsageError(message, code="usage.arguments", hint=hint, facts=facts)


def _meant(error: Any, context: Any) -> str | None:
    """Return what an unknown option is called here, where other programs have it."""
    word = getattr(error, "option_name", None)
    if word is None or context is None:
        return None
    name = word.lstrip("-").lower().replace("_", "-")
    commands = getattr(context.command, "commands", None)
    if commands is not None:
        having = [title for title, one in commands.items() if _has(one, f"--{name}")]
        place = f"{context.command_path} {having[0]} ... {word}" if having else ""
        return f"options follow the command: {place}" if having else None
    if name in SOURCES and _has_sources(context.command):
        return f"sources need no option: {context.command_path} IR VIS -o OUT"
    for words, ours in MEANINGS.items():
        if name in words.split():
            known = [text for text in ours if _has(context.command, text.split()[0])]
            return f"did you mean {known[0]}?" if known else None
    return None


def _has(command: Any, option: str) -> bool:
    return any(option in parameter.opts for parameter in command.params)


def _has_sources(command: Any) -> bool:
    return {"ir", "vis"} <= {parameter.name for parameter in command.params}


def check_words(command: Any, context: Any, arguments: Sequence[str]) -> None:
    """Refuse values that undo each other, and more sources than a command has.

    Args:
        command: At hand.
        context: Of its parser.
        arguments: Of the command.

    Raises:
        UsageError: `usage.arguments`.
    """
    for parameter in command.params:
        values = _values(arguments, parameter.opts)
        once = parameter.name in ONCE and not parameter.multiple
        if once and len(set(values)) > 1:
            raise UsageError(
                f"{parameter.opts[0]} is given {len(values)} times: {', '.join(values)}",
                code="usage.arguments",
                hint=f"keep one, or run {context.command_path} once for each",
            )
    given, extra, _ = command.make_parser(context).parse_args(list(arguments))
    if not extra or given.get("help") or not _has_sources(command):
        return
    words = [given["ir"], given["vis"], *extra]
    if len(extra) == 1 and given.get("out") is None:
        raise UsageError(
            f"there are three places: {' '.join(words)}, but no --out",
            code="usage.arguments",
            hint=f"did you mean -o {extra[0]}?",
        )
    if len(words) > 3 and all(Path(word).is_file() for word in words):
        globs = dict.fromkeys(str(Path(word).with_name("*" + Path(word).suffix)) for word in words)
        quoted = " ".join(f"'{glob}'" for glob in globs)
        raise UsageError(
            f"{len(words)} files are given where IR and VIS belong",
            code="usage.arguments",
            hint=f"the shell wrote a pattern out: quote it, as in {quoted}, or name the folders",
        )


def _values(arguments: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return what follows an option, wherever it stands before `--`."""
    values = []
    for place, word in enumerate(arguments):
        if word == "--":
            break
        name, sign, value = word.partition("=")
        if word in names and place + 1 < len(arguments):
            values.append(arguments[place + 1])
        elif sign and name.startswith("--") and name in names:
            values.append(value)
    return values
