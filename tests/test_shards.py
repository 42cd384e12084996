"""Parts of a run on several machines, lists longer than memory, and ranges of whole sequences."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from runs import contents, draw_pairs, fuse, lines

from fusecli.errors import FusecliError
from fusecli.run.parts import Shard

SLURM = {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "4", "SLURM_ARRAY_TASK_COUNT": "4"}


def test_every_key_belongs_to_exactly_one_shard() -> None:
    keys = [f"day/{number:04d}" for number in range(3000)]
    shards = [Shard(index, 3) for index in (1, 2, 3)]
    owners = [[shard.index for shard in shards if shard.has(key)] for key in keys]
    assert all(len(owner) == 1 for owner in owners)
    shares = [sum(owner == [index] for owner in owners) for index in (1, 2, 3)]
    assert min(shares) > 900
    # The same on every machine and in every version, or shards would overlap.
    assert [owner[0] for owner in owners[:12]] == [3, 2, 1, 1, 3, 2, 1, 3, 3, 1, 1, 2]


@pytest.mark.parametrize("text", ["0/3", "4/3", "1/0", "1", "a/b", "-1/3", "1/3/5", "", "slurm"])
def test_nonsense_is_no_shard(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SLURM:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(FusecliError) as caught:
        Shard.parse(text)
    assert caught.value.code == "usage.shard"
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, Shard(4, 4)),
        ({"SLURM_ARRAY_TASK_ID": "4"}, Shard(1, 4)),
        ({"SLURM_ARRAY_TASK_ID": "10", "SLURM_ARRAY_TASK_STEP": "2"}, Shard(4, 4)),
        ({"SLURM_ARRAY_TASK_ID": "8"}, None),
        ({"SLURM_ARRAY_TASK_COUNT": ""}, None),
    ],
)
def test_slurm(variables, expected, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (SLURM | variables).items():
        monkeypatch.setenv(name, value)
    if expected is not None:
        assert Shard.parse("slurm") == expected
        return
    with pytest.raises(FusecliError) as caught:
        Shard.parse("slurm")
    assert caught.value.code == "usage.shard"


def test_shards_into_one_folder_equal_one_run(tmp_path: Path, capsys) -> None:
    pairs = draw_pairs(tmp_path, 9)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert fuse(*pairs, "-o", whole, "--name", "{index:02d}-{stem}") == 0
    for index in (2, 1, 3):
        command = [*pairs, "-o", parts, "--name", "{index:02d}-{stem}", "--shard", f"{index}/3"]
        assert fuse(*command) == 0
    assert contents(parts) == contents(whole)
    names = [f"manifest-{index}-of-3.jsonl" for index in (1, 2, 3)]
    keys = [line["key"] for name in names for line in lines(parts, name)[1:]]
    assert sorted(keys) == [f"{number:03d}" for number in range(9)]
    # A later run without shards knows what they did, and notes it once.
    for _ in range(2):
        capsys.readouterr()
        assert fuse(*pairs, "-o", parts, "--name", "{index:02d}-{stem}", "--resume", "--json") == 0
        assert json.loads(capsys.readouterr().out)["counts"]["skipped"] == 9
        assert [line.get("status") for line in lines(parts)].count("skipped") == 9


def test_a_shard_without_items_has_nothing_to_do(tmp_path: Path) -> None:
    pairs = draw_pairs(tmp_path, 1)
    codes = [fuse(*pairs, "-o", tmp_path / "out", "--shard", f"{i}/4") for i in (1, 2, 3, 4)]
    assert codes == [0, 0, 0, 0]
    assert list(contents(tmp_path / "out")) == ["000.png"]


def test_the_newest_line_of_all_manifests_counts(tmp_path: Path, capsys) -> None:
    pairs = draw_pairs(tmp_path, 6)
    out = tmp_path / "out"
    assert fuse(*pairs, "-o", out) == 0
    assert fuse(*pairs, "-o", out, "--shard", "1/2", "--resume", "--tone", "stretch") == 0
    redone = len(lines(out, "manifest-1-of-2.jsonl")) - 1
    assert 0 < redone < 6
    os.utime(out / ".fusecli" / "manifest.jsonl")  # the youngest file, with the older lines
    capsys.readouterr()
    assert fuse(*pairs, "-o", out, "--resume", "--json") == 0
    assert json.loads(capsys.readouterr().out)["counts"]["done"] == redone


# --- pair lists ------------------------------------------------------------------------------


def write_list(path: Path, count: int) -> Path:
    rows = (f"ir/{n:06d}.png,vis/{n:06d}.png,set/{n:06d}\n" for n in range(count))
    path.write_text("ir,vis,name\n" + "".join(rows))
    return path


def test_a_long_list_takes_no_memory(tmp_path: Path) -> None:
    """The promise is a million lines under 500 MB; its tenth must grow by less than a tenth."""
    peaks = []
    for count in (100, 100_000):
        pairs = write_list(tmp_path / "list.csv", count)
        done = subprocess.run(
            [sys.executable, "-c",
             "import resource, sys\nfrom fusecli.cli import run\ncode = run(sys.argv[1:])\n"
             "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, code, file=sys.stderr)",
             "fuse", "--pairs", pairs, "-o", tmp_path / "o", "-n"],
            capture_output=True, text=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert len(done.stdout.splitlines()) == count
        kib, code = done.stderr.splitlines()[-1].split()
        assert code == "0"
        peaks.append(int(kib))
    assert peaks[1] - peaks[0] < 40 * 1024


@pytest.mark.parametrize("kind", ["stdin", "pipe"])
def test_a_list_that_can_be_read_only_once(kind: str, tmp_path: Path) -> None:
    ir, vis = draw_pairs(tmp_path, 3)
    rows = "".join(
        json.dumps({"ir": f"{ir}/00{n}.png", "vis": f"{vis}/00{n}.png", "name": name}) + "\n"
        for n, name in ((2, "x"), (0, "y/000"))
    )
    file = "-"
    if kind == "pipe":
        file = str(tmp_path / "pipe")
        os.mkfifo(file)
        threading.Thread(target=lambda: Path(file).write_text(rows), daemon=True).start()
    done = subprocess.run(
        [sys.executable, "-m", "fusecli", "fuse", "--pairs", file, "-o", tmp_path / "out",
         "--weights", "random", "--name", "{stem}", "--resume", "--print", "-q"],
        input=rows if kind == "stdin" else "", text=True, capture_output=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert sorted(contents(tmp_path / "out")) == ["000.png", "x.png"]
    assert len(done.stdout.splitlines()) == 2


# --- ranges ----------------------------------------------------------------------------------


def sequence(folder: Path, dtype: type = np.uint16) -> tuple[str, str]:
    """Write three pairs whose infrared images get warmer; the coldest has a few hot pixels."""
    rng = np.random.default_rng(3)
    for number, base in enumerate((1000, 2000, 3000)):
        ir = (base + rng.uniform(0, 500, (40, 50))).astype(dtype)
        for side, image in (("ir", ir), ("vis", np.full((40, 50), 100, np.uint8))):
            path = folder / side / f"{number}.tiff"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(cv2.imencode(".tiff", image)[1].tobytes())
    return str(folder / "ir"), str(folder / "vis")


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_the_range_of_a_sequence_is_that_of_all_its_images(dtype, tmp_path: Path) -> None:
    pairs, out = sequence(tmp_path, dtype), tmp_path / "out"
    stored = [cv2.imdecode(np.fromfile(p, np.uint8), -1) for p in Path(pairs[0]).iterdir()]
    expected = np.percentile(np.stack(stored), (0.5, 99.5))
    for index in (1, 2):  # each shard measures the whole, not its part
        assert fuse(*pairs, "-o", out, "--range-scope", "all", "--shard", f"{index}/2") == 0
    found = [
        line["limits"]["ir"] for i in (1, 2) for line in lines(out, f"manifest-{i}-of-2.jsonl")[1:]
    ]
    assert len(found) == 3
    np.testing.assert_allclose(found, [expected] * 3, atol=1e-3)


def test_limits_that_are_given_need_no_measuring(tmp_path: Path) -> None:
    pairs, out = sequence(tmp_path), tmp_path / "out"
    assert fuse(*pairs, "-o", out, "--range-scope", "all", "--ir-range", "900:3600") == 0
    assert {tuple(line["limits"]["ir"]) for line in lines(out)[1:]} == {(900.0, 3600.0)}


def test_a_new_image_changes_the_range_and_so_every_result(tmp_path: Path, capsys) -> None:
    pairs, out = sequence(tmp_path), tmp_path / "out"
    command = [*pairs, "-o", out, "--range-scope", "all", "--resume", "--json"]
    assert fuse(*command) == 0
    for side, value in (("ir", 9000), ("vis", 90)):
        image = np.full((40, 50), value, np.uint16 if side == "ir" else np.uint8)
        (tmp_path / side / "3.tiff").write_bytes(cv2.imencode(".tiff", image)[1].tobytes())
    capsys.readouterr()
    assert fuse(*command) == 0
    assert json.loads(capsys.readouterr().out)["counts"]["done"] == 4


def test_types_that_differ_share_no_percentiles(tmp_path: Path, capsys) -> None:
    pairs = sequence(tmp_path)
    data = cv2.imencode(".tiff", np.zeros((40, 50), np.float32))[1].tobytes()
    Path(pairs[0], "2.tiff").write_bytes(data)
    assert fuse(*pairs, "-o", tmp_path / "out", "--range-scope", "all", "--json") == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "range.mixed"
