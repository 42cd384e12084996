"""Metrics over folders: how images are read, and the values.

One item is one pair with what every method made of it. The sources are read once, and what metrics
work out from them alone is shared by all methods. An item succeeds or fails as a whole, so that all
methods are scored on the same images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import torch

from fusecli import images
from fusecli.errors import InputError
from fusecli.evaluation.cases import Case
from fusecli.evaluation.labels import Labels
from fusecli.evaluation.plots import Shot
from fusecli.images import Picture
from fusecli.metrics import MetricSpec, Plane, Samples, Scene, measure
from fusecli.metrics.targets import Boxes, Seen, seen
from fusecli.outcome import Outcome, RunReport, Stopwatch
from fusecli.report import Reporter
from fusecli.run import stream
from fusecli.runtime import Runtime, usable_cores


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
        samples: Key to the samples of each method, by metric, for metrics not over images.
        targets: Key to the labelled targets as each method shows them, where there are labels.
    """

    methods: tuple[str, ...]
    specs: tuple[MetricSpec, ...]
    rows: dict[str, np.ndarray] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    types: dict[str, Counter[str]] = field(default_factory=dict)
    samples: dict[str, list[dict[str, Samples]]] = field(default_factory=dict)
    targets: dict[str, list[list[Seen]]] = field(default_factory=dict)

    @property
    def keys(self) -> list[str]:
        """The images that were scored, in order."""
        return sorted(self.rows)

    def table(self) -> np.ndarray:
        """Return all values, (images, methods, metrics)."""
        shape = (len(self.rows), len(self.methods), len(self.specs))
        return np.array([self.rows[key] for key in self.keys]).reshape(shape)

    def joined(self) -> dict[tuple[int, int], Samples]:
        """Return the samples of all images, by places of method and metric."""
        return {
            (row, column): Samples.joined(self.samples[key][row][spec.key] for key in self.keys)
            for column, spec in enumerate(self.specs)
            if spec.samples is not None
            for row in range(len(self.methods))
        }


class Scorer:
    """Reads cases and measures them.

    Args:
        methods: Names, in the order of `Case.fused`.
        specs: What to measure.
        rules: How values become grey levels.
        device: Where to compute.
        labels: Targets, for metrics that need them.
    """

    def __init__(
        self,
        methods: Sequence[str],
        specs: tuple[MetricSpec, ...],
        rules: Rules,
        device: torch.device,
        labels: Labels | None = None,
    ) -> None:
        self.scores = Scores(tuple(methods), specs)
        self.rules = rules
        self.labels = labels
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
        rows, samples, shown = [], [], []
        targets = self.boxes(case.key, _size(pictures["vis"]), notes)
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
                parts: dict[str, list[Samples]] = {}
                rows.append(self.measure(planes, targets, parts))
                samples.append({key: found[0] for key, found in parts.items()})
                if targets is not None:
                    shown += seen(planes["fused"][0], planes["ir"][0], targets)
        if pictures["ir"].pixels.ndim == 3:
            notes["read.colour"] = "infrared images in colour are scored by their luma"
        self.scores.sizes[case.key] = _size(pictures["vis"])
        for name, kind in types.items():
            self.scores.types.setdefault(name, Counter())[kind] += 1
        self.scores.samples[case.key], self.scores.targets[case.key] = samples, shown
        self.scores.rows[case.key] = np.array(rows)  # last: now the image counts
        return Outcome(case.key, ms=watch.ms, notes=notes)

    def boxes(self, key: str, size: tuple[int, int], notes: dict[str, str]) -> Boxes | None:
        """Return the targets of a pair; None where there are no labels at all."""
        if self.labels is None:
            return None
        boxes, outside = self.labels.boxes(key, size)
        if outside:
            notes["targets.outside"] = "labels outside the image are left out"
        return (boxes,)

    def measure(
        self,
        planes: dict[str, tuple[Plane, Plane]],
        targets: Boxes | None = None,
        samples: dict[str, list[Samples]] | None = None,
    ) -> list[float]:
        """Return the value of each metric.

        Args:
            planes: Grey and colour plane of every image by name.
            targets: Labelled boxes.
            samples: Gets what metrics are over where that is not images.
        """
        grey = Scene(**{name: pair[0] for name, pair in planes.items()}, targets=targets)
        colour = Scene(**{name: pair[1] for name, pair in planes.items()}, targets=targets)
        if self.rules.compute == "rgb":
            grey = colour
        with torch.inference_mode():
            values = measure(self.scores.specs, grey, colour, samples)
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
