"""Static completion scripts for four shells, written from the command tree.

TAB in a shell should not start Python, and importing a framework least of all, so the scripts hold
the whole tree: commands, options, the values they take, and which arguments are files or folders.
The values of an option are its choices, or what its `autocompletion` returns for nothing typed.
`python -m fusecli.completions completions/` writes them; a test compares.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import typer

# what the words of a metavar say about its value; other metavars say nothing
FILES = {"FILE", "PATH", "SPEC", "IR", "VIS", "FUSED", "SRC", "DST", "PHOTOS"}
FOLDERS = {"DIR", "RUN", "FOLDER"}
LISTS = {"LIST"}


@dataclass(frozen=True)
class Value:
    """What may stand in one place of a command line.

    Args:
        name: Its metavar.
        words: The values known beforehand.
        paths: Whether paths fit too: of any kind, of folders, or none.
        listed: Several words with commas between them.
        many: An argument that may be repeated.
    """

    name: str
    words: tuple[str, ...] = ()
    paths: Literal["file", "folder", ""] = ""
    listed: bool = False
    many: bool = False


@dataclass(frozen=True)
class Flag:
    """An option: its spellings, its help, and its value unless it is a switch."""

    names: tuple[str, ...]
    help: str
    value: Value | None
    repeatable: bool


@dataclass(frozen=True)
class Node:
    """A command or a group of commands; `path` is empty for fusecli itself."""

    path: tuple[str, ...]
    help: str
    flags: tuple[Flag, ...]
    arguments: tuple[Value, ...]
    children: tuple[Node, ...]

    @property
    def at(self) -> str:
        """The path as one text, such as `models list`."""
        return " ".join(self.path)

    def walk(self) -> Iterator[Node]:
        """Return this node and all below it."""
        yield self
        for child in self.children:
            yield from child.walk()


def header(shell: str) -> str:
    """Return the first line of a script."""
    return f"Completion of fusecli for {shell}, written by `python -m fusecli.completions`."


def tree(app: typer.Typer) -> Node:
    """Return the commands of an application."""
    return _node(typer.main.get_command(app), (), None)


def _node(command: Any, path: tuple[str, ...], parent: typer.Context | None) -> Node:
    name = path[-1] if path else "fusecli"
    context = typer.Context(command, info_name=name, parent=parent, **command.context_settings)
    shown = [param for param in command.get_params(context) if not param.hidden]
    children = getattr(command, "commands", {}).items()
    return Node(
        path,
        _sentence(command.help),
        tuple(_flag(p, context) for p in shown if p.param_type_name == "option"),
        tuple(_value(p, context) for p in shown if p.param_type_name == "argument"),
        tuple(_node(child, (*path, key), context) for key, child in children if not child.hidden),
    )


def _flag(param: Any, context: typer.Context) -> Flag:
    names = tuple(sorted((*param.opts, *param.secondary_opts), key=lambda n: (-len(n), n)))
    value = None if param.is_flag or param.count else _value(param, context)
    return Flag(names, _sentence(param.help), value, bool(param.multiple or param.count))


def _value(param: Any, context: typer.Context) -> Value:
    name = param.metavar or param.name.upper()
    parts = set(re.findall(r"[A-Z]+", name))
    words = tuple(str(item.value) for item in param.shell_complete(context, "") if item.value)
    paths: Literal["file", "folder", ""] = ""
    if parts & FILES:
        paths = "file"
    elif parts & FOLDERS:
        paths = "folder"
    return Value(name, words, paths, bool(parts & LISTS), param.nargs == -1)


def _sentence(text: str | None) -> str:
    """Return the first paragraph of a help text on one line, without Rich markup."""
    first = (text or "").strip().split("\n\n")[0]
    return " ".join(re.sub(r"\[/?[a-z ]*\]", "", first).split())
