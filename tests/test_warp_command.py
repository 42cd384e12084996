"""`fusecli warp`: ready test sets whose truth restores the clean images, of any pixel type."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from outlines import scene
from runs import contents

from fusecli import images
from fusecli.cli import run
from fusecli.images.boxes import largest_box
from fusecli.registration.transform import load

QUIET = ("--progress", "none", "-q")


def write(path: Path, pixels: np.ndarray) -> None:
    format = {".png": "png", ".tif": "tiff", ".npy": "npy"}[path.suffix]
    images.write_atomic(str(path), images.encode(pixels, format=format))


def draw_pairs(folder: Path, count: int, size: tuple[int, int] = (96, 128)) -> tuple[str, str]:
    for number in range(count):
        visible, infrared = scene(number, size)
        colour = np.dstack((visible, 0.8 * visible, 255 - visible)).clip(0, 255).astype(np.uint8)
        write(folder / "vis" / f"{number:02d}.png", colour)
        write(folder / "ir" / f"{number:02d}.png", infrared.clip(0, 255).astype(np.uint8))
    return str(folder / "ir"), str(folder / "vis")


def warp(*arguments: object) -> int:
    return run(["warp", *map(str, arguments), *QUIET])


def pixels(path: Path) -> np.ndarray:
    return images.read(str(path)).pixels


@pytest.mark.parametrize(
    "arguments",
    [
        ("--kind", "shift", "--shift", 7, "--exact"),
        ("--kind", "mixed"),
        ("--preset", "reconet-easy", "--border", "constant"),
        ("--kind", "affine", "--crop-valid"),
    ],
    ids=["shift", "mixed", "reconet", "cropped"],
)
def test_the_truth_brings_the_clean_image_back(tmp_path, arguments):
    ir, vis = draw_pairs(tmp_path, 2)
    out, back = tmp_path / "set", tmp_path / "back"
    assert warp(ir, vis, "-o", out, *arguments) == 0
    applied = ["register", str(out / "ir"), str(out / "vis"), "-o", str(back), *QUIET]
    assert run([*applied, "--apply", str(out / "truth"), "--save-mask"]) == 0
    for key in ("00", "01"):
        clean, warped = pixels(out / "clean" / f"{key}.png"), pixels(out / "ir" / f"{key}.png")
        restored = pixels(back / f"{key}.png")
        sure = pixels(back / ".mask" / f"{key}.png") > 0
        sure = cv2.erode(sure.astype(np.uint8), np.ones((25, 25))) > 0
        assert restored.shape == clean.shape
        before = np.abs(warped.astype(float) - clean)[sure].mean()
        after = np.abs(restored.astype(float) - clean)[sure].mean()
        assert after < 0.35 * before  # what is left is grain, blurred by reading twice


@pytest.mark.parametrize(
    "change",
    [
        lambda image: (image * 200 + 7300).astype(np.uint16),
        lambda image: (image / 4 + 270).astype(np.float32),
    ],
    ids=["16-bit", "float"],
)
def test_the_truth_brings_back_the_values_of_tiff_files(tmp_path, change):
    visible, infrared = scene(1, (96, 128))
    clean = change(cv2.GaussianBlur(infrared, (0, 0), 1.5))  # no grain, that reading twice blurs
    write(tmp_path / "ir/a.tif", clean)
    write(tmp_path / "vis/a.png", visible.clip(0, 255).astype(np.uint8))
    out, back = tmp_path / "set", tmp_path / "back"
    assert warp(tmp_path / "ir", tmp_path / "vis", "-o", out, "--kind", "mixed") == 0
    applied = ["register", str(out / "ir"), str(out / "vis"), "-o", str(back), *QUIET]
    how = ("--apply", str(out / "truth"), "--interpolation", "cubic", "--save-mask")
    assert run([*applied, *how]) == 0
    restored = pixels(back / "a.tif")
    assert restored.dtype == clean.dtype
    sure = cv2.erode(pixels(back / ".mask/a.png"), np.ones((15, 15))) > 0
    gap = np.abs(restored.astype(float) - clean)[sure]
    # half a grey level in a hundred: far more than 8 bits could hold
    assert gap.mean() < 0.005 * np.ptp(clean.astype(float))


@pytest.mark.parametrize(
    ("suffix", "change"),
    [
        (".tif", lambda image: (image * 40 + 7300).astype(np.uint16)),
        (".png", lambda image: (image * 257).clip(0, 65535).astype(np.uint16)),
        (".tif", lambda image: (image / 4 + 270).astype(np.float32)),
        (".npy", lambda image: (image / 4 + 270).astype(np.float32)),
    ],
    ids=["16-bit TIFF", "16-bit PNG", "float TIFF", "float NPY"],
)
def test_type_range_and_channels_are_kept(tmp_path, suffix, change):
    _, infrared = scene(0, (96, 128))
    there = change(infrared.clip(0, 255))
    write(tmp_path / "ir" / f"a{suffix}", there)
    out = tmp_path / "out"
    assert warp(tmp_path / "ir", "-o", out, "--kind", "shift", "--shift", 4, "--exact") == 0
    (result,) = out.glob("a.*")
    moved = pixels(result)
    assert moved.dtype == there.dtype
    # a whole number of pixels to the right and down: not one value changes
    assert np.array_equal(moved[4:, 4:], there[:-4, :-4])


def test_a_paired_run_makes_a_complete_set(tmp_path):
    ir, vis = draw_pairs(tmp_path, 1)
    out = tmp_path / "set"
    assert warp(ir, vis, "-o", out, "--kind", "mixed", "--preview", "grid") == 0
    assert set(contents(out)) == {
        "ir/00.png", "vis/00.png", "clean/00.png", "truth/00.json", "truth/00.npz",
        "truth/index.csv", ".mask/00.png", ".preview/00.png",
    }  # fmt: skip
    assert (out / "vis/00.png").read_bytes() == Path(vis, "00.png").read_bytes()
    assert (out / "clean/00.png").read_bytes() == Path(ir, "00.png").read_bytes()
    truth = load(out / "truth/00.json")
    assert truth.field is not None and truth.inverse is not None and truth.matrix is None
    with (out / "truth/index.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["key"] == "00" and float(row["rotate"]) == truth.parameters["rotate"]


def test_the_visible_side_can_be_warped_instead(tmp_path):
    ir, vis = draw_pairs(tmp_path, 1)
    out = tmp_path / "set"
    assert warp(ir, vis, "-o", out, "--which", "vis", "--link", "hard") == 0
    assert (out / "ir/00.png").samefile(Path(ir, "00.png"))
    assert pixels(out / "vis/00.png").shape == (96, 128, 3)


@pytest.mark.parametrize("kind", ["affine", "mixed"])
def test_the_same_command_gives_the_same_bytes_however_it_runs(tmp_path, kind):
    ir, vis = draw_pairs(tmp_path, 3, (64, 80))
    command = (ir, vis, "--kind", kind, "--variants", 2, "--seed", 7, "--noise", 2)
    outs = [tmp_path / name for name in ("one", "eight", "shards", "fewer", "reversed")]
    rows = [f"{ir}/{key}.png,{vis}/{key}.png,{key}" for key in ("02", "01", "00")]
    (tmp_path / "list.csv").write_text("\n".join(["ir,vis,name", *rows]))
    assert warp(*command, "-o", outs[0], "--jobs", 1) == 0
    assert warp(*command, "-o", outs[1], "--jobs", 8) == 0
    for shard in ("2/3", "1/3", "3/3"):
        assert warp(*command, "-o", outs[2], "--shard", shard) == 0
    assert warp(*command, "-o", outs[3], "--limit", 2) == 0
    assert warp("--pairs", tmp_path / "list.csv", *command[2:], "-o", outs[4]) == 0
    expected = contents(outs[0])
    assert len([name for name in expected if name.startswith("ir/")]) == 6
    assert contents(outs[1]) == expected
    assert contents(outs[2]) == expected
    fewer, turned = contents(outs[3]), contents(outs[4])
    index = turned.pop("truth/index.csv").splitlines()  # follows the list
    assert sorted(index) == sorted(expected["truth/index.csv"].splitlines())
    del fewer["truth/index.csv"], expected["truth/index.csv"]
    assert turned == expected
    assert fewer.items() <= expected.items()


def test_a_preset_made_for_small_crops_is_damped_until_it_does_not_fold(tmp_path):
    write(tmp_path / "ir" / "a.png", np.zeros((64, 640), np.uint8))
    assert warp(tmp_path / "ir", "-o", tmp_path / "out", "--preset", "reconet-hard") == 0
    assert load(tmp_path / "out/truth/a.json").parameters["elastic_alpha"] > 1


def test_seed_and_variant_change_the_draw(tmp_path):
    ir, vis = draw_pairs(tmp_path, 1)
    for seed in (1, 2):
        warp(ir, vis, "-o", tmp_path / f"s{seed}", "--seed", seed, "--variants", 2)
    truths = [load(tmp_path / f"s{s}/truth/00_w0{v}.json").matrix for s in (1, 2) for v in (0, 1)]
    for index, one in enumerate(truths):
        for other in truths[index + 1 :]:
            assert np.abs(one - other).max() > 0.01


def test_cropping_leaves_no_pixel_without_data(tmp_path):
    ir, vis = draw_pairs(tmp_path, 1)
    out = tmp_path / "set"
    arguments = ("--kind", "shift", "--shift", 9, "--exact", "--border", "constant")
    assert warp(ir, vis, "-o", out, *arguments, "--crop-valid") == 0
    assert pixels(out / "ir/00.png").shape == pixels(out / "clean/00.png").shape == (87, 119)
    assert pixels(out / "vis/00.png").shape == (87, 119, 3)
    assert pixels(out / ".mask/00.png").min() == 255
    assert load(out / "truth/00.json").fixed_size == (87, 119)
    assert np.array_equal(pixels(out / "clean/00.png"), pixels(Path(ir, "00.png"))[9:, 9:])


def test_noise_has_the_deviation_asked_for(tmp_path):
    write(tmp_path / "ir" / "a.png", np.full((100, 100), 128, np.uint8))
    arguments = ("--kind", "shift", "--shift", 0, "--noise", 4)
    assert warp(tmp_path / "ir", "-o", tmp_path / "out", *arguments) == 0
    noisy = pixels(tmp_path / "out/a.png").astype(float)
    assert noisy.std() == pytest.approx(0.04 * 255, rel=0.05)
    assert noisy.mean() == pytest.approx(128, abs=0.5)


@pytest.mark.parametrize("noise", [0, 5])
def test_pixels_without_a_value_stay_where_they_are_nearest(tmp_path, noise):
    image = np.linspace(0, 1, 2000, dtype=np.float32).reshape(40, 50)
    image[10, 20] = np.nan
    write(tmp_path / "ir" / "a.tif", image)
    out = tmp_path / "out"
    arguments = ("--kind", "shift", "--shift", 3, "--exact", "--noise", noise)
    assert warp(tmp_path / "ir", "-o", out, *arguments) == 0
    moved = pixels(out / "a.tif")
    assert np.argwhere(~np.isfinite(moved)).tolist() == [[13, 23]]


def test_sides_of_other_sizes_are_not_cropped_alike(tmp_path, capsys):
    ir, vis = draw_pairs(tmp_path, 1)
    write(Path(vis) / "00.png", np.zeros((200, 300, 3), np.uint8))
    out = tmp_path / "set"
    assert run(["warp", ir, vis, "-o", str(out), "--crop-valid", "--json"]) == 4
    assert json.loads(capsys.readouterr().out)["failures"][0]["code"] == "size.differ"
    assert warp(ir, vis, "-o", out) == 0  # uncropped, each side keeps its size


def test_resume_does_only_what_is_missing(tmp_path, capsys):
    ir, vis = draw_pairs(tmp_path, 2)
    out = tmp_path / "set"
    assert warp(ir, vis, "-o", out, "--kind", "mixed") == 0
    whole = contents(out)
    (out / "ir/01.png").unlink()
    (out / "truth/01.npz").unlink()
    again = ["warp", ir, vis, "-o", str(out), "--kind", "mixed", "--resume", "--json"]
    capsys.readouterr()
    assert run([*again, "--dry-run"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"]["skipped"] == 1
    assert run(again) == 0
    counts = json.loads(capsys.readouterr().out)["counts"]
    assert (counts["done"], counts["skipped"]) == (1, 1)
    assert contents(out) == whole


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--kind", "shift", "--rotate", "3"), "usage.magnitude"),
        (("--preset", "reconet-easy", "--kind", "shift"), "usage.kind"),
        (("--crop-valid", "--link", "hard"), "usage.warp"),
        (("--elastic-sigma", "0", "--kind", "elastic"), "usage.magnitude"),
    ],
)
def test_nonsense_is_refused_before_work(tmp_path, capsys, arguments, code):
    ir, vis = draw_pairs(tmp_path, 1)
    assert run(["warp", ir, vis, "-o", str(tmp_path / "out"), *arguments, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == code
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments", [("--which", "vis"), ("--ir-suffix", "_x"), ("--link", "sym")]
)
def test_what_needs_a_visible_side_says_so(tmp_path, arguments):
    ir, _ = draw_pairs(tmp_path, 1)
    assert warp(ir, "-o", tmp_path / "out", *arguments) == 2


def test_a_single_file_has_its_truth_beside_it(tmp_path):
    ir, _ = draw_pairs(tmp_path, 1)
    assert warp(Path(ir, "00.png"), "-o", tmp_path / "warped.png") == 0
    assert load(tmp_path / "warped.json").matrix is not None


def test_standard_output_holds_the_image_alone(tmp_path, monkeypatch, capfdbinary):
    ir, _ = draw_pairs(tmp_path, 1)
    there = tmp_path / "empty"
    there.mkdir()
    monkeypatch.chdir(there)
    assert warp(Path(ir, "00.png"), "-o", "-", "--format", "png") == 0
    assert capfdbinary.readouterr().out.startswith(b"\x89PNG") and not list(there.iterdir())


def test_a_warp_that_must_fold_is_the_failure_of_its_item(tmp_path, capsys):
    ir, _ = draw_pairs(tmp_path, 1)
    folded = ["--kind", "elastic", "--elastic-alpha", "60", "--elastic-sigma", "2", "--exact"]
    assert run(["warp", ir, "-o", str(tmp_path / "out"), *folded, "--json"]) == 4
    failures = json.loads(capsys.readouterr().out)["failures"]
    assert failures[0]["code"] == "usage.magnitude"
    assert not list((tmp_path / "out").glob("*.png"))


def test_the_largest_box_is_the_largest():
    generator = np.random.default_rng(0)
    for _ in range(20):
        covered = generator.uniform(size=(9, 11)) < 0.8
        covered[4, 5] = True
        best = max(
            (bottom - top) * (right - left)
            for top in range(9) for bottom in range(top + 1, 10)
            for left in range(11) for right in range(left + 1, 12)
            if covered[top:bottom, left:right].all()
        )  # fmt: skip
        top, left, height, width = largest_box(covered)
        assert covered[top : top + height, left : left + width].all()
        assert height * width == best


@pytest.mark.realdata
def test_a_real_set_is_restored(tmp_path, data_dir):
    for side, name in (("ir", "ir"), ("vi", "vis")):
        (tmp_path / name).mkdir()
        (source,) = (data_dir / "roadscene-test" / side).glob("FLIR_06995.*")
        shutil.copy(source, tmp_path / name)
    out, back = tmp_path / "set", tmp_path / "back"
    assert warp(tmp_path / "ir", tmp_path / "vis", "-o", out, "--kind", "mixed") == 0
    applied = ["register", str(out / "ir"), str(out / "vis"), "-o", str(back), *QUIET]
    assert run([*applied, "--apply", str(out / "truth")]) == 0
    clean = images.as_grey(images.read(str(next((out / "clean").iterdir()))))
    restored = pixels(back / "FLIR_06995.png").astype(float)
    assert np.abs(restored - clean)[25:-25, 25:-25].mean() < 2.5


@pytest.mark.parametrize("command", ["warp", "register"])
def test_help_imports_nothing_heavy(command):
    script = (
        f"import sys; from fusecli.cli import run; run(['{command}', '--help']);"
        "sys.exit(any(name in sys.modules for name in ('torch', 'cv2', 'tifffile')))"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True).returncode == 0
