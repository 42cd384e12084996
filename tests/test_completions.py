"""The completion scripts: up to date, and right in the shells that are installed."""

import os
import pty
import select
import shutil
import stat
import subprocess
import time
from pathlib import Path
from typing import Annotated, Literal

import pytest
import typer

from fusecli import models
from fusecli.cli import app
from fusecli.completions import tree
from fusecli.completions.__main__ import SCRIPTS, write

COMPLETIONS = Path(__file__).parents[1] / "completions"
WORD_BREAKS = " \t\n\"'><=;|&(:"  # readline's default


def test_the_scripts_are_up_to_date(tmp_path):
    write(tmp_path)
    for name in SCRIPTS:
        assert (tmp_path / name).read_text() == (COMPLETIONS / name).read_text(), (
            f"completions/{name} is stale: run python -m fusecli.completions completions/"
        )


def stand_in() -> typer.Typer:
    """Return an application with every kind of option, argument and group."""
    example = typer.Typer(name="fusecli")
    helpers = typer.Typer(help="What there is: [models] and 'weights'.")
    example.add_typer(helpers, name="models")

    @example.command()
    def score(
        ir: Annotated[str, typer.Argument(metavar="IR")],
        name: Annotated[str, typer.Argument(autocompletion=lambda: ["reco", "rfvif"])],
        fused: Annotated[list[str], typer.Argument(metavar="[NAME=]FUSED...")],
        metrics: Annotated[
            str,
            typer.Option(
                metavar="LIST", autocompletion=lambda: ["mi:nats", "mi:bits", "vif", "cc"]
            ),
        ] = "",
        out: Annotated[str, typer.Option("--out", "-o", metavar="DIR")] = "",
        table: Annotated[
            list[str] | None, typer.Option(autocompletion=lambda: ["text", "csv"])
        ] = None,
        fit: Annotated[Literal["error", "crop"], typer.Option(help="How.")] = "error",
        weights: Annotated[
            str, typer.Option(metavar="SPEC", autocompletion=lambda: ["random"])
        ] = "",
        check: Annotated[bool, typer.Option("--check/--no-check", help="Don't [a]: just run.")] = 1,
        limit: int = 1,
    ) -> None:
        """Score things."""

    @helpers.command(name="list")
    def list_them(json: Annotated[bool, typer.Option("--json")] = False) -> None:
        """List them."""

    @helpers.command(name="show")
    def show(name: Annotated[str, typer.Argument(autocompletion=lambda: ["reco"])]) -> None:
        """Show one."""

    return example


