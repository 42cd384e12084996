"""`fusecli fuse --align`: registered and fused in one pass, without a wedge where data ends."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from outlines import SIZE, distance, moved, scene
from runs import FUSE, fuse

from fusecli import images
from fusecli.cli import run
from fusecli.fields import linear, translation
from fusecli.registration.align import Alignment, align, pass_into
from fusecli.registration.transform import Transform

TRUTH = linear((127.5, 95.5), shift=(6, -4), rotate=2)


def write(path: Path, pixels: np.ndarray) -> Path:
    images.write_atomic(str(path), images.encode(pixels, format=path.suffix[1:]))
    return path


def grey(image: np.ndarray) -> np.ndarray:
    return image.clip(0, 255).astype(np.uint8)


def colour(image: np.ndarray) -> np.ndarray:
    return grey(np.dstack((image, 0.8 * image + 20, 255 - image)))


def pixels(path: Path) -> np.ndarray:
    return images.read(str(path)).pixels.astype(float)


@pytest.fixture
def folders(tmp_path):
    """Two pairs with one known misalignment, and their infrared images in place."""
    for number in range(2):
        visible, infrared = scene(20 + number)
        write(tmp_path / "vis" / f"{number}.png", colour(visible))
        write(tmp_path / "clean" / f"{number}.png", grey(infrared))
        write(tmp_path / "ir" / f"{number}.png", grey(moved(infrared, TRUTH)))
    return str(tmp_path / "ir"), str(tmp_path / "vis"), tmp_path / "out"


def report(capsys, *arguments: str) -> dict:
    capsys.readouterr()
    run([*FUSE, *map(str, arguments), "--json", "-q"])
    return json.loads(capsys.readouterr().out)


def test_misaligned_pairs_are_fused_as_if_they_were_not(folders, capsys):
    ir, vis, out = folders
    ideal, plain = out.with_name("ideal"), out.with_name("plain")
    assert fuse(out.with_name("clean"), vis, "-o", ideal) == 0
    assert fuse(ir, vis, "-o", plain) == 0
    document = report(capsys, ir, vis, "-o", out, "--align", "ngf")
    assert document["exit_code"] == 0
    expected = np.linalg.norm(TRUTH[:2, 2] + (TRUTH[:2, :2] - np.eye(2)) @ (127.5, 95.5))
    assert document["register"]["mean_displacement_px"] == pytest.approx(expected, abs=1)
    assert document["register"]["rejected"] == []
    inner = np.s_[20:-20, 20:-20]
    for name in ("0.png", "1.png"):
        wanted = pixels(ideal / name)
        off = np.abs(pixels(plain / name) - wanted)[inner].mean()
        assert np.abs(pixels(out / name) - wanted)[inner].mean() < 0.5 * off
    assert {path.name for path in out.iterdir()} == {"0.png", "1.png", ".fusecli"}


def test_one_pass_equals_two_but_for_the_rounding_between(folders):
    ir, vis, out = folders
    one, two, between = out / "one", out / "two", out / "between"
    assert run(["register", ir, vis, "-o", str(between), "--border", "replicate", "-q"]) == 0
    assert fuse(between, vis, "-o", two) == 0
    assert fuse(ir, vis, "-o", one, "--align", between / "transforms") == 0
    inner = np.s_[20:-20, 20:-20]
    for name in ("0.png", "1.png"):
        assert np.abs(pixels(one / name) - pixels(two / name))[inner].max() <= 3


def test_stored_transforms_change_nothing_else(folders):
    ir, vis, out = folders
    one, two = out / "one", out / "two"
    assert fuse(ir, vis, "-o", one, "--align", "ngf", "--limit", "1") == 0
    assert run(["register", ir, vis, "-o", str(out / "moved"), "--method", "ngf", "-q"]) == 0
    stored = out / "moved" / "transforms" / "0.json"
    assert fuse(ir, vis, "-o", two, "--align", stored, "--limit", "1") == 0
    assert (one / "0.png").read_bytes() == (two / "0.png").read_bytes()


@pytest.mark.parametrize("grid", ["vis", "ir"])
def test_either_side_can_move_and_sizes_may_differ(folders, grid):
    ir, vis, out = folders
    large = cv2.resize(pixels(Path(ir, "0.png")), (512, 384), interpolation=cv2.INTER_CUBIC)
    write(Path(ir, "0.png"), grey(large))
    assert fuse(ir, vis, "-o", out, "--align", "ngf", "--grid", grid, "--limit", "1") == 0
    assert pixels(out / "0.png").shape == ((*SIZE, 3) if grid == "vis" else (384, 512, 3))


def test_a_refused_pair_is_fused_as_it_is_and_marked(folders, capsys):
    ir, vis, out = folders
    write(Path(ir, "0.png"), grey(scene(77)[1]))
    plain = out.with_name("plain")
    assert fuse(ir, vis, "-o", plain) == 0
    document = report(capsys, ir, vis, "-o", out, "--align", "ngf")
    assert document["exit_code"] == 0 and document["register"]["rejected"] == ["0"]
    assert document["warnings"][0]["code"] == "register.rejected"
    assert (out / "0.png").read_bytes() == (plain / "0.png").read_bytes()
    lines = (out / ".fusecli" / "manifest.jsonl").read_text().splitlines()
    marks = {item["key"]: item.get("accepted") for item in map(json.loads, lines) if "key" in item}
    assert marks == {"0": False, "1": True}


def test_or_is_a_failure(folders, capsys):
    ir, vis, out = folders
    write(Path(ir, "0.png"), np.full(SIZE, 9, np.uint8))
    document = report(capsys, ir, vis, "-o", out, "--align", "ngf", "--on-reject", "fail")
    assert document["exit_code"] == 3
    assert document["failures"][0]["code"] == "register.rejected"
    assert not (out / "0.png").exists()


def test_resume_notices_another_alignment(folders, capsys):
    ir, vis, out = folders
    command = (ir, vis, "-o", out, "--resume")
    assert report(capsys, *command, "--align", "ngf")["counts"]["done"] == 2
    assert report(capsys, *command, "--align", "ngf")["counts"]["skipped"] == 2
    assert report(capsys, *command, "--align", "phase")["counts"]["skipped"] == 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--align", "ngff"), "register.method"),
        (("--align", "nowhere/transforms"), "register.method"),
        (("--align", "ngf", "--fit", "ir-to-vis"), "usage.align"),
        (("--on-reject", "fail"), "usage.align"),
    ],
)
def test_nonsense_is_refused_before_work(folders, capsys, arguments, code):
    ir, vis, out = folders
    assert run([*FUSE, ir, vis, "-o", str(out), *arguments, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == code
    assert not out.exists()


@pytest.mark.slow
def test_processes_align_as_threads_do(folders):
    ir, vis, out = folders
    threads, processes = out / "threads", out / "processes"
    assert fuse(ir, vis, "-o", threads, "--align", "ngf") == 0
    assert fuse(ir, vis, "-o", processes, "--align", "ngf", "--backend", "loky") == 0
    for name in ("0.png", "1.png"):
        assert (threads / name).read_bytes() == (processes / name).read_bytes()


def shifted(shift: float) -> tuple[np.ndarray, np.ndarray]:
    """A fixed image and the weight of one that begins `shift` columns further right."""
    visible, infrared = (grey(image) / np.float32(255) for image in scene(60))
    there = moved(infrared, translation(-shift, 0))
    return visible, align(there, Transform("a", "", translation(-shift, 0), SIZE, SIZE)).weight


def test_the_weight_falls_to_nothing_before_data_ends():
    _, weight = shifted(20)
    assert weight[:, :20].max() == 0
    assert weight[:, 40:].min() == 1  # the frame itself is no end of data
    assert np.abs(np.diff(weight, axis=1)).max() < 0.4


@pytest.mark.parametrize("channels", [1, 3])
def test_where_data_ends_no_step_of_brightness_shows(channels):
    visible, weight = shifted(100)
    fixed = visible if channels == 1 else np.dstack([visible] * 3)
    fused = 0.5 * fixed + 0.4  # as much change of brightness and contrast as a network makes
    result = pass_into(fused, fixed, weight)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result[:, 115:], fused[:, 115:], atol=1e-6)
    np.testing.assert_allclose(result[:, :50], fixed[:, :50], atol=0.01)
    # with a plain cut the mean of the columns would jump by this
    jump = abs(float((fused - fixed).mean()))
    mean = (result - fixed).reshape(*SIZE, -1).mean((0, 2))
    assert np.abs(np.diff(mean)).max() < 0.25 * jump


def test_a_grey_image_may_be_passed_into_for_all_channels():
    visible, weight = shifted(20)
    coloured = np.dstack([visible, visible, visible])
    result = pass_into(coloured, visible, weight)
    np.testing.assert_allclose(result, coloured, atol=1e-6)


def test_an_image_that_stays_is_not_resampled():
    visible, _ = scene(62)
    kept = align(visible, Transform("a", "", np.eye(3), SIZE, SIZE))
    assert kept.moved is visible and kept.weight.min() == 1


def test_colour_images_move_too():
    visible, infrared = (grey(image) / np.float32(255) for image in scene(61))
    found = Alignment(transform="translation").of("a", visible, moved(infrared, translation(3, 0)))
    assert distance(found.matrix, translation(3, 0)) < 0.3
    assert align(np.dstack([infrared] * 3), found).moved.shape == (*SIZE, 3)
