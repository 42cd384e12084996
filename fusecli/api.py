"""fusecli for notebooks and programs: one call each, arrays or paths in, arrays out.

The functions do to one pair what the commands of the same name do to folders, with the same
options and the same results. Folders belong to the commands: they read, compute and write at the
same time and can be interrupted.

Errors are those of `fusecli.errors`; each has a `message`, a stable `code` and often a `hint`.
"""

from __future__ import annotations

import functools
import inspect
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import ArrayLike

from fusecli import checkpoint, images, models
from fusecli.errors import InputError, UsageError
from fusecli.evaluation.scoring import Rules, Scorer
from fusecli.fusion import Choices, Chroma, Fit, Tone
from fusecli.fusion.network import Fuser
from fusecli.fusion.pair import fuse_pictures
from fusecli.fusion.preparation import against_bf16
from fusecli.fusion.workers import FuseHere
from fusecli.images import Picture
from fusecli.metrics import select
from fusecli.options import DType, OnReject, Side
from fusecli.registration import (
    METHODS,
    Border,
    Interpolation,
    Resampling,
    check_combination,
    check_method,
    check_weights,
)
from fusecli.registration.align import Alignment
from fusecli.registration.learned import LearnedRegister
from fusecli.registration.pair import alignment_by, register_pictures
from fusecli.registration.transform import Transform
from fusecli.runtime import Precision, Runtime

__all__ = ["Image", "Registered", "evaluate", "fuse", "register"]

Image = str | os.PathLike[str] | bytes | bytearray | BinaryIO | ArrayLike
"""A file, its bytes or an open one such as BytesIO, or pixels: (H, W) grey or (H, W, 3) RGB in
uint8, uint16 or float.

A fourth channel is opacity, and left out. Whatever NumPy can make an array of will do: a Pillow
image, a CPU tensor of that shape.
"""

Function = TypeVar("Function", bound=Callable[..., Any])


