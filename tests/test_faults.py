"""Runs that are killed, starved or robbed of their files, and what --resume makes of the rest."""

import errno
import gc
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from runs import contents, draw, draw_pairs, fuse, in_child, one_thread

from fusecli import images

COUNT = 24  # pairs; a run of them takes a few tenths of a second


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> tuple[str, str]:
    return draw_pairs(tmp_path_factory.mktemp("faults"), COUNT)


@pytest.fixture(scope="module")
def expected(pairs, tmp_path_factory) -> dict[str, bytes]:
    """Return what one uninterrupted run writes; it also does the imports for all forks."""
    out = tmp_path_factory.mktemp("expected") / "out"
    one_thread()
    assert fuse(*pairs, "-o", out) == 0
    assert len(contents(out)) == COUNT
    return contents(out)


def exit_code(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def interrupted(pairs, out: Path, number: int, delay: float) -> int:
    """Start a run, send it a signal after a while, and return how it ended."""
    child = in_child(lambda: fuse(*pairs, "-o", out, "--resume"))
    time.sleep(delay)
    os.kill(child, number)
    return exit_code(child)


def whole(out: Path) -> None:
    """Check that every file under a final name is a complete picture."""
    for path in out.glob("*.png"):
        assert images.read(str(path)).pixels.shape == (24, 32, 3)


def resumed(pairs, out: Path, expected: dict[str, bytes]) -> None:
    """Resume in a process of its own and compare every byte."""
    assert exit_code(in_child(lambda: fuse(*pairs, "-o", out, "--resume"))) == 0
    assert contents(out) == expected


def survive(pairs, expected, folder: Path, kills: int) -> set[int]:
    """Kill runs at random moments until `kills` have been hit; some die several times."""
    rng = random.Random(7)
    hit, endings, round_ = 0, set(), 0
    start = time.monotonic()
    assert exit_code(in_child(lambda: fuse(*pairs, "-o", folder / "timed"))) == 0
    longest = time.monotonic() - start
    while hit < kills:
        out = folder / f"run{round_}"
        round_ += 1
        for _ in range(rng.choice((1, 1, 2, 3))):
            number = rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT))
            before = set(out.rglob("*.part"))  # a kill may have left them, and this run die early
            ended = interrupted(pairs, out, number, rng.uniform(0, longest))
            endings.add(ended)
            hit += ended != 0
            whole(out)
            if number != signal.SIGKILL and ended in (128 + number, 0):
                assert set(out.rglob("*.part")) <= before
        resumed(pairs, out, expected)
        shutil.rmtree(out)
    return endings


def test_twenty_kills_at_random_moments(pairs, expected, tmp_path: Path) -> None:
    endings = survive(pairs, expected, tmp_path, kills=20)
    assert -signal.SIGKILL in endings


@pytest.mark.slow
def test_a_hundred_kills_at_random_moments(pairs, expected, tmp_path: Path) -> None:
    endings = survive(pairs, expected, tmp_path, kills=100)
    assert {-signal.SIGKILL, 130, 143} <= endings


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_leaves_at_once(number, pairs, expected, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def slow() -> int:
        read = images.read

        def reading(path: str):
            time.sleep(30)
            return read(path)

        images.read = reading
        return fuse(*pairs, "-o", out)

    child = in_child(slow)
    deadline = time.monotonic() + 30
    while not (out / ".fusecli" / "manifest.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    os.kill(child, number)
    time.sleep(0.2)
    before = time.monotonic()
    os.kill(child, number)
    assert exit_code(child) == 128 + number
    assert time.monotonic() - before < 15  # far less than one read takes
    resumed(pairs, out, expected)


def limited(pairs, out: Path, prepare: Callable[[], object]) -> int:
    """Run with something taken away first, and return the exit code."""

    def run() -> int:
        prepare()
        return fuse(*pairs, "-o", out, "--resume")

    return exit_code(in_child(run))


def test_a_file_size_limit_fails_items_not_the_run(pairs, expected, tmp_path: Path) -> None:
    """RLIMIT_FSIZE answers like a quota: writes fail, and half a file must not stay."""
    out = tmp_path / "out"

    def prepare() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1200, 1200))

    assert limited(pairs, out, prepare) in (2, 4)
    assert not list(out.rglob("*.part"))
    resumed(pairs, out, expected)


def test_a_full_disk(pairs, expected, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32k,nr_inodes=200", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        out = disk / "out"
        assert limited(pairs, out, lambda: None) == 3
        assert not list(out.rglob("*.part"))
        whole(out)
        written = contents(out)
        assert 0 < len(written) < COUNT
        grow = ["mount", "-o", "remount,size=4m", str(disk)]
        subprocess.run(grow, check=True, capture_output=True)
        resumed(pairs, out, expected)
    finally:
        subprocess.run(["umount", str(disk)], check=True, capture_output=True)


def as_nobody() -> None:
    """Give root's rights up: root may write anywhere."""
    if os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)


