"""The script for bash, 3.2 or newer, with or without the bash-completion package."""

from __future__ import annotations

from fusecli.completions import Node, Value, header

# filled by name with replace: braces belong to bash here
SCRIPT = r"""# @header@

# Set words, paths and list to what option $2 of command $1 takes; fail if it takes nothing.
_fusecli_value() {
    case "$1 $2" in
@values@
        *) return 1 ;;
    esac
}

# The same for argument number $2 of command $1.
_fusecli_argument() {
    case "$1 $2" in
@arguments@
    esac
}

_fusecli_options() {
    case "$1" in
@options@
    esac
}

_fusecli_commands() {
    case "$1" in
@commands@
    esac
}

_fusecli() {
    local at= place=0 option= glue= word cur words= paths= list= i IFS=$' \t\n'
    local -a line=()
    for ((i = 0; i <= COMP_CWORD; i++)); do # bash makes three words of cuda:0
        word=${COMP_WORDS[i]}
        if [[ -n $glue || ($word == :* && i -gt 0) ]]; then
            line[${#line[@]}-1]+=$word
        else
            line+=("$word")
        fi
        [[ $word == *: ]] && glue=1 || glue=
    done
    cur=${line[${#line[@]}-1]}
    for ((i = 1; i < ${#line[@]} - 1; i++)); do
        word=${line[i]}
        if [[ $word == -* ]]; then
            if _fusecli_value "$at" "$word"; then
                [[ ${line[i + 1]} == "=" ]] && ((i++)) # and three of --option=value
                ((++i >= ${#line[@]} - 1)) && option=$word
            fi
        elif [[ " $(_fusecli_commands "$at") " == *" $word "* ]]; then
            at="${at:+$at }$word" place=0
        else
            ((place++))
        fi
    done
    words= paths= list=
    [[ -n $option && $cur == "=" ]] && cur=
    if [[ -n $option ]]; then
        _fusecli_value "$at" "$option"
    elif [[ $cur == -* ]]; then
        words=$(_fusecli_options "$at")
    else
        _fusecli_argument "$at" "$place"
        words="$words $(_fusecli_commands "$at")"
    fi
    COMPREPLY=()
    if [[ -n $list && $cur == *,* ]]; then
        COMPREPLY=($(compgen -P "${cur%,*}," -W "$words" -- "${cur##*,}"))
    else
        COMPREPLY=($(compgen -W "$words" -- "$cur"))
    fi
    if [[ -n $paths ]]; then
        IFS=$'\n'
        COMPREPLY+=($(compgen "$paths" -- "$cur"))
        compopt -o filenames 2>/dev/null
    elif [[ ${COMPREPLY[0]-} == *= ]]; then
        compopt -o nospace 2>/dev/null
    fi
    if [[ $cur == *:* && $COMP_WORDBREAKS == *:* ]]; then
        for i in "${!COMPREPLY[@]}"; do COMPREPLY[i]=${COMPREPLY[i]#"${cur%:*}:"}; done
    fi
}

complete -F _fusecli fusecli
"""


def bash(root: Node) -> str:
    """Return the script."""
    values, arguments, options, commands = [], [], [], []
    for node in root.walk():
        names = [name for flag in node.flags for name in flag.names]
        options.append(_case([f'"{node.at}"'], f"echo '{' '.join(names)}'"))
        if node.children:
            children = " ".join(child.path[-1] for child in node.children)
            commands.append(_case([f'"{node.at}"'], f"echo '{children}'"))
        for flag in node.flags:
            if flag.value is not None:
                spellings = [f'"{node.at} {name}"' for name in flag.names]
                values.append(_case(spellings, _setting(flag.value)))
        for place, value in enumerate(node.arguments):
            pattern = f'"{node.at} "*' if value.many else f'"{node.at} {place}"'
            arguments.append(_case([pattern], _setting(value)))
    script = SCRIPT.replace("@header@", header("bash"))
    blocks = {"values": values, "arguments": arguments, "options": options, "commands": commands}
    for name, lines in blocks.items():
        script = script.replace(f"@{name}@", "\n".join(lines))
    return script


def _case(patterns: list[str], action: str) -> str:
    return f"        {' | '.join(patterns)}) {action} ;;"


def _setting(value: Value) -> str:
    parts = []
    if value.words:
        parts.append(f"words='{' '.join(value.words)}'")
    if value.paths:
        parts.append("paths=-d" if value.paths == "folder" else "paths=-f")
    if value.listed:
        parts.append("list=1")
    return " ".join(parts) or ":"
