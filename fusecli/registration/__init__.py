"""How a moving image lies on a fixed one: methods and transforms by name.

    features    the direction of edges, which both cameras see
    frames      constant frames, which are no evidence
    search      exhaustive search for rotation, scale and shift (the method `ngf`)
    blocks      local agreement by cell and shift, and models that most cells agree on
    refine      from a rough similarity to a precise matrix
    dense       from a matrix to a smooth field
    classical   what other tools offer: ecc, mi, phase, feature, flow
    candidates  what the methods offer, and decoys that cannot be right
    judge       the independent judge that accepts or refuses
    estimate    one call that does it all
    transform   the file format `fusecli/transform/1`
    rig         one robust transform for a folder

What a user may choose is here, once: the command makes flags of it, the core reads it, and the
fingerprint of a run hashes it. Importing this file imports nothing heavy.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Annotated, Literal

from fusecli.errors import MissingError, UsageError
from fusecli.options import Keep, OnReject, Quality, Side, flag, offering

METHODS = ("auto", "ngf", "ecc", "mi", "phase", "feature", "flow", "reconet")
TRANSFORMS = ("auto", "translation", "euclidean", "similarity", "affine", "homography", "dense")

Family = Literal["auto", "translation", "euclidean", "similarity", "affine", "homography", "dense"]
FieldFormat = Literal["none", "npz", "flo", "tiff"]
Interpolation = Literal["nearest", "linear", "cubic"]
Border = Literal["constant", "replicate", "reflect"]
InterpolationFlag = Annotated[
    Interpolation, flag("Resampling", "--interpolation", help="Of pixels between pixels.")
]
BorderFlag = Annotated[
    Border, flag("Resampling", "--border", help="What is beyond the image that moves.")
]

_ONLY = {"phase": ("auto", "translation"), "flow": ("auto", "dense"), "reconet": ("auto", "dense")}


@dataclass(frozen=True)
class Resampling:
    """How pixels between pixels, and pixels beyond the border, are made.

    Args:
        interpolation: Kernel.
        border: What is beyond the image.
        fill: Value there for `constant`, in the units of the image.
    """

    interpolation: InterpolationFlag = "linear"
    border: BorderFlag = "constant"
    fill: Annotated[
        float, flag("Resampling", "--fill", help="Stored value there, for constant.")
    ] = 0.0


@dataclass(frozen=True, kw_only=True)
class Estimation:
    """How transforms are found."""

    method: Annotated[
        str,
        flag(
            "Registration",
            "--method",
            metavar="NAME",
            autocompletion=offering(*METHODS),
            help=f"One of {', '.join(METHODS)}.",
        ),
    ] = "auto"
    weights: Annotated[
        str | None,
        flag(
            "Registration",
            "--weights",
            metavar="SPEC",
            help="Of a trained register, for reconet and auto: file, or name in the manifest.",
        ),
    ] = None
    transform: Annotated[
        Family,
        flag(
            "Registration",
            "--transform",
            help="Family; auto is affine, and dense where that is verified to be better.",
        ),
    ] = "auto"
    init: Annotated[
        str | None,
        flag(
            "Registration",
            "--init",
            metavar="FILE",
            help="Transform to begin from, or a bare 3x3 matrix, fixed to moving.",
        ),
    ] = None
    fov_ratio: Annotated[
        float | None,
        flag(
            "Registration",
            "--fov-ratio",
            metavar="R",
            help="Begin where the visible camera sees R times as wide as the infrared one.",
        ),
    ] = None
    apply: Annotated[
        str | None,
        flag(
            "Registration",
            "--apply",
            metavar="PATH",
            help="Estimate nothing: apply a transform file, or those of a folder by key.",
        ),
    ] = None
    max_side: Annotated[
        int,
        flag("Registration", "--max-side", min=64, help="Longer side of the working images."),
    ] = 1024
    min_gain: Annotated[
        float,
        flag("Registration", "--min-gain", help="Rise of the agreement that is required."),
    ] = 0.0
    on_reject: Annotated[
        OnReject,
        flag("Registration", "--on-reject", help="identity: pass refused pairs on as they are."),
    ] = "fail"


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Which side moves, and what is written of it."""

    fixed: Annotated[
        Side, flag("Registration", "--fixed", help="The side that stays; the other moves.")
    ] = "vis"
    per: Annotated[
        Literal["pair", "folder"],
        flag("Registration", "--per", help="folder: one transform for all pairs, a fixed rig."),
    ] = "pair"
    save_field: Annotated[
        FieldFormat,
        flag("Registration", "--save-field", help="Write every transform as a field too."),
    ] = "none"
    save_mask: Annotated[
        bool, flag("Registration", "--save-mask", help="Also write OUT/.mask/KEY.png.")
    ] = False
    preview: Annotated[
        Literal["none", "checker", "overlay", "field"],
        flag("Registration", "--preview", help="Also write OUT/.preview/KEY.png."),
    ] = "none"
    metadata: Annotated[
        Keep, flag("Resampling", "--metadata", help="EXIF, XMP, ICC and GeoTIFF tags.")
    ] = "keep"
    quality: Quality = 95


def check_method(method: str) -> None:
    """Refuse an unknown method.

    Raises:
        UsageError: `register.method`.
    """
    if method not in METHODS:
        near = difflib.get_close_matches(method, METHODS, n=1)
        raise UsageError(
            f"there is no registration method '{method}'",
            code="register.method",
            facts=[f"available: {', '.join(METHODS)}"],
            hint=f"did you mean '{near[0]}'?" if near else None,
        )


def check_combination(method: str, transform: str) -> None:
    """Refuse an unknown method, or one that cannot find the transform asked for.

    Raises:
        UsageError: `register.method` or `register.transform`.
    """
    check_method(method)
    allowed = _ONLY.get(method, TRANSFORMS)
    if transform not in allowed:
        raise UsageError(
            f"--method {method} cannot find a transform of the kind '{transform}'",
            code="register.transform",
            hint=f"leave --transform out, or choose {allowed[-1]}",
        )


def check_weights(method: str, given: bool, option: str = "--weights") -> None:
    """Refuse a learned method without weights, and weights for a method that has no use for them.

    Args:
        method: One of `METHODS`.
        given: Whether weights were named.
        option: By which they are.

    Raises:
        MissingError: `weights.missing`.
        UsageError: `register.weights`.
    """
    if method == "reconet" and not given:
        raise MissingError(
            f"reconet registers with weights of yours, named by {option}: none are shipped",
            code="weights.missing",
            hint="fusecli train IR VIS -o RUN -m reconet-u-register --set moves=either,"
            f" then {option} RUN/best.safetensors",
        )
    if given and method not in ("auto", "reconet"):
        raise UsageError(
            f"{method} has no use for {option}",
            code="register.weights",
            hint=f"leave {option} out, or choose reconet or auto",
        )
