"""Metrics over folders: which images are scored together, how they are read, and the values.

One item is one pair with what every method made of it. The sources are read once, and what metrics
work out from them alone is shared by all methods. An item succeeds or fails as a whole, so that all
methods are scored on the same images.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from fusecli.errors import InputError, UsageError
from fusecli.io import images
from fusecli.io.files import find_files, scan
from fusecli.io.images import Picture
from fusecli.io.pairs import Pair
from fusecli.metrics import MetricSpec, Plane, Scene, measure
from fusecli.pipeline import stream
from fusecli.plots import Shot
from fusecli.report import Outcome, Reporter, RunReport, Stopwatch
from fusecli.runtime import Runtime, usable_cores

LISTED = 10


@dataclass(frozen=True, slots=True)
class Case:
    """One pair of sources and what each method made of it.

    Args:
        key: Of the pair.
        ir: Path of the infrared image.
        vis: Path of the visible image.
        fused: Path of each method's image, in the order of the methods.
        reference: Path of the ground truth, or None.
    """

    key: str
    ir: str
    vis: str
    fused: tuple[str, ...]
    reference: str | None = None


@dataclass(frozen=True)
class Rules:
    """How stored values become the whole grey levels that metrics look at.

    Args:
        ir_range: Stored infrared values that become 0 and 255, as in `fuse`.
        vis_range: The same for the visible image.
        compute: `luma`, or `rgb`: every metric on each channel, then the mean.
    """

    ir_range: str = "auto"
    vis_range: str = "auto"
    compute: str = "luma"

    def sentences(self) -> dict[str, str]:
        """Return what is done to each image, in words."""
        scaled = "scaled to 0..255, clipped, rounded half to even"
        auto = "full range for 8 bit, 0.5 to 99.5 % percentiles of each image otherwise"
        named = {"auto": auto, "dtype": "full range of the type (0..1 for floats)"}
        return {
            "ir": f"{named.get(self.ir_range, self.ir_range)}; {scaled}",
            "vis": f"{named.get(self.vis_range, self.vis_range)}; {scaled}",
            "fused": f"{named['dtype']}; {scaled}",
            "grey": "BT.601 luma in float32 before rounding"
            if self.compute == "luma"
            else "none: each channel is scored by itself and the mean is taken",
            "numbers": "float64; where a metric is not defined its cell is empty, and it does not "
            "enter the mean",
        }


@dataclass
class Scores:
    """The value of every metric for every method and image; NaN where it is not defined.

    Args:
        methods: Their names.
        specs: The metrics.
        rows: Key to (methods, metrics) float64.
        sizes: Key to height and width.
        types: Side to how many of its files have which type.
    """

    methods: tuple[str, ...]
    specs: tuple[MetricSpec, ...]
    rows: dict[str, np.ndarray] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    types: dict[str, Counter[str]] = field(default_factory=dict)

    @property
    def keys(self) -> list[str]:
        """The images that were scored, in order."""
        return sorted(self.rows)

    def table(self) -> np.ndarray:
        """Return all values, (images, methods, metrics)."""
        shape = (len(self.rows), len(self.methods), len(self.specs))
        return np.array([self.rows[key] for key in self.keys]).reshape(shape)


# ---- which images


def name_methods(arguments: Sequence[str]) -> dict[str, str]:
    """Return name and source of every `[NAME=]FUSED` argument.

    Raises:
        UsageError: None is given, or two have one name.
    """
    if not arguments:
        raise UsageError(
            "nothing to score: FUSED is missing",
            code="usage.arguments",
            hint="name a folder of fused images after IR and VIS",
        )
    methods: dict[str, str] = {}
    for argument in arguments:
        name, sign, source = argument.partition("=")
        if not (sign and name and source) or os.sep in name or Path(argument).exists():
            name, source = _own_name(argument), argument
        if name in methods:
            raise UsageError(
                f"two methods are called {name}",
                code="usage.methods",
                facts=[methods[name], source],
                hint=f"give them names: {name}-a={methods[name]} {name}-b={source}",
            )
        methods[name] = source
    return methods


def _own_name(source: str) -> str:
    """Return the name of a folder, the stem of a file, or the folder that a glob starts from."""
    path = Path(source).resolve()
    while any(sign in path.name for sign in "*?["):
        path = path.parent
    return path.stem if path.is_file() else path.name


def match(
    pairs: Iterable[Pair],
    methods: dict[str, str],
    *,
    reference: str | None = None,
    recursive: bool = False,
    skip: bool = False,
) -> tuple[list[Case], int]:
    """Return what can be scored, in the order of the pairs, and how many pairs were left out.

    Args:
        pairs: Of sources.
        methods: Name and source of each method.
        reference: Folder, file or glob of ground truth.
        recursive: Descend into folders.
        skip: Leave out pairs for which a method or the reference has no image.

    Raises:
        InputError: `pair.unmatched`: an image is missing and `skip` is off; `pair.none`.
    """
    pairs = list(pairs)
    sides = methods | ({"reference": reference} if reference is not None else {})
    files = {name: _files(source, recursive, pairs) for name, source in sides.items()}
    missing = {name: [p.key for p in pairs if p.key not in found] for name, found in files.items()}
    lost = set().union(*missing.values())
    if lost and (not skip or len(lost) == len(pairs)):
        examples = {name: next(iter(found.values())) for name, found in files.items()}
        shown = {name: f"{sides[name]}, with {Path(file).name}" for name, file in examples.items()}
        raise unmatched(missing, shown, len(pairs), "images")
    cases = [
        Case(
            pair.key,
            pair.ir,
            pair.vis,
            tuple(files[name][pair.key] for name in methods),
            files["reference"][pair.key] if reference is not None else None,
        )
        for pair in pairs
        if pair.key not in lost
    ]
    return cases, len(lost)


def _files(source: str, recursive: bool, pairs: list[Pair]) -> dict[str, str]:
    if len(pairs) == 1 and (found := scan(source, recursive)).single:
        return {pairs[0].key: found.paths[0]}  # one file is the partner of one pair by any name
    return find_files(source, recursive)


def unmatched(
    missing: dict[str, list[str]], sides: dict[str, str], total: int, things: str
) -> InputError:
    """Return the error about what some methods lack.

    Args:
        missing: Name of each method to the keys it has nothing for.
        sides: Name of each method to where that was looked for.
        total: Number of pairs.
        things: What is missing, in the plural.
    """
    lacking = {name: keys for name, keys in missing.items() if keys}
    common = total - len(set().union(*lacking.values()))
    counts = ", ".join(f"{name} lacks {len(keys)}" for name, keys in lacking.items())
    facts = []
    for name, keys in lacking.items():
        more = f"   and {len(keys) - 3} more" if len(keys) > 3 else ""
        facts.append(f"{name} ({sides[name]}): {'   '.join(keys[:3])}{more}")
    return InputError(
        f"{counts} of {total} {things}",
        code="pair.unmatched" if common else "pair.none",
        facts=facts[:LISTED],
        hint=f"--unpaired skip scores all methods on the {common} that they share"
        if common
        else f"{things} must carry the names of their pairs",
        details={name: keys[:100] for name, keys in lacking.items()},
    )


# ---- values


class Scorer:
    """Reads cases and measures them.

    Args:
        methods: Names, in the order of `Case.fused`.
        specs: What to measure.
        rules: How values become grey levels.
        device: Where to compute.
    """

    def __init__(
        self,
        methods: Sequence[str],
        specs: tuple[MetricSpec, ...],
        rules: Rules,
        device: torch.device,
    ) -> None:
        self.scores = Scores(tuple(methods), specs)
        self.rules = rules
        self.device = torch.device("cpu") if device.type == "mps" else device  # it has no float64

    @property
    def conversion(self) -> dict[str, str]:
        """What was done to each image before it was measured, in words."""
        return self.rules.sentences()

    def shots(self, cases: Sequence[Case], keys: Sequence[str]) -> list[Shot]:
        """Read again the pictures of the cases with these keys."""
        titles = ("infrared", "visible", *self.scores.methods)
        rules = [self.rules.ir_range, self.rules.vis_range, *["dtype"] * len(self.scores.methods)]
        return [
            Shot(
                case.key,
                titles,
                tuple(
                    _visible(path, rule)
                    for path, rule in zip((case.ir, case.vis, *case.fused), rules, strict=True)
                ),
            )
            for case in cases
            if case.key in keys
        ]

    def __call__(self, case: Case) -> Outcome:
        """Score one case; the values go to `scores`."""
        watch, notes = Stopwatch(), dict[str, str]()
        with watch("read"):
            pictures = {"ir": images.read(case.ir), "vis": images.read(case.vis)}
            if case.reference is not None:
                pictures["reference"] = images.read(case.reference)
            for name, picture in pictures.items():
                self.check_size(name, picture, pictures["vis"], case.key)
            planes = {name: self.planes(name, picture) for name, picture in pictures.items()}
        rows = []
        types = {name: str(picture.pixels.dtype) for name, picture in pictures.items()}
        for method, path in zip(self.scores.methods, case.fused, strict=True):
            with watch("read"):
                fused = images.read(path)
                self.check_size(method, fused, pictures["vis"], case.key)
                types[method] = str(fused.pixels.dtype)
                if fused.nonfinite:
                    notes["range.nonfinite"] = f"{method} has NaN or infinite pixels: scored as 0"
                planes["fused"] = self.planes(method, fused)
            with watch("run"):
                rows.append(self.measure(planes))
        if pictures["ir"].pixels.ndim == 3:
            notes["read.colour"] = "infrared images in colour are scored by their luma"
        self.scores.sizes[case.key] = _size(pictures["vis"])
        for name, kind in types.items():
            self.scores.types.setdefault(name, Counter())[kind] += 1
        self.scores.rows[case.key] = np.array(rows)  # last: now the image counts
        return Outcome(case.key, ms=watch.ms, notes=notes)

    def measure(self, planes: dict[str, tuple[Plane, Plane]]) -> list[float]:
        """Return the value of each metric; `planes` has those of every image by name."""
        grey = Scene(**{name: pair[0] for name, pair in planes.items()})
        colour = Scene(**{name: pair[1] for name, pair in planes.items()})
        if self.rules.compute == "rgb":
            grey = colour
        with torch.inference_mode():
            values = measure(self.scores.specs, grey, colour)
        return torch.cat([values[spec.key] for spec in self.scores.specs]).tolist()

    def planes(self, name: str, picture: Picture) -> tuple[Plane, Plane]:
        """Return the grey and the colour plane; they are one where there is no colour."""
        rule = {"ir": self.rules.ir_range, "vis": self.rules.vis_range}.get(name, "dtype")
        limits = images.limits(picture.pixels, rule, picture.invalid)
        grey = self._plane(grey_levels(luma(picture.pixels), limits, picture.invalid))
        if picture.pixels.ndim == 2:
            return grey, grey
        return grey, self._plane(grey_levels(picture.pixels, limits, picture.invalid))

    def _plane(self, levels: np.ndarray) -> Plane:
        channels = levels[None] if levels.ndim == 2 else np.moveaxis(levels, -1, 0)
        return Plane(torch.from_numpy(np.ascontiguousarray(channels))[None].to(self.device))

    @staticmethod
    def check_size(name: str, picture: Picture, grid: Picture, key: str) -> None:
        """Refuse an image of another size than `grid`.

        Raises:
            InputError: `size.differ`.
        """
        (height, width), (rows, columns) = _size(grid), _size(picture)
        if (height, width) == (rows, columns):
            return
        label = {"ir": "the infrared", "reference": "the reference"}.get(name, f"{name}'s")
        raise InputError(
            f"{label} image has {columns}x{rows} pixels, the visible one {width}x{height}",
            code="size.differ",
            facts=[picture.path, grid.path],
            hint="metrics compare pixel by pixel: fuse, or register, onto the grid of VIS",
            details={"key": key, "sizes": [[columns, rows], [width, height]]},
        )


def _visible(path: str, rule: str) -> np.ndarray:
    picture = images.read(path)
    limits = images.limits(picture.pixels, rule, picture.invalid)
    return grey_levels(picture.pixels, limits, picture.invalid).astype(np.uint8)


def _size(picture: Picture) -> tuple[int, int]:
    return picture.pixels.shape[0], picture.pixels.shape[1]


def luma(pixels: np.ndarray) -> np.ndarray:
    """Return the BT.601 luma as the published evaluators take it: OpenCV's, in float32.

    One colour in a thousand has a luma half-way between two levels, and its last bit decides.
    """
    if pixels.ndim == 2:
        return pixels
    grey: np.ndarray = cv2.cvtColor(pixels.astype(np.float32), cv2.COLOR_RGB2GRAY)
    return grey


def grey_levels(
    pixels: np.ndarray, limits: tuple[float, float], invalid: np.ndarray | None = None
) -> np.ndarray:
    """Return pixels as float64 whole numbers of 0..255, halves rounded to even.

    8-bit pixels under their own limits stay as they are: the arithmetic is exact then.

    Args:
        pixels: (H, W) or (H, W, 3), any type.
        limits: Stored values that become 0 and 255. Where both are one value, what lies above
            it becomes 255 and the rest 0.
        invalid: (H, W) bool; these, NaN and infinite pixels become 0.
    """
    low, high = limits
    with np.errstate(over="ignore", invalid="ignore"):
        if high > low:
            levels = (pixels.astype(np.float64) - low) * (255 / (high - low))
            levels = np.rint(np.clip(levels, 0, 255, out=levels), out=levels)
        else:
            levels = 255 * (pixels > low).astype(np.float64)
    if pixels.dtype.kind == "f":
        levels[~np.isfinite(pixels)] = 0
    if invalid is not None:
        levels[invalid] = 0
    return levels


def score(
    cases: Sequence[Any],
    scorer: Callable[[Any], Outcome],
    runtime: Runtime,
    *,
    report: RunReport,
    reporter: Reporter,
) -> None:
    """Score every case, several at a time.

    Args:
        cases: From `match`.
        scorer: Reads and measures a case, and keeps the scores.
        runtime: `jobs` cases are in work at the same time.
        report: Filled in place.
        reporter: Shows progress.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(min(threads, max(1, usable_cores() // runtime.jobs)))
    try:
        stream.run(
            cases,
            scorer,
            report=report,
            reporter=reporter,
            total=len(cases),
            threads=min(runtime.jobs, max(1, len(cases))),
        )
    finally:
        torch.set_num_threads(threads)
