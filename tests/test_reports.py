"""What `fusecli eval` writes: reports, tables and plots."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from evaluations import draw_methods, evaluate, picture, read_csv

from fusecli.evaluation import plots, tables
from fusecli.evaluation.plots import Shot
from fusecli.evaluation.tables import Board
from fusecli.metrics import GROUPS, select


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    return draw_methods(tmp_path)


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
