"""Every command that is shown anywhere is run by a test, or taken apart by what would run it.

`test_docs.py` runs the `sh` blocks of the pages. The few that cannot run here, the commands on
model cards and on the page of benchmarks, and those of `training/weights.sh`, which take hours or
a GPU, are given to the parser of `fusecli` or of the script, which has to accept every word.
"""

import argparse
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import typer
from pages import FENCED, PAGES, ROOT, Block, blocks

from fusecli import config, models
from fusecli.cli import app
from fusecli.errors import FusecliError
from fusecli.options import assignments
from fusecli.training.recipe import parse_weights, resolve_stages

RESULTS = ROOT / "benchmarks" / "RESULTS.md"
CARDS = sorted((ROOT / "weights").glob("*.md"))
SCRIPTS = sorted(
    path
    for folder in ("benchmarks", "training")
    for path in (ROOT / folder).glob("*.py")
    if "argparse" in path.read_text("utf-8")
)
PROGRAMS = ("fusecli", "python", "pip", "pytest", "sbatch", "bash", "training/weights.sh")
COMMAND = re.compile(rf"(?:{'|'.join(PROGRAMS)})\b(?![./])")

# Blocks that no test of the pages runs, and what does instead.
NOT_RUN = {
    "pip install -c constraints.txt . && fusecli fuse tests/data/ir tests/data/vis -o out/":
        "test_wheel.py builds the wheel, installs it and fuses tests/data",
    "pip install -c constraints.txt '.[test]' && pytest": "that is what CI does",
    "python3 -m venv .venv && . .venv/bin/activate": "test_wheel.py makes such an environment",
    "pip install -c constraints.txt '.[onnx,report]'": "CI installs the same as a part of [test]",
    "py -m venv .venv": "Windows PowerShell",
    ".venv\\Scripts\\Activate.ps1": "Windows PowerShell",
    "pip install -c constraints.txt .": "test_wheel.py, on the line for other shells",
    "fusecli fuse tests/data/ir tests/data/vis -o out": "test_wheel.py, as above",
    "fusecli fuse thermal/ rgb/ -o out/ --pair-by time --offset -1.25": "test_pair_times.py",
    "fusecli fuse flir/ -o out/ --reader thermal": "test_thermal.py, with files it builds",
    "fusecli fuse flir/ -o out/ --reader thermal --ir-range -10:60": "test_thermal.py",
    "fusecli fuse flir/ vis/ -o out/ --reader thermal": "test_thermal.py",
    "sbatch --array=0-31 --wrap 'fusecli fuse ir/ vis/ -o out/ --shard slurm --resume'":
        "test_shards.py, with the variables that Slurm sets",
}  # fmt: skip


class Accepted(Exception):
    """A script's parser took every word; nothing after it is to run."""


def accept_by_script(run: str, words: list[str]) -> None:
    """Give words to the parser of a script or module, and stop where its work would begin."""
    parse = argparse.ArgumentParser.parse_args

    def only_parse(self: argparse.ArgumentParser, *given: object) -> None:
        parse(self, words)
        raise Accepted

    path = ROOT / (run if run.endswith(".py") else f"{run.replace('.', '/')}.py")
    with (
        mock.patch.object(argparse.ArgumentParser, "parse_args", only_parse),
        mock.patch.object(sys, "path", [str(ROOT), str(path.parent), *sys.path]),
        pytest.raises(Accepted),
    ):
        runpy.run_path(str(path), run_name="__main__")


def accept_by_fusecli(words: list[str]) -> dict[str, Any]:
    """Return the parameters of a command line as its command would get them."""
    command, name = typer.main.get_command(app), "fusecli"
    above = command.context_class(command, info_name=name)
    while nested := getattr(command, "commands", None):
        name, *words = words
        assert name in nested, f"there is no command {name}"
        command = nested[name]
    if "--help" in words:
        return {}
    with command.make_context(name, words, parent=above) as context:
        given = dict(context.params)
    if isinstance(model := given.get("model"), str):
        models.check(model)
    if name == "train":
        spec = models.find(str(model))
        models.parse_options(spec, assignments(given["set"] or (), "--set"))
        loss = parse_weights(assignments(given["loss"] or (), "--loss"))
        resolve_stages(spec, stage=given["stage"], steps=given["steps"], loss=loss)
    return given


def accept(command: str) -> None:
    """Take one line of shell apart."""
    for part in re.split(r"&&|\|\|?|;|>", command):
        words = shlex.split(part)
        if words[:1] == ["fusecli"]:
            accept_by_fusecli(words[1:])
        elif words[:2] == ["python", "-m"] and words[2].startswith("benchmarks."):
            accept_by_script(words[2], words[3:])
        elif words[:1] == ["python"] and words[1].startswith(("benchmarks/", "training/")):
            accept_by_script(words[1], words[2:])


@pytest.fixture(autouse=True)
def no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a configuration file of this machine out of the parser's way."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config, "user_file", lambda: tmp_path / "no" / "config.toml")


