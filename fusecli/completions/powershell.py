"""The script for PowerShell 5.1 or newer."""

from __future__ import annotations

from fusecli.completions import Node, header

SCRIPT = r"""# @header@

Register-ArgumentCompleter -Native -CommandName fusecli -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)

    $commands = @{
@commands@
    }
    $options = @{
@options@
    }
    $values = @{
@values@
    }
    $arguments = @{
@arguments@
    }

    $at = ''
    $place = 0
    $option = ''
    $current = "$wordToComplete"
    $line = @($commandAst.CommandElements | Select-Object -Skip 1 |
        Where-Object { $_.Extent.EndOffset -lt $cursorPosition } |
        ForEach-Object { $_.Extent.Text })
    foreach ($word in $line) {
        if ($option) { $option = '' }
        elseif ($values.ContainsKey("$at $word")) { $option = $word }
        elseif ($word -like '-*') { }
        elseif ($commands.ContainsKey($at) -and $commands[$at].Contains($word)) {
            $at = "$at $word".Trim()
            $place = 0
        }
        else { $place++ }
    }
    $begun = ''
    if ($current -match '^(--[^=]+)=(.*)$' -and $values.ContainsKey("$at $($Matches[1])")) {
        $option = $Matches[1]
        $begun = "$option="
        $current = $Matches[2]
    }

    # word to help; when nothing is found PowerShell offers files
    $found = [ordered]@{}
    if ($option) {
        foreach ($word in $values["$at $option"]) { $found[$word] = $word }
    }
    elseif ($current -like '-*') { $found = $options[$at] }
    elseif ($commands.ContainsKey($at)) { $found = $commands[$at] }
    else {
        $key = if ($arguments.ContainsKey("$at $place")) { "$at $place" } else { "$at *" }
        foreach ($word in $arguments[$key]) { $found[$word] = $word }
    }
    if ($current -match '^(.*,)([^,]*)$') {
        $begun += $Matches[1]
        $current = $Matches[2]
    }
    foreach ($word in @($found.Keys)) {
        if ($word.StartsWith($current)) {
            [System.Management.Automation.CompletionResult]::new(
                "$begun$word", $word, 'ParameterValue', $found[$word])
        }
    }
}
"""


def powershell(root: Node) -> str:
    """Return the script."""
    commands, options, values, arguments = [], [], [], []
    for node in root.walk():
        if node.children:
            helps = {child.path[-1]: child.help for child in node.children}
            commands.append(f"{_quoted(node.at)} = {_table(helps)}")
        helps = {name: flag.help for flag in node.flags for name in flag.names}
        options.append(f"{_quoted(node.at)} = {_table(helps)}")
        for flag in node.flags:
            if flag.value is not None:
                for name in flag.names:
                    key = _quoted(f"{node.at} {name}")
                    values.append(f"{key} = {_array(flag.value.words)}")
        for place, value in enumerate(node.arguments):
            key = _quoted(f"{node.at} {'*' if value.many else place}")
            arguments.append(f"{key} = {_array(value.words)}")
    script = SCRIPT.replace("@header@", header("PowerShell"))
    blocks = {"commands": commands, "options": options, "values": values, "arguments": arguments}
    for name, lines in blocks.items():
        script = script.replace(f"@{name}@", "\n".join(f"        {line}" for line in lines))
    return script


def _table(helps: dict[str, str]) -> str:
    pairs = "; ".join(f"{_quoted(word)} = {_quoted(text or word)}" for word, text in helps.items())
    return f"[ordered]@{{ {pairs} }}"


def _array(words: tuple[str, ...]) -> str:
    return f"@({', '.join(_quoted(word) for word in words)})"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
