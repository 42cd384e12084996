"""`fusecli models`: what networks and weights there are, whether they are sound, and conversion."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from fusecli import models
from fusecli.commands.help import Command, Group
from fusecli.errors import CheckError, UsageError
from fusecli.options import assignments

app = typer.Typer(
    cls=Group, no_args_is_help=True, help="List, show, verify and convert networks and weights."
)

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


@app.command("list", cls=Command)
def list_(*, json: Json = False) -> int:
    """List every network: size, shape rules, and whether its weights are here."""
    from fusecli import checkpoint
    from fusecli.model_cards import count_parameters

    weights = {entry.name: entry for entry in checkpoint.entries()}
    rows: list[dict[str, Any]] = []
    for name in models.names():
        spec = models.find(name)
        entry = weights.get(name)
        options = {**spec.defaults(), **(entry.options if entry else {})}
        rows.append(
            {
                "name": name,
                "title": spec.title,
                "role": spec.role,
                "parameters": count_parameters(spec, options),
                "colour": "luma" if spec.role == "fuser" else "none",
                "multiple_of": spec.multiple_of,
                "min_size": spec.min_size,
                "tiling": spec.tiling,
                "weights": entry is not None and entry.path.is_file(),
                "licence": entry.licence if entry else None,
            }
        )
    if json:
        from fusecli.report import write_json

        write_json({"schema": "fusecli/models/1", "models": rows})
        return 0
    for row in rows:  # the terms of the data are in the JSON and on the cards
        row["licence"] = row["licence"] and row["licence"].partition(" (")[0]
    columns = ("name", "parameters", "colour", "multiple_of", "tiling", "weights", "licence")
    table = [columns, *(tuple(_cell(row[column]) for column in columns) for row in rows)]
    widths = [max(len(line[index]) for line in table) for index in range(len(columns))]
    for line in table:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())
    return 0


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


@app.command(cls=Command)
def show(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", autocompletion=models.names, help="Name of the network."),
    ],
    *,
    json: Json = False,
) -> int:
    """Show the card of a network: paper, size, options, recipe, weights, scores, limits."""
    models.check(name)
    from fusecli.model_cards import card, describe

    if json:
        from fusecli.report import write_json

        write_json({"schema": "fusecli/model/1", **describe(name)})
    else:
        print(card(name))
    return 0


@app.command(cls=Command)
def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME...", autocompletion=models.names, help="Weights; all without any."
        ),
    ] = None,
    *,
    json: Json = False,
) -> int:
    """Compare every weights file with its checksum; exit 6 when one differs or is missing."""
    from fusecli import checkpoint
    from fusecli.errors import MissingError

    known = {entry.name: entry for entry in checkpoint.entries()}
    for name in names or ():
        models.check(name, tuple(known))
    results: list[dict[str, Any]] = []
    for name in names or known:
        try:
            digest = checkpoint.verify(known[name])
            results.append({"name": name, "ok": True, "sha256": digest})
        except MissingError as error:
            results.append({"name": name, "ok": False, "code": error.code, "why": error.message})
    bad = [result for result in results if not result["ok"]]
    if bad:
        raise CheckError(
            f"{len(bad)} of {len(results)} weights files are not what the manifest lists",
            code="weights.verify",
            facts=[result["why"] for result in bad],
            hint="install fusecli again, or restore the files",
            details={"weights": results},
        )
    if json:
        from fusecli.report import write_json

        write_json({"schema": "fusecli/verify/1", "ok": True, "weights": results})
    else:
        for result in results:
            print(f"{result['name']}  ok  {result['sha256']}")
    return 0


@app.command(cls=Command)
def convert(
    sources: Annotated[
        list[Path], typer.Argument(metavar="SRC...", help="Published checkpoint; RFN-Nest: two.")
    ],
    target: Annotated[Path, typer.Argument(metavar="DST", help="File.safetensors to write.")],
    *,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME",
            autocompletion=models.names,
            help="The network.",
            show_default=False,
        ),
    ],
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Option it was trained with, where its shapes do not tell; repeatable.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace DST.")] = False,
    json: Json = False,
) -> int:
    """Turn a published checkpoint into safetensors, with every key and shape checked.

    [dim]fusecli models convert params.pth reconet.safetensors -m reconet[/]
    [dim]fusecli models convert autoencoder.model fusion.model rfn.safetensors -m rfn-nest[/]
    """
    models.check(model)
    if target.suffix != ".safetensors":
        raise UsageError(
            f"the target {target} does not end in .safetensors",
            code="usage.arguments",
            hint=f"fusecli models convert ... {target.with_suffix('.safetensors')} -m {model}",
        )
    if target.exists() and not overwrite:
        raise UsageError(f"{target} exists", code="out.exists", hint="add --overwrite")
    from fusecli import checkpoint
    from fusecli.conversion import convert

    given = assignments(settings or (), "--set")
    network, options = convert(sources, model, given)
    checkpoint.save(
        target,
        network,
        model=model,
        options=options,
        extra={"converted_from": [source.name for source in sources]},
    )
    if json:
        from fusecli.report import write_json

        tensors = len(network.state_dict())
        write_json(
            {
                "schema": "fusecli/convert/1",
                "out": str(target),
                "tensors": tensors,
                "options": options,
            }
        )
    else:
        told = [
            f"{name}={options[name]}"
            for name, default in models.find(model).defaults().items()
            if options[name] != default and name not in given
        ]
        if told:
            print(f"recognised by its shapes: {', '.join(told)}", file=sys.stderr)
        print(target)
    return 0
