"""`--help` and what a slip of the fingers gets: layout, examples, suggestions, colours."""

import os
import re
import subprocess
import sys

import pytest
import typer
from pages import ROOT

from fusecli.cli import app, run

ORDER = ("fuse", "register", "warp", "train", "eval", "export", "doctor", "models")


def shown(*arguments: str, columns: int = 80, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "fusecli", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": str(columns)} | variables,
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_commands_are_listed_in_the_order_of_work_with_one_sentence_each():
    # Typer lists groups of commands last
    listed = typer.main.get_command(app).commands
    assert list(listed) == [name for name in ORDER if name in listed]
    for name, command in listed.items():
        summary = " ".join((command.help or "").split("\n\n")[0].split())
        assert re.fullmatch(r"[A-Z][^.]*[a-z]\.", summary), f"{name}: {summary}"
        if name not in ("models", "doctor"):  # those need no example
            assert f"[dim]fusecli {name} " in (command.help or ""), name


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_help_fits_the_terminal(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    for name, command in typer.main.get_command(app).commands.items():
        run([name, "--help"])
        text = capsys.readouterr().out
        lines = text.splitlines()
        assert max(map(len, lines)) <= columns
        assert f" Usage: fusecli {name} " in text
        one_line = re.sub(r"[\s│]+", " ", text)
        for option in getattr(command, "params", []):
            assert option.opts[0] in one_line or option.metavar in one_line
            assert not option.help or " ".join(option.help.split()) in one_line, option.help


def test_help_says_what_a_value_may_be(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "110")
    run(["fuse", "-h"])
    text = re.sub(r"[\s│]+", " ", capsys.readouterr().out)
    assert " -o, --out PATH Folder; or a file for one item, or - for stdout. [required] " in text
    assert " --quality N Of JPEG and WebP. [1 to 100; default: 95] " in text
    assert (
        " --grid KIND Whose grid and metadata the result takes. [ir | vis; default: vis] " in text
    )
    assert " -j, --jobs N Reading and writing threads. [default: auto; env: FUSECLI_JOBS] " in text
    assert " -r, --recursive Descend into folders. --pairs FILE " in text
    assert "Examples ─" in text
    run(["export", "-h"])
    text = re.sub(r"[\s│]+", " ", capsys.readouterr().out)
    assert " --check / --no-check Compare with torch at several sizes. [default: check] " in text
    run(["doctor", "-h"])  # more to say, and no example
    text = capsys.readouterr().out
    assert "Exit code 5 when" in text
    assert "Examples" not in text


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("fsue", "did you mean 'fuse'?"),
        ("fuse a b -o c --modle reconet", "did you mean --model?"),
        ("fuse a b -o c --tone clpi", "did you mean 'clip'?"),
        ("fuse a b -o c -m rfnest", "did you mean 'rfn-nest'?"),
        ("warp a -o c --preset mldi", "did you mean 'mild'?"),
        ("models shwo", "did you mean 'show'?"),
        ("eval a b c --metrics qabff", "did you mean 'qabf'?"),
        ("eval a b c --metrics mi:natts", "did you mean 'mi:nats'?"),
        ("eval a b c --table latx", "--table latex"),
        ("eval a b c --plots boxx", "did you mean 'box'?"),
        ("export duett -o d.onnx", "did you mean 'duet'?"),
        ("export duet --weights dute -o d.onnx", "did you mean --weights duet?"),
        ("register a b -o c --method ngff", "did you mean 'ngf'?"),
        ("train a b -o c -m reconet --stage fuze", "did you mean --stage fuse?"),
        ("train a b -o c -m reconet --set lops=2", "did you mean --set loops=2?"),
    ],
)
def test_slips_get_a_suggestion(words, hint, capsys):
    assert run(words.split()) in (2, 5)
    assert capsys.readouterr().err.endswith(f"hint: {hint}\n")


def test_values_out_of_range_are_named_plainly(capsys):
    assert run(["fuse", "a", "b", "-o", "c", "--quality", "300"]) == 2
    expected = "error: invalid value for '--quality': should be less than or equal to 100\n"
    assert capsys.readouterr().err.startswith(expected)


def test_colours_come_and_go_with_the_variables():
    assert "\x1b[" not in shown("fuse", "--modell", "x")
    assert "\x1b[1;31m" in shown("fuse", "--modell", "x", FORCE_COLOR="1")
    bold_only = shown("fuse", "--modell", "x", FORCE_COLOR="1", NO_COLOR="1")
    assert not re.search(r"\x1b\[[\d;]*3\dm", bold_only)


def examples(words: str, columns: int, monkeypatch, capsys) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(columns))
    run([*words.split(), "--help"])
    panel = capsys.readouterr().out.split("Examples ─", 1)[1].split("╰", 1)[0]
    text = "\n".join(line.strip("│ ") for line in panel.splitlines()[1:])
    return re.sub(r" *\\\n", " ", text).strip().splitlines()


@pytest.mark.parametrize("words", ["fuse", "warp", "train", "eval", "models convert"])
def test_long_examples_can_be_pasted(words, monkeypatch, capsys):
    whole = examples(words, 200, monkeypatch, capsys)
    assert all(line.startswith(f"fusecli {words} ") for line in whole)
    assert examples(words, 50, monkeypatch, capsys) == whole