class Shells:
    """Asks each shell what it would offer, in a folder with nothing on PATH but traps."""

    def __init__(self, folder: Path, scripts: Path) -> None:
        self.folder, self.scripts = folder, scripts
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        self.alarm = folder / "python-was-started"
        for name in ("python", "python3", "fusecli"):
            trap = self.bin / name
            trap.write_text(f"#!/bin/sh\n: > '{self.alarm}'\n")
            trap.chmod(trap.stat().st_mode | stat.S_IXUSR)
        self.here = folder / "here"
        (self.here / "a folder").mkdir(parents=True)
        (self.here / "picture.png").touch()

    def run(self, *command: str) -> list[str]:
        result = subprocess.run(
            command, cwd=self.here, capture_output=True, text=True, timeout=30, check=True,
            env={"PATH": str(self.bin), "HOME": str(self.folder), "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
        assert result.stderr == ""
        assert not self.alarm.exists(), "pressing TAB started Python"
        return sorted(line for line in result.stdout.splitlines() if line)

    def bash(self, *words: str) -> list[str]:
        """Return what bash offers for the last word; the others stand before it."""
        program = (
            'source "$1"; COMP_WORDBREAKS=$2; shift 2; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
            '_fusecli; printf "%s\\n" "${COMPREPLY[@]}"'
        )
        shell = shutil.which("bash")
        script = str(self.scripts / "fusecli.bash")
        return self.run(shell, "-c", program, "bash", script, WORD_BREAKS, "fusecli", *words)

    def fish(self, line: str) -> list[str]:
        shell = shutil.which("fish")
        program = f"source {self.scripts / 'fusecli.fish'}; complete -C 'fusecli {line}'"
        offers = self.run(shell, "--no-config", "-c", program)
        return [offer.split("\t")[0] for offer in offers]


@pytest.fixture
def shells(tmp_path):
    return Shells(tmp_path, COMPLETIONS)


@pytest.fixture
def example(tmp_path):
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    for name, script in SCRIPTS.items():
        (scripts / name).write_text(script(tree(stand_in())))
    return Shells(tmp_path / "example", scripts)


def need(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")


def test_bash_completes_a_model_without_starting_python(shells):
    need("bash")
    fitting = sorted(name for name in models.fusers() if name.startswith("re"))
    assert fitting
    assert shells.bash("fuse", "--model", "re") == fitting
    assert shells.bash("fuse", "-o", "out", "ir/", "vis/", "-m", "re") == fitting


def test_bash_offers_commands_options_choices_and_files(shells):
    need("bash")
    root = tree(app)
    commands = sorted(node.path[0] for node in root.children)
    assert [word for word in shells.bash("") if word != "here"] == commands
    (fuse,) = (node for node in root.children if node.path == ("fuse",))
    every = sorted(name for flag in fuse.flags for name in flag.names)
    assert shells.bash("fuse", "-") == every
    assert shells.bash("fuse", "--tone", "") == ["clip", "model", "stretch"]
    assert shells.bash("fuse", "--tone", "=", "cl") == ["clip"]
    assert shells.bash("fuse", "--tone", "=") == ["clip", "model", "stretch"]
    assert shells.bash("fuse", "p") == ["picture.png"]
    assert shells.bash("fuse", "ir", "--out", "a") == ["a folder"]
    assert shells.bash("fuse", "--limit", "") == []


def test_bash_follows_groups_places_lists_and_colons(example):
    need("bash")
    assert example.bash("mo") == ["models"]
    assert example.bash("models", "") == ["list", "show"]
    assert example.bash("models", "list", "-") == ["--help", "--json"]
    assert example.bash("models", "show", "") == ["reco"]
    assert example.bash("score", "") == ["a folder", "picture.png"]
    assert example.bash("score", "ir", "r") == ["reco", "rfvif"]
    assert example.bash("score", "--limit", "3", "ir", "r") == ["reco", "rfvif"]
    assert example.bash("score", "--check", "ir", "--out", "=", "x", "r") == ["reco", "rfvif"]
    assert example.bash("score", "ir", "reco", "f1", "pic") == ["picture.png"]
    assert example.bash("score", "--out", "") == ["a folder"]
    assert example.bash("score", "--weights", "") == ["a folder", "picture.png", "random"]
    assert example.bash("score", "--metrics", "mi", ":", "n") == ["nats"]
    assert example.bash("score", "--metrics", "vif,mi") == ["vif,mi:bits", "vif,mi:nats"]
    assert example.bash("score", "--metrics", "mi", ":", "nats,vi") == ["nats,vif"]
    assert example.bash("score", "--no") == ["--no-check"]


def test_fish(shells, example):
    need("fish")
    fitting = sorted(name for name in models.fusers() if name.startswith("re"))
    assert shells.fish("fuse --model re") == fitting
    assert shells.fish("fuse --tone cl") == ["clip"]
    assert shells.fish("fuse pic") == ["picture.png"]
    assert example.fish("models ") == ["list", "show"]
    assert example.fish("models show ") == ["reco"]
    assert example.fish("models list --j") == ["--json"]
    assert example.fish("score --out ") == ["a folder/"]
    assert example.fish("score --metrics vif,mi:b") == ["vif,mi:bits"]
    assert "random" in example.fish("score --weights ")
    assert example.fish("score --limit ") == []


class Terminal:
    """An interactive zsh on a pseudo-terminal."""

    def __init__(self, scripts: Path, folder: Path) -> None:
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.environ.update(TERM="dumb", PS1="$ ", HOME=str(folder), COLUMNS="200")
            os.execlp("zsh", "zsh", "-f", "-i")
        self.send(f"fpath=({scripts} $fpath); autoload -Uz compinit; compinit -u -D; PS1=; RPS1=\n")
        self.send("unsetopt prompt_cr prompt_sp beep auto_remove_slash; echo re''ady\n")
        self.until("ready")

    def send(self, text: str) -> None:
        os.write(self.master, text.encode())

    def until(self, text: str, seconds: float = 20.0) -> str:
        seen, end = "", time.monotonic() + seconds
        while text not in seen and time.monotonic() < end:
            if select.select([self.master], [], [], 0.2)[0]:
                seen += os.read(self.master, 4096).decode(errors="replace")
        assert text in seen, f"zsh said: {seen!r}"
        return seen

    def completes(self, line: str, to: str) -> None:
        """Type a line and TAB; hand the completed line to echo."""
        self.send(f"\x15{line}\t")
        self.send("\x01echo 'got' \x05\n")
        self.until(f"got {to}")

    def close(self) -> None:
        os.close(self.master)
        os.waitpid(self.pid, 0)


def test_zsh(example):
    need("zsh")
    terminal = Terminal(example.scripts, example.here)
    try:
        terminal.completes("fusecli mod", "fusecli models")
        terminal.completes("fusecli models li", "fusecli models list")
        terminal.completes("fusecli models list --js", "fusecli models list --json")
        terminal.completes("fusecli score ir rf", "fusecli score ir rfvif")
        terminal.completes("fusecli score pict", "fusecli score picture.png")
        terminal.completes("fusecli score --metrics mi:n", "fusecli score --metrics mi:nats")
        terminal.completes("fusecli score --metrics vif,c", "fusecli score --metrics vif,cc")
        terminal.completes("fusecli score --weights ran", "fusecli score --weights random")
        terminal.completes("fusecli score --table te", "fusecli score --table text")
        terminal.completes("fusecli score --no-ch", "fusecli score --no-check")
    finally:
        terminal.close()


def test_zsh_reads_the_shipped_script(shells):
    need("zsh")
    terminal = Terminal(shells.scripts, shells.here)
    try:
        terminal.completes("fusecli fuse --tone cl", "fusecli fuse --tone clip")
        terminal.completes("fusecli fuse --model rfn", "fusecli fuse --model rfn-nest")
    finally:
        terminal.close()


def test_powershell(example, shells):
    need("pwsh")
    for scripts, line, word in (
        (example.scripts, "fusecli models li", "list"),
        (example.scripts, "fusecli score ir rf", "rfvif"),
        (shells.scripts, "fusecli fuse --tone cl", "clip"),
    ):
        ask = f"(TabExpansion2 '{line}' {len(line)}).CompletionMatches.CompletionText"
        program = f". {scripts / 'fusecli.ps1'}; {ask}"
        command = [shutil.which("pwsh"), "-NoProfile", "-Command", program]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert result.stdout.split() == [word]


def test_powershell_keys_differ_by_more_than_case():
    """Its tables ignore case; two options that differ by case alone would not load."""
    for node in tree(app).walk():
        names = [name for flag in node.flags for name in flag.names]
        assert len({name.lower() for name in names}) == len(names), node.at


def test_the_wheel_installs_the_scripts_where_the_shells_look():
    import tomllib

    project = tomllib.loads((COMPLETIONS.parent / "pyproject.toml").read_text())
    shared = project["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]
    assert shared == {
        "completions/fusecli.bash": "share/bash-completion/completions/fusecli",
        "completions/_fusecli": "share/zsh/site-functions/_fusecli",
        "completions/fusecli.fish": "share/fish/vendor_completions.d/fusecli.fish",
    }
