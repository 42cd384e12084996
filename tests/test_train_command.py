"""The command `train`, in one process and in two."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from trainees import metrics, write_pairs

from fusecli import cli
from fusecli.errors import UsageError


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("pairs"))


TINY = ["-m", "reconet", "--stage", "fuse",
        "--set", "variant=v1", "--set", "width=4", "--set", "loops=1",
        "--crop", "16", "--batch-size", "2", "--progress", "none"]  # fmt: skip


def folders(pairs):
    return [str(Path(pairs[0].ir).parent), str(Path(pairs[0].vis).parent)]


def test_command_trains_and_resumes(pairs, tmp_path, capsys):
    arguments = ["train", *folders(pairs), "-o", str(tmp_path / "run"), *TINY, "--json"]
    assert cli.run([*arguments, "--steps", "2"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["command"] == "train"
    assert document["counts"]["done"] == 2
    assert [Path(file).exists() for file in document["checkpoints"]] == [True, True]
    assert cli.run([*arguments, "--steps", "3"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "out.exists"
    assert cli.run([*arguments, "--steps", "3", "--resume"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"]["done"] == 1


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        (["--loss", "ssimm=1"], "train.loss"),
        (["--loss", "ssim"], "usage.assignment"),
        (["--loss", "ssim=much"], "train.loss"),
        (["--set", "widht=3"], "usage.set"),
        (["--max-time", "soon"], "train.time"),
        (["--crop", "400"], "train.crop"),
        (["--misalign", "wobbly"], "usage.preset"),
        (["--val-ir", "somewhere"], "usage.arguments"),
        (["--resume", "--overwrite"], "usage.exclusive"),
        (["--log", "paper"], "usage.log"),
        (["--init", "nothing-like-that"], "weights.missing"),
        (["-m", "reconnet"], "model.unknown"),
        (["--limit", "1"], "train.pairs"),
    ],
)
def test_command_refuses(pairs, tmp_path, capsys, flags, code):
    out = tmp_path / "run"
    tiny = TINY[2:] if "-m" in flags else TINY  # two networks are refused for being two
    arguments = ["train", *folders(pairs), "-o", str(out), *tiny, "--steps", "1", "--json", *flags]
    assert cli.run(arguments) == (5 if code.startswith("weights") else 2)
    assert json.loads(capsys.readouterr().out)["error"]["code"] == code
    assert not out.exists()


def test_command_rehearses(pairs, tmp_path, capsys):
    out = tmp_path / "run"
    assert cli.run(["train", *folders(pairs), "-o", str(out), *TINY, "-n", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["dry_run"] is True
    assert document["stages"][0]["crop"] == 16
    assert not out.exists()


def test_two_processes_equal_one(pairs, tmp_path):
    common = [*folders(pairs), *TINY, "--steps", "3", "--device", "cpu", "-j", "1"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[1])
    two = [sys.executable, "-m", "fusecli", "train", *common, "-o", str(tmp_path / "two")]
    done = subprocess.run(
        [*two, "--devices", "2", "--json"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"]["done"] == 3  # one document: only one reports
    assert cli.run(["train", *common, "-o", str(tmp_path / "one"), "-q"]) == 0
    one, both = (load_file(tmp_path / name / "last.safetensors") for name in ("one", "two"))
    for key, value in one.items():
        torch.testing.assert_close(both[key], value, rtol=1e-4, atol=1e-6)
    scores = {
        name: [line["val_loss"] for line in metrics(tmp_path / name) if "val_loss" in line]
        for name in ("one", "two")
    }
    assert scores["two"] == pytest.approx(scores["one"], rel=1e-4)


def test_a_batch_that_processes_cannot_share_is_refused(pairs):
    from fusecli.training.ranks import Ranks

    with pytest.raises(UsageError) as error:
        Ranks(0, 3, torch.device("cpu")).share(4)
    assert error.value.hint == "use --batch-size 6"
