"""Every command and every piece of Python in the documentation works as printed.

A page is a session: its `sh` blocks run one after the other in one shell, in a folder that holds
the pairs `ir/` and `vis/`, the same under a camera's names in `flir/` and `rgb/`, and the infrared
images displaced in `moved/`. The README begins with less, with `tests/data` of this repository.
What a block needs beyond that is said by the comment above it, see `pages.py`.
"""

import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import served
from pages import ADDED, AUTHORS, FENCED, PAGES, ROOT, SETS, SLOW, blocks

import fusecli
from benchmarks import house
from fusecli import images, models

DATA = ROOT / "tests" / "data"
PACKAGE = Path(fusecli.__file__).parent
# where the authors' repositories keep what the reference folder has under other names
PUBLISHED = {
    "reconet_v0_params.pth": "archive/params.pth",
    "reconet_m-register.ckpt": "exp/test_register/weights/m-register.ckpt",
    "mfeif_default.pth": "weights/default.pth",
}
TWO_COMMANDS = (
    "pip install -c constraints.txt . && fusecli fuse tests/data/ir tests/data/vis -o out/",
    "pip install -c constraints.txt '.[test]' && pytest",
)


@dataclass(frozen=True)
class Session:
    folder: Path
    variables: dict[str, str]

    def run(self, text: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["bash", "-euxo", "pipefail", "-c", text],
            cwd=self.folder, env=self.variables, capture_output=True, text=True, timeout=900,
        )  # fmt: skip
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done


def fill(folder: Path) -> None:
    """Write what the pages take for granted."""
    for number, scene in enumerate(("day_street", "night_street")):
        for side, other in (("ir", "flir"), ("vis", "rgb"), ("ir", "moved")):
            source = next((DATA / side).glob(f"{scene}.*"))
            pixels = images.read(str(source)).pixels
            seen = pixels[43:203, 55:255] if other == "moved" else pixels[40:200, 60:260]
            places = [f"{side}/{number:04d}.png", f"{other}/{number:04d}_{other}.png"]
            for place in [f"moved/{number:04d}.png"] if other == "moved" else places:
                (folder / place).parent.mkdir(parents=True, exist_ok=True)
                (folder / place).write_bytes(images.encode(seen, format="png"))


@contextmanager
def session(folder: Path, package: Path = PACKAGE) -> Iterator[Session]:
    """Make a folder where `fusecli` and `python` are those under test."""
    programs = folder / ".bin"
    programs.mkdir(parents=True)
    python = programs / "python"  # a link would lose the packages of a virtual environment
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', "utf-8")
    python.chmod(0o755)
    variables = os.environ | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(package.parent),
        "OMP_NUM_THREADS": "1",
        "FUSECLI_DEVICE": "cpu",
        "FUSECLI_PROGRESS": "none",
    }
    with served.program(programs / "fusecli", variables):
        yield Session(folder, variables)


def play(page: Path, folder: Path, *marks: str) -> None:
    """Run the blocks of a page that need no more than `marks`."""
    todo = [block.text for block in blocks(page, "sh") if block.marks <= set(marks)]
    if not todo:
        return
    place = folder / "work"
    if page.name == "README.md":
        shutil.copytree(DATA, place / "tests" / "data")
    else:
        fill(place)
    with session(place) as shell:
        shell.run("\n".join(todo))


def needing(*marks: str) -> list[Path]:
    """Return the pages that have blocks which need just this."""
    return [page for page in PAGES if any(block.marks == {*marks} for block in blocks(page, "sh"))]


@pytest.mark.parametrize("page", needing(), ids=lambda page: page.name)
def test_commands_run_as_printed(page, tmp_path):
    play(page, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("page", needing(SLOW), ids=lambda page: page.name)
def test_slow_commands_run_as_printed_too(page, tmp_path):
    play(page, tmp_path, SLOW)


NEED_SETS = [
    pytest.param(block.text, id=page.name, marks=pytest.mark.slow if SLOW in block.marks else ())
    for page in PAGES
    for block in blocks(page, "sh")
    if SETS in block.marks
]


@pytest.mark.realdata
@pytest.mark.parametrize("text", NEED_SETS)
def test_commands_for_the_picture_sets(text, tmp_path, data_dir):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "data").symlink_to(data_dir)
    with session(tmp_path / "work") as shell:
        shell.run(text)


