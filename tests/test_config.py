"""Configuration files and variables: who wins, what is refused, what is shown."""

import json
import os
from pathlib import Path

import pytest
from runs import draw_pairs

from fusecli import config
from fusecli.cli import run


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty working directory with a pair in it, and no configuration anywhere."""
    draw_pairs(tmp_path, 2)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config, "user_file", lambda: tmp_path / "home" / "config.toml")
    for name in [name for name in os.environ if name.startswith("FUSECLI_")]:
        monkeypatch.delenv(name)
    return tmp_path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def shown(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, tuple[str, str]]:
    """Return value and origin of every option, as a verbose dry run shows them."""
    capsys.readouterr()
    assert run(["fuse", "ir", "vis", "-o", "out", "-n", "-v", *options]) == 0
    found = {}
    for line in capsys.readouterr().err.splitlines():
        name, sign, rest = line.strip().partition(" = ")
        if sign and line.startswith("  "):
            value, _, where = rest.partition("  ")
            found[name] = (value.strip("' "), where.strip())
    return found


def refusal(capsys: pytest.CaptureFixture[str], *options: str) -> dict:
    capsys.readouterr()
    assert run(["fuse", "ir", "vis", "-o", "out", "-n", "--json", *options]) == 2
    return json.loads(capsys.readouterr().out)["error"]


def test_who_wins(place: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Command line, environment, --config or ./fusecli.toml, the user's file, built in."""
    assert shown(capsys)["jobs"] == ("auto", "built in")
    home = write(place / "home" / "config.toml", "[common]\njobs = 2\nseed = 2\n")
    assert shown(capsys)["jobs"] == ("2", f"{home} [common]")
    write(place / "fusecli.toml", "[common]\njobs = 3\n[fuse]\ntone = 'clip'\n")
    assert shown(capsys)["jobs"] == ("3", "fusecli.toml [common]")
    write(place / "fusecli.toml", "[fuse]\njobs = 4\n[common]\njobs = 3\n")
    values = shown(capsys)
    assert values["jobs"] == ("4", "fusecli.toml [fuse]")
    assert values["seed"] == ("2", f"{home} [common]")
    write(place / "other.toml", "[fuse]\njobs = 5\n")
    assert shown(capsys, "--config", "other.toml")["jobs"] == ("5", "other.toml [fuse]")
    monkeypatch.setenv("FUSECLI_CONFIG", "other.toml")
    assert shown(capsys)["jobs"] == ("5", "other.toml [fuse]")
    monkeypatch.setenv("FUSECLI_JOBS", "6")
    assert shown(capsys)["jobs"] == ("6", "FUSECLI_JOBS")
    assert shown(capsys, "-j", "7")["jobs"] == ("7", "command line")


@pytest.mark.parametrize(
    ("variable", "option", "value"),
    [("FUSECLI_JOBS", "jobs", "2"), ("FUSECLI_DEVICE", "device", "cpu"),
     ("FUSECLI_BACKEND", "backend", "loky"), ("FUSECLI_PROGRESS", "progress", "none")],
)  # fmt: skip
def test_variables(variable, option, value, place, capsys, monkeypatch) -> None:
    monkeypatch.setenv(variable, value)
    assert shown(capsys)[option] == (value, variable)


def test_values_of_every_kind_arrive(place: Path, capsys) -> None:
    write(
        place / "fusecli.toml",
        "[fuse]\nlimit = 1\nrecursive = true\nir-range = '0:200'\nquality = 80\nmodel = 'mfeif'\n",
    )
    values = shown(capsys)
    assert values["limit"][0] == "1"
    assert values["recursive"][0] == "True"
    assert values["ir-range"][0] == "0:200"
    assert values["quality"][0] == "80"
    assert values["model"] == ("mfeif", "fusecli.toml [fuse]")
    assert values["IR"] == ("ir", "command line")


def test_a_required_option_may_come_from_a_file(place: Path, capsys) -> None:
    write(place / "fusecli.toml", "[fuse]\nout = 'elsewhere'\n")
    assert run(["fuse", "ir", "vis", "-n"]) == 0
    assert "elsewhere" in capsys.readouterr().out


def test_common_options_that_a_command_lacks_are_for_the_others(place: Path, capsys) -> None:
    write(place / "fusecli.toml", "[common]\nsteps = 10\njobs = 2\n")
    values = shown(capsys)
    assert "steps" not in values
    assert values["jobs"][0] == "2"


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("[fuse]\nmodle = 'mfeif'\n", "config.unknown", "did you mean model?"),
        ("[fuze]\nmodel = 'mfeif'\n", "config.unknown", "did you mean fuse?"),
        ("[common]\njob = 3\n", "config.unknown", "did you mean jobs?"),
        ("[fuse]\nconfig = 'x'\n", "config.unknown", "known: "),
        ("[folders]\nweight = 'x'\n", "config.unknown", "did you mean weights?"),
        ("model = 'mfeif'\n", "config.unknown", ""),
        ("fuse = 3\n", "config.value", "[common]"),
        ("[fuse]\nmodel = \n", "config.syntax", "line 2"),
        ("[fuse]\nrecursive = 'yes'\n", "config.value", "true or false"),
        ("[fuse]\nmodel = ['a']\n", "config.value", "text or a number"),
        ("[fuse]\nmodel = true\n", "config.value", "text or a number"),
        ("[fuse]\ntone = 'loud'\n", "usage.arguments", "set by fusecli.toml [fuse]"),
        ("[fuse]\nquality = 'high'\n", "usage.arguments", "set by fusecli.toml [fuse]"),
    ],
)
def test_what_is_refused(text: str, code: str, says: str, place: Path, capsys) -> None:
    write(place / "fusecli.toml", text)
    error = refusal(capsys)
    assert error["code"] == code
    assert says in " ".join([error["message"], error["hint"] or "", *error["facts"]])


def test_a_file_that_is_asked_for_must_be_there(place: Path, capsys) -> None:
    error = refusal(capsys, "--config", "nowhere.toml")
    assert error["code"] == "config.missing"
    assert "nowhere.toml" in error["message"]


def test_folders_are_relative_to_their_file_and_give_way_to_variables(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUSECLI_CACHE", "mine")
    monkeypatch.setenv("FUSECLI_WEIGHTS", "")  # so that the test leaves nothing behind
    monkeypatch.delenv("FUSECLI_WEIGHTS")
    write(place / "home" / "config.toml", "[folders]\nweights = 'w'\ncache = 'c'\n")
    assert run(["fuse", "ir", "vis", "-o", "out", "-n"]) == 0
    assert os.environ["FUSECLI_WEIGHTS"] == str(place / "home" / "w")
    assert os.environ["FUSECLI_CACHE"] == "mine"
