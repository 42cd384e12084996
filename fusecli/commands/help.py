"""`--help`: one panel per group of options, flags to the left of what they do, or above it.

Typer's own layout gives the type of each flag a column of its own, which leaves the sentences a
third of a narrow terminal. Here the values to choose from follow the sentence.
"""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING, Any

import typer
import typer.core

from fusecli.commands.usage import check_words

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

WIDEST = 110  # longer lines are hard to read
NARROW = 70  # columns below which a sentence stands under its flags
LONGEST = 28  # so do sentences whose flags are longer than this


class Command(typer.core.TyperCommand):
    """A command with this help."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse a command line, after a look for what its author may have meant."""
        if not ctx.resilient_parsing:  # no completion under way
            check_words(self, ctx, args)
        rest: list[str] = super().parse_args(ctx, args)
        return rest

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help."""
        show(self, ctx)


class Group(typer.core.TyperGroup):
    """A command with commands of its own, and this help."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help."""
        show(self, ctx)


def show(command: Command | Group, context: typer.Context) -> None:
    """Print usage, summary, examples, and a panel for each group of parameters."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.panel import Panel
    from rich.text import Text

    console = Console(highlight=False)
    console = Console(highlight=False, width=min(console.width, WIDEST))
    parameters = [p for p in command.get_params(context) if not getattr(p, "hidden", False)]

    usage = " ".join([context.command_path, *_usage(command, parameters)])
    paragraphs = [Text.assemble(("Usage: ", "bold"), usage)]
    examples: list[str] = []
    for paragraph in (command.help or "").split("\n\n"):
        text = Text.from_markup(paragraph).plain
        if text.startswith("fusecli "):
            examples += text.splitlines()
        else:
            paragraphs.append(Text(_line(text)))
    for line in paragraphs:
        console.print(Padding(line, (1, 1, 0, 1)))
    console.print()

    panels: dict[str, list[tuple[Text, Text]]] = {}
    for parameter in parameters:
        row = _flags(parameter), _meaning(parameter)
        panels.setdefault(_panel(parameter), []).append(row)
    if isinstance(command, Group):
        panels["Commands"] = [
            (Text(name, "bold cyan"), Text(_line((one.help or "").split("\n\n")[0])))
            for name, one in command.commands.items()
        ]
    bodies = {title: _columns(rows, console) for title, rows in panels.items()}
    if examples:
        bodies = {"Examples": _examples(examples, console.width - 4)} | bodies
    for title, body in bodies.items():
        console.print(Panel(body, title=title, title_align="left", border_style="dim"))


def _examples(commands: list[str], width: int) -> Text:
    """Return commands that can be pasted: a long one goes on after a backslash."""
    from rich.text import Text

    wrapper = textwrap.TextWrapper(
        width - 2, subsequent_indent=" " * 4, break_long_words=False, break_on_hyphens=False
    )
    lines = []
    for command in commands:
        # an option keeps its value beside it
        tied = re.sub(r" (--?[a-z][\w-]*) (?!-)", " \\1\0", command.strip())
        wrapped = wrapper.wrap(tied)
        lines.append(" \\\n".join(wrapped).replace("\0", " "))
    return Text("\n".join(lines))


def _line(text: str) -> str:
    return " ".join(text.split())


def _usage(command: Command | Group, parameters: list[Any]) -> list[str]:
    """Return what follows the name: arguments, and the options that are required."""
    words = ["[OPTIONS]"]
    for parameter in parameters:
        name = _value(parameter)
        if parameter.param_type_name == "argument":
            words.append(name if parameter.required else f"[{name}]")
        elif parameter.required:
            words.append(f"{parameter.opts[-1]} {name}")
    return [*words, "COMMAND ..."] if isinstance(command, Group) else words


def _panel(parameter: Any) -> str:
    default = "Arguments" if parameter.param_type_name == "argument" else "Options"
    title: str = parameter.rich_help_panel or default
    return title


def _value(parameter: Any) -> str:
    """Return what stands for the value; nothing for switches."""
    if parameter.metavar:
        name: str = parameter.metavar
        return name
    if parameter.param_type_name == "argument":
        return str(parameter.name).upper() + ("..." if parameter.nargs != 1 else "")
    kind = parameter.type_descriptor
    if parameter.is_flag or parameter.count:
        return ""
    if kind.is_choice:
        return "KIND"
    return "N" if kind.annotation is int else "X" if kind.annotation is float else "TEXT"


def _flags(parameter: Any) -> Text:
    """Return `-o, --out PATH`; long names without a short one are indented by its place."""
    from rich.text import Text

    if parameter.param_type_name == "argument":
        return Text(_value(parameter), "bold cyan")
    short = [name for name in parameter.opts if not name.startswith("--")]
    long = [name for name in parameter.opts if name.startswith("--")]
    names = ", ".join([*short, *long])
    both = " / ".join([names if short else f"    {names}", *parameter.secondary_opts])
    return Text.assemble((both, "bold cyan"), (f" {_value(parameter)}".rstrip(), "yellow"))


def _meaning(parameter: Any) -> Text:
    """Return the sentence, then choices, limits, default and variable in brackets."""
    from rich.text import Text

    notes = []
    if parameter.param_type_name == "option":
        kind = parameter.type_descriptor
        low, high = parameter.min, parameter.max
        if kind.is_choice:
            notes.append(" | ".join(map(str, kind.choices)))
        if not parameter.count and low is not None:
            notes.append(f"{low} to {high}" if high is not None else f"{low} or more")
    notes += [f"default: {default}"] if (default := _default(parameter)) else []
    notes += [f"env: {parameter.envvar}"] if parameter.envvar else []
    notes += ["required"] if parameter.required else []
    text = Text.from_markup(parameter.help or "")
    return text.append(f" [{'; '.join(notes)}]", "dim") if notes else text


def _default(parameter: Any) -> str:
    """Return the default as it would be typed; nothing where there is nothing to type."""
    if isinstance(parameter.show_default, str) or not parameter.show_default:
        return parameter.show_default or ""
    if getattr(parameter, "is_flag", False):
        names = parameter.opts if parameter.default else parameter.secondary_opts
        return names[0].strip("-") if parameter.secondary_opts else ""
    return "" if parameter.default is None else str(parameter.default)


def _columns(rows: list[tuple[Text, Text]], console: Console) -> Text:
    """Return the rows, wrapped, with all sentences beginning in one column."""
    from rich.text import Text

    inside = console.width - 4  # of the panel
    beside = console.width >= NARROW
    widest = max((n for n in (len(flags) for flags, _ in rows) if n <= LONGEST), default=0)
    indent = widest + 2 if beside else 6
    lines = []
    for flags, meaning in rows:
        first, *others = meaning.wrap(console, inside - indent)
        if beside and len(flags) <= widest:
            lines.append(Text.assemble(flags, " " * (indent - len(flags)), first))
        else:
            lines += [flags, Text.assemble(" " * indent, first)]
        lines += [Text.assemble(" " * indent, line) for line in others]
    return Text("\n").join(lines)
