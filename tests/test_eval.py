"""`fusecli eval`: which images are scored, what the numbers are, and what is written."""

import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from fusecli import plots, tables
from fusecli.cli import run
from fusecli.metrics import GROUPS, Plane, Scene, find, measure, select
from fusecli.metrics.registration import quantile
from fusecli.pipeline.cases import name_methods
from fusecli.pipeline.scoring import grey_levels
from fusecli.pipeline.truth import misplacement
from fusecli.plots import Shot
from fusecli.registration.transform import Transform
from fusecli.tables import Board
from fusecli.warping import translation

SIZE = (48, 60)


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, pixels)
        return path
    stored = pixels[..., ::-1] if pixels.ndim == 3 else pixels
    path.write_bytes(cv2.imencode(path.suffix, stored)[1].tobytes())
    return path


def picture(seed: int, size: tuple[int, int] = SIZE, channels: int = 1) -> np.ndarray:
    draw = np.random.default_rng(seed)
    shades = cv2.resize(draw.uniform(30, 220, (4, 5, channels)), size[::-1], None, 0, 0, 2)
    noisy = shades.reshape(*size, channels) + draw.normal(0, 6, (*size, channels))
    return np.clip(noisy, 0, 255).astype(np.uint8).squeeze()


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Write `ir`, `vis` in colour, and the methods `a`, `b` and `c` with three images each."""
    for number in range(3):
        ir, vis = picture(number), picture(50 + number, channels=3)
        save(tmp_path / "ir" / f"{number}.png", ir)
        save(tmp_path / "vis" / f"{number}.png", vis)
        for method, share in (("a", 0.5), ("b", 0.2), ("c", 0.8)):
            mixed = share * ir[..., None] + (1 - share) * vis
            save(tmp_path / method / f"{number}.png", mixed.astype(np.uint8))
    return tmp_path


def evaluate(folder: Path, *arguments: object) -> int:
    """Score methods of the fixture, in this process."""
    words = ["eval", str(folder / "ir"), str(folder / "vis")]
    return run([*words, *map(str, arguments), "--jobs", "1", "--progress", "none"])


def scored(folder: Path, capsys: pytest.CaptureFixture[str], *arguments: object) -> dict:
    """Score with `--json` and return the document; its exit code is checked."""
    code = evaluate(folder, *arguments, "--json")
    document = json.loads(capsys.readouterr().out)
    assert document["exit_code"] == code
    return document


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


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


# ---- what is written


class Sources(HTMLParser):
    """Collects what a page would fetch, and its tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "br", "wbr", "circle", "rect"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_report_holds_every_file_and_the_same_numbers(folders, capsys):
    out = folders / "report"
    tables_asked = [word for kind in tables.KINDS for word in ("--table", kind)]
    figures = ["--plots", ",".join(plots.KINDS), "--roi", "10,10,20,15"]
    assert evaluate(
        folders, folders / "a", folders / "b", folders / "c", "-o", out, "--print",
        "--metrics", "standard,qcb:vifb", *tables_asked, *figures,
    ) == 0  # fmt: skip
    said = capsys.readouterr()
    expected = {"summary.csv", "per_image.csv", "report.json", "report.html", "table.txt",
                "table.csv", "table.md", "table.tex", "table.html",
                *(f"plots/{kind}.png" for kind in plots.KINDS)}  # fmt: skip
    written = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert written == expected
    assert {Path(line).relative_to(out).as_posix() for line in said.out.splitlines()} == expected
    assert "mean rank" in said.err

    per_image = read_csv((out / "per_image.csv").read_text())
    assert list(per_image[0]) == ["method", "key", *GROUPS["standard"], "qcb:vifb"]
    assert [(row["method"], row["key"]) for row in per_image] == [
        (method, str(number)) for method in "abc" for number in range(3)
    ]
    summary = read_csv((out / "summary.csv").read_text())
    assert list(summary[0]) == ["method", "metric", "mean", "std", "median", "count"]
    document = json.loads((out / "report.json").read_text())
    for row in summary:
        column = [float(r[row["metric"]]) for r in per_image if r["method"] == row["method"]]
        assert float(row["mean"]) == pytest.approx(np.mean(column), rel=1e-12)
        assert float(row["median"]) == pytest.approx(np.median(column), rel=1e-12)
        assert document["metrics"][row["method"]][row["metric"]]["mean"] == float(row["mean"])
    assert document["images"] == 3
    assert {d["key"] for d in document["definitions"]} == {*GROUPS["standard"], "qcb:vifb"}
    assert all(d["definition"] and d["source"] and d["version"] for d in document["definitions"])
    assert "0..255" in document["conversion"]["ir"]
    assert document["types"]["vis"] == {"uint8": 3}
    for kind in plots.KINDS:
        drawn = cv2.imread(str(out / "plots" / f"{kind}.png"))
        assert min(drawn.shape[:2]) > 100 and drawn.std() > 5, kind

    page = (out / "report.html").read_text()
    sources = Sources(page)
    assert not sources.open and len(sources.fetched) >= 15
    assert all(source.startswith("data:image/") for source in sources.fetched)
    assert "http://" not in page and "https://" not in page
    assert "qcb:<wbr>vifb" in page and "en:gray" in page


def test_a_report_is_not_replaced_unasked(folders, capsys):
    out = folders / "report"
    assert evaluate(folders, folders / "a", "-o", out, "--metrics", "en") == 0
    assert evaluate(folders, folders / "a", "-o", out, "--metrics", "sd") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert evaluate(folders, folders / "a", "-o", out, "--metrics", "sd", "--overwrite") == 0
    assert "sd:gray" in (out / "summary.csv").read_text()


