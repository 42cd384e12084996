"""The completion function for zsh, to be found on `$fpath` as `_fusecli`."""

from __future__ import annotations

import re

from fusecli.completions import Flag, Node, Value, header

SCRIPT = """#compdef fusecli
# @header@

@functions@

if [[ $funcstack[1] == _fusecli ]]; then
    _fusecli "$@"
else
    compdef _fusecli fusecli
fi
"""

GROUP = """@name@() {
    local curcontext=$curcontext state line
    local -a commands
    local -A opt_args
    _arguments @specs@ && return
    case $state in
        command)
            commands=(
@children@
            )
            _describe -t commands command commands
            ;;
        rest)
            case $words[1] in
@cases@
            esac
            ;;
    esac
}"""


def zsh(root: Node) -> str:
    """Return the script."""
    functions = "\n\n".join(_function(node) for node in root.walk())
    return SCRIPT.replace("@header@", header("zsh")).replace("@functions@", functions)


def _function(node: Node) -> str:
    name = "_".join(("_fusecli", *node.path))
    specs = [_option(flag) for flag in node.flags]
    if not node.children:
        for place, value in enumerate(node.arguments, 1):
            at = "*" if value.many else str(place)
            specs.append(_quoted(f"{at}:{_place(value)}"))
        lines = " \\\n        ".join(["-s -S", *specs])
        return f"{name}() {{\n    _arguments {lines}\n}}"
    specs += ["'1: :->command'", "'*:: :->rest'"]
    indent = " " * 16
    filled = {
        "name": name,
        "specs": " \\\n        ".join(["-C -s -S", *specs]),
        "children": "\n".join(
            indent + _quoted(f"{child.path[-1]}:{child.help}") for child in node.children
        ),
        "cases": "\n".join(
            f"{indent}{child.path[-1]}) {name}_{child.path[-1]} ;;" for child in node.children
        ),
    }
    text = GROUP
    for key, part in filled.items():
        text = text.replace(f"@{key}@", part)
    return text


def _option(flag: Flag) -> str:
    """Return one option as `_arguments` takes it; its spellings exclude each other."""
    text = f"[{_escaped(flag.help)}]"
    names = list(flag.names)
    if flag.value is not None:
        names = [f"{name}=" if name.startswith("--") else f"{name}+" for name in names]
        text += f":{_place(flag.value)}"
    if len(names) == 1:
        return _quoted(("*" if flag.repeatable else "") + names[0] + text)
    others = "*" if flag.repeatable else f"({' '.join(flag.names)})"
    return f"{_quoted(others)}{{{','.join(names)}}}{_quoted(text)}"


def _place(value: Value) -> str:
    """Return `message:action`; colons within are escaped, since colons separate the parts."""
    words = " ".join(word.replace(":", "\\:") for word in value.words)
    paths = {"file": "_files", "folder": "_files -/", "": ""}[value.paths]
    if value.listed:
        action = f"_sequence compadd - {' '.join(value.words)}"
    elif words and paths:
        choices = _quoted(f"words:word:({words})"), _quoted(f"paths:path:{paths}")
        action = f"_alternative {' '.join(choices)}"
    else:
        action = f"({' '.join(value.words)})" if words else paths or " "
    return f"{_escaped(value.name)}:" + action.replace(":", "\\:")


def _escaped(text: str) -> str:
    return re.sub(r"([\[\]:\\])", r"\\\1", text)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
