"""`fusecli export`: a network as ONNX, a torch.export package, or safetensors."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from fusecli import models
from fusecli.errors import InputError, UsageError
from fusecli.options import assignments, flag, offering

FORMATS = {".onnx": "onnx", ".pt2": "pt2", ".safetensors": "safetensors"}


def export(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help=f"One of {', '.join(models.names())}.",
            autocompletion=offering(*models.names()),
        ),
    ],
    *,
    out: Annotated[
        str,
        flag("Output", "--out", "-o", metavar="FILE", show_default=False, help="File to write."),
    ],
    format: Annotated[
        Literal["onnx", "pt2", "safetensors"] | None,
        flag("Output", "--format", show_default="from the suffix", help="Kind of file."),
    ] = None,
    weights: Annotated[
        str | None, flag("Network", "--weights", metavar="SPEC", help="File, name, or random.")
    ] = None,
    set: Annotated[
        list[str] | None,
        flag("Network", "--set", metavar="NAME=VALUE", help="Option of the model."),
    ] = None,
    dynamic: Annotated[
        Literal["all", "batch", "hw", "none"],
        flag("Graph", "--dynamic", help="Which sizes stay free."),
    ] = "all",
    size: Annotated[
        str | None,
        flag("Graph", "--size", metavar="HxW", help="Height and width where they are fixed."),
    ] = None,
    opset: Annotated[int, flag("Graph", "--opset", min=18, help="ONNX operator set.")] = 18,
    precision: Annotated[
        Literal["fp32", "fp16"], flag("Network", "--precision", help="Of weights and activations.")
    ] = "fp32",
    embed_io: Annotated[
        bool,
        flag(
            "Graph",
            "--embed-io",
            help="Take and give 8-bit values; range, tone and rounding inside.",
        ),
    ] = False,
    check: Annotated[
        bool, flag("Check", "--check/--no-check", help="Compare with torch at several sizes.")
    ] = True,
    atol: Annotated[
        float | None,
        flag("Check", "--atol", min=0, show_default="1e-4; fp16 2e-2", help="Allowed difference."),
    ] = None,
    rtol: Annotated[
        float | None,
        flag(
            "Check", "--rtol", min=0, show_default="1e-3; fp16 2e-2", help="Relative to the value."
        ),
    ] = None,
    overwrite: Annotated[bool, flag("Output", "--overwrite", help="Replace what exists.")] = False,
    json: Annotated[bool, flag("Messages", "--json", help="One JSON document on stdout.")] = False,
    quiet: Annotated[bool, flag("Messages", "--quiet", "-q", help="Errors only.")] = False,
) -> int:
    """Write a network for other runtimes, and prove that it does the same there.

    [dim]fusecli export reconet -o reconet.onnx[/]
    [dim]fusecli export mfeif -o mfeif.pt2 --dynamic none --size 480x640[/]
    """
    models.check(model)
    path = Path(out)
    kind = _format(path, format)
    fixed = _size(size, dynamic)
    if kind == "safetensors" and embed_io:
        raise UsageError(
            "safetensors hold weights and no graph: --embed-io has no place there",
            code="export.format",
            hint=f"-o {path.with_suffix('.onnx')} --embed-io",
        )
    for place in (path, Path(f"{out}.json")):
        if place.exists() and not overwrite:
            raise InputError(
                f"{place} exists already", code="out.exists", hint="--overwrite replaces it"
            )
    options = assignments(set or (), "--set")

    from fusecli import checkpoint
    from fusecli.exporting import ExportOptions
    from fusecli.exporting import export as write
    from fusecli.outcome import RunReport
    from fusecli.report import Reporter

    start = time.monotonic()
    loaded = checkpoint.load(model, weights, options)
    if fixed is not None and min(fixed) < loaded.spec.min_size:
        least = loaded.spec.min_size
        raise UsageError(
            f"{loaded.spec.title} needs at least {least} pixels each way",
            code="model.size",
            hint=f"--size {max(fixed[0], least)}x{max(fixed[1], least)}",
        )
    result = write(
        loaded,
        path,
        ExportOptions(
            format=kind,
            dynamic=dynamic,
            size=fixed or (480, 640),
            opset=opset,
            precision=precision,
            embed_io=embed_io,
            check=check,
            atol=atol,
            rtol=rtol,
        ),
    )
    report = RunReport("export", "exported", out, found=1, done=1)
    report.seconds = time.monotonic() - start
    report.extra = result | {
        "model": {
            "name": loaded.model,
            "weights": loaded.label,
            "sha256": loaded.sha256,
            "licence": loaded.licence,
        }
    }
    reporter = Reporter(json=json, quiet=quiet)
    if found := result["check"]:
        sizes = ", ".join(f"{w}x{h} batch {b}" for b, h, w in found["shapes"])
        reporter.note(f"equal to torch within {found['largest_difference']:.1e} at {sizes}")
    return reporter.finish(report)


def _format(path: Path, asked: str | None) -> Any:
    known = FORMATS.get(path.suffix.lower())
    if asked is None and known is None:
        raise UsageError(
            f"the suffix of {path} names no format",
            code="export.format",
            hint="end the name in .onnx, .pt2 or .safetensors, or add --format",
        )
    if asked and known and asked != known:
        raise UsageError(
            f"--format {asked} contradicts the name {path}",
            code="export.format",
            hint=f"leave --format out, or name it -o {path.with_suffix(f'.{asked}')}",
        )
    return asked or known


def _size(text: str | None, dynamic: str) -> tuple[int, int] | None:
    fixed = dynamic in ("batch", "none")
    if text is None:
        if fixed:
            raise UsageError(
                f"--dynamic {dynamic} fixes height and width",
                code="export.size",
                hint="name them: --size 480x640",
            )
        return None
    match = re.fullmatch(r"(\d+)[xX×](\d+)", text)
    if match is None:
        raise UsageError(
            f"--size {text} is not HEIGHTxWIDTH",
            code="export.size",
            hint="write it as --size 480x640",
        )
    if not fixed:
        raise UsageError(
            f"--dynamic {dynamic} leaves height and width free, and --size fixes them",
            code="export.size",
            hint=f"--dynamic none --size {text}",
        )
    return int(match[1]), int(match[2])