def test_names_from_files_do_not_become_markup(folders):
    bad = "<script>alert(1)</script>"
    for side in ("ir", "vis", "a"):
        for file in (folders / side).glob("*.png"):
            file.rename(file.with_stem(f"{bad.replace('/', '')}{file.stem}"))
    out = folders / "report"
    assert evaluate(folders, f"{bad.replace('/', '')}={folders / 'a'}", "-o", out,
                    "--metrics", "en", "--table", "latex", "--table", "md") == 0  # fmt: skip
    page = (out / "report.html").read_text()
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page


def test_without_a_folder_tables_are_the_product(folders, capsys):
    assert evaluate(folders, folders / "a", folders / "b", "--metrics", "en,mse",
                    "--table", "csv", "--table", "latex") == 0  # fmt: skip
    said = capsys.readouterr()
    assert said.out.startswith("method,en:gray,mse:gray,mean rank\n")
    assert r"\begin{tabular}" in said.out and "scored 3" in said.err


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


# ---- tables


def board(means: list[list[float]], metrics: str = "en,mse,qsf") -> Board:
    """Return a board whose means are these, (methods, metrics), over two images."""
    values = np.array([np.array(means) - 0.5, np.array(means) + 0.5])
    names = tuple(f"m_{row}" for row in range(len(means)))
    return Board(names, select(metrics), ("x", "y"), values)


def test_directions_decide_ranks_and_marks():
    scores = board([[7.0, 30.0, -0.2], [6.0, 10.0, 0.1], [5.0, 20.0, 0.3]])
    assert scores.ranks.tolist() == [[1, 3, 2], [2, 1, 1], [3, 2, 3]]
    assert scores.mean_ranks.tolist() == pytest.approx([2, 4 / 3, 8 / 3])
    marks = [[scores.mark(row, column) for column in scores.shown] for row in range(3)]
    assert marks == [
        ["best", "", "second", "second"],
        ["second", "best", "best", "best"],
        ["", "second", "", ""],
    ]


def test_ties_share_a_rank_and_undefined_means_have_none():
    scores = board([[7.0, 30.0, np.nan], [7.0, 10.0, 0.1], [5.0, np.inf, 0.3]])
    assert scores.ranks[:, 0].tolist() == [1.5, 1.5, 3]
    assert scores.ranks[:2, 1].tolist() == [2, 1]
    assert np.isnan(scores.ranks[0, 2]) and np.isnan(scores.ranks[2, 1])
    assert scores.counts.tolist() == [[2, 2, 0], [2, 2, 2], [2, 0, 2]]
    assert [scores.mark(row, 0) for row in range(3)] == ["best", "best", "second"]
    assert scores.cell(0, 2) == ""


def test_one_method_is_neither_best_nor_ranked():
    scores = board([[7.0, 30.0, 0.1]])
    assert scores.shown == [0, 1, 2]
    assert not any(scores.mark(0, column) for column in range(3))
    for kind in tables.KINDS:
        assert "rank" not in re.sub("class=.*?>", "", tables.write(scores, kind))


def test_four_digits_of_the_largest_mean_are_shown():
    scores = board([[6.84134, 12345.678, 0.0], [0.5, 2.0, 0.0]])
    assert [scores.cell(0, column) for column in range(3)] == ["6.841", "12346", "0.000"]
    assert scores.cell(1, 1) == "2"


@pytest.mark.parametrize("kind", ["text", "md", "latex", "html"])
def test_every_table_names_conventions_directions_and_marks(kind):
    scores = board([[7.0, 30.0, -0.2], [6.0, 10.0, 0.1], [5.0, 20.0, 0.3]])
    text = tables.write(scores, kind).replace("<wbr>", "")
    for spec in scores.specs:
        assert spec.key.translate(tables.LATEX_SPECIAL) in text
    best, second, arrow = {
        "text": ("7.000*", "6.000+", "↓"),
        "md": ("**7.000**", "_6.000_", "↓"),
        "latex": (r"\textbf{7.000}", r"\underline{6.000}", r"$\downarrow$"),
        "html": ('class="best">7.000<', 'class="second">6.000<', "↓"),
    }[kind]
    assert best in text and second in text and arrow in text
    if kind == "latex":
        assert r"m\_0" in text and "m_0" not in text


def test_a_wide_table_turns_on_its_side():
    scores = board([[1.0] * 12, [2.0] * 12], "standard")
    assert "en:gray ↑" in tables.text(scores, 60)
    upright = tables.text(scores, 200)
    assert "en:gray ↑" not in upright and "en:gray" in upright
    assert max(map(len, tables.text(scores, 60).splitlines())) <= 60


# ---- plots


@pytest.mark.parametrize("kind", plots.KINDS)
def test_plots_take_one_method_and_gaps(kind):
    pytest.importorskip("matplotlib")
    gappy = board([[7.0, np.nan, -0.2]])
    shot = Shot(
        "x", ("infrared", "visible", "m_0"), (picture(1), picture(2, channels=3), picture(3))
    )
    png = plots.draw(kind, gappy, [shot], (40, 30, 30, 30))
    assert png.startswith(b"\x89PNG")


def test_a_crop_beyond_the_picture_is_black():
    part = plots.crop(np.full((4, 5), 9, np.uint8), (3, 2, 4, 3))
    assert part.tolist() == [[9, 9, 0, 0], [9, 9, 0, 0], [0, 0, 0, 0]]
    assert not plots.crop(np.full((4, 5), 9, np.uint8), (30, 20, 4, 3)).any()


def test_every_metric_group_of_the_help_exists():
    from fusecli.commands.eval import GROUPS as offered

    assert set(offered) == {*GROUPS, "all"} - {"registration"}
    assert find("en").key == "en:gray"
