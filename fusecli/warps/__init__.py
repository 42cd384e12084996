"""What misalignments `fusecli warp` can draw: kinds, magnitudes and presets; `drawing` draws them.

Any other file of this folder is a preset: its name is the name, `RECIPE` says what is drawn, and a
function `bend(size, generator)`, where there is one, adds a displacement that no magnitude
describes: (1, 2, H, W) pixels, how far away the value of each warped pixel is read.

A warp is described by what happens to the scene: under a shift of (5, 0) an object of the clean
image appears 5 px further right in the warped image.
"""

from __future__ import annotations

import difflib
import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from fusecli import registration
from fusecli.errors import UsageError
from fusecli.options import Keep, Quality, Side, flag, offering
from fusecli.registration import BorderFlag, FieldFormat, InterpolationFlag

Kind = Literal["shift", "rigid", "similarity", "affine", "perspective", "elastic", "mixed"]

_LINEAR = ("shift", "rotate", "scale", "shear")
_ELASTIC = ("elastic_alpha", "elastic_sigma")

KINDS: dict[str, tuple[str, ...]] = {
    "shift": _LINEAR[:1],
    "rigid": _LINEAR[:2],
    "similarity": _LINEAR[:3],
    "affine": _LINEAR,
    "perspective": (*_LINEAR, "perspective"),
    "elastic": _ELASTIC,
    "mixed": (*_LINEAR, *_ELASTIC),
}
"""The components that each kind of warp has."""


@dataclass(frozen=True)
class Recipe:
    """What to draw: a kind of warp and the largest value of each of its components.

    Args:
        kind: One of `KINDS`.
        shift: Pixels, along each axis.
        rotate: Degrees, about the image centre.
        scale: Percent.
        shear: Degrees.
        perspective: How far each corner moves along each axis, as a fraction of the side.
        elastic_alpha: Pixels, the largest elastic displacement. None keeps the displacement as the
            smoothed noise gives it, in units of half the side, which is how ReCoNet makes it.
        elastic_sigma: Pixels, the Gaussian that smooths the noise.
        kernel: Taps at which that Gaussian is cut off; 0 for four sigmas on each side.
        inward: Corners move towards the centre only, as in the random perspective of ReCoNet.
        bend: The preset whose `bend` is added, filled in from the file that has one.
    """

    kind: str
    shift: float = 0.0
    rotate: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    perspective: float = 0.0
    elastic_alpha: float | None = 0.0
    elastic_sigma: float = 32.0
    kernel: int = 0
    inward: bool = False
    bend: str = ""


_MEDIUM = Recipe("affine", 8.0, 5.0, 5.0, 2.0, 0.02, 8.0)
_MILD = Recipe("affine", 4.0, 2.5, 2.5, 1.0, 0.01, 4.0)
_SEVERE = Recipe("affine", 16.0, 10.0, 10.0, 4.0, 0.04, 16.0)


def _reconet(distortion: float, kernel: int) -> Recipe:
    """Return an official ReCoNet preset; its corners move by up to half of `distortion`."""
    return Recipe(
        "mixed", perspective=distortion / 2, elastic_alpha=None, kernel=kernel, inward=True
    )


PRESETS: dict[str, Recipe] = {
    "mild": _MILD,
    "medium": _MEDIUM,
    "severe": _SEVERE,
    "reconet-easy": _reconet(0.2, 143),
    "reconet-normal": _reconet(0.3, 103),
    "reconet-hard": _reconet(0.4, 63),
}


def presets() -> tuple[str, ...]:
    """Return the names of all presets: those above, then one for each file."""
    files = (path.stem for path in Path(__file__).parent.glob("[!_]*.py"))
    added = sorted(name.replace("_", "-") for name in files if name not in ("drawing", "item"))
    return (*PRESETS, *added)


def preset_file(name: str) -> Any:
    """Import the file of an added preset."""
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}")


def _find(preset: str) -> Recipe:
    if preset in PRESETS:
        return PRESETS[preset]
    if preset in presets():
        module = preset_file(preset)
        return replace(module.RECIPE, bend=preset if hasattr(module, "bend") else "")
    near = difflib.get_close_matches(preset, presets(), n=1)
    raise UsageError(
        f"there is no warp preset '{preset}'",
        code="usage.preset",
        facts=[f"available: {', '.join(presets())}"],
        hint=f"did you mean '{near[0]}'?" if near else None,
    )


def components(preset: str, kind: str | None = None) -> tuple[str, ...]:
    """Return the magnitudes that a kind has under a preset; ReCoNet's have no affine part."""
    start = _find(preset)
    parts = KINDS[kind or start.kind]
    if start.inward:
        rest = tuple(part for part in parts if part in _ELASTIC)
        return rest if kind == "elastic" else ("perspective", *rest)
    return parts


