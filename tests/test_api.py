"""The Python functions: what they take and return, and that they equal the commands."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import draw
from runs import fuse as fuse_command

import fusecli
from fusecli import checkpoint, images
from fusecli.cli import run
from fusecli.errors import InputError, UsageError

DATA = Path(__file__).parent / "data"
PAIRS = {  # 8 bit with colours, 8 bit of odd size without, 16 bit infrared
    "day_street": (".png", ".png"),
    "odd_317x211": (".png", ".jpg"),
    "thermal16": (".tiff", ".png"),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """Fuse corners of the sample pairs with the command."""
    folder = tmp_path_factory.mktemp("pairs")
    for key, suffixes in PAIRS.items():
        for side, suffix in zip(("ir", "vis"), suffixes, strict=True):
            pixels = images.read(str(DATA / side / f"{key}{suffix}")).pixels[90:139, 100:163]
            kind = "tiff" if suffix == ".tiff" else "png"
            (folder / side).mkdir(exist_ok=True)
            (folder / side / f"{key}.{kind}").write_bytes(images.encode(pixels, format=kind))
    assert fuse_command(folder / "ir", folder / "vis", "-o", folder / "out", "--device=cpu") == 0
    return folder


@pytest.mark.parametrize("key", PAIRS)
@pytest.mark.parametrize("as_arrays", [False, True])
def test_fuse_returns_what_the_command_writes(written, key, as_arrays):
    pair = [next((written / side).glob(f"{key}.*")) for side in ("ir", "vis")]
    given = [images.read(str(path)).pixels for path in pair] if as_arrays else pair
    fused = fusecli.fuse(*given, weights="random", device="cpu")
    expected = images.read(str(written / "out" / f"{key}.png")).pixels
    assert fused.dtype == expected.dtype
    np.testing.assert_array_equal(fused, expected)


def scene(dtype: type, channels: int = 0) -> np.ndarray:
    y, x = np.mgrid[:21, :26]
    planes = [0.5 + 0.5 * np.sin(x / 3 + i) * np.cos(y / 4 - i) for i in range(channels or 1)]
    unit = np.stack(planes, axis=-1) if channels else planes[0]
    return images.from_unit(unit, np.dtype(dtype))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [0, 3])
def test_the_result_has_the_type_and_colours_of_the_visible_image(dtype, channels):
    vis = scene(dtype, channels)
    fused = fusecli.fuse(scene(np.uint8), vis, weights="random")
    assert (fused.dtype, fused.shape) == (vis.dtype, vis.shape)
    assert (
        fusecli.fuse(
            scene(np.uint8), vis, weights="random", out_dtype="uint16", chroma="drop"
        ).dtype
        == np.uint16
    )


def test_inputs_stay_as_they_were():
    ir, vis = scene(np.uint16), scene(np.uint8, 3)
    before = ir.copy(), vis.copy()
    fusecli.fuse(ir, vis, weights="random")
    np.testing.assert_array_equal(ir, before[0])
    np.testing.assert_array_equal(vis, before[1])


def test_opacity_is_left_out_and_float64_is_taken():
    ir, vis = scene(np.float32).astype(np.float64), scene(np.uint8, 3)
    opaque = np.dstack([vis, np.full(vis.shape[:2], 255, np.uint8)])
    np.testing.assert_array_equal(
        fusecli.fuse(ir, opaque, weights="random"),
        fusecli.fuse(ir.astype(np.float32), vis, weights="random"),
    )


def test_weights_trained_on_are_read_again(tmp_path):
    ir, vis, path = scene(np.uint8), scene(np.uint8), tmp_path / "mine.safetensors"
    results = []
    for seed in (1, 2):
        loaded = checkpoint.load("reconet", "random", seed=seed)
        checkpoint.save(path, loaded.network, model="reconet", options=loaded.options)
        results.append(fusecli.fuse(ir, vis, "reconet", weights=path))
        np.testing.assert_array_equal(
            results[-1], fusecli.fuse(ir, vis, "reconet", weights="random", seed=seed)
        )
    assert not np.array_equal(*results)


def test_errors_are_those_of_the_command():
    ir, vis = scene(np.uint8), scene(np.uint8, 3)
    with pytest.raises(InputError, match="sizes differ") as caught:
        fusecli.fuse(ir[:-2], vis)
    assert caught.value.code == "size.differ"
    assert fusecli.fuse(ir[:-2], vis, weights="random", fit="ir-to-vis").shape == vis.shape
    with pytest.raises(UsageError) as caught:
        fusecli.fuse(ir, vis, "reconnet")
    assert caught.value.hint == "did you mean 'reconet'?"
    for wrong in (np.zeros((4, 4, 7), np.uint8), np.zeros(9), np.array([["a"]]), np.zeros((0, 3))):
        with pytest.raises(InputError, match="cannot use ir"):
            fusecli.fuse(wrong, vis)
    with pytest.raises(AttributeError, match="no attribute 'fusee'"):
        fusecli.fusee  # noqa: B018 - the look-up is the test


def write_pair(folder: Path, pair: tuple[np.ndarray, np.ndarray]) -> list[str]:
    paths = [folder / f"{side}.png" for side in ("ir", "vis")]
    for path, pixels in zip(paths, pair, strict=True):
        path.write_bytes(images.encode(pixels, format="png"))
    return [str(path) for path in paths]


@pytest.fixture(scope="module")
def displaced() -> tuple[np.ndarray, np.ndarray]:
    """Return the street with its infrared image 5 px to the right and 3 px up."""
    ir = images.read(str(DATA / "ir" / "day_street.png")).pixels
    vis = images.read(str(DATA / "vis" / "day_street.png")).pixels
    return ir[11:-5, 3:-13], vis[8:-8, 8:-8]


@pytest.mark.parametrize("fixed", ["vis", "ir"])
def test_register_returns_what_the_command_writes(displaced, tmp_path, fixed):
    paths = write_pair(tmp_path, displaced)
    out = tmp_path / "moved.png"
    assert run(["register", *paths, "-o", str(out), "--fixed", fixed, "--progress", "none"]) == 0
    moved = fusecli.register(*displaced, fixed=fixed)
    np.testing.assert_array_equal(moved.image, images.read(str(out)).pixels)
    written = json.loads(out.with_suffix(".json").read_text("utf-8"))
    np.testing.assert_array_equal(moved.transform.matrix, written["matrix"])
    assert moved.covered.shape == moved.image.shape[:2]
    assert 0.8 < moved.covered.mean() < 1


def test_register_finds_the_displacement(displaced):
    moved = fusecli.register(*displaced, transform="translation")
    dx, dy = moved.transform.matrix[:2, 2]
    assert (dx, dy) == pytest.approx((5, -3), abs=0.7)
    assert moved.transform.accepted


def test_register_refuses_or_passes_on():
    ir, vis = np.full((60, 80), 7, np.uint8), scene(np.uint8, 3)
    with pytest.raises(InputError, match="was not registered") as caught:
        fusecli.register(ir, vis)
    assert caught.value.code == "register.rejected"
    passed = fusecli.register(ir, vis, on_reject="identity")
    assert passed.image.shape == vis.shape[:2]
    assert not passed.transform.accepted
    with pytest.raises(UsageError, match="'nfg'") as caught:
        fusecli.register(ir, vis, method="nfg")
    assert caught.value.hint == "did you mean 'ngf'?"


def test_fuse_aligns_as_the_command_does(displaced, tmp_path):
    paths = write_pair(tmp_path, displaced)
    out = tmp_path / "fused.png"
    command = ["fuse", *paths, "-o", str(out), "--weights", "random", "--progress", "none"]
    assert run([*command, "--align", "ngf"]) == 0
    fused = fusecli.fuse(*displaced, weights="random", align="ngf")
    np.testing.assert_array_equal(fused, images.read(str(out)).pixels)
    plain = fusecli.fuse(*displaced, weights="random")
    assert np.abs(fused.astype(int) - plain).mean() > 1


def test_fuse_takes_transforms_that_are_found_or_stored(displaced, tmp_path):
    found = fusecli.register(*displaced, method="ngf").transform
    stored = tmp_path / "rig.json"
    for name, data in found.files(stored):
        Path(name).write_bytes(data)
    by_name, by_value, by_file = (
        fusecli.fuse(*displaced, weights="random", align=align) for align in ("ngf", found, stored)
    )
    np.testing.assert_array_equal(by_value, by_name)
    np.testing.assert_array_equal(by_file, by_name)
    small = np.ascontiguousarray(displaced[0][:, :-9])  # sizes may differ, but not from the file's
    assert fusecli.fuse(small, displaced[1], weights="random", align="ngf").shape == by_name.shape
    with pytest.raises(InputError) as caught:
        fusecli.fuse(small, displaced[1], weights="random", align=stored)
    assert caught.value.code == "register.size"


def test_fuse_warns_of_what_it_cannot_align_or_refuses():
    vis = scene(np.uint8, 3)
    flat = np.full(vis.shape[:2], 7, np.uint8)
    with pytest.warns(UserWarning, match="not registered"):
        fused = fusecli.fuse(flat, vis, weights="random", align="auto")
    np.testing.assert_array_equal(fused, fusecli.fuse(flat, vis, weights="random"))
    with pytest.raises(InputError) as caught:
        fusecli.fuse(flat, vis, weights="random", align="auto", on_reject="fail")
    assert caught.value.code == "register.rejected"
    with pytest.raises(UsageError) as usage:
        fusecli.fuse(flat, vis, weights="random", align="fase")
    assert usage.value.code == "register.method"
    with pytest.raises(UsageError) as usage:
        fusecli.fuse(flat, vis, weights="random", align="auto", fit="ir-to-vis")
    assert usage.value.code == "usage.align"


def test_evaluate_returns_what_the_command_reports(written):
    report = written / "report"
    command = ["eval", *(str(written / side) for side in ("ir", "vis", "out")), "-o", str(report)]
    measures = "standard,vifb,qcb"
    assert run([*command, "--metrics", measures, "--table", "csv", "--progress", "none"]) == 0
    with (report / "per_image.csv").open(newline="") as file:
        rows = {row["key"]: row for row in csv.DictReader(file)}
    assert rows.keys() == PAIRS.keys()
    for key, row in rows.items():
        paths = [next((written / side).glob(f"{key}.*")) for side in ("ir", "vis", "out")]
        scores = fusecli.evaluate(*paths, measures)
        assert set(scores) == set(row) - {"method", "key"}
        for name, value in scores.items():
            assert float(row[name]) == pytest.approx(value, rel=1e-5, abs=1e-6)


def test_evaluate_takes_arrays_and_knows_the_truth():
    ir, vis = scene(np.uint8), scene(np.uint8, 3)
    scores = fusecli.evaluate(ir, vis, vis, "mse:reference,en", reference=vis)
    assert scores["mse:reference"] == 0
    assert 0 < scores["en:gray"] <= 8
    with pytest.raises(UsageError, match="needs ground truth"):
        fusecli.evaluate(ir, vis, vis, "mse:reference")
    with pytest.raises(InputError, match="25x21") as caught:
        fusecli.evaluate(ir, vis, vis[:, :-1])
    assert caught.value.code == "size.differ"


def test_importing_the_package_is_light():
    check = "import sys, fusecli; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    root = Path(fusecli.__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", check], cwd=root).returncode == 0


def test_the_package_shows_what_it_has() -> None:
    assert {"fuse", "register", "evaluate"} <= set(dir(fusecli))


def test_bytes_and_open_files_are_pictures(tmp_path: Path) -> None:
    data = [
        draw(tmp_path / "a.png").read_bytes(),
        draw(tmp_path / "b.png", (24, 32, 3)).read_bytes(),
    ]
    whole = fusecli.fuse(tmp_path / "a.png", tmp_path / "b.png", weights="random")
    assert np.array_equal(fusecli.fuse(*data, weights="random"), whole)
    opened = fusecli.fuse(io.BytesIO(data[0]), io.BytesIO(data[1]), weights="random")
    assert np.array_equal(opened, whole)
    with pytest.raises(InputError) as caught:
        fusecli.fuse(b"no picture", data[1], weights="random")
    assert caught.value.code == "read.decode"


@pytest.mark.parametrize(
    "wrong", [{"tone": "strech"}, {"chroma": "yes"}, {"out_dtype": "int32"}, {"precision": "fp8"}]
)
def test_words_that_are_no_choice_are_refused_with_the_choices(wrong: dict[str, Any]) -> None:
    grey = np.zeros((16, 16), np.uint8)
    ((name, value),) = wrong.items()
    with pytest.raises(UsageError, match=f"{name}='{value}' is not one of") as caught:
        fusecli.fuse(grey, grey, weights="random", **wrong)
    assert "leave it out" in (caught.value.hint or "")


def test_what_numpy_cannot_take_is_one_clear_error() -> None:
    for tensor in (
        torch.zeros(16, 16, requires_grad=True),
        torch.zeros(16, 16, dtype=torch.bfloat16),
    ):
        with pytest.raises(InputError) as caught:
            fusecli.evaluate(tensor, tensor, tensor)
        assert "detach" in (caught.value.hint or "")


def test_metrics_may_be_a_list(tmp_path: Path) -> None:
    picture = draw(tmp_path / "a.png")
    scores = fusecli.evaluate(picture, picture, picture, ["en", "sd"])
    assert list(scores) == ["en:gray", "sd:gray"]
