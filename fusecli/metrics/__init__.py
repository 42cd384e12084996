"""What a metric is to the rest of fusecli. Every other file in this folder is a family of metrics.

A metric is a function with data. Its parameters say which images it needs, by name (`ir`, `vis`,
`fused`, `reference`); each is a `Plane`, and the result is (B, C) float64, one value per image and
channel. (Those of registration take a `transform` instead, those of targets labelled boxes too.)
One over parts of images, such as targets, returns the `Samples` of each image. A new metric is one
decorated function in one file, and needs no other line anywhere:

    @metric("range:grey", label="RG", about="largest less smallest grey level",
            source="our own", range=(0, 255))
    def grey_range(fused: Plane) -> Tensor:
        return fused.pixels.amax((-2, -1)) - fused.pixels.amin((-2, -1))

A key is a name and a convention: papers print numbers under one name that were computed in several
ways, and only the pair says which (`mi:nats`, `mi:bits`, `mi:vifb`).
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fusecli.errors import UsageError
from fusecli.metrics.scene import Plane, Scene, grey_levels

__all__ = [
    "GROUPS", "MetricSpec", "Plane", "Samples", "Scene", "find", "grey_levels", "keys", "measure",
    "metric", "select",
]  # fmt: skip

Direction = Literal["higher", "lower", "zero", "one"]
ARROWS: dict[Direction, str] = {"higher": "↑", "lower": "↓", "zero": "→0", "one": "→1"}
Unit = Literal["images", "surfaces", "targets"]
Centre = Literal["mean", "median"]


class Samples(NamedTuple):
    """The values of a metric's parts, such as the targets of an image.

    Args:
        values: (N,) float64.
        weights: (N,) float64: what each counts in the mean.
    """

    values: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, pairs: Iterable[tuple[float, float]]) -> Samples:
        """Return samples from value and weight of each."""
        table = np.array(list(pairs), np.float64).reshape(-1, 2)
        return cls(table[:, 0], table[:, 1])

    @classmethod
    def joined(cls, several: Iterable[Samples]) -> Samples:
        """Return all of them as one."""
        lists = [cls.of(()), *several]
        return cls(*(np.concatenate(part) for part in zip(*lists, strict=True)))

    def statistic(self, which: Literal["mean", "std", "median"]) -> float:
        """Return one number for all; NaN without any."""
        if not self.values.size:
            return math.nan
        if which == "median":
            return float(np.median(self.values))
        mean = float(np.average(self.values, weights=self.weights))
        if which == "mean":
            return mean
        return math.sqrt(np.average((self.values - mean) ** 2, weights=self.weights))


@dataclass(frozen=True)
class MetricSpec:
    """All that is true of one metric.

    Args:
        key: Name and convention, such as `qabf:255`.
        label: The name as papers print it.
        about: The definition in a few words, for reports.
        source: The paper or program whose numbers it reproduces.
        compute: Planes in, (B, C) out.
        needs: The images it takes, in the order of `compute`'s parameters.
        direction: Which values are better; `zero` means those near 0.
        range: Smallest and largest possible value on grey levels of 0..255.
        min_size: Smallest height and width it is defined for.
        colour: True for conventions that score red, green and blue apart and take the mean.
        plain: True when the name alone means this convention.
        version: Raised when a change moves its values.
        over: What its mean over a set is taken over. Where that is not images, `compute` sums up
            each image, and `samples` has the parts.
        centre: The statistic that tables show and methods are ranked by.
        samples: Planes in, `Samples` of each image out; None for metrics over images.
    """

    key: str
    label: str
    about: str
    source: str
    compute: Callable[..., Tensor]
    needs: tuple[str, ...]
    direction: Direction = "higher"
    range: tuple[float, float] = (-math.inf, math.inf)
    min_size: int = 1
    colour: bool = False
    plain: bool = False
    version: int = 1
    over: Unit = "images"
    centre: Centre = "mean"
    samples: Callable[..., list[Samples]] | None = None

    @property
    def name(self) -> str:
        """The key without its convention."""
        return self.key.partition(":")[0]

    @property
    def arrow(self) -> str:
        """The direction as tables print it."""
        return ARROWS[self.direction]

    def badness(self, value: float) -> float:
        """Return a number that is smaller for better values, for ranking."""
        off = {"higher": -value, "lower": value, "zero": abs(value), "one": abs(value - 1)}
        return off[self.direction]


_REGISTERED: dict[str, MetricSpec] = {}


def metric(
    key: str,
    *,
    label: str,
    about: str,
    source: str,
    direction: Direction = "higher",
    range: tuple[float, float] = (-math.inf, math.inf),
    min_size: int = 1,
    colour: bool = False,
    plain: bool = False,
    version: int = 1,
    over: Unit = "images",
    centre: Centre = "mean",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as a metric; may be applied several times to one function.

    See `MetricSpec` for the arguments. What it needs is read from the function's parameters.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        def summed_up(*images: Any) -> Tensor:
            values = [parts.statistic(centre) for parts in function(*images)]
            return images[0].pixels.new_tensor(values)[:, None]

        parted = over != "images"
        needs = tuple(inspect.signature(function).parameters)
        if key in _REGISTERED:
            raise ValueError(f"two metrics are called {key}")
        _REGISTERED[key] = MetricSpec(
            key, label, about, source, summed_up if parted else function, needs, direction, range,
            min_size, colour, plain, version, over, centre, function if parted else None,
        )  # fmt: skip
        return function

    return register


GROUPS: dict[str, tuple[str, ...]] = {
    # The evaluator that comes with CDDFuse, and the papers that use copies of it.
    "standard": (
        "en:gray", "sd:gray", "sf:mean", "ag:mean", "mi:nats", "mse:gray", "cc:mean", "psnr:maxf",
        "scd:sum", "vif:sum", "qabf:255", "ssim:skimage_sum",
    ),
    "vifb": (
        "ag:vifb", "ce:vifb", "ei:vifb", "en:vifb", "mi:vifb", "psnr:vifb", "qabf:vifb",
        "qcb:vifb", "qcv:vifb", "rmse:vifb", "sf:vifb", "ssim:vifb", "sd:vifb",
    ),
    "rfn-nest": (
        "en:gray", "sd:rfnnest", "mi:rfnnest", "nabf:unit", "scd:sum", "msssim:mef",
    ),
    "smfnet": (
        "en:gray", "sd:gray", "sf:mean", "mi:nats", "scd:sum", "vif:sum", "qabf:255",
        "ssim:skimage_sum", "mse:gray", "cc:mean", "psnr:maxf", "ag:smfnet", "nabf:smfnet",
        "msssim:smfnet",
    ),
    # Linfeng Tang's toolbox: SeAFusion, PIAFusion, SuperFusion.
    "linfeng": (
        "en:gray", "sd:gray", "sf:mean", "ag:mn1", "mi:linfeng", "vif:sum", "cc:linfeng",
        "scd:sum", "qabf:255", "mse:unit", "psnr:linfeng", "nabf:255", "ssim:linfeng",
        "msssim:mef", "fmi:edge", "fmi:dct", "fmi:wavelet",
    ),
    # Zheng Liu's toolbox (Liu et al., TPAMI 2012).
    "liu": (
        "nmi:hossny", "qncie:liu", "qg:liu", "qsf:liu", "qs:liu", "qw:liu", "qe:liu", "qc:liu",
        "qy:liu", "qcv:gray", "qcb:gray", "qp:liu",
    ),
    # A few milliseconds each: for a look while training.
    "fast": (
        "en:gray", "sd:gray", "sf:mean", "ag:mean", "mi:bits", "cc:mean", "scd:sum", "mse:gray",
        "psnr:std",
    ),
    # What fusion is for: on whole pictures, and on labelled targets.
    "purpose": ("uneven", "level", "halo", "kept:ir", "kept:vis"),
    "targets": ("contrast", "contrast:half", "sign", "auc"),
    # Transforms against the truth.
    "registration": (
        "epe:mean", "epe:median", "epe:p95", "corner:mean", "success:1", "success:3", "success:5",
        "success:10", "auc:10",
    ),
}  # fmt: skip
NEEDED = {
    "ir": "infrared images", "vis": "visible images", "fused": "fused images",
    "reference": "ground truth, --reference DIR", "transform": "true transforms, --truth DIR",
    "targets": "labelled targets, --targets FILE",
}  # fmt: skip


@lru_cache
def _registry() -> dict[str, MetricSpec]:
    """Import every family and return the metrics by key, in the order of files and functions."""
    for module in sorted(info.name for info in pkgutil.iter_modules(__path__)):
        importlib.import_module(f"{__name__}.{module}")
    return _REGISTERED


def keys() -> tuple[str, ...]:
    """Return the key of every metric."""
    return tuple(_registry())


def find(name: str) -> MetricSpec:
    """Return a metric by its key, or by a name alone, which means the recommended convention.

    Raises:
        UsageError: There is no such metric; the hint holds the nearest one.
    """
    known = _registry()
    if name in known:
        return known[name]
    conventions = [spec for spec in known.values() if spec.name == name]
    plain = [spec for spec in conventions if spec.plain or len(conventions) == 1]
    if plain:
        return plain[0]
    stem = name.partition(":")[0]
    near = difflib.get_close_matches(
        name, [*known, *{spec.name for spec in known.values()}, *GROUPS], n=1
    )
    offered = [key for key in known if key.partition(":")[0] == stem]
    raise UsageError(
        f"there is no metric '{name}'",
        code="usage.metrics",
        facts=[f"conventions of {stem}: {', '.join(offered)}"] if offered else [],
        hint=f"did you mean '{near[0]}'?" if near else "see fusecli eval --help",
    )


def _at_hand(spec: MetricSpec, images: set[str]) -> MetricSpec:
    """Return the metric, or the one of its name that the images allow: `auc` of transforms."""
    other = [s for s in _registry().values() if s.name == spec.key and images.issuperset(s.needs)]
    return spec if images.issuperset(spec.needs) or not other else other[0]


def select(text: str, images: Iterable[str] = ("ir", "vis", "fused")) -> tuple[MetricSpec, ...]:
    """Return the metrics of a comma-separated list of keys, names and groups, without repeats.

    Args:
        text: Such as `standard,qcb,mi:nats`. `all` is every metric that `images` allow.
        images: The images at hand.

    Raises:
        UsageError: An unknown name, an empty list, or a metric that needs an image not at hand.
    """
    at_hand = set(images)
    chosen: dict[str, MetricSpec] = {}
    for word in filter(None, (part.strip() for part in text.split(","))):
        if word == "all":
            specs = [spec for spec in _registry().values() if at_hand.issuperset(spec.needs)]
        else:
            specs = [_at_hand(find(key), at_hand) for key in GROUPS.get(word, (word,))]
        chosen.update((spec.key, spec) for spec in specs)
    for spec in chosen.values():
        if lacking := [image for image in spec.needs if image not in at_hand]:
            needed = " and ".join(NEEDED[image] for image in lacking)
            raise UsageError(f"{spec.key} needs {needed}", code="usage.metrics")
    if not chosen:
        raise UsageError(
            "no metric chosen",
            code="usage.metrics",
            hint=f"groups: {', '.join((*GROUPS, 'all'))}",
        )
    return tuple(chosen.values())


LARGE = 1 << 22  # pixels in a batch from which memory counts more than time


def measure(
    specs: Iterable[MetricSpec],
    grey: Scene,
    colour: Scene | None = None,
    samples: dict[str, list[Samples]] | None = None,
) -> dict[str, Tensor]:
    """Compute metrics over one batch; what several of them need is worked out once.

    Pass the same source planes for every method that fused them: what depends on the sources alone
    is then shared by all methods. Large images are an exception: there, what was worked out is
    forgotten between families of metrics, so that memory stays within bounds.

    Args:
        specs: What to compute.
        grey: Planes of one channel.
        colour: The same images with their colours, for conventions that score channels apart.
            None means that they have none.
        samples: Gets those of each image for metrics that are not over images, by key.

    Returns:
        Key to (B,) float64. NaN where a metric is not defined: an image below its smallest size, or
        0/0 because an image is constant.
    """
    chosen = list(specs)
    results = {}
    for _, family in groupby(sorted(chosen, key=_family), key=_family):
        for spec in family:
            scene = (colour or grey) if spec.colour else grey
            planes = [getattr(scene, image) for image in spec.needs]
            if min(planes[0].size) < spec.min_size:
                value = planes[0].pixels.new_full(planes[0].pixels.shape[:1], torch.nan)
            else:
                value = spec.compute(*planes).mean(-1)
            if samples is not None and spec.samples is not None:
                samples[spec.key] = spec.samples(*planes)
            results[spec.key] = value
        for plane in grey.planes + (colour.planes if colour else ()):
            if plane.pixels.numel() >= LARGE:
                plane.forget()
    return {spec.key: results[spec.key] for spec in chosen}


def _family(spec: MetricSpec) -> str:
    return spec.compute.__module__
