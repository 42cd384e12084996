"""`fusecli doctor`: what is installed, what works, and what to do about the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fusecli.diagnosis import Diagnosis

STYLES = {"ok": "green", "note": "dim", "warning": "yellow", "missing": "red", "broken": "red"}


def doctor(
    *,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> int:
    """Report the environment and common faults, and fuse one small pair.

    Exit code 5 when something needed is missing, 6 when something is broken.
    """
    from fusecli.diagnosis import diagnose

    diagnosis = diagnose()
    if json:
        from fusecli.report import write_json

        write_json(diagnosis.as_dict())
    else:
        _show(diagnosis)
    return diagnosis.exit_code


def _show(diagnosis: Diagnosis) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    area = ""
    for finding in diagnosis.findings:
        if area and finding.area != area:
            table.add_row()
        heading = "" if finding.area == area else f"[bold]{finding.area}[/]"
        state = f"[{STYLES[finding.state]}]{finding.state}[/]"
        table.add_row(heading, escape(finding.name), state, escape(finding.value))
        if finding.hint:
            table.add_row("", "", "", f"[dim]{escape(finding.hint)}[/]")
        area = finding.area
    console.print(table)
    states = [finding.state for finding in diagnosis.findings]
    bad, warned = len([s for s in states if s in ("missing", "broken")]), states.count("warning")
    console.print(
        f"\n[red]{bad} of {len(states)} findings need mending[/]"
        if bad
        else f"\n[green]fusecli can work here[/]{f', with {warned} warnings' if warned else ''}"
    )
