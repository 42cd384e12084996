"""The sample pairs: the script still draws them, and each is what its name says."""

from pathlib import Path

import cv2
import make_pairs
import numpy as np
import pytest

DATA = Path(__file__).parent / "data"
SIZES = {"odd_317x211": (211, 317), "thermal16": (256, 320)}


def load(side: str, key: str) -> np.ndarray:
    (path,) = (DATA / side).glob(f"{key}.*")
    stored = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    return stored[..., ::-1] if stored.ndim == 3 else stored


def test_both_sides_have_the_same_keys_and_nothing_else():
    for side in ("ir", "vis"):
        assert sorted(path.stem for path in (DATA / side).iterdir()) == sorted(make_pairs.PAIRS)


def test_the_folder_stays_small():
    assert sum(path.stat().st_size for path in DATA.glob("*/*")) < 1_000_000


@pytest.mark.parametrize("key", make_pairs.PAIRS)
def test_sizes_and_types(key):
    ir, vis = load("ir", key), load("vis", key)
    size = SIZES.get(key, (240, 320))
    assert ir.shape == size
    assert vis.shape == (size if key == "odd_317x211" else (*size, 3))
    assert ir.dtype == (np.uint16 if key == "thermal16" else np.uint8)
    assert vis.dtype == np.uint8


def test_raw_counts_use_a_small_part_of_sixteen_bits():
    counts = load("ir", "thermal16")
    assert 6_500 < counts.min() < counts.max() < 9_500
    assert len(np.unique(counts)) > 600


@pytest.mark.parametrize("key", make_pairs.PAIRS)
def test_the_script_draws_what_is_stored(key):
    draw, *suffixes = make_pairs.PAIRS[key]
    for side, drawn, suffix in zip(("ir", "vis"), draw(), suffixes, strict=True):
        again = cv2.imdecode(
            np.frombuffer(make_pairs.encode(drawn, suffix), np.uint8), cv2.IMREAD_UNCHANGED
        )
        again = again[..., ::-1] if again.ndim == 3 else again
        level = 30 if drawn.dtype == np.uint16 else 1  # counts a degree
        difference = np.abs(again.astype(float) - load(side, key).astype(float)) / level
        # another OpenCV or numpy may round differently; more than that is another drawing
        assert difference.mean() < 0.5, (side, key)
        assert (difference > 4).mean() < 0.002, (side, key)


def test_each_camera_sees_what_the_other_does_not():
    """The words on the road are paint only; the walker in the dark is warm only."""
    ir, vis = load("ir", "night_street").astype(float), load("vis", "night_street").mean(axis=2)
    words, walker, road = np.s_[200:212, 175:267], np.s_[135:155, 168:178], np.s_[200:212, 60:130]
    assert vis[words].std() > 3 * vis[road].std()
    assert ir[words].std() < 1.6 * ir[road].std()
    assert np.percentile(ir[walker], 75) > ir[road].mean() + 40
    assert np.percentile(vis[walker], 75) < vis[road].mean() + 10