def recipe(
    preset: str = "medium", kind: str | None = None, given: Mapping[str, float] | None = None
) -> Recipe:
    """Return what to draw: a preset, for a kind, with some magnitudes replaced.

    Raises:
        UsageError: Unknown preset or kind, or a magnitude that the kind does not have.
    """
    given = given or {}
    start = _find(preset)
    kinds = ("perspective", "elastic", "mixed") if start.inward else tuple(KINDS)
    if (kind or start.kind) not in kinds:
        raise UsageError(
            f"preset '{preset}' has no kind '{kind}'",
            code="usage.kind",
            hint=f"choose one of {', '.join(kinds)}",
        )
    parts = components(preset, kind)
    for name, value in given.items():
        option = "--" + name.replace("_", "-")
        if name not in parts:
            raise UsageError(
                f"a warp of kind '{kind or start.kind}' has no {option}",
                code="usage.magnitude",
                hint="it has " + ", ".join("--" + part.replace("_", "-") for part in parts),
            )
        if not math.isfinite(value) or (name == "elastic_sigma" and value <= 0):
            raise UsageError(
                f"{option} {value} is not a magnitude",
                code="usage.magnitude",
                hint=f"leave {option} out for the preset's own",
            )
    changes: dict[str, Any] = {
        name: 0.0 for name in (*_LINEAR, "perspective", "elastic_alpha") if name not in parts
    }
    changes.update(given, kind=kind or start.kind)
    return replace(start, **changes)


def _magnitude(name: str, metavar: str, help: str) -> Any:
    return flag("Warp", name, metavar=metavar, help=help, show_default="preset's")


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What is drawn: a preset, and what is asked for besides."""

    kind: Annotated[
        Kind | None,
        flag(
            "Warp",
            "--kind",
            help="mixed is affine with elastic, and the default of the ReCoNet presets.",
            show_default="affine",
        ),
    ] = None
    preset: Annotated[
        str,
        flag(
            "Warp",
            "--preset",
            metavar="NAME",
            autocompletion=offering(*presets()),
            help=f"Sets every magnitude below: {', '.join(presets())}.",
        ),
    ] = "medium"
    shift: Annotated[float | None, _magnitude("--shift", "PX", "Along each axis.")] = None
    rotate: Annotated[float | None, _magnitude("--rotate", "DEG", "About the centre.")] = None
    scale: Annotated[float | None, _magnitude("--scale", "PCT", "Growth or shrinkage.")] = None
    shear: Annotated[float | None, _magnitude("--shear", "DEG", "Lean of the y axis.")] = None
    perspective: Annotated[
        float | None,
        _magnitude("--perspective", "FRAC", "Moves of the corners, as a fraction of the side."),
    ] = None
    elastic_alpha: Annotated[
        float | None, _magnitude("--elastic-alpha", "PX", "Largest elastic displacement.")
    ] = None
    elastic_sigma: Annotated[
        float | None, _magnitude("--elastic-sigma", "PX", "Its smoothness.")
    ] = None

    def recipe(self) -> Recipe:
        """Return the kind of warp and the largest value of each of its components.

        Raises:
            UsageError: `usage.kind`, `usage.magnitude` or `usage.preset`.
        """
        values = {name: getattr(self, name) for name in (*_LINEAR, "perspective", *_ELASTIC)}
        given = {name: value for name, value in values.items() if value is not None}
        return recipe(self.preset, self.kind, given)


@dataclass(frozen=True)
class Resampling(registration.Resampling):
    """How pixels of a warped image are made."""

    interpolation: InterpolationFlag = "cubic"
    border: BorderFlag = "reflect"


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Which side is warped, how often, and what is written."""

    which: Annotated[
        Side, flag("Warp", "--which", help="The side that is warped; the other is copied.")
    ] = "ir"
    exact: Annotated[
        bool, flag("Warp", "--exact", help="Take magnitudes as they are: draw no less.")
    ] = False
    variants: Annotated[
        int, flag("Warp", "--variants", min=1, max=9999, help="Warps of each image.")
    ] = 1
    noise: Annotated[
        float,
        flag("Warp", "--noise", metavar="SIGMA", min=0, help="Percent of the range, Gaussian."),
    ] = 0.0
    crop_valid: Annotated[
        bool, flag("Warp", "--crop-valid", help="Crop both sides to the area valid in both.")
    ] = False
    link: Annotated[
        Literal["copy", "hard", "sym"],
        flag("Output", "--link", help="How untouched files get into OUT."),
    ] = "copy"
    save_field: Annotated[
        FieldFormat, flag("Warp", "--save-field", help="Write every truth as a field too.")
    ] = "none"
    save_mask: Annotated[
        bool, flag("Warp", "--save-mask/--no-save-mask", help="Write OUT/.mask/KEY.png.")
    ] = True
    preview: Annotated[
        Literal["none", "grid", "field"],
        flag("Warp", "--preview", help="Also write OUT/.preview/KEY.png."),
    ] = "none"
    metadata: Annotated[
        Keep, flag("Resampling", "--metadata", help="EXIF, XMP and ICC of the warped image.")
    ] = "keep"
    quality: Quality = 95