def not_run(page: Path) -> Iterator[Block]:
    return (block for block in blocks(page, "sh") if block.shown_only)


def test_only_what_is_listed_is_not_run() -> None:
    found = {command for page in PAGES for block in not_run(page) for command in block.commands}
    assert found == NOT_RUN.keys()


def test_what_is_not_run_is_accepted_by_the_parser() -> None:
    for command in NOT_RUN:
        wrapped = re.search(r"--wrap '(.*)'", command)
        accept(wrapped[1] if wrapped else command)


@pytest.mark.parametrize(
    "command",
    [
        "fusecli fuse ir/ vis/ -o out/ --tonne clip",
        "fusecli fuse ir/ vis/ -o out/ -m duett",
        "fusecli train ir/ vis/ -o run -m reconet --loss ssmi=1",
        "fusecli train ir/ vis/ -o run -m reconet --set lops=1",
        "python -m benchmarks.networks --sizes 48x32",
        "python training/pairs.py",
    ],
)
def test_the_parsers_do_not_accept_everything(command: str) -> None:
    with pytest.raises((SystemExit, typer.TyperException, FusecliError)):
        accept(command)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_stand_in_shell_blocks(page: Path) -> None:
    text = page.read_text("utf-8")
    other = [m["text"] for m in FENCED.finditer(text) if m["language"] != "sh"]
    indented = re.findall(r"^    \S.*$", FENCED.sub("", text), re.MULTILINE)
    for line in (line.strip() for part in (*other, *indented) for line in part.splitlines()):
        assert not COMMAND.match(line), f"{page.name}: nothing runs '{line}'"


def test_commands_between_words_exist() -> None:
    known = typer.main.get_command(app).commands
    for page in PAGES:
        text = FENCED.sub("", page.read_text("utf-8"))
        for line in re.findall(r"`((?:fusecli|python) [^`]*)`", text):
            first, *rest = " ".join(line.split()).split(" ")
            if first == "python":
                script = rest[1].replace(".", "/") + ".py" if rest[0] == "-m" else rest[0]
                assert (ROOT / script).is_file() or rest == ["-m", "benchmarks"], line
                continue
            name = rest[0]
            assert name in known or name == "COMMAND", f"{page.name}: {line}"
            command = known.get(name)
            if nested := getattr(command, "commands", None):
                command = nested[rest[1]] if len(rest) > 1 else None
            options = {name for p in getattr(command, "params", ()) for name in p.opts}
            used = {word.split("=")[0] for word in rest if re.match(r"--?[a-z]", word)}
            assert used <= options | {"--help"}, f"{page.name}: {line}"


def test_measured_commands_are_accepted() -> None:
    text = RESULTS.read_text("utf-8")
    found = re.findall(r"<!-- (python [^\n]*) -->", text)
    # a heading may name a script only; what has options between words is a command
    found += re.findall(r"`(python (?:-m benchmarks\.|benchmarks/)\S+ -[^`]*)`", text)
    assert len(found) > 10
    for command in found:
        if "benchmarks.reach" not in command:  # takes no arguments
            accept(command)


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.stem)
def test_commands_of_model_cards_are_accepted(card: Path) -> None:
    text = re.sub(r" \\\n\s+", " ", card.read_text("utf-8"))
    found = re.findall(r"^    ((?:fusecli|python) .*)$", text, re.MULTILINE)
    found += re.findall(r"`(python training/[^`]*)`", text)
    for command in found:
        accept(command)
    assert found or "`training/weights.sh" in text, "a card says how its weights were made"


def test_recorded_commands_are_accepted() -> None:
    recorded = runpy.run_path(str(ROOT / "docs" / "screens.py"))
    lines = [line for screen in recorded["SCREENS"].values() for line in screen]
    for line in (*lines, recorded["REPORT"]):
        if "reconnet" not in line:  # mistyped on purpose
            accept(line)


def test_every_training_of_the_script_is_accepted(tmp_path: Path) -> None:
    """Run it with a `fusecli` that writes down its arguments and makes the files it would make."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "python").write_text("#!/bin/sh\n")
    (programs / "fusecli").write_text('#!/bin/sh\necho "$@" >> "$LOG"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    log = tmp_path / "log"
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", str(ROOT / "training" / "weights.sh"), "data", "runs"]
    subprocess.run(command, cwd=tmp_path, env={"PATH": path, "LOG": str(log)}, check=True)
    asked = [accept_by_fusecli(shlex.split(line)) for line in log.read_text("utf-8").splitlines()]
    shipped = {card.stem for card in CARDS}
    assert {given["model"] for given in asked} == shipped


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_scripts_say_what_they_take(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (
        mock.patch.object(sys, "argv", [str(script), "--help"]),
        mock.patch.object(sys, "path", [str(ROOT), str(script.parent), *sys.path]),
        pytest.raises(SystemExit) as stop,
    ):
        runpy.run_path(str(script), run_name="__main__")
    assert stop.value.code == 0
    assert script.name in capsys.readouterr().out
