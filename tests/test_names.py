"""Whatever a file may be called: it is done, or fails alone, and its name stays mere text."""

import csv
import html
import json
import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from runs import draw

from fusecli.cli import run
from fusecli.evaluation import tables
from fusecli.text import as_json, visible

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems forbid such names")

NASTY = {
    "latin1": os.fsdecode(b"stra\xdfe"),
    "a_time": "2024-05-06T07:08:09",
    "leading_colon": ":a",
    "escape": "red\x1b[31m\x1b]0;title\x07",
    "lines": "one\ntwo\rthree\ttab",
    "c1": "c1\x9b2J",
    "bidi": "abc\u202egnp.exe",
    "separators": "a\u2028b\ufeff",
    "dash": "-rf",
    "two_dashes": "--help",
    "formula": "=HYPERLINK(1)",
    "at": "@SUM(1)",
    "markup": "[bold red]x[bold] :smile: \\",
    "html": "<script>alert(1)&amp;",
    "quotes": "a\"b'c`d",
    "latex": r"$\input{x}$ %_#~^&",
    "glob": "a*b?[c]",
    "shell": "$(touch x); !!",
    "braces": "{key}{0}{",
    "spaces": " a  b ",
    "dots": "a..b.",
    "percent": "a%20b#c",
    "wide": "夜の道👩‍👧",
    "longest": "ä" * 125 + "x",  # 251 bytes and .png
    "composed": unicodedata.normalize("NFC", "Käse"),
    "decomposed": unicodedata.normalize("NFD", "Käse"),
    "capital": "TWIN",
    "small": "twin",
}
HIDDEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e\ufeff\ud800-\udfff]")
SMALL = ("--progress", "none", "--jobs", "2")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `ir` and `vis`, a pair of every nasty name in it."""
    root = tmp_path_factory.mktemp("nasty")
    ir, vis = draw(root / "a.png", (32, 40), 1), draw(root / "b.png", (32, 40, 3), 2)
    for side, source in (("ir", ir), ("vis", vis)):
        (root / side).mkdir()
        for name in NASTY.values():
            shutil.copy(source, root / side / f"{name}.png")
    return root


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command here; its exit code, and what it says on stdout and stderr."""

    def go(*arguments: str | Path) -> tuple[int, str, str]:
        code = run([str(argument) for argument in arguments])
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        said = capfd.readouterr()
        return code, said.out, said.err

    return go


def manifest_keys(out: Path) -> dict[str, str]:
    """Return the status of each key, as a program reads it."""
    lines = (out / ".fusecli/manifest.jsonl").read_bytes().decode("utf-8").splitlines()
    items = [json.loads(line) for line in lines]
    return {item["key"]: item["status"] for item in items if "key" in item}


@pytest.mark.parametrize(
    "name",
    ["fuse --weights random", "register --on-reject identity --transform translation", "warp"],
)
def test_every_name_is_done_or_fails_alone(
    name: str, folders: Path, tmp_path: Path, command: Run
) -> None:
    arguments = (*name.split(), folders / "ir", folders / "vis", "-o", tmp_path / "out")
    code, out, err = command(*arguments, "--json", "--progress", "jsonl", "--jobs", "2")
    document = json.loads(out)
    assert not HIDDEN.search(out + err)
    events = [json.loads(line) for line in err.splitlines()]
    expected = set(NASTY.values())
    assert {event["key"] for event in events if event["event"] == "item"} == expected
    statuses = manifest_keys(tmp_path / "out")
    assert set(statuses) == expected
    failed = {key for key, status in statuses.items() if status == "failed"}
    assert code == (3 if failed else 0)
    assert {failure["key"] for failure in document["failures"]} == failed
    if name.startswith("fuse"):
        assert not failed
        written = {os.fsencode(path.name) for path in (tmp_path / "out").glob("*.png")}
        assert written == {os.fsencode(f"{key}.png") for key in expected}
    else:
        assert failed <= {NASTY["longest"]}  # the transform beside it needs a character more
    code, out, err = command(*arguments, "--resume", *SMALL)
    assert f"skipped {len(expected) - len(failed)}" in err


