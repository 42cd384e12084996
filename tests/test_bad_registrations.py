"""What no transform can join is refused with a reason, and never becomes a garbage image."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from outlines import SIZE, distance, moved, scene
from runs import FUSE

from fusecli import images
from fusecli.cli import run
from fusecli.fields import grid_scaling, linear, translation
from fusecli.registration.align import luma_of
from fusecli.registration.estimate import estimate
from fusecli.registration.frames import content
from fusecli.registration.transform import Transform, load

QUIET = ("--json", "-q")
LARGE = (480, 640)


def write(path: Path, pixels: np.ndarray) -> Path:
    format = {".png": "png", ".tif": "tiff"}[path.suffix]
    images.write_atomic(str(path), images.encode(pixels, format=format))
    return path


def grey(image: np.ndarray) -> np.ndarray:
    return image.clip(0, 255).astype(np.uint8)


def resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)


def refusal(capsys, *command: object) -> dict:
    """Return the only failure of a run over one pair."""
    assert run([*map(str, command), *QUIET]) == 4
    (failure,) = json.loads(capsys.readouterr().out)["failures"]
    return failure


flat = np.full(SIZE, 90, np.uint8)
drawn = grey(scene()[0])
heat = grey(scene()[1])


@pytest.mark.parametrize(
    ("infrared", "visible", "why"),
    [
        (flat, drawn, "flat"),
        (heat, flat, "flat"),
        (heat[:, :1], drawn, "too small"),
        (heat[:9, :9], drawn[:9, :9], "too small"),
        (np.full(SIZE, np.nan, np.float32), drawn, "flat"),
        (heat[:, 156:], drawn[:, :100], "do not agree"),
        (grey(scene(99)[1]), drawn, "do not agree"),
    ],
    ids=["flat ir", "flat vis", "one column", "tiny", "no value", "no overlap", "other scene"],
)
def test_hopeless_pairs_are_refused_with_a_reason(tmp_path, capsys, infrared, visible, why):
    name = "a.tif" if infrared.dtype == np.float32 else "a.png"
    write(tmp_path / "ir" / name, np.ascontiguousarray(infrared))
    write(tmp_path / "vis" / "a.png", np.ascontiguousarray(visible))
    sides = (tmp_path / "ir", tmp_path / "vis", "-o", tmp_path / "out")
    failure = refusal(capsys, "register", *sides)
    assert failure["code"] == "register.rejected" and why in failure["message"]
    assert not list((tmp_path / "out").glob("a.*"))


STREETS = Path(__file__).parent / "data"


@pytest.mark.parametrize(
    ("vis", "ir", "turns"),
    [
        ("day_street", "night_street", 2),
        ("night_street", "day_street", 0),
        ("day_street", "day_street", 1),
    ],
    ids=["another street upside down", "day on night", "turned by 90 degrees"],
)
def test_another_street_is_refused(vis, ir, turns):
    fixed, moving = (
        luma_of(images.read(str(STREETS / side / f"{name}.png")))
        for side, name in (("vis", vis), ("ir", ir))
    )
    found = estimate(fixed, np.ascontiguousarray(np.rot90(moving, turns)))
    assert not found.accepted and len(found.attempts) > 2


def test_a_constant_frame_is_no_evidence_and_no_obstacle():
    def framed(image: np.ndarray) -> np.ndarray:
        return cv2.copyMakeBorder(image, 40, 40, 40, 40, cv2.BORDER_CONSTANT, value=255)

    visible, infrared = scene(8)
    there = moved(infrared, translation(7, -5))
    found = estimate(framed(visible), framed(there), transform="translation")
    assert found.accepted and distance(found.matrix, translation(7, -5)) < 0.3
    assert not estimate(framed(visible), framed(scene(9)[1]), transform="translation").accepted
    assert content(framed(visible)) == (40, 40, *SIZE)
    assert content(visible) == (0, 0, *SIZE)


@pytest.mark.parametrize("narrower", ["fixed", "moving"])
@pytest.mark.parametrize("ratio", [2, 3])
def test_a_camera_that_sees_a_fraction_of_the_view_is_found(narrower, ratio):
    visible, infrared = scene(10, (288, 384))
    height, width = 288 // ratio, 384 // ratio
    top, left = (288 - height) // 2 + 6, (384 - width) // 2 - 9
    box = np.s_[top : top + height, left : left + width]
    if narrower == "moving":
        found = estimate(visible, np.ascontiguousarray(infrared[box]), transform="similarity")
        truth = translation(-left, -top)
    else:
        found = estimate(np.ascontiguousarray(visible[box]), infrared, transform="similarity")
        truth = translation(left, top)
    assert found.accepted, found.refusal
    assert distance(found.matrix, truth, (288, 384)) < 4


@pytest.mark.parametrize("smaller", ["ir", "vis"])
def test_sizes_that_differ_ten_times_are_registered_or_refused(tmp_path, smaller):
    visible, infrared = scene(5, LARGE)
    truth = linear((319.5, 239.5), shift=(12, -8), rotate=1)
    sides = {"vis": visible, "ir": moved(infrared, truth)}
    small = (LARGE[0] // 10, LARGE[1] // 10)
    sides[smaller] = resized(sides[smaller], small)
    for side, image in sides.items():
        write(tmp_path / side / "a.png", grey(image))
    out = tmp_path / "out"
    code = run(
        ["register", *(str(tmp_path / side) for side in ("ir", "vis")), "-o", str(out), "-q"]
    )
    if code == 4:
        assert not (out / "a.png").exists()
        return
    assert code == 0
    found = load(out / "transforms" / "a.json")
    expected = truth
    if smaller == "vis":
        expected = truth @ grid_scaling(small, LARGE)
    else:
        expected = grid_scaling(LARGE, small) @ truth
    size = sides["vis"].shape
    # two pixels of the small image, in pixels of the moving one
    assert distance(found.matrix, expected, size) < (20 if smaller == "vis" else 2)
    assert images.read(str(out / "a.png")).pixels.shape == size


def test_a_long_strip_is_no_crash(tmp_path):
    visible, infrared = scene(6, (40, 1200))
    write(tmp_path / "vis.png", grey(visible))
    write(tmp_path / "ir.png", grey(moved(infrared, translation(4, 1))))
    sides = (str(tmp_path / "ir.png"), str(tmp_path / "vis.png"))
    code = run(["register", *sides, "-o", str(tmp_path / "out.png"), "-q"])
    assert code in (0, 4)
    if code == 0:
        assert distance(load(tmp_path / "out.json").matrix, translation(4, 1), (40, 1200)) < 2


@pytest.mark.parametrize("command", ["register", "fuse"])
@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"schema": "fusecli/transform/9"}, "register.schema"),
        ({"matrix": [[1, 2, 0], [2, 4, 0], [0, 0, 1]]}, "register.matrix"),
        ({"matrix": [[1, 0, 1e308], [0, 1, 0], [1e308, 0, 1]]}, "register.matrix"),
        ({"matrix": [[1, 0, 5000], [0, 1, 0], [0, 0, 1]]}, "register.overlap"),
        ({"field": "a.npz"}, "register.folds"),
        ({"moving_size": [1920, 2560]}, "register.size"),
    ],
    ids=["schema", "singular", "overflow", "nowhere", "folded", "other size"],
)
def test_stored_transforms_are_checked_before_they_are_applied(
    tmp_path, capsys, command, change, code
):
    write(tmp_path / "ir" / "a.png", heat)
    write(tmp_path / "vis" / "a.png", drawn)
    stored = tmp_path / "stored"
    stored.mkdir()
    backwards = np.zeros((*SIZE, 2), np.float32)
    backwards[..., 0] = -2.0 * np.arange(SIZE[1])  # every row is read from right to left
    backwards[..., 0] += SIZE[1] - 1
    np.savez(stored / "a.npz", field=backwards)
    document = Transform("a", "affine", translation(2, 1), SIZE, SIZE).document(None)
    (stored / "a.json").write_text(json.dumps(document | change))
    sides = (tmp_path / "ir", tmp_path / "vis", "-o", tmp_path / "out")
    how = ("register", *sides, "--apply", stored)
    if command == "fuse":
        how = (*FUSE, *sides, "--align", stored)
    assert refusal(capsys, *how)["code"] == code
    assert not list((tmp_path / "out").glob("a.*"))


def test_a_key_without_a_stored_transform_is_named(tmp_path, capsys):
    write(tmp_path / "ir" / "b.png", heat)
    write(tmp_path / "vis" / "b.png", drawn)
    (tmp_path / "stored").mkdir()
    sides = (tmp_path / "ir", tmp_path / "vis", "-o", tmp_path / "out")
    failure = refusal(capsys, *FUSE, *sides, "--align", tmp_path / "stored")
    assert failure["code"] == "register.missing" and "b.json" in failure["message"]
