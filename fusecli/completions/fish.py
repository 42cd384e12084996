"""The script for fish, 3.1 or newer."""

from __future__ import annotations

from fusecli.completions import Flag, Node, Value, header

SCRIPT = r"""# @header@

# Whether the line so far names exactly this command; `-` stands for none.
function __fusecli_at --argument-names wanted
    set -l known @known@
    set -l at
    for word in (commandline -opc)[2..-1]
        contains -- (string join -- ' ' $at $word) $known; and set at $at $word
    end
    test "$at" = "$wanted"; or test "$wanted" = - -a -z "$at"
end

# The words of a list with commas: what stands before the last comma stays.
function __fusecli_list
    set -l typed (commandline -ct | string replace -r -- '^--[^=]*=' '')
    printf '%s\n' (string replace -r -- '[^,]*$' '' "$typed")$argv
end

complete -c fusecli -f
@lines@
"""


def fish(root: Node) -> str:
    """Return the script. Fish does not count arguments: each place offers what any may be."""
    lines = []
    for node in root.walk():
        begin = f"complete -c fusecli -n '__fusecli_at {_quoted(node.at or '-', mark=chr(34))}'"
        for child in node.children:
            lines.append(f"{begin} -a {child.path[-1]} -d {_quoted(child.help)}")
        lines += [_option(begin, flag) for flag in node.flags]
        lines += [" ".join([begin, *_offer(value)]) for value in node.arguments]
    known = " ".join(_quoted(node.at) for node in root.walk() if node.path)
    script = SCRIPT.replace("@header@", header("fish")).replace("@known@", known)
    return script.replace("@lines@", "\n".join(dict.fromkeys(lines)))


def _option(begin: str, flag: Flag) -> str:
    names = [f"-l {n[2:]}" if n.startswith("--") else f"-s {n[1:]}" for n in flag.names]
    value = [] if flag.value is None else ["-r", *_offer(flag.value)]
    return " ".join([begin, *names, *value, "-d", _quoted(flag.help)])


def _offer(value: Value) -> list[str]:
    words = " ".join(value.words)
    if value.paths == "folder":
        words = "(__fish_complete_directories)"
    elif value.listed and words:
        words = f"(__fusecli_list {words})"
    files = "-F" if value.paths == "file" else "-f"
    return [files, "-a", _quoted(words)] if words else [files]


def _quoted(text: str, mark: str = "'") -> str:
    return mark + text.replace("\\", "\\\\").replace(mark, f"\\{mark}") + mark
