"""A network as a file that other runtimes can run, checked before it is kept."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusecli import checkpoint
from fusecli.checkpoint import Loaded
from fusecli.errors import CheckError, MissingError
from fusecli.fusion.network import stretch
from fusecli.fusion.preparation import fold_batch_norm
from fusecli.models import ModelSpec
from fusecli.version import __version__
from fusecli.writing import write_atomic

Format = Literal["onnx", "pt2", "safetensors"]
Run = Callable[[Tensor, Tensor], Tensor]

AXES = {0: "batch", 2: "height", 3: "width"}
# Odd, even and prime sizes, alone and three at a time. The network's smallest size is added.
SHAPES = ((1, 48, 64), (3, 37, 53), (1, 65, 50), (3, 64, 41))
# No two dimensions equal, none 1, or the exporter would take them for constants; and both odd, or
# padding by nothing would become a condition on every size.
EXAMPLE = (2, 45, 59)

# Half precision carries 11 bits, and three decimals of agreement are what networks keep of that.
TOLERANCES = {"fp32": (1e-4, 1e-3), "fp16": (2e-2, 2e-2)}


@dataclass(frozen=True)
class ExportOptions:
    """What is written and how strictly it is checked; the options of CLI.md 9.6."""

    format: Format
    dynamic: Literal["all", "batch", "hw", "none"] = "all"
    size: tuple[int, int] = (480, 640)
    opset: int = 18
    precision: Literal["fp32", "fp16"] = "fp32"
    embed_io: bool = False
    check: bool = True
    atol: float | None = None
    rtol: float | None = None

    @property
    def tolerances(self) -> tuple[float, float]:
        """Largest absolute and relative difference from torch, on 0..1 (or 0..255 of pixels)."""
        atol, rtol = TOLERANCES[self.precision]
        return (
            atol if self.atol is None else self.atol,
            rtol if self.rtol is None else self.rtol,
        )


class Deployable(nn.Module):
    """A network with everything around it that other runtimes would have to repeat.

    Takes and gives (B, 1, H, W) of 0..1, not clipped: scaling to the network's range, padding to
    its multiple and cropping back are inside. With `embed_io` it takes and gives uint8 of 0..255,
    and the network's tone and rounding are inside too. A register takes `moving` and `fixed` and
    gives a (B, 2, H, W) field in pixels.
    """

    def __init__(self, loaded: Loaded, embed_io: bool = False) -> None:
        super().__init__()
        self.network = fold_batch_norm(loaded.network)
        self.spec, self.embed_io = loaded.spec, embed_io

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the fused image or the field."""
        height, width = first.shape[-2:]
        low, high = self.spec.input_range
        dtype = next(self.network.parameters()).dtype
        prepared = []
        for image in (first, second):
            if self.embed_io:
                image = image.to(dtype) / 255
            image = low + (high - low) * image if (low, high) != (0, 1) else image
            prepared.append(self._padded(image))
        result: Tensor = self.network(*prepared)[..., :height, :width]
        if self.spec.role == "register":
            return result
        result = (result - low) / (high - low) if (low, high) != (0, 1) else result
        if not self.embed_io:
            return result
        result = stretch(result) if self.spec.tone == "stretch" else result.clamp(0, 1)
        return (255 * result).round().to(torch.uint8)

    def _padded(self, image: Tensor) -> Tensor:
        multiple = self.spec.multiple_of
        if multiple == 1:
            return image
        rows, columns = -image.shape[-2] % multiple, -image.shape[-1] % multiple
        return F.pad(image, (0, columns, 0, rows), mode=self.spec.padding)