@pytest.fixture
def open_folder(tmp_path: Path) -> Path:
    """Return a folder that another user can reach."""
    for folder in [tmp_path, *tmp_path.parents]:
        if folder.stat().st_uid == os.geteuid() and os.geteuid() == 0 and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    return tmp_path


def test_a_folder_that_may_not_be_written(expected, open_folder: Path, capfd) -> None:
    pairs = draw_pairs(open_folder, 3)
    out = open_folder / "out"
    out.mkdir(mode=0o555)
    assert limited(pairs, out, as_nobody) == 2
    assert list(out.iterdir()) == []
    out.chmod(0o755)
    assert fuse(*pairs, "-o", out) == 0
    for key, data in contents(out).items():
        assert data == expected[key]


def test_an_input_that_may_not_be_read(expected, open_folder: Path) -> None:
    pairs = draw_pairs(open_folder, 4)
    out = open_folder / "out"
    out.mkdir()
    out.chmod(0o777)
    secret = Path(pairs[0], "002.png")
    secret.chmod(0)
    assert limited(pairs, out, as_nobody) == 3
    assert sorted(contents(out)) == ["000.png", "001.png", "003.png"]
    secret.chmod(0o644)
    shutil.rmtree(out / ".fusecli" / "none", ignore_errors=True)
    for path in [out / ".fusecli", *(out / ".fusecli").iterdir()]:
        path.chmod(0o777)
    assert fuse(*pairs, "-o", out, "--resume") == 0
    assert contents(out) == {key: expected[key] for key in contents(out)}
    assert len(contents(out)) == 4


@pytest.mark.parametrize("fault", ["vanished", "replaced", "truncated"])
def test_an_input_that_changes_under_the_run(fault, expected, tmp_path, monkeypatch) -> None:
    pairs = draw_pairs(tmp_path, 5)
    out, victim = tmp_path / "out", Path(pairs[1], "003.png")
    data, read = victim.read_bytes(), images.read

    def meanwhile(path: str):
        if path == str(victim):
            if fault == "vanished":
                victim.unlink()
            elif fault == "truncated":
                victim.write_bytes(data[:120])
            else:
                draw(tmp_path / "other.png", (24, 32, 3), 99).replace(victim)
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(images, "read", meanwhile)
        assert fuse(*pairs, "-o", out) == 3
    assert "003.png" not in contents(out)
    assert not list(out.rglob("*.part"))
    victim.write_bytes(data)
    assert fuse(*pairs, "-o", out, "--resume") == 0
    assert contents(out) == {key: expected[key] for key in contents(out)}


def test_a_rename_that_fails_is_that_item_s_failure(expected, tmp_path: Path) -> None:
    pairs = draw_pairs(tmp_path, 3)
    out = tmp_path / "out"
    (out / "001.png").mkdir(parents=True)
    assert fuse(*pairs, "-o", out, "--overwrite") == 3
    assert not list(out.rglob("*.part"))
    (out / "001.png").rmdir()
    assert fuse(*pairs, "-o", out, "--resume") == 0
    assert contents(out) == {key: expected[key] for key in contents(out)}


def test_a_reader_of_our_output_that_leaves_ends_the_run_quietly(pairs, expected, tmp_path) -> None:
    out = tmp_path / "out"
    reading, writing = os.pipe()
    os.close(reading)

    def run() -> int:
        sys.stdout = os.fdopen(writing, "w")
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        return fuse(*pairs, "-o", out, "--print")

    assert exit_code(in_child(run)) == 0
    assert not list(out.rglob("*.part"))
    assert len(contents(out)) < COUNT
    resumed(pairs, out, expected)


def test_the_codes_of_failed_writes(tmp_path: Path) -> None:
    from fusecli.writing import refused

    codes = {
        number: refused(str(tmp_path), OSError(number, os.strerror(number))).code
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EIO)
    }
    assert list(codes.values()) == [
        "write.full", "write.full", "write.permission", "write.permission", "write.failed"
    ]  # fmt: skip


def test_a_child_collects_nothing_of_its_parent(tmp_path: Path) -> None:
    class Session:
        def __init__(self) -> None:
            self.me = self  # only the collector ends it

        def __del__(self) -> None:
            (tmp_path / str(os.getpid())).touch()

    def action() -> int:
        nonlocal session
        session = None
        gc.collect()
        return 0

    session: Session | None = Session()
    assert exit_code(in_child(action)) == 0
    assert not list(tmp_path.iterdir())
