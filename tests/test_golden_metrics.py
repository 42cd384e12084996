"""Metrics against published values and against values of the programs that papers used."""

import csv
import math
from collections import defaultdict
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from fusecli.metrics import Plane, Scene, find, measure

PUBLISHED = {
    "Avg_gradient": "ag", "Cross_entropy": "ce", "Edge_intensity": "ei", "Entropy": "en",
    "Mutinf": "mi", "Psnr": "psnr", "Qabf": "qabf", "Qcb": "qcb", "Qcv": "qcv", "Rmse": "rmse",
    "Spatial_frequency": "sf", "Ssim": "ssim", "Variance": "sd",
}  # fmt: skip
# Their published numbers were made from other files than the published pictures.
INCONSISTENT = {"SwinFusion", "YDTR"}
TOLERANCE = defaultdict(
    lambda: 1e-9,
    {
        "qabf:unit": 5e-3,  # rounding decides ties between gradients on 0..1
        "viff:han": 1e-6,  # rounding decides which of two equal gains is smaller
        "vif:sum": 1e-7, "vif:mean": 1e-7,  # variances of 1e-10 in saturated windows
    },
)  # fmt: skip


@lru_cache(maxsize=4)
def planes(folder: Path, stem: str) -> tuple[Plane, Plane]:
    """Return a picture as grey levels (float32 luma, rounded half to even) and in colour."""
    file = next(folder.glob(f"{stem}.*"))
    pixels = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_COLOR_RGB)
    luma = np.round(cv2.cvtColor(pixels.astype(np.float32), cv2.COLOR_RGB2GRAY))
    colour = torch.from_numpy(pixels).permute(2, 0, 1)[None].double()
    return Plane(torch.from_numpy(luma)[None, None].double()), Plane(colour)


def scenes(root: Path, stem: str, method: str) -> tuple[Scene, Scene]:
    folders = [root / "ir", root / "vi", *([root / "fused" / method] if method != "-" else [])]
    pairs = [planes(folder, stem) for folder in folders]
    return Scene(*(grey for grey, _ in pairs)), Scene(*(colour for _, colour in pairs))


@lru_cache
def golden(file: Path) -> dict[tuple[str, str], dict[str, float]]:
    rows = defaultdict(dict)
    with file.open(newline="") as stream:
        for row in csv.DictReader(stream):
            if "@" not in row["convention"]:
                rows[row["stem"], row["method"]][row["convention"]] = float(row["value"])
    return rows


@lru_cache
def published(file: Path) -> dict[tuple[str, str], dict[str, str]]:
    rows = defaultdict(dict)
    with file.open(newline="") as stream:
        for row in csv.DictReader(stream):
            rows[row["image"], row["method"]][f"{PUBLISHED[row['metric']]}:vifb"] = row["value"]
    return rows


def check_golden(root: Path, stem: str, method: str, expected: dict[str, float]) -> None:
    got = measure([find(key) for key in expected], *scenes(root, stem, method))
    for key, value in expected.items():
        where = f"{key} of {stem} by {method}"
        if math.isnan(value):
            assert math.isnan(got[key].item()), where
        else:
            assert got[key].item() == pytest.approx(value, rel=TOLERANCE[key]), where


def check_published(root: Path, stem: str, method: str, expected: dict[str, str]) -> None:
    got = measure([find(key) for key in expected], *scenes(root, stem, method))
    for key, text in expected.items():
        value = float(text)
        last_digit = 10.0 ** (math.floor(math.log10(abs(value))) - 4)
        assert abs(got[key].item() - value) <= 0.5001 * last_digit, f"{key} of {stem} by {method}"


STEMS = ("carShadow", "fight", "labMan", "manCar", "nightCar", "snow", "tricycle", "walking")


@pytest.mark.golden
@pytest.mark.realdata
@pytest.mark.parametrize("stem", STEMS)
def test_golden_values_of_one_method_per_pair(data_dir, reference_dir, stem):
    rows = golden(reference_dir / "golden-metrics" / "dev.csv")
    methods = sorted(method for at, method in rows if at == stem and method != "-")
    method = methods[STEMS.index(stem) % len(methods)]
    # FMI takes half a second per feature, the rest together little more: two pairs show it
    expected = {
        key: value
        for key, value in rows[stem, method].items()
        if not key.startswith("fmi") or stem in ("labMan", "walking")
    }
    check_golden(data_dir / "vifb-dev", stem, method, expected)
    check_golden(data_dir / "vifb-dev", stem, "-", rows[stem, "-"])


@pytest.mark.golden
@pytest.mark.realdata
@pytest.mark.slow
@pytest.mark.parametrize("stem", STEMS)
def test_golden_values_of_all_methods(data_dir, reference_dir, stem):
    for (at, method), expected in golden(reference_dir / "golden-metrics" / "dev.csv").items():
        if at == stem:
            check_golden(data_dir / "vifb-dev", stem, method, expected)


@pytest.mark.realdata
def test_published_values_of_every_method_on_one_pair(data_dir):
    root = data_dir / "vifb-dev"
    rows = published(root / "published_metrics.csv")
    methods = sorted({folder.name for folder in (root / "fused").iterdir()} - INCONSISTENT)
    assert len(methods) == 23
    small = [stem for stem in STEMS if stem in ("fight", "snow", "walking")]
    for i, method in enumerate(methods):
        stem = small[i % len(small)]
        check_published(root, stem, method, rows[stem, method])


@pytest.mark.realdata
@pytest.mark.slow
@pytest.mark.parametrize("stem", STEMS)
def test_published_values_of_every_method_on_every_pair(data_dir, stem):
    root = data_dir / "vifb-dev"
    checked = 0
    for (at, method), expected in published(root / "published_metrics.csv").items():
        if at == stem and (root / "fused" / method).is_dir() and method not in INCONSISTENT:
            check_published(root, stem, method, expected)
            checked += 1
    assert checked == 23