@pytest.mark.golden
@pytest.mark.parametrize("page", needing(AUTHORS), ids=lambda page: page.name)
def test_commands_for_the_files_of_the_authors(page, tmp_path, reference_dir):
    fill(tmp_path)
    for file, place in PUBLISHED.items():
        (tmp_path / place).parent.mkdir(parents=True)
        shutil.copyfile(reference_dir / "checkpoints" / file, tmp_path / place)
    with session(tmp_path) as shell:
        for block in blocks(page, "sh"):
            if AUTHORS in block.marks:
                shell.run(block.text)


def python(page: Path) -> list[str]:
    """Return the pieces of Python that run as they stand."""
    return [b.text for b in blocks(page, "python") if not b.mark and b.file is None]


@pytest.mark.parametrize("page", [p for p in PAGES if python(p)], ids=lambda page: page.name)
def test_python_runs_as_printed(page, tmp_path, monkeypatch):
    names: dict[str, object] = {}
    fill(tmp_path)
    monkeypatch.chdir(tmp_path)
    for text in python(page):
        exec(compile(text, page.name, "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = FENCED.sub("", page.read_text("utf-8"))
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if not target.startswith(("http:", "https:")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_readme_has_the_two_commands_and_every_network():
    text = (ROOT / "README.md").read_text("utf-8")
    for command in TWO_COMMANDS:
        assert f"\n{command}\n" in text
    for name in models.fusers():
        assert f"| `{name}` |" in text


def test_tables_are_what_the_code_says():
    filled = runpy.run_path(str(ROOT / "docs" / "tables.py"))["filled"]
    text = (ROOT / "docs" / "metrics.md").read_text("utf-8")
    assert filled(text) == text, "run python -m docs.tables"
    assert text.count("\n| ") > 90


def test_tables_of_the_readme_come_from_the_records():
    # not compared with the page: what is measured anew reaches it with the next release
    filled = runpy.run_path(str(ROOT / "docs" / "tables.py"))["filled"]
    text = filled("".join(f"<!-- {name} -->\n<!-- end -->" for name in ("scores", "speed")))
    assert re.search(r"\n\| [^|]+ \| `reconet` \| \d+\.\d+ \|", text)
    assert re.search(r"\n\| `?reconet`? \| \d+\.\d+ \|", text)


# --- docs/adding.md: the examples become files of a copy of the package -------------------------

ADDING = ROOT / "docs" / "adding.md"


@pytest.fixture(scope="module")
def extended(tmp_path_factory) -> Iterator[Session]:
    """Yield a session whose fusecli has the files printed in `docs/adding.md`."""
    folder = tmp_path_factory.mktemp("extended")
    package = folder / "source" / "fusecli"
    shutil.copytree(
        Path(fusecli.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__")
    )
    for block in blocks(ADDING, "python"):
        if block.file is not None:
            place = package.parent / block.file
            assert not place.exists(), f"{block.file} exists: a new file was promised"
            place.write_text(block.text, "utf-8")
    (folder / "work").mkdir()
    fill(folder / "work")
    with session(folder / "work", package) as shell:
        yield shell


def test_printed_files_need_no_other_line(extended):
    for block in blocks(ADDING, "sh"):
        if block.marks == {ADDED}:
            extended.run(block.text)


@pytest.mark.slow
def test_printed_files_need_no_other_line_for_slow_commands_either(extended):
    for block in blocks(ADDING, "sh"):
        if ADDED in block.marks:
            extended.run(block.text.replace("runs/", "slow-runs/").replace("blended/", "slow/"))


def test_the_picture_of_the_rooms_is_drawn_from_the_imports():
    page = house.PAGE.read_text("utf-8")
    assert page == house.drawn(page, house.imports(house.trees())), (
        "python -m benchmarks.house --draw"
    )