def export(loaded: Loaded, path: Path, options: ExportOptions) -> dict[str, Any]:
    """Write a network to `path` and its description to `path.json`.

    Returns:
        `file`, `inputs` and `check` for the JSON document.

    Raises:
        MissingError: The packages of the extra `onnx` are not installed (exit 5).
        CheckError: The file does not do what torch does (`export.parity`), has a dimension fixed
            that should be free (`export.specialised`), or cannot be made at all (`export.failed`);
            nothing is kept.
    """
    module = Deployable(loaded, options.embed_io).eval()
    inputs = ("ir", "vis") if loaded.spec.role == "fuser" else ("moving", "fixed")
    about = _about(loaded, options, inputs)
    part = path.with_name(f".{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        if options.format == "safetensors":
            extra = {"licence": loaded.licence} if loaded.licence else {}
            half = options.precision == "fp16"
            checkpoint.save(
                part, loaded.network, model=loaded.model, options=loaded.options, extra=extra,
                half=half,
            )  # fmt: skip
            report = None
        else:
            write = _write_onnx if options.format == "onnx" else _write_pt2
            target = module.half() if options.precision == "fp16" else module
            _attempt(write, target, part, options, inputs, about)
            reference = Deployable(loaded, options.embed_io).eval()
            report = check(part, reference, options, inputs) if options.check else None
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    about["check"] = report
    write_atomic(f"{path}.json", json.dumps(about, indent=2).encode() + b"\n")
    return {"file": str(path), "inputs": about["inputs"], "check": report}


def _attempt(write: Callable[..., None], *arguments: Any) -> None:
    """Write a graph; what the exporter raises becomes an error of ours."""
    try:
        with _quiet():
            write(*arguments)
    except MissingError:
        raise
    except Exception as error:  # exporters raise anything, with pages of text
        cause = error.__cause__ or error
        first = next((line for line in str(cause).splitlines() if line.strip()), "no reason given")
        fixed = any(sign in str(cause) for sign in ("static shape", "pecializ", "onstraint"))
        raise CheckError(
            f"the network cannot be exported like this: {type(cause).__name__}: {first.strip()}",
            code="export.specialised" if fixed else "export.failed",
            hint="try --dynamic none with --size HxW, or another --format",
        ) from error


def _about(loaded: Loaded, options: ExportOptions, inputs: tuple[str, str]) -> dict[str, Any]:
    kind = (
        "uint8" if options.embed_io else {"fp32": "float32", "fp16": "float16"}[options.precision]
    )
    free = _free_axes(options.dynamic)
    shape = [free.get(axis, size) for axis, size in enumerate((1, 1, *options.size))]
    spec = loaded.spec
    return {
        "schema": "fusecli/export/1",
        "version": __version__,
        "model": loaded.model,
        "weights": loaded.label,
        "sha256": loaded.sha256,
        "licence": loaded.licence,
        "options": loaded.options,
        "format": options.format,
        "precision": options.precision,
        "opset": options.opset if options.format == "onnx" else None,
        "inputs": [{"name": name, "shape": shape, "dtype": kind} for name in inputs],
        "output": {
            "name": "fused" if spec.role == "fuser" else "field",
            "dtype": kind if spec.role == "fuser" else "float32",
            "range": "0..255" if options.embed_io else "0..1, not clipped",
        },
        "multiple_of": spec.multiple_of,
        "min_size": smallest_size(spec),
        "tone": spec.tone,
    }


def smallest_size(spec: ModelSpec) -> int:
    """Return the smallest height and width that an exported graph takes."""
    # a graph reflects at most as far as the image reaches; the pipeline would replicate beyond
    return max(spec.min_size, spec.multiple_of if spec.padding == "reflect" else 1)


def _free_axes(dynamic: str) -> dict[int, str]:
    wanted = {"all": (0, 2, 3), "batch": (0,), "hw": (2, 3), "none": ()}[dynamic]
    return {axis: AXES[axis] for axis in wanted}


def _example(options: ExportOptions, min_size: int = 1) -> Tensor:
    """Return one input of the exported type; sizes matter only where they are fixed."""
    free = _free_axes(options.dynamic)
    batch = EXAMPLE[0] if 0 in free else 1
    height, width = EXAMPLE[1:] if 2 in free else options.size
    shape = (batch, 1, max(height, min_size), max(width, min_size + 1))
    return _random(shape, options)


def _random(shape: tuple[int, ...], options: ExportOptions) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    if options.embed_io:
        return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    image = torch.rand(shape, generator=generator)
    return image.half() if options.precision == "fp16" else image


def _write_onnx(
    module: nn.Module, path: Path, options: ExportOptions, inputs: tuple[str, str], about: dict
) -> None:
    missing = [n for n in ("onnx", "onnxscript", "onnxruntime") if not importlib.util.find_spec(n)]
    if missing:
        raise MissingError(
            f"writing ONNX needs {', '.join(missing)}",
            code="extra.missing",
            hint="pip install 'fusecli[onnx]'",
        )
    assert isinstance(module, Deployable)
    example = _example(options, module.spec.min_size)
    free = _free_axes(options.dynamic)
    program = torch.onnx.export(
        module,
        (example, example.clone()),
        dynamo=True,
        dynamic_shapes=(free, free) if free else None,
        input_names=list(inputs),
        output_names=[about["output"]["name"]],
        opset_version=options.opset,
        verbose=False,
    )
    assert program is not None
    stored = {key: value for key, value in about.items() if value is not None}
    program.model.metadata_props.update(
        {key: v if isinstance(v, str) else json.dumps(v) for key, v in stored.items()}
    )
    program.save(str(path), external_data=False)


def _write_pt2(
    module: nn.Module, path: Path, options: ExportOptions, inputs: tuple[str, str], about: dict
) -> None:
    assert isinstance(module, Deployable)
    example = _example(options, module.spec.min_size)
    free = {axis: torch.export.Dim.AUTO for axis in _free_axes(options.dynamic)}
    program = torch.export.export(
        module, (example, example.clone()), dynamic_shapes=(free, free) if free else None
    )
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={"fusecli.json": json.dumps(about)})
    path.write_bytes(buffer.getvalue())