def _chosen(function: Function) -> Function:
    """Refuse a word that is not one of those in the signature of a function."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def checked(*arguments: Any, **named: Any) -> Any:
        given = signature.bind(*arguments, **named).arguments
        for name, kind in get_type_hints(function).items():
            if get_origin(kind) is not Literal or name not in given:
                continue
            words = get_args(kind)
            if given[name] not in words:
                raise UsageError(
                    f"{name}={given[name]!r} is not one of {', '.join(words)}",
                    code="usage.arguments",
                    hint=f"leave it out for {signature.parameters[name].default!r}",
                )
        return function(*arguments, **named)

    return checked  # type: ignore[return-value]


@_chosen
def fuse(
    ir: Image,
    vis: Image,
    model: str = "duet",
    *,
    weights: str | os.PathLike[str] | None = None,
    ir_range: str = "auto",
    vis_range: str = "auto",
    out_dtype: DType = "auto",
    tone: Tone = "model",
    chroma: Chroma = "auto",
    fit: Fit = "error",
    align: str | os.PathLike[str] | Transform = "none",
    align_weights: str | os.PathLike[str] | None = None,
    on_reject: OnReject = "identity",
    ir_luma: bool = False,
    device: str = "auto",
    precision: Precision = "fp32",
    seed: int = 0,
) -> np.ndarray:
    """Return one fused image: the pixels that `fusecli fuse` would write.

    Args:
        ir: Infrared.
        vis: Visible, registered to it unless `align` says how to.
        model: `duet`, `reconet`, `rfvif`, `smfnet`, `mfeif` or `rfn-nest`.
        weights: A file, a name in the weight manifest, or `random`; None is the model's own.
        ir_range: How values become network input: `auto`, `dtype`, `LO:HI` or `pLO:pHI`.
        vis_range: The same for the visible image.
        out_dtype: Of the result; `auto` is that of `vis`.
        tone: `model` is the convention of the weights; `clip` and `stretch` override it.
        chroma: `auto` keeps the colours of a colour image, `drop` returns the fused luma alone,
            `keep` returns three channels always.
        fit: Which image is resampled when the sizes differ.
        align: How the infrared image is first brought onto the visible one: `none`, a method of
            `register`, the file of a stored transform, or a `Transform`. Sizes may differ then.
        align_weights: Of a trained register, for the methods `reconet` and `auto`.
        on_reject: What `align` cannot register is fused as it is, with a warning, or fails.
        ir_luma: Take the luma of false-colour infrared.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        precision: `fp32`, `bf16`, `fp16`, or `auto`: bf16 where it is native and known to be safe.
        seed: Of random weights.

    Returns:
        (H, W), or (H, W, 3) RGB when `vis` has colours; uint8, uint16 or float32 (0..1). NumPy's
        own float64 counts as float32.

    Raises:
        InputError: An image that cannot be read, images of different size, or `register.rejected`.
        MissingError: Weights or device are not there.
        UsageError: An unknown model or method, or a range that makes no sense.
    """
    alignment = _alignment(align, align_weights, on_reject)
    if alignment is not None and fit != "error":
        raise UsageError(
            "align brings both images onto one grid: fit has nothing to do",
            code="usage.align",
            hint=f"leave fit={fit!r} out",
        )
    choices = Choices(
        ir_range=ir_range,
        vis_range=vis_range,
        out_dtype=out_dtype,
        tone=tone,
        chroma=chroma,
        fit=fit,
        ir_luma=ir_luma,
    )
    pictures = _picture(ir, "ir"), _picture(vis, "vis")
    network = FuseHere(_network(model, weights, tone, device, precision, seed))
    fused = fuse_pictures(*pictures, choices, network, alignment)
    if fused.transform is not None and not fused.transform.accepted:
        warnings.warn("the pair was not registered and is fused as it is", stacklevel=3)
    return fused.pixels


@dataclass(frozen=True)
class Registered:
    """One image on the grid of the other.

    Args:
        image: The moved image on the fixed grid, (H, W) or (H, W, 3), in its own type and range.
        covered: (H, W) bool, where it has data.
        transform: Where each fixed pixel lies in the moving image: `matrix` (3x3) or `field`
            ((H, W, 2) pixels, dx and dy), `accepted`, `method`, `score`.
    """

    image: np.ndarray
    covered: np.ndarray
    transform: Transform


@_chosen
def register(
    ir: Image,
    vis: Image,
    *,
    fixed: Side = "vis",
    method: str = "auto",
    weights: str | os.PathLike[str] | None = None,
    transform: str = "auto",
    max_side: int = 1024,
    min_gain: float = 0.0,
    on_reject: OnReject = "fail",
    interpolation: Interpolation = "linear",
    border: Border = "constant",
    fill: float = 0.0,
) -> Registered:
    """Return one image moved onto the other: what `fusecli register` would write.

    Args:
        ir: Infrared.
        vis: Visible; the sizes may differ.
        fixed: The side that stays; the other moves.
        method: `auto`, `ngf`, `ecc`, `mi`, `phase`, `feature`, `flow` or `reconet`.
        weights: Of a trained register: the method `reconet` needs them, `auto` tries it as well.
        transform: `auto`, `translation`, `euclidean`, `similarity`, `affine`, `homography` or
            `dense`.
        max_side: Longer side, in pixels, of the images that the estimate works on.
        min_gain: Rise of the agreement that is required.
        on_reject: What to do when no transform can be trusted: `fail`, or `identity` to return
            the image as it is, on the fixed grid.
        interpolation: Of pixels between pixels.
        border: What is beyond the moving image.
        fill: Value there for `constant`, in the units of the moving image.

    Raises:
        InputError: An image that cannot be read, or `register.rejected`.
        MissingError: `reconet` without weights, or weights that do not fit.
        UsageError: An unknown method, or one that cannot find such a transform.
    """
    check_combination(method, transform)
    check_weights(method, weights is not None)
    sides = {"ir": _picture(ir, "ir"), "vis": _picture(vis, "vis")}
    still = sides.pop(fixed)
    (moving,) = sides.values()
    alignment = Alignment(
        method,
        transform,
        max_side=max_side,
        min_gain=min_gain,
        on_reject=on_reject,
        learned=LearnedRegister.of(_name(weights), fixed),
    )
    how = Resampling(interpolation, border, fill)
    found = register_pictures(still, moving, alignment, how)
    image = found.moved.pixels
    if found.moved is moving:
        image = image.copy()  # what was given stays the caller's own
    return Registered(image, found.covered, found.transform)


@_chosen
def evaluate(
    ir: Image,
    vis: Image,
    fused: Image,
    metrics: str | Sequence[str] = "standard",
    *,
    reference: Image | None = None,
    ir_range: str = "auto",
    vis_range: str = "auto",
    compute: Literal["luma", "rgb"] = "luma",
    device: str = "auto",
) -> dict[str, float]:
    """Return the scores of one fused image: what `fusecli eval` prints for it.

    Args:
        ir: Infrared.
        vis: Visible.
        fused: What a method made of them; of the same size.
        metrics: Names, names with a convention and groups, as in `--metrics`: `standard,mi:nats`,
            or a list of them.
        reference: Ground truth, for `:reference` metrics.
        ir_range: Which values of `ir` become grey levels 0 and 255: `auto`, `dtype`, `LO:HI` or
            `pLO:pHI`.
        vis_range: The same for `vis`.
        compute: On the `luma`, or on each channel (`rgb`) and then the mean.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Returns:
        Full key, such as `mi:nats`, to value; NaN where a metric is not defined.

    Raises:
        InputError: An image that cannot be read, or images of different size.
        UsageError: An unknown metric.
    """
    given = {"ir": ir, "vis": vis, "fused": fused}
    if reference is not None:
        given["reference"] = reference
    names = metrics if isinstance(metrics, str) else ",".join(metrics)
    specs = select(names, given)
    place = Runtime.resolve(device, "fp32", "1").devices[0]
    scorer = Scorer(("fused",), specs, Rules(ir_range, vis_range, compute), place)
    pictures = {name: _picture(image, name) for name, image in given.items()}
    for name, picture in pictures.items():
        scorer.check_size(name, picture, pictures["vis"], name)
    values = scorer.measure({n: scorer.planes(n, picture) for n, picture in pictures.items()})
    return {spec.key: value for spec, value in zip(specs, values, strict=True)}


def _alignment(
    align: str | os.PathLike[str] | Transform,
    weights: str | os.PathLike[str] | None,
    on_reject: OnReject,
) -> Alignment | None:
    """Return how the infrared image is brought onto the visible one; None for `none`.

    Raises:
        MissingError: `reconet` without weights, or weights that do not fit.
        UsageError: An unknown method, or weights for one that has no use for them.
    """
    if isinstance(align, Transform):
        return Alignment(rig=align, on_reject=on_reject)
    if align == "none":
        return None
    name = os.fspath(align)
    check_weights(name, weights is not None, "align_weights")
    if name not in METHODS and not Path(name).is_file():
        check_method(name)
    return alignment_by(name, _name(weights), on_reject)


def _name(weights: str | os.PathLike[str] | None) -> str | None:
    return None if weights is None else os.fspath(weights)


def _picture(image: Image, name: str) -> Picture:
    if isinstance(image, str | os.PathLike):
        return images.read(os.fspath(image))
    if isinstance(image, bytes | bytearray):
        return images.decode(bytes(image), name)
    read = getattr(image, "read", None)
    if callable(read):
        return images.decode(read(), name)
    try:
        values = np.asarray(image)
    except (TypeError, ValueError, RuntimeError) as error:  # a tensor that needs a gradient, bf16
        raise InputError(
            f"cannot use {name}: {error}",
            code="read.array",
            hint="give numbers that NumPy knows; of a tensor, tensor.detach().float().cpu()",
        ) from None
    return images.from_array(values, name)


def _network(
    model: str,
    weights: str | os.PathLike[str] | None,
    tone: str,
    device: str,
    precision: Precision,
    seed: int,
) -> Fuser:
    models.check(model, models.fusers())
    spec = _name(weights)
    changed = 0
    if spec != "random":
        path = checkpoint.locate(model, spec).path
        changed = path.stat().st_mtime_ns if path.is_file() else 0
    return _prepared(model, spec, tone, device, precision, seed, changed)


@lru_cache(maxsize=4)
def _prepared(
    model: str,
    weights: str | None,
    tone: str,
    device: str,
    precision: Precision,
    seed: int,
    changed: int,  # of the weights file: one that was trained on is another network
) -> Fuser:
    runtime = Runtime.resolve(device, precision, "1")
    loaded = checkpoint.load(model, weights, seed=seed)
    runtime, _ = runtime.settled(against_bf16(loaded, tone))
    return Fuser(
        loaded.network,
        loaded.spec,
        loaded.options,
        device=runtime.devices[0],
        dtype=runtime.dtype,
        tone=tone,
    )
