"""The command line as a user meets it: quick help, exit codes, streams, signals."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

import fusecli as package
from fusecli import __version__, cli

DATA = Path(__file__).parent / "data"
HEAVY = ("torch", "cv2", "tifffile", "numpy")
# the fusecli under test, also in child processes with another working directory
ENVIRONMENT = os.environ | {
    "PYTHONPATH": str(Path(package.__file__).parents[1]),
    "OMP_NUM_THREADS": "1",
    "COLUMNS": "100",
}


def fusecli(*arguments: str | Path, **options) -> subprocess.CompletedProcess[str]:
    """Run one command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "fusecli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env=ENVIRONMENT | options.pop("env", {}),
        **options,
    )


def picture(path: Path, shape: tuple[int, ...] = (24, 32), seed: int = 0) -> Path:
    """Write a smooth random 8-bit picture."""
    rng = np.random.default_rng([seed, len(path.name)])
    image = cv2.GaussianBlur(rng.uniform(0, 255, shape).astype(np.float32), (0, 0), 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = path.suffix.lower()
    path.write_bytes(cv2.imencode(suffix, np.clip(3 * image - 250, 0, 255).astype(np.uint8))[1])
    return path


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for number in range(6):
        picture(tmp_path / "ir" / f"{number:03d}.png", seed=number)
        picture(tmp_path / "vis" / f"{number:03d}.png", (24, 32, 3), seed=100 + number)
    return tmp_path / "ir", tmp_path / "vis"


@pytest.mark.parametrize("command", [["--help"], ["fuse", "--help"], ["train", "--help"],
                                     ["models", "--help"], ["--version"]])  # fmt: skip
def test_help_loads_nothing_heavy(command: list[str]) -> None:
    program = (
        "import sys, time\n"
        "from fusecli.cli import run\n"
        f"code = run({command!r})\n"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "print('HEAVY', heavy, 'CPU', time.process_time(), 'CODE', code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=ENVIRONMENT
    )
    assert "HEAVY []" in done.stdout
    assert "CODE 0" in done.stdout
    seconds = float(re.search(r"CPU ([\d.]+)", done.stdout)[1])
    # A safety net far above the 0.4 s that benchmarks/startup.py measures: machines differ.
    assert seconds < 3


def test_version_and_bare_command() -> None:
    assert fusecli("--version").stdout == f"fusecli {__version__}\n"
    bare = fusecli()
    assert bare.returncode == 2
    assert "fuse" in bare.stdout + bare.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["fsue"], "did you mean 'fuse'?"),
        (["fuse", "a", "b"], "--out"),
        (["fuse", "a", "b", "-o", "x", "--modle", "mfeif"], "--model"),
        (["fuse", "a", "b", "-o", "x", "-m", "recnet"], "did you mean 'reconet'?"),
        (["fuse", "-o", "x"], "IR and VIS are missing"),
        (["fuse", "a", "-o", "x"], "VIS is missing"),
        (["fuse", "a", "b", "-o", "x", "--tile", "7"], "--tile 7"),
        (["fuse", "a", "b", "-o", "x", "--jobs", "0"], "no"),
        (["fuse", "a", "b", "-o", "x", "--tone", "loud"], "loud"),
        (["fuse", "a", "b", "-o", "x", "--name", "{wrong}"], "{key}"),
        (["fuse", "nowhere", "b", "-o", "x"], "nowhere"),
    ],
)
def test_bad_usage_is_exit_2_with_a_hint(arguments: list[str], says: str, tmp_path: Path) -> None:
    done = fusecli(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    document = json.loads(fusecli(*arguments, "--json", cwd=tmp_path).stdout)
    assert document["schema"] == "fusecli/error/1"
    assert document["exit_code"] == 2
    assert document["error"]["code"].split(".")[0] in {"usage", "pair", "model", "read"}


def test_missing_device_and_weights_are_exit_5(folders, tmp_path: Path) -> None:
    done = fusecli("fuse", *folders, "-o", tmp_path / "o", "--device", "cuda:7", "--json")
    assert done.returncode == 5
    assert json.loads(done.stdout)["error"]["code"] == "device.missing"
    done = fusecli("fuse", *folders, "-o", tmp_path / "o", "--weights", "nowhere.safetensors")
    assert done.returncode == 5
    assert "nowhere.safetensors" in done.stderr
    assert not (tmp_path / "o").exists()


def test_a_folder_is_fused_in_the_size_and_colour_of_vis(folders, tmp_path: Path) -> None:
    done = fusecli("fuse", *folders, "-o", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["counts"] == {"found": 6, "done": 6, "skipped": 0, "failed": 0}
    assert document["model"]["name"] == "duet"
    assert document["schema"] == "fusecli/run/1"
    for number in range(6):
        data = np.fromfile(tmp_path / "out" / f"{number:03d}.png", np.uint8)
        assert cv2.imdecode(data, cv2.IMREAD_UNCHANGED).shape == (24, 32, 3)
    assert "fused 6, skipped 0, failed 0" in done.stderr.splitlines()[-1]


def test_results_do_not_depend_on_jobs(folders, tmp_path: Path) -> None:
    for jobs in ("1", "5"):
        assert fusecli("fuse", *folders, "-o", tmp_path / jobs, "-j", jobs).returncode == 0
    one, five = (sorted((tmp_path / jobs).glob("*.png")) for jobs in ("1", "5"))
    assert [p.read_bytes() for p in one] == [p.read_bytes() for p in five]


def test_batches_differ_by_one_level_at_most(folders, tmp_path: Path) -> None:
    for size in ("1", "4"):
        done = fusecli("fuse", *folders, "-o", tmp_path / size, "--batch-size", size)
        assert done.returncode == 0
    for path in (tmp_path / "1").glob("*.png"):
        one, four = (
            cv2.imdecode(np.fromfile(tmp_path / size / path.name, np.uint8), -1).astype(int)
            for size in ("1", "4")
        )
        assert np.abs(one - four).max() <= 1


def test_one_bad_file_fails_alone(folders, tmp_path: Path) -> None:
    broken = folders[1] / "002.png"
    broken.write_bytes(broken.read_bytes()[:200])
    done = fusecli("fuse", *folders, "-o", tmp_path / "out", "--json")
    assert done.returncode == 3
    document = json.loads(done.stdout)
    assert document["counts"]["done"] == 5
    assert [(f["key"], f["code"]) for f in document["failures"]] == [("002", "read.decode")]
    assert len(list((tmp_path / "out").glob("*.png"))) == 5
    assert not list((tmp_path / "out").rglob("*.part"))


def test_all_bad_is_exit_4(tmp_path: Path) -> None:
    for side in ("ir", "vis"):
        (tmp_path / side).mkdir()
        (tmp_path / side / "a.png").write_text("not a picture")
    done = fusecli("fuse", tmp_path / "ir", tmp_path / "vis", "-o", tmp_path / "out")
    assert done.returncode == 4


def test_existing_results_need_a_word(folders, tmp_path: Path) -> None:
    command = ["fuse", *folders, "-o", tmp_path / "out"]
    assert fusecli(*command).returncode == 0
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*.png")}
    again = fusecli(*command)
    assert again.returncode == 2
    assert "--overwrite" in again.stderr
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*.png")} == before
    assert fusecli(*command, "--overwrite").returncode == 0


def test_sizes_that_differ_name_both_and_the_ways_out(tmp_path: Path) -> None:
    ir = picture(tmp_path / "ir.png", (24, 32))
    vis = picture(tmp_path / "vis.png", (48, 60, 3))
    done = fusecli("fuse", ir, vis, "-o", tmp_path / "o", "--json")
    assert done.returncode == 4
    failure = json.loads(done.stdout)["failures"][0]
    assert failure["code"] == "size.differ"
    assert "32x24" in failure["message"]
    assert "60x48" in failure["message"]
    for fit, shape in (("ir-to-vis", (48, 60, 3)), ("vis-to-ir", (24, 32, 3))):
        out = tmp_path / f"{fit}.png"
        assert fusecli("fuse", ir, vis, "-o", out, "--fit", fit).returncode == 0
        assert cv2.imdecode(np.fromfile(out, np.uint8), -1).shape == shape


def test_streams(folders, tmp_path: Path) -> None:
    done = fusecli("fuse", *folders, "-o", tmp_path / "a", "--print")
    assert sorted(done.stdout.splitlines()) == [
        str(tmp_path / "a" / f"00{n}.png") for n in range(6)
    ]
    done = fusecli("fuse", *folders, "-o", tmp_path / "b", "--print0", "-q")
    assert done.stdout.count("\0") == 6
    assert done.stderr == ""
    done = fusecli("fuse", *folders, "-o", tmp_path / "c", "--progress", "jsonl")
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert [e["event"] for e in events][0] == "start"
    assert [e["event"] for e in events].count("item") == 6
    assert events[-1]["event"] == "result"
    done = fusecli("fuse", *folders, "-o", tmp_path / "d", "--json", "--print")
    assert done.returncode == 2
    ir, vis = folders[0] / "000.png", folders[1] / "000.png"
    piped = subprocess.run(
        [sys.executable, "-m", "fusecli", "fuse", ir, vis, "-o", "-", "--format", "png"],
        capture_output=True, check=True, env=ENVIRONMENT,
    )  # fmt: skip
    assert cv2.imdecode(np.frombuffer(piped.stdout, np.uint8), -1).shape == (24, 32, 3)


def test_dry_run_writes_nothing(folders, tmp_path: Path) -> None:
    done = fusecli("fuse", *folders, "-o", tmp_path / "out", "-n", "--limit", "2")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_only_whole_files(number: signal.Signals, tmp_path: Path) -> None:
    for n in range(60):
        picture(tmp_path / "ir" / f"{n:03d}.png", (200, 300), seed=n)
        picture(tmp_path / "vis" / f"{n:03d}.png", (200, 300, 3), seed=n)
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "fusecli", "fuse", tmp_path / "ir", tmp_path / "vis", "-o", out],
        stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while len(list(out.glob("*.png"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    _, talk = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    written = list(out.glob("*.png"))
    assert 2 <= len(written) < 60
    assert f"fused {len(written)}," in talk.splitlines()[-1]
    assert not list(out.rglob("*.part"))
    for path in written:
        assert cv2.imdecode(np.fromfile(path, np.uint8), -1).shape == (200, 300, 3)


def test_the_sample_pairs_of_the_readme(tmp_path: Path) -> None:
    done = fusecli("fuse", DATA / "ir", DATA / "vis", "-o", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    keys = {path.stem for path in (DATA / "vis").iterdir()}
    assert {path.stem for path in (tmp_path / "out").iterdir() if path.is_file()} == keys


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("fuse ir vis out", "did you mean -o out?"),
        ("fuse ir/0.png ir/1.png vis/0.png vis/1.png -o out", "'ir/*.png' 'vis/*.png'"),
        ("fuse ir vis -o out -m mfeif --model=duet", "keep one"),
        ("fuse ir vis -o out.mp4", "out.mp4/"),
        ("fuse ir vis -o new.jpg2", ".jpg"),
        ("fuse ir vis -o out --threads 2", "--jobs N"),
        ("fuse ir vis -o out --gpu", "--device cuda"),
        ("fuse --ir ir --vis vis", "fusecli fuse IR VIS -o OUT"),
        ("eval ir vis vis --workers 2", "--jobs N"),
        ("--model duet fuse ir vis", "fusecli fuse ... --model"),
        ("train ir vis -o run --learning-rate 1", "--lr X"),
    ],
)
def test_what_was_meant_is_the_hint(
    words: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    for place in ("ir/0.png", "ir/1.png", "vis/0.png", "vis/1.png"):
        Path(place).parent.mkdir(exist_ok=True)
        Path(place).touch()
    assert cli.run(words.split()) == 2
    assert hint in capsys.readouterr().err.split("hint: ")[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ir", "vis"]


def test_a_folder_may_have_a_dot_in_its_name() -> None:
    from fusecli.run.plan import Target

    for out in ("run.v2", "2024.05.06", "out.mp4/", "x.d"):
        assert not Target(out).is_file


def test_help_is_a_command_too(capsys) -> None:
    assert cli.run(["help", "fuse"]) == 0
    assert "Usage: fusecli fuse" in capsys.readouterr().out


def test_equal_failures_are_told_once_with_their_hint(folders, tmp_path: Path) -> None:
    for number in range(6):
        picture(tmp_path / "small" / f"{number:03d}.png", (20, 20, 3))
    done = fusecli("fuse", folders[0], tmp_path / "small", "-o", tmp_path / "out", "--json")
    assert "size.differ: 6 of 6" in done.stderr
    assert done.stderr.count("hint:") == 1
    assert done.stderr.count("sizes differ") == 3
    document = json.loads(done.stdout)
    assert document["failed_by_code"] == {"size.differ": 6}
    assert "--fit" in document["failures"][0]["hint"]
    record = (tmp_path / "out/.fusecli/manifest.jsonl").read_text().splitlines()[-1]
    assert json.loads(record)["error"]["hint"] == document["failures"][0]["hint"]


def test_a_run_that_was_stopped_says_what_is_left() -> None:
    from fusecli.outcome import RunReport

    report = RunReport("fuse", "fused", "out", found=9, done=2, signal=2)
    report.extra = {"manifest": "out/.fusecli/manifest.jsonl"}
    assert report.summary().startswith("stopped, 7 of 9 left; the same command with --resume")


def test_how_far_images_moved_is_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    from fusecli.registration.align import AlignedReport
    from fusecli.report import Reporter

    report = AlignedReport("register", "registered", "out", done=1, displacements=[2.0])
    Reporter(progress="none").finish(report)
    assert "moved by 2.0 px on average\nregistered 1, " in capsys.readouterr().err
