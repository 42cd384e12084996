"""`fusecli eval`: which images are scored, and what the numbers are."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from evaluations import draw_methods, evaluate, picture, read_csv, save, scored

from fusecli.cli import run
from fusecli.evaluation.cases import name_methods
from fusecli.evaluation.scoring import grey_levels
from fusecli.evaluation.truth import misplacement
from fusecli.fields import translation
from fusecli.metrics import GROUPS, Plane, Scene, find, measure, select
from fusecli.metrics.registration import quantile
from fusecli.registration.transform import Transform


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    return draw_methods(tmp_path)


# ---- the numbers


def test_values_are_those_of_the_metrics_on_rounded_luma(folders, capsys):
    document = scored(folders, capsys, folders / "a", "--metrics", "standard,en:vifb")
    assert document["counts"] == {"found": 3, "done": 3, "skipped": 0, "failed": 0}
    assert list(document["metrics"]["a"]) == [*GROUPS["standard"], "en:vifb"]
    values = []
    for number in range(3):
        files = (folders / side / f"{number}.png" for side in ("ir", "vis", "a"))
        pixels = [cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_COLOR_RGB) for file in files]
        grey = [np.round(cv2.cvtColor(p.astype("f4"), cv2.COLOR_RGB2GRAY)) for p in pixels]
        scene = Scene(*(Plane(torch.from_numpy(g)[None, None].double()) for g in grey))
        colour = Scene(
            *(Plane(torch.from_numpy(p).permute(2, 0, 1)[None].double()) for p in pixels)
        )
        values.append(measure(select("standard,en:vifb"), scene, colour))
    for key, statistics in document["metrics"]["a"].items():
        column = np.array([value[key].item() for value in values])
        assert statistics["mean"] == pytest.approx(column.mean(), rel=1e-12)
        assert statistics["std"] == pytest.approx(column.std(), rel=1e-9)
        assert statistics["median"] == pytest.approx(np.median(column), rel=1e-12)
        assert statistics["n"] == 3


def test_sixteen_bit_and_float_copies_score_like_eight_bits(folders, capsys):
    for number in range(3):
        ir, fused = picture(number), picture(80 + number)
        save(folders / "grey" / f"{number}.png", fused)
        save(folders / "float" / f"{number}.npy", (fused / 255).astype(np.float32))
        save(folders / "ir16" / f"{number}.png", ir.astype(np.uint16) * 40 + 7300)
    metrics = ("--metrics", "standard,qcv:vifb")
    plain = scored(folders, capsys, f"a={folders / 'grey'}", *metrics)
    words = ["eval", folders / "ir16", folders / "vis", f"a={folders / 'float'}", *metrics]
    words += ["--ir-range", "7300:17500", "--json", "--progress", "none"]
    assert run([*map(str, words)]) == 0
    other = json.loads(capsys.readouterr().out)
    for key, statistics in plain["metrics"]["a"].items():
        assert other["metrics"]["a"][key]["mean"] == pytest.approx(statistics["mean"], rel=1e-12)


def test_grey_levels_are_exact_for_eight_bits_and_clip_the_rest():
    levels = np.array([[0.0, 1, 100.5, 101.5, 255]], np.float32)
    assert grey_levels(levels, (0, 255)).tolist() == [[0, 1, 100, 102, 255]]
    wild = np.array([[np.nan, np.inf, -5, 300, 127.5]], np.float32)
    assert grey_levels(wild, (0, 255)).tolist() == [[0, 0, 0, 255, 128]]
    assert grey_levels(np.array([[7, 8]]), (7.0, 7.0)).tolist() == [[0, 255]]
    invalid = np.array([[False, True]])
    assert grey_levels(np.array([[9, 9]]), (0, 255), invalid).tolist() == [[9, 0]]


def test_rgb_means_over_channels(folders, capsys):
    luma = scored(folders, capsys, folders / "a", "--metrics", "en,en:vifb,qabf:65025,qabf:vifb")
    rgb = scored(
        folders, capsys, folders / "a", "--metrics", "en,en:vifb,qabf:65025,qabf:vifb",
        "--compute", "rgb",
    )  # fmt: skip
    first, second = luma["metrics"]["a"], rgb["metrics"]["a"]
    assert second["en:gray"]["mean"] == second["en:vifb"]["mean"] == first["en:vifb"]["mean"]
    assert first["en:gray"]["mean"] != first["en:vifb"]["mean"]
    assert second["qabf:65025"]["mean"] == second["qabf:vifb"]["mean"]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(17, 19), (45, 31)])
def test_all_metrics_on_odd_sizes_and_a_constant_image(tmp_path, capsys, channels, size):
    for number in range(2):
        save(tmp_path / "ir" / f"{number}.png", picture(number, size))
        save(tmp_path / "vis" / f"{number}.png", picture(9 + number, size, channels))
        fused = picture(20, size, channels) if number else np.full(size, 77, np.uint8)
        save(tmp_path / "out" / f"{number}.png", fused)
    document = scored(tmp_path, capsys, tmp_path / "out", "--metrics", "all")
    assert document["exit_code"] == 0
    found = document["metrics"]["out"]
    assert set(found) == {spec.key for spec in select("all")}
    assert found["en:gray"]["n"] == 2
    assert found["cc:mean"]["n"] == 1  # undefined for the constant image
    assert found["msssim:wang_mean"] == {"mean": None, "std": None, "median": None, "n": 0}


def test_full_reference_metrics(folders, capsys):
    arguments = ("--reference", folders / "b", "--metrics", "psnr:reference,ssim:reference,en")
    document = scored(folders, capsys, folders / "b", folders / "a", *arguments)
    assert document["metrics"]["b"]["ssim:reference"]["mean"] == pytest.approx(1)
    assert document["metrics"]["b"]["psnr:reference"]["n"] == 0  # infinite: no mean
    assert 5 < document["metrics"]["a"]["psnr:reference"]["mean"] < 60
    assert evaluate(folders, folders / "a", "--metrics", "psnr:reference") == 2
    assert "--reference" in capsys.readouterr().err


def test_an_item_fails_as_a_whole(folders, capsys):
    save(folders / "b" / "1.png", picture(1, (40, 60)))
    document = scored(folders, capsys, folders / "a", folders / "b")
    assert document["exit_code"] == 3
    assert document["counts"]["failed"] == 1
    (failure,) = document["failures"]
    assert (failure["key"], failure["code"]) == ("1", "size.differ")
    assert "b's image has 60x40 pixels, the visible one 60x48" in failure["message"]
    for method in ("a", "b"):  # compared on the same two images
        assert document["metrics"][method]["en:gray"]["n"] == 2
    (folders / "a" / "0.png").write_bytes(b"no picture")
    (folders / "a" / "2.png").write_bytes(b"no picture")
    document = scored(folders, capsys, folders / "a", folders / "b")
    assert document["exit_code"] == 4 and "metrics" not in document


# ---- which images


def test_a_missing_image_is_an_error_unless_skipped(folders, capsys):
    (folders / "b" / "2.png").unlink()
    assert evaluate(folders, folders / "a", folders / "b") == 2
    said = capsys.readouterr().err
    assert "b lacks 1 of 3 images" in said and "--unpaired skip" in said
    document = scored(folders, capsys, folders / "a", folders / "b", "--unpaired", "skip")
    assert document["metrics"]["a"]["en:gray"]["n"] == 2
    assert document["metrics"]["b"]["en:gray"]["n"] == 2


def test_no_common_image_is_an_error_even_when_skipping(folders, capsys):
    save(folders / "d" / "other.png", picture(1))
    assert evaluate(folders, folders / "d", "--unpaired", "skip") == 2
    assert "d lacks 3 of 3 images" in capsys.readouterr().err


def test_methods_need_names_that_differ(folders, capsys):
    (folders / "x").mkdir()
    (folders / "b").rename(folders / "x" / "a")
    assert evaluate(folders, folders / "a", folders / "x" / "a") == 2
    assert "two methods are called a" in capsys.readouterr().err
    document = scored(folders, capsys, folders / "a", f"other={folders / 'x' / 'a'}")
    assert list(document["metrics"]) == ["a", "other"]


def test_names_of_methods(folders, monkeypatch):
    monkeypatch.chdir(folders / "a")
    assert name_methods(["."]) == {"a": "."}
    assert name_methods(["x=../b", "../c/*.png", "../a/1.png"]) == {
        "x": "../b", "c": "../c/*.png", "1": "../a/1.png",
    }  # fmt: skip
    Path("p=q").mkdir()
    assert name_methods(["p=q"]) == {"p=q": "p=q"}


def test_one_file_is_the_partner_of_one_pair(folders, capsys):
    words = [folders / "ir" / "0.png", folders / "vis" / "1.png", folders / "a" / "2.png"]
    assert run(["eval", *map(str, words), "--metrics", "en", "--progress", "none"]) == 0
    assert "en:gray" in capsys.readouterr().out


def test_a_pair_list_makes_every_positional_a_method(folders, capsys):
    rows = [f"{folders}/ir/{n}.png,{folders}/vis/{n}.png,{n}" for n in (0, 2)]
    listed = folders / "pairs.csv"
    listed.write_text("\n".join(["ir,vis,name", *rows]))
    words = ["eval", folders / "a", folders / "b", "--pairs", listed, "--json", "--metrics", "en"]
    assert run([*map(str, words), "--progress", "none"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {m: found["en:gray"]["n"] for m, found in document["metrics"].items()} == {
        "a": 2, "b": 2,
    }  # fmt: skip


def test_limit_and_dry_run(folders, capsys):
    document = scored(folders, capsys, folders / "a", "--limit", 2, "--metrics", "en")
    assert document["counts"]["found"] == 2
    assert evaluate(folders, folders / "a", "-o", folders / "report", "--dry-run") == 0
    said = capsys.readouterr()
    assert [line.split()[0] for line in said.out.splitlines()] == ["0", "1", "2"]
    assert "would write" in said.err and not (folders / "report").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "FUSED is missing"),
        (["a", "--metrics", "qabff"], "did you mean 'qabf'"),
        (["a", "--table", "pdf"], "--table pdf"),
        (["a", "--plots", "box"], "add -o report"),
        (["a", "--plots", "boxes", "-o", "r"], "did you mean 'box'"),
        (["a", "--plots", "zoom", "-o", "r"], "--roi"),
        (["a", "--roi", "1,2,0,4"], "not a region"),
        (["a", "--fail-under", "qabf"], "not NAME=VALUE"),
        (["a", "--fail-under", "qabf=good"], "needs a number"),
        (["a", "--fail-under", "standard=1"], "is a group"),
        (["a", "--ir-range", "wide"], "not understood"),
    ],
)
def test_bad_usage_is_refused_before_work(folders, capsys, monkeypatch, arguments, said):
    monkeypatch.chdir(folders)
    assert evaluate(folders, *arguments) == 2
    assert said in capsys.readouterr().err
    assert not Path("r").exists()


def test_plots_name_the_extra_that_they_need(folders, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert evaluate(folders, folders / "a", "-o", folders / "r", "--plots", "box") == 5
    assert "fusecli[report]" in capsys.readouterr().err


# ---- checks


def test_a_check_that_does_not_hold_exits_6(folders, capsys):
    arguments = (folders / "a", folders / "b", "--metrics", "en", "--fail-under")
    assert evaluate(folders, *arguments, "mse=1e9", "--fail-under", "en=1") == 0
    capsys.readouterr()
    document = scored(folders, capsys, *arguments, "mse=1", "--fail-under", "en=1")
    assert document["exit_code"] == 6
    assert [check["held"] for check in document["checks"]] == [False, False, True, True]
    assert "mse:gray" in document["metrics"]["a"]  # measured for the check
    assert any("wanted at most 1" in warning["message"] for warning in document["warnings"])


def test_a_metric_without_value_fails_its_check(folders, capsys):
    document = scored(folders, capsys, folders / "a", "--fail-under", "msssim=0.1")
    assert document["exit_code"] == 6
    assert "undefined" in document["checks"][0]["check"]


# ---- transforms


def transforms(folder: Path, **matrices: np.ndarray) -> Path:
    """Write one transform per key, on a grid of 40 x 60 pixels."""
    for key, matrix in matrices.items():
        made = Transform(key.strip("_"), "affine", matrix, (40, 60), (40, 60))
        for path, data in made.files(folder / f"{key.strip('_')}.json"):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_bytes(data)
    return folder


def test_transforms_are_scored_by_their_distance_to_the_truth(folders, capsys):
    still, away = np.eye(3), translation(30, 0)
    truth = transforms(folders / "truth", _0=translation(2, 1), _1=still, _2=away)
    mine = transforms(folders / "m", _0=translation(5, 5), _1=still, _2=translation(30, 20))
    transforms(folders / "o" / "transforms", _0=translation(2, 1), _1=translation(2, 0), _2=away)
    out = folders / "report"
    document = scored(folders, capsys, f"mine={mine}", folders / "o", "--truth", truth, "-o", out)
    assert document["exit_code"] == 0
    found = {key: value["mean"] for key, value in document["metrics"]["mine"].items()}
    assert found == pytest.approx({
        "epe:mean": 25 / 3, "epe:median": 25 / 3, "epe:p95": 25 / 3, "corner:mean": 25 / 3,
        "success:1": 1 / 3, "success:3": 1 / 3, "success:5": 2 / 3, "success:10": 2 / 3,
        "auc:10": (0.5 + 1 + 0) / 3,
    }, rel=1e-5)  # fmt: skip
    assert document["metrics"]["o"]["epe:mean"]["mean"] == pytest.approx(2 / 3, rel=1e-5)
    assert {row["key"] for row in read_csv((out / "per_image.csv").read_text())} == set("012")
    page = (out / "report.html").read_text()
    assert "Contact sheet" not in page and "true place lies inside" in page


def test_distances_are_taken_where_the_truth_is_inside():
    grow = np.diag([2.0, 2.0, 1.0])  # a quarter of the fixed pixels lies in the moving image
    truth = Transform("x", "affine", grow, (40, 60), (40, 60))
    off = misplacement(Transform("x", "affine", np.eye(3), (40, 60), (40, 60)), truth)
    y, x = np.mgrid[:20, :30]
    assert off.distances.numel() == 600
    assert off.distances.mean().item() == pytest.approx(np.hypot(x, y).mean(), rel=1e-5)
    assert off.corners.tolist() == pytest.approx([0, 59, np.hypot(59, 39), 39], rel=1e-5)
    gone = Transform("x", "affine", translation(500, 0), (40, 60), (40, 60))
    assert misplacement(gone, gone).distances.numel() == 0
    nowhere = find("success:3").compute(misplacement(gone, gone))
    assert torch.isnan(nowhere).all() and torch.isnan(quantile(torch.empty(0), 0.5))


def test_quantiles_are_those_of_numpy():
    values = torch.rand(101, dtype=torch.float64)
    for share in (0, 0.5, 0.95, 0.333, 1):
        assert quantile(values, share).item() == pytest.approx(np.quantile(values, share))


def test_what_is_about_pictures_does_not_go_with_truth(folders, capsys):
    for flags in (["--compute", "rgb"], ["--reference", folders / "a"]):
        assert evaluate(folders, folders / "a", "--truth", folders / "b", *flags) == 2
        assert "--truth scores transforms" in capsys.readouterr().err
    assert evaluate(folders, folders / "a", "--truth", folders / "b") == 2
    assert "a lacks 3" in capsys.readouterr().err
    assert evaluate(folders, folders / "a", "--truth", folders / "nowhere") == 2
    assert "no folder of transforms" in capsys.readouterr().err
    assert evaluate(folders, folders / "a", "--metrics", "epe") == 2
    assert "--truth DIR" in capsys.readouterr().err


def test_a_transform_for_another_size_is_an_item_failure(folders, capsys):
    truth = transforms(folders / "truth", _0=np.eye(3), _1=np.eye(3), _2=np.eye(3))
    mine = transforms(folders / "m", _0=np.eye(3), _1=np.eye(3), _2=np.eye(3))
    other = Transform("2", "affine", np.eye(3), (41, 60), (40, 60))
    for path, data in other.files(mine / "2.json"):
        Path(path).write_bytes(data)
    document = scored(folders, capsys, mine, "--truth", truth)
    assert document["exit_code"] == 3
    assert document["failures"][0]["code"] == "register.size"


def test_every_metric_group_of_the_help_exists():
    from fusecli.commands.eval import GROUPS as offered

    assert set(offered) == {*GROUPS, "all"} - {"registration"}
    assert find("en").key == "en:gray"