def test_failures_are_told_in_plain_text(folders: Path, tmp_path: Path, command: Run) -> None:
    shutil.copytree(folders / "ir", tmp_path / "ir")
    for path in (tmp_path / "ir").iterdir():
        path.write_bytes(b"no picture")
    paired = ("fuse", tmp_path / "ir", folders / "vis", "-o", tmp_path / "out")
    code, out, err = command(*paired, "--weights", "random", "--progress", "plain")
    assert code == 4
    assert not HIDDEN.search(out + err)


def test_written_paths_are_bytes_for_pipes(folders: Path, tmp_path: Path) -> None:
    import subprocess

    paired = ["fuse", "ir", "vis", "-o", str(tmp_path / "out"), "--weights", "random"]
    line = [sys.executable, "-m", "fusecli", *paired, *SMALL, "--print0"]
    said = subprocess.run(line, cwd=folders, capture_output=True, check=True, env=os.environ)
    paths = said.stdout.split(b"\0")[:-1]
    assert sorted(paths) == sorted(os.fsencode(tmp_path / f"out/{k}.png") for k in NASTY.values())


def test_scores_and_reports_show_names_as_text(folders: Path, tmp_path: Path, command: Run) -> None:
    # a method bears the name of its folder
    methods = [tmp_path / name for name in (NASTY["html"], NASTY["latex"])]
    methods += [tmp_path / NASTY[name] for name in ("latin1", "escape", "formula", "markup")]
    for method in [*methods, tmp_path / "_[b]"]:
        shutil.copytree(folders / "vis", method)
    sides = (folders / "ir", folders / "vis", *methods, tmp_path / "_[b]")
    report = tmp_path / "report"
    everything = [text for kind in tables.KINDS for text in ("--table", kind)]
    code, out, err = command(
        "eval", *sides, "-o", report, "--metrics", "en,sd", *everything,
        "--plots", "box,bars,contact", "--jobs", "2", "--json",
    )  # fmt: skip
    assert code == 0, err
    assert not HIDDEN.search(out + err)
    for file in report.iterdir():
        if file.is_file():
            assert not HIDDEN.search(file.read_bytes().decode("utf-8")), file.name
    page = (report / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert html.escape(NASTY["html"]) in page
    with (report / "per_image.csv").open(encoding="utf-8", newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row[:2]]
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)
    assert f"'{NASTY['formula']}" in cells
    assert r"\$\textbackslash{}input\{x\}\$ \%\_\#" in (report / "table.tex").read_text()
    assert "<script>alert" not in (report / "table.md").read_text()
    assert NASTY["markup"] in (report / "table.txt").read_text()


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY)
def test_json_gives_every_name_back(text: str) -> None:
    written = as_json({"key": text})
    assert written.encode("utf-8").isascii() or not HIDDEN.search(written)
    assert json.loads(written) == {"key": text}
    assert not HIDDEN.search(visible(text))
    assert "\n" not in visible(text)


def test_spellings_of_one_letter_pair_unless_a_folder_holds_both(tmp_path: Path) -> None:
    from fusecli.pairs import find_pairs

    composed, decomposed = NASTY["composed"], NASTY["decomposed"]
    for place in (f"ir/{decomposed}", f"vis/{composed}"):
        (tmp_path / place).parent.mkdir()
        (tmp_path / f"{place}.png").touch()
    (pair,) = find_pairs(str(tmp_path / "ir"), str(tmp_path / "vis")).pairs
    assert pair.key == composed
    (tmp_path / f"ir/{composed}.png").touch()
    found = find_pairs(str(tmp_path / "ir"), str(tmp_path / "vis"), unpaired="skip")
    assert [Path(pair.ir).stem for pair in found.pairs] == [composed]


def test_a_summary_keeps_its_lines_and_gains_none(capsys: pytest.CaptureFixture[str]) -> None:
    from fusecli.outcome import RunReport
    from fusecli.report import Reporter

    class Two(RunReport):
        def lines(self) -> list[str]:
            return ["moved by 1 px", *super().lines()]

    report = Two("register", "registered", "a\nb\x1b[2J", done=1, found=1)
    Reporter(progress="none").finish(report)
    assert capsys.readouterr().err.splitlines() == [
        "moved by 1 px",
        r"registered 1, skipped 0, failed 0 in 0.0 s -> a\x0ab\x1b[2J",
    ]