def check(
    path: Path, reference: Deployable, options: ExportOptions, inputs: tuple[str, str]
) -> dict[str, Any]:
    """Run an exported file on random input of several sizes and compare it with torch.

    Returns:
        The shapes that were run, the largest difference and the tolerances.

    Raises:
        CheckError: `export.parity` or `export.specialised`.
    """
    run = _onnx_runner(path, options, inputs) if options.format == "onnx" else _pt2_runner(path)
    atol, rtol = options.tolerances
    if reference.spec.role == "register" and options.atol is None:
        atol = max(atol, 1e-2)  # pixels: where a field leaves the image, the last digit decides
    # a rounded grey level may fall to either side
    atol = atol if not options.embed_io else max(1.0, 255 * atol)
    free, largest, shapes = _free_axes(options.dynamic), 0.0, []
    smallest = smallest_size(reference.spec)
    for batch, height, width in (*SHAPES, (1, max(smallest, 2), max(smallest, 3))):
        if 2 not in free:
            height, width = options.size
        shape = (batch if 0 in free else 1, 1, max(height, smallest), max(width, smallest))
        if shape in shapes:
            continue
        shapes.append(shape)
        ir, vis = _random(shape, options), _random((*shape[:1], *shape[1:]), options).flip(-1)
        try:
            found = run(ir, vis)
        except Exception as error:
            raise CheckError(
                f"the exported file does not take {shape[3]}x{shape[2]} pixels, batch {shape[0]}: "
                f"{str(error).splitlines()[0]}",
                code="export.specialised",
                hint="choose --dynamic none with --size HxW, or another --format",
            ) from None
        plain = (image if options.embed_io else image.float() for image in (ir, vis))
        with torch.no_grad():
            expected = reference(*plain).float()
        if found.shape != expected.shape:
            raise CheckError(
                f"the exported file gives {tuple(found.shape)} for {tuple(expected.shape)}",
                code="export.specialised",
                hint="choose --dynamic none with --size HxW, or another --format",
            )
        difference = (found.float() - expected).abs()
        largest = max(largest, float(difference.max()))
        if not bool((difference <= atol + rtol * expected.abs()).all()):
            raise CheckError(
                f"the exported file differs from torch by {float(difference.max()):.2g} "
                f"at {shape[3]}x{shape[2]} pixels, batch {shape[0]}",
                code="export.parity",
                facts=[f"allowed: {atol:g} + {rtol:g} of the value"],
                hint="raise --atol and --rtol if that is good enough for you",
            )
    sizes = [[shape[0], *shape[2:]] for shape in shapes]
    return {"shapes": sizes, "largest_difference": largest, "atol": atol, "rtol": rtol}


def _onnx_runner(path: Path, options: ExportOptions, inputs: tuple[str, str]) -> Run:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    for given in session.get_inputs():
        for axis, name in _free_axes(options.dynamic).items():
            if isinstance(given.shape[axis], int):
                raise CheckError(
                    f"the exporter fixed {name} of '{given.name}' at {given.shape[axis]}",
                    code="export.specialised",
                    hint="choose --dynamic none with --size HxW, or another --format",
                )

    def run(first: Tensor, second: Tensor) -> Tensor:
        feeds = dict(zip(inputs, (first.numpy(), second.numpy()), strict=True))
        return torch.from_numpy(np.asarray(session.run(None, feeds)[0]))

    return run


def _pt2_runner(path: Path) -> Run:
    module = torch.export.load(io.BytesIO(path.read_bytes())).module()

    def run(first: Tensor, second: Tensor) -> Tensor:
        with torch.no_grad():
            result: Tensor = module(first, second)
        return result

    return run


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' notes on their own insides from the user."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
