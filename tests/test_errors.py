"""Every error of every command: one JSON document with its code, its exit status and a hint.

What command lines can bring about is in `mistakes.py`, what they cannot here is in `DIRECT`. A test
compares both with the package: a new code needs a row.
"""

import ast
import errno
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch
from mistakes import IN, ITEMS, OUT, ROWS, TRAIN
from runs import contents, draw, draw_pairs, fuse, lines

import fusecli
from fusecli import config, exporting, images, models, ops, packages, perceptual, writing
from fusecli import fields as warping
from fusecli.cli import run
from fusecli.errors import FusecliError
from fusecli.fusion import pair as fusing
from fusecli.images import boxes
from fusecli.pairs.files import pixel_limit
from fusecli.run import clusters, stream
from fusecli.run.record import Manifest, Record
from fusecli.training import step as learning
from fusecli.training.folder import prepare
from fusecli.training.ranks import Ranks
from fusecli.training.recipe import resolve_stages
from fusecli.warps import item as misaligning

QUICK = ("--weights", "random", "--progress", "none")

# Why there is no hint: what could be said is said, or is for the programmer alone.
PLAIN = {
    "ops.mode": "the sentence lists what the variable may be",
    "os.error": "the system's own words, about anything",
    "read.decode": "the file is damaged; what is wrong with it is all that is known",
    "read.failed": "the system's own words, about one file",
    "register.missing": "names the file that is not there",
    "size.empty": "only a program can ask for an image without pixels",
    "train.pairs": "only a program can begin to train without pairs",
    "usage.metrics": "the sentence names the option that is missing",
    "usage.set": "the sentence lists the choices, or the option",
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a working directory with three pairs in `ir` and `vis`."""
    draw_pairs(tmp_path, 3)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config, "user_file", lambda: tmp_path / "no" / "config.toml")
    for name in [name for name in os.environ if name.startswith(("FUSECLI_", "SLURM_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FUSECLI_WEIGHTS", str(tmp_path / "shelf"))
    monkeypatch.setattr(perceptual, "_vgg_file", lambda: None)
    return tmp_path


@pytest.mark.parametrize(
    ("code", "status", "command", "prepare"), ROWS,
    ids=[f"{row[0]}-{number}" for number, row in enumerate(ROWS)],
)  # fmt: skip
def test_errors_before_work(code, status, command, prepare, place, capsys) -> None:
    prepare()
    before = contents(place)
    weights = ["--weights", "random"] if command[0] == "fuse" and "--weights" not in command else []
    capsys.readouterr()
    assert run([*command, *weights, "--json"]) == status
    streams = capsys.readouterr()
    document = json.loads(streams.out)
    assert document["schema"] == "fusecli/error/1"
    assert document["ok"] is False
    assert document["exit_code"] == status
    error = document["error"]
    assert error["code"] == code
    assert error["hint"] or code in PLAIN
    talk = streams.err.splitlines()
    first = next(line for line in talk if line.startswith("error: "))
    assert first == f"error: {error['message'].splitlines()[0]}"
    assert (f"hint: {error['hint']}" in talk) is (error["hint"] is not None)
    assert len(error["facts"]) <= 10
    assert "Traceback" not in streams.err
    assert contents(place) == before  # nothing was written, not even an output folder


def test_a_locked_folder_is_an_error_too(place: Path, capsys) -> None:
    record = Record(place / "out" / ".fusecli" / "manifest.jsonl", "out")
    with Manifest(record, "fuse", {}):
        assert fuse(*IN, *OUT, "--json") == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], "--shard" in error["hint"]) == ("out.locked", True)


@pytest.mark.parametrize(("code", "prepare", "options"), ITEMS)
def test_errors_of_one_item(code, prepare, options, place: Path, capsys) -> None:
    prepare()
    capsys.readouterr()
    assert run(["fuse", *QUICK, *IN, *OUT, *options, "--json"]) == 3
    report = json.loads(capsys.readouterr().out)
    assert report["schema"] == "fusecli/run/1"
    assert report["exit_code"] == 3
    assert [(item["key"], item["code"]) for item in report["failures"]] == [("001", code)]
    failed = [line for line in lines(place / "out") if line.get("status") == "failed"]
    assert [line["error"]["code"] for line in failed] == [code]
    assert sorted(contents(place / "out")) == ["000.png", "002.png"]


def test_a_bug_is_exit_1_and_one_document(place: Path, capsys, monkeypatch) -> None:
    from fusecli.run import plan as planning

    def broken(*arguments, **options) -> None:
        raise ZeroDivisionError("surprise")

    monkeypatch.setattr(planning, "plan", broken)
    assert run(["fuse", *IN, *OUT, "--json"]) == 1
    streams = capsys.readouterr()
    assert json.loads(streams.out)["error"]["code"] == "internal"
    assert "-vv" in streams.err
    assert "Traceback" not in streams.err


def test_errors_of_one_registered_item(place: Path, capsys) -> None:
    """Noise cannot be registered; a transform made for other sizes is not applied."""
    register = ["register", *IN, "--progress", "none"]
    capsys.readouterr()
    assert run([*register, *OUT, "--json"]) == 4
    failures = json.loads(capsys.readouterr().out)["failures"]
    assert {item["code"] for item in failures} == {"register.rejected"}
    assert run([*register, "-o", "kept", "--on-reject", "identity", "-q"]) == 0
    for side in IN:
        draw(Path(side, "001.png"), (30, 40))
    capsys.readouterr()
    assert run([*register, "-o", "again", "--apply", "kept/transforms", "--json"]) == 3
    failures = json.loads(capsys.readouterr().out)["failures"]
    assert [(item["key"], item["code"]) for item in failures] == [("001", "register.size")]
    assert run([*register, "-o", "rig", "--per", "folder", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], "--per pair" in error["hint"]) == ("register.rig", True)


def test_a_training_that_cannot_go_on(place: Path, capsys) -> None:
    command = [*TRAIN, "--crop", "16", "--batch-size", "1", "--progress", "none"]
    assert run(command) == 0
    capsys.readouterr()
    assert run([*command, "--lr", "0.5", "--resume", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], "config.toml" in error["hint"]) == ("train.resume", True)
    Path("run/last.state.pt").write_bytes(b"nothing")
    assert run([*command, "--resume", "--json"]) == 5
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], "--init" in error["hint"]) == ("train.state", True)


# --- errors that no command line can bring about here -----------------------------------------


def failing(function: str, error: Exception, action: Callable[[], object]) -> Callable[[], object]:
    """Return an action during which a function of the standard library fails."""

    def run() -> None:
        with mock.patch(function, side_effect=error):
            action()

    return run


def in_environment(action: Callable[[], object], **variables: str) -> Callable[[], object]:
    def run() -> None:
        with mock.patch.dict(os.environ, variables):
            action()

    return run


def raised(error: Exception) -> Callable[[], object]:
    def run() -> None:
        raise error

    return run


def attempt(error: Exception) -> Callable[[], object]:
    return lambda: exporting._attempt(raised(error))


TWO_ON_ONE = SimpleNamespace(devices=(torch.device("cuda", 0),), jobs=2)
PAIR = [torch.zeros(1, dtype=torch.float64)]

DIRECT = [
    ("device.backend", 2, lambda: clusters.check("loky", TWO_ON_ONE)),
    ("export.failed", 6, attempt(TypeError("no such operator"))),
    ("export.specialised", 6, attempt(ValueError("height was given a static shape"))),
    ("extra.missing", 5, raised(packages.explain(ImportError(name="flyr")))),
    ("internal", 2, raised(stream.as_failure(ZeroDivisionError("surprise")))),
    ("memory", 2, raised(stream.as_failure(MemoryError()))),
    ("ops.eager", 2, in_environment(lambda: ops.choose("an op", PAIR), FUSECLI_OPS="triton")),
    ("ops.mode", 2, in_environment(ops.requested, FUSECLI_OPS="fast")),
    ("os.error", 2, raised(stream.as_failure(OSError(errno.EIO, "broken", "a.png")))),
    ("read.array", 2, lambda: images.from_array(np.zeros(3))),
    ("read.permission", 2,
     failing("os.stat", PermissionError(), lambda: images.file_bytes("a.png"))),
    ("register.matrix", 2, lambda: warping.check_matrix(np.zeros((3, 3)), (24, 32))),
    ("size.empty", 2, lambda: fusing.resize(np.zeros((2, 2)), (0, 3))),
    ("train.batch", 2, lambda: Ranks(0, 3, torch.device("cpu")).share(4)),
    ("train.nonfinite", 6, lambda: learning._check_finite({"loss": float("nan")})),
    ("train.optimizer", 2, lambda: resolve_stages(models.find("reconet"), optimizer="sgd")),
    ("train.recipe", 2, lambda: resolve_stages(models.ModelSpec("Toy", "nobody", torch.nn.Module))),
    ("train.perceptual", 5, lambda: perceptual.used("vgg")),
    ("usage.max_pixels", 2, in_environment(pixel_limit, FUSECLI_MAX_PIXELS="many")),
    ("warp.empty", 2, lambda: boxes.largest_box(np.zeros((4, 4), bool))),
    ("write.encode", 2, lambda: images.encode(np.zeros((2, 17000), np.uint8), format="webp")),
    ("write.folder", 2, lambda: prepare(Path("ir/000.png/run"), overwrite=False)),
    ("write.full", 2, raised(writing.refused("a.png", OSError(errno.ENOSPC, "no space")))),
    ("write.link", 2,
     failing("os.link", OSError(errno.EXDEV, "elsewhere"),
             lambda: misaligning.linked("ir/000.png", "here.png", "hard"))),
    ("write.permission", 2, raised(writing.refused("a.png", PermissionError(13, "denied")))),
]  # fmt: skip


@pytest.mark.parametrize(("code", "status", "action"), DIRECT, ids=[row[0] for row in DIRECT])
def test_errors_from_within(code, status, action, place: Path) -> None:
    with pytest.raises(FusecliError) as caught:
        action()
    assert (caught.value.code, caught.value.exit_code) == (code, status)
    assert caught.value.hint or code in PLAIN


# --- all of them -------------------------------------------------------------------------------

# Shown where what brings them about is built, with more than this file could.
ELSEWHERE = {
    "pair.order": "test_pairs.py",
    "pair.time": "test_pair_times.py",
    "export.parity": "test_export.py",
    "model.memory": "test_inference.py",
    "read.changed": "test_resume.py",
    "read.photograph": "test_thermal.py",
    "read.thermal": "test_thermal.py",
    "register.folds": "test_register_command.py",
    "register.overlap": "test_bad_registrations.py",
    "size.mismatch": "test_crops.py",
    "weights.differ": "test_clusters.py",
}
WARNINGS = {
    "metadata.grid", "range.flat", "range.nonfinite", "range.saturated", "range.stray",
    "read.pages", "read.palette", "read.swapped",
    "targets.outside", "targets.unknown", "weights.random",
}  # fmt: skip
AREAS = (
    "usage|config|pair|out|read|write|size|range|weights|device|model|register|train|export|extra"
    "|ops|os|warp|metadata|targets"
)


def codes_of_the_package() -> set[str]:
    """Return every string in the code that looks like a code; file names have a known suffix."""
    found: set[str] = set()
    for path in Path(fusecli.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            text = getattr(node, "value", None)
            if isinstance(text, str) and re.fullmatch(rf"(?:{AREAS})\.[a-z_-]+", text):
                found.add(text)
    return found - {"config.toml", "targets.csv", "register.flow", "os.environ"}


def test_every_code_is_shown() -> None:
    shown = {row[0] for row in (*ROWS, *ITEMS, *DIRECT)}
    shown |= {"out.locked", "train.resume", "train.state"}
    shown |= {"register.rejected", "register.size", "register.rig"}
    for code, name in ELSEWHERE.items():
        assert f'"{code}"' in Path(__file__).with_name(name).read_text("utf-8")
    expected = codes_of_the_package() - WARNINGS
    assert shown | set(ELSEWHERE) >= expected, expected - shown - set(ELSEWHERE)
    assert shown >= PLAIN.keys()


def raised_without_hint() -> Iterator[tuple[str, str]]:
    """Yield the place and code of every error of the package that is made without a hint."""
    for path in Path(fusecli.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not ast.unparse(node.func).endswith("Error"):
                continue
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            if "code" in given and "hint" not in given:
                for part in ast.walk(given["code"]):
                    if isinstance(part, ast.Constant):
                        yield f"{path.name}:{node.lineno}", part.value


def test_every_error_has_a_hint_or_a_reason_why_not() -> None:
    assert [found for found in raised_without_hint() if found[1] not in PLAIN] == []
