"""From a pair of images to a fused one: the pair, the network made ready, tiles and workers.

What a user may choose is here, once: the command makes flags of it, the core reads it, and the
fingerprint of a run hashes it. Importing this file imports nothing heavy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from fusecli import models
from fusecli.errors import UsageError
from fusecli.options import DType, Keep, OnReject, Quality, Side, flag, offering
from fusecli.registration import METHODS

Tone = Literal["model", "clip", "stretch"]
Chroma = Literal["auto", "keep", "drop"]
Fit = Literal["error", "ir-to-vis", "vis-to-ir"]


@dataclass(frozen=True, kw_only=True)
class Network:
    """Which network runs, and on how much at once."""

    model: Annotated[
        str,
        flag(
            "Fusion",
            "--model",
            "-m",
            metavar="NAME",
            autocompletion=models.fusers,
            help=f"Network: {', '.join(models.fusers())}.",
        ),
    ] = "duet"
    weights: Annotated[
        str | None,
        flag(
            "Fusion",
            "--weights",
            metavar="SPEC",
            autocompletion=offering("random"),
            help="File, name in the weight manifest, or random (untrained).",
        ),
    ] = None
    batch_size: Annotated[
        int,
        flag("Fusion", "--batch-size", min=1, help="Pairs of equal size in one forward pass."),
    ] = 1
    tile: Annotated[
        str,
        flag(
            "Fusion",
            "--tile",
            metavar="N",
            autocompletion=offering("auto", "off"),
            help="Edge of the pieces of large images: auto, off or pixels.",
        ),
    ] = "auto"
    tile_overlap: Annotated[
        int | None,
        flag(
            "Fusion",
            "--tile-overlap",
            min=0,
            show_default="model's",
            help="Pixels shared by neighbouring pieces.",
        ),
    ] = None

    def tiling(self) -> Tiling:
        """Return how large images are cut.

        Raises:
            UsageError: `usage.tile`.
        """
        if self.tile in ("auto", "off"):
            return Tiling(None if self.tile == "auto" else 0, self.tile_overlap)
        if not self.tile.isdecimal() or int(self.tile) < 16:
            raise UsageError(
                f"--tile {self.tile} is neither auto, off nor a number of at least 16",
                code="usage.tile",
                hint="--tile auto cuts only what does not fit into memory",
            )
        return Tiling(int(self.tile), self.tile_overlap)


@dataclass(frozen=True)
class Tiling:
    """How large images are cut.

    Args:
        tile: Edge in pixels; 0 is `off`, None is `auto`.
        overlap: Pixels shared by neighbours; None is what the network asks for.
    """

    tile: int | None = None
    overlap: int | None = None


@dataclass(frozen=True, kw_only=True)
class Aligning:
    """How one image is first brought onto the other."""

    align: Annotated[
        str,
        flag(
            "Fusion",
            "--align",
            metavar="METHOD",
            autocompletion=offering("none", *METHODS),
            help=f"Register first: {', '.join(METHODS)}; or stored transforms, a file or folder.",
        ),
    ] = "none"
    align_weights: Annotated[
        str | None,
        flag(
            "Fusion",
            "--align-weights",
            metavar="SPEC",
            help="Of a trained register, for --align reconet and auto: file or name.",
        ),
    ] = None
    on_reject: Annotated[
        OnReject,
        flag(
            "Fusion",
            "--on-reject",
            help="What --align cannot register is fused as it is, or fails.",
        ),
    ] = "identity"


@dataclass(frozen=True, kw_only=True)
class Choices:
    """How stored values become network input and back, and what is written."""

    ir_range: Annotated[
        str,
        flag(
            "Pixels",
            "--ir-range",
            metavar="RULE",
            autocompletion=offering("auto", "dtype"),
            help="auto, dtype, LO:HI or pLO:pHI; auto is dtype for 8 bit, else p0.5:p99.5.",
        ),
    ] = "auto"
    vis_range: Annotated[
        str,
        flag(
            "Pixels",
            "--vis-range",
            metavar="RULE",
            autocompletion=offering("auto", "dtype"),
            help="The same for the visible image.",
        ),
    ] = "auto"
    range_scope: Annotated[
        Literal["image", "all"],
        flag("Pixels", "--range-scope", help="Percentiles of each image, or once of all."),
    ] = "image"
    out_dtype: Annotated[
        DType,
        flag("Pixels", "--out-dtype", help="auto follows the visible image."),
    ] = "auto"
    tone: Annotated[
        Tone,
        flag("Pixels", "--tone", help="The weights' own convention, clip, or stretch."),
    ] = "model"
    chroma: Annotated[
        Chroma,
        flag("Pixels", "--chroma", help="Colours: as in the visible image, always, or never."),
    ] = "auto"
    alpha: Annotated[Keep, flag("Pixels", "--alpha", help="Alpha of the visible image.")] = "drop"
    fit: Annotated[
        Fit,
        flag("Pixels", "--fit", help="Resample one image when the sizes differ."),
    ] = "error"
    grid: Annotated[
        Side,
        flag("Pixels", "--grid", help="Whose grid and metadata the result takes."),
    ] = "vis"
    ir_luma: Annotated[
        bool, flag("Pixels", "--ir-luma", help="Take the luma of false-colour infrared images.")
    ] = False
    metadata: Annotated[
        Keep,
        flag("Pixels", "--metadata", help="EXIF, XMP, ICC and GeoTIFF tags of the reference."),
    ] = "keep"
    reader: Annotated[
        Literal["image", "thermal"],
        flag(
            "Input",
            "--reader",
            help="thermal: FLIR files give degrees and, without VIS, their photograph too.",
        ),
    ] = "image"
    compare: Annotated[
        Literal["none", "side", "checker", "zoom"],
        flag("Fusion", "--compare", help="Also write OUT/.compare/KEY.png beside the sources."),
    ] = "none"
    quality: Quality = 95
