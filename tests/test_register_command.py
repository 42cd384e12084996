"""`fusecli register`: moved images, transforms that can be applied again, and clear refusals."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from outlines import SIZE, distance, moved, scene
from runs import contents

from fusecli import images, pictures
from fusecli.cli import run
from fusecli.fields import grid_scaling, linear, translation
from fusecli.registration.transform import Transform, load

QUIET = ("--progress", "none", "-q")
TRUTH = linear((127.5, 95.5), shift=(6, -4), rotate=2)


def write(path: Path, pixels: np.ndarray) -> Path:
    format = {".png": "png", ".tif": "tiff"}[path.suffix]
    images.write_atomic(str(path), images.encode(pixels, format=format))
    return path


def grey(image: np.ndarray) -> np.ndarray:
    return image.clip(0, 255).astype(np.uint8)


def colour(image: np.ndarray) -> np.ndarray:
    return grey(np.dstack((image, 0.8 * image + 20, 255 - image)))


@pytest.fixture
def folders(tmp_path):
    """Two pairs with one known misalignment."""
    for number in range(2):
        visible, infrared = scene(20 + number)
        write(tmp_path / "vis" / f"{number}.png", colour(visible))
        write(tmp_path / "ir" / f"{number}.png", grey(moved(infrared, TRUTH)))
    return str(tmp_path / "ir"), str(tmp_path / "vis"), tmp_path / "out"


def register(*arguments: object) -> int:
    return run(["register", *map(str, arguments), *QUIET])


def failure(capsys) -> dict:
    return json.loads(capsys.readouterr().out)["failures"][0]


def pixels(path: Path) -> np.ndarray:
    return images.read(str(path)).pixels


def test_pairs_are_registered_and_the_transform_is_written(folders):
    ir, vis, out = folders
    assert register(ir, vis, "-o", out, "--transform", "affine") == 0
    for key in ("0", "1"):
        document = json.loads((out / "transforms" / f"{key}.json").read_text())
        assert document["schema"] == "fusecli/transform/1"
        assert document["maps"] == "fixed_to_moving" and document["type"] == "affine"
        assert document["fixed_size"] == document["moving_size"] == [192, 256]
        assert document["accepted"] is True and document["field"] is None
        assert document["score"]["after"] > document["score"]["before"]
        assert distance(np.array(document["matrix"]), TRUTH) < 0.5
        _, clean = scene(20 + int(key))
        inner = np.s_[20:-20, 20:-20]
        restored = pixels(out / f"{key}.png").astype(float)
        assert np.abs(restored - clean)[inner].mean() < 6  # half of it is the scene's own grain


def test_dense_transforms_have_their_field_beside_them(folders):
    ir, vis, out = folders
    assert register(ir, vis, "-o", out, "--transform", "dense", "--limit", 1) == 0
    transform = load(out / "transforms" / "0.json")
    assert transform.kind == "dense" and transform.field is not None
    with np.load(out / "transforms" / "0.npz") as arrays:
        assert list(arrays) == ["field"]
        assert arrays["field"].dtype == np.float32 and arrays["field"].shape == (192, 256, 2)
    # the matrix beside it is the field's best affine approximation
    assert distance(transform.matrix, TRUTH) < 1


@pytest.mark.parametrize("transform", ["affine", "dense"])
def test_a_result_is_reproduced_by_applying_its_transform(folders, transform):
    ir, vis, out = folders
    assert register(ir, vis, "-o", out, "--transform", transform) == 0
    again = out.with_name("again")
    assert register(ir, vis, "-o", again, "--apply", out / "transforms") == 0
    for key in ("0", "1"):
        assert (again / f"{key}.png").read_bytes() == (out / f"{key}.png").read_bytes()


def test_the_same_command_gives_the_same_bytes_with_any_jobs(folders):
    ir, vis, out = folders
    other = out.with_name("other")
    assert register(ir, vis, "-o", out, "--jobs", 1) == 0
    assert register(ir, vis, "-o", other, "--jobs", 8) == 0
    assert contents(out) == contents(other)


def test_the_visible_image_can_move_instead(folders):
    ir, vis, out = folders
    assert register(ir, vis, "-o", out, "--fixed", "ir", "--transform", "affine") == 0
    assert pixels(out / "0.png").shape == (192, 256, 3)
    assert distance(load(out / "transforms" / "0.json").matrix, np.linalg.inv(TRUTH)) < 0.6


def test_sixteen_bits_and_another_size_stay_what_they_are(tmp_path):
    visible, infrared = scene(22)
    large = cv2.resize(moved(infrared, TRUTH), (512, 384), interpolation=cv2.INTER_CUBIC)
    ir = write(tmp_path / "a.tif", (large * 40 + 7300).clip(0, 65535).astype(np.uint16))
    vis = write(tmp_path / "b.png", grey(visible))
    out = tmp_path / "moved.tif"
    assert register(ir, vis, "-o", out) == 0
    result = pixels(out)
    assert result.dtype == np.uint16 and result.shape == SIZE
    assert len(np.unique(result)) > 1000
    truth = grid_scaling(SIZE, (384, 512)) @ TRUTH
    assert distance(load(tmp_path / "moved.json").matrix, truth) < 1.2  # in pixels half as large


def test_degrees_in_a_float_file_stay_degrees(tmp_path):
    visible, infrared = scene(22)
    degrees = (moved(infrared, TRUTH) / 8 - 5).astype(np.float32)
    ir, vis = write(tmp_path / "a.tif", degrees), write(tmp_path / "b.png", grey(visible))
    assert register(ir, vis, "-o", tmp_path / "moved.tif", "--transform", "affine") == 0
    result = pixels(tmp_path / "moved.tif")
    assert result.dtype == np.float32
    assert distance(load(tmp_path / "moved.json").matrix, TRUTH) < 0.7
    inner = np.s_[16:-16, 16:-16]
    assert np.abs(result - (infrared / 8 - 5))[inner].mean() < 0.5


def test_a_pair_that_cannot_be_registered_is_a_failure(folders, capsys):
    ir, vis, out = folders
    write(Path(ir) / "0.png", np.full(SIZE, 99, np.uint8))
    assert run(["register", ir, vis, "-o", str(out), "--json", *QUIET]) == 3
    refused = failure(capsys)
    assert refused["code"] == "register.rejected" and "flat" in refused["message"]
    assert not (out / "0.png").exists() and not (out / "transforms" / "0.json").exists()
    assert (out / "1.png").exists()


def test_or_passed_on_as_it_is_and_marked(folders, capsys):
    ir, vis, out = folders
    source = write(Path(ir) / "0.png", grey(scene(77)[1]))
    arguments = ["--on-reject", "identity", "--json", "--progress", "none"]
    assert run(["register", ir, vis, "-o", str(out), *arguments]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["register"]["rejected"] == ["0"]
    assert document["warnings"][0]["code"] == "register.rejected"
    assert np.array_equal(pixels(out / "0.png"), pixels(source))
    transform = load(out / "transforms" / "0.json")
    assert not transform.accepted and np.array_equal(transform.matrix, np.eye(3))


def test_a_gain_that_is_not_reached_is_a_refusal(folders, capsys):
    ir, vis, out = folders
    assert run(["register", ir, vis, "-o", str(out), "--min-gain", "0.99", "--json", "-q"]) == 4
    assert "0.99" in failure(capsys)["message"]


def test_a_rig_has_one_transform_which_bad_pairs_do_not_spoil(tmp_path):
    ir, vis, out = tmp_path / "ir", tmp_path / "vis", tmp_path / "out"
    for number in range(4):
        visible, infrared = scene(30 + number)
        write(vis / f"{number}.png", grey(visible))
        write(ir / f"{number}.png", grey(moved(infrared, TRUTH)))
    write(ir / "3.png", np.full(SIZE, 128, np.uint8))  # nothing to see, yet the rig is known
    assert register(ir, vis, "-o", out, "--per", "folder") == 0
    found = [load(out / "transforms" / f"{number}.json") for number in range(4)]
    assert all(np.array_equal(found[0].matrix, other.matrix) for other in found[1:])
    assert distance(found[0].matrix, TRUTH) < 0.35
    assert found[0].parameters["registered"] == 3


def test_pairs_that_disagree_are_no_rig(tmp_path, capsys):
    ir, vis = tmp_path / "ir", tmp_path / "vis"
    for number, shift in enumerate((-14, 0, 14)):
        visible, infrared = scene(40 + number)
        write(vis / f"{number}.png", grey(visible))
        write(ir / f"{number}.png", grey(moved(infrared, translation(shift, 0))))
    command = ["register", str(ir), str(vis), "-o", str(tmp_path / "out"), "--per", "folder"]
    assert run([*command, "--json", "-q"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "register.rejected" and "disagree" in error["message"]


def test_a_rig_of_which_nothing_is_found_is_one_error_with_reasons(tmp_path, capsys):
    ir, vis = tmp_path / "ir", tmp_path / "vis"
    for number in range(3):
        write(vis / f"{number}.png", grey(scene(number)[0]))
        write(ir / f"{number}.png", np.full(SIZE, 128, np.uint8))
    command = ["register", str(ir), str(vis), "-o", str(tmp_path / "out"), "--per", "folder"]
    assert run([*command, "--json", "-q"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    (fact,) = error["facts"]
    assert fact.startswith("3 of 3: ") and "flat" in fact
    assert not list(tmp_path.glob("out/*.png"))


def test_a_bare_matrix_or_the_ratio_of_the_views_is_a_start(tmp_path):
    visible, infrared = scene(52, (240, 320))
    narrow = np.ascontiguousarray(infrared[84:156, 116:212])  # a bit more than 3.3 times narrower
    write(tmp_path / "vis.png", grey(visible))
    write(tmp_path / "ir.png", grey(cv2.resize(narrow, (288, 216), interpolation=cv2.INTER_CUBIC)))
    (tmp_path / "near.txt").write_text("3 0 -340\n0 3 -250\n0 0 1\n")
    (tmp_path / "near.json").write_text("[[3, 0, -340], [0, 3, -250]]")
    expected = grid_scaling((72, 96), (216, 288)) @ translation(-116, -84)
    for start in (["--fov-ratio", "3.3"], ["--init", "near.txt"], ["--init", "near.json"]):
        start = [str(tmp_path / word) if word.startswith("near") else word for word in start]
        sides = (tmp_path / "ir.png", tmp_path / "vis.png")
        assert register(*sides, "-o", tmp_path / "out.png", "--overwrite", *start) == 0
        assert distance(load(tmp_path / "out.json").matrix, expected, (240, 320)) < 6


@pytest.mark.parametrize("given", ["0", "-2", "nan", "99"])
def test_a_ratio_of_views_that_cannot_be_is_refused(folders, capsys, given):
    ir, vis, out = folders
    assert run(["register", ir, vis, "-o", str(out), "--fov-ratio", given, "--json", "-q"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "usage.register"


def test_what_was_tried_is_told_and_recorded(folders, capsys):
    ir, vis, out = folders
    write(Path(ir) / "0.png", grey(scene(77)[1]))
    command = ["register", ir, vis, "-o", str(out), "--progress", "none", "-v"]
    assert run([*command, "--on-reject", "identity"]) == 0
    told = capsys.readouterr().err
    assert "0: ngf wide" in told and "1: ngf" in told
    tried = json.loads((out / "transforms" / "0.json").read_text())["score"]["tried"]
    assert {"ngf wide", "ngf fraction"} <= {attempt["method"] for attempt in tried}
    assert all(attempt["confidence"] < attempt["needed"] or attempt["decoy"] for attempt in tried)
    manifest = [
        json.loads(line) for line in (out / ".fusecli" / "manifest.jsonl").read_text().splitlines()
    ]
    assert next(line for line in manifest if line.get("key") == "0")["tried"] == tried
    capsys.readouterr()
    assert run(["register", ir, vis, "-o", str(out) + "2", "--json", "-q"]) == 3
    refused = failure(capsys)
    assert "tried ngf" in refused["message"] and "of 5" in refused["message"]


def test_a_start_reaches_what_lies_beyond_the_search(tmp_path):
    visible, infrared = scene(50)
    turned = linear((127.5, 95.5), rotate=38)
    write(tmp_path / "vis.png", grey(visible))
    write(tmp_path / "ir.png", grey(moved(infrared, turned)))
    near = linear((127.5, 95.5), rotate=33, shift=(5, 5))
    given = Transform("a", "affine", near, SIZE, SIZE)
    for path, data in given.files(tmp_path / "start.json"):
        Path(path).write_bytes(data)
    sides = (tmp_path / "ir.png", tmp_path / "vis.png")
    search = (*sides, "--method", "ngf", "--transform", "affine")
    assert register(*search, "-o", tmp_path / "blind.png") == 4
    led = (tmp_path / "led.png", "--init", tmp_path / "start.json")
    assert register(*search, "-o", *led) == 0
    assert distance(load(tmp_path / "led.json").matrix, turned) < 0.7


def test_fields_masks_and_previews_on_request(folders):
    ir, vis, out = folders
    assert register(ir, vis, "-o", out, "--limit", 1, "--transform", "affine", "--save-mask",
                    "--preview", "checker", "--save-field", "flo") == 0  # fmt: skip
    data = (out / "transforms" / "0.flo").read_bytes()
    assert data[:4] == b"PIEH" and len(data) == 12 + 8 * 192 * 256
    field = np.frombuffer(data, np.float32, offset=12).reshape(192, 256, 2)
    expected = load(out / "transforms" / "0.json").displacement()[0].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(field, expected)
    mask = pixels(out / ".mask" / "0.png")
    assert set(np.unique(mask)) == {0, 255} and 0.9 < (mask > 0).mean() < 1
    assert pixels(out / ".preview" / "0.png").shape[:2] == SIZE
    tiff = out.with_name("tiff")
    assert register(ir, vis, "-o", tiff, "--limit", 1, "--apply", out / "transforms",
                    "--save-field", "tiff", "--preview", "field") == 0  # fmt: skip
    np.testing.assert_array_equal(tifffile.imread(tiff / "transforms" / "0.tif"), expected)


def good() -> dict:
    return Transform("0", "affine", TRUTH, SIZE, SIZE).document(None)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"schema": "other/1"}, "register.schema"),
        ({"maps": "moving_to_fixed"}, "register.schema"),
        ({"matrix": [[1, 0, 0], [1, 0, 0], [0, 0, 1]]}, "register.matrix"),
        ({"matrix": [[1, 0, 0], [0, 1, 0], [-0.01, 0, 1]]}, "register.matrix"),
        ({"matrix": [[1, 0], [0, 1]]}, "register.matrix"),
        ({"matrix": None}, "register.schema"),
        ({"matrix": "none"}, "register.schema"),
        ({"fixed_size": [10, 20]}, "register.size"),
        ({"moving_size": [0, 20]}, "register.schema"),
        ({"field": "../elsewhere.npz"}, "register.schema"),
        ({"field": "absent.npz"}, "register.schema"),
        ({"field": "folded.npz"}, "register.folds"),
        ({"field": "small.npz"}, "register.schema"),
        ({"field": "text.npz"}, "register.schema"),
    ],
)
def test_a_damaged_transform_is_a_clear_failure(folders, tmp_path, capsys, change, code):
    ir, vis, out = folders
    noise = np.random.default_rng(0).normal(0, 20, (*SIZE, 2)).astype(np.float32)
    np.savez(tmp_path / "folded.npz", field=noise)
    np.savez(tmp_path / "small.npz", field=noise[:5])
    (tmp_path / "text.npz").write_text("no archive")
    (tmp_path / "stored.json").write_text(json.dumps(good() | change))
    command = ["register", ir, vis, "-o", str(out), "--limit", "1", "--json", "-q"]
    assert run([*command, "--apply", str(tmp_path / "stored.json")]) == 4
    assert failure(capsys)["code"] == code
    assert not list(out.glob("*.png"))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--method", "fase"), "register.method"),
        (("--method", "phase", "--transform", "affine"), "register.transform"),
        (("--method", "flow", "--transform", "homography"), "register.transform"),
        (("--apply", "nowhere"), "register.missing"),
        (("--init", "nowhere.json"), "register.missing"),
        (("--apply", ".", "--per", "folder"), "usage.register"),
    ],
)
def test_nonsense_is_refused_before_work(folders, capsys, arguments, code):
    ir, vis, out = folders
    assert run(["register", ir, vis, "-o", str(out), *arguments, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == code
    assert not out.exists()


def test_resume_notices_other_options(folders, capsys):
    ir, vis, out = folders
    command = ["register", ir, vis, "-o", str(out), "--json", "-q"]
    run([*command, "--transform", "translation"])
    capsys.readouterr()
    run([*command, "--transform", "translation", "--resume"])
    assert json.loads(capsys.readouterr().out)["counts"]["skipped"] == 2
    for transform, current in (("translation", 2), ("similarity", 0)):
        run([*command, "--transform", transform, "--resume", "--dry-run"])
        assert json.loads(capsys.readouterr().out)["counts"]["skipped"] == current
    run([*command, "--transform", "similarity", "--resume"])
    assert json.loads(capsys.readouterr().out)["counts"]["done"] == 2


def test_the_wheel_shows_directions():
    right = np.zeros((100, 100, 2), np.float32)
    right[..., 0] = 5
    assert pictures.wheel(right)[-1, -1].tolist() == [255, 0, 0]
    assert pictures.wheel(-right)[-1, -1].tolist() == [0, 255, 255]
    assert pictures.wheel(0 * right)[-1, -1].tolist() == [255, 255, 255]


@pytest.mark.realdata
def test_real_cameras_with_different_views_are_registered(tmp_path, data_dir):
    folder = data_dir / "extra2-train" / "unaligned"
    sides = [next((folder / side).glob("vi_ir_06.*")) for side in ("ir", "vi")]
    assert register(*sides, "-o", tmp_path / "moved.png") == 0
    transform = load(tmp_path / "moved.json")
    assert transform.accepted and transform.score["confidence"] > 5
    assert np.sqrt(np.linalg.det(transform.matrix[:2, :2])) == pytest.approx(1.13, abs=0.02)
