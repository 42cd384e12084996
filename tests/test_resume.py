"""The record of a run, and runs that go on where another one stopped."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from runs import contents, draw, draw_pairs, fuse, in_child, lines

from fusecli.run import outputs
from fusecli.run import record as manifest
from fusecli.run.record import Manifest, Record


@pytest.fixture
def pairs(tmp_path: Path) -> tuple[str, str]:
    return draw_pairs(tmp_path, 5)


def stamps(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in out.glob("*.png")}


def last_json(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out)


def test_every_item_has_a_line(pairs, tmp_path: Path) -> None:
    out = tmp_path / "out"
    draw(tmp_path / "vis" / "003.png", (25, 32, 3))  # another size: fails
    assert fuse(*pairs, "-o", out) == 3
    header, *items = lines(out)
    assert header["schema"] == "fusecli/manifest/1"
    assert header["command"] == "fuse"
    assert header["options"]["model"] == "duet"
    assert {item["key"]: item["status"] for item in items} == {
        "000": "done", "001": "done", "002": "done", "003": "failed", "004": "done"
    }  # fmt: skip
    done = next(item for item in items if item["key"] == "001")
    ir = tmp_path / "ir" / "001.png"
    assert done["ir"] == str(ir)
    assert done["out"] == "001.png"
    assert done["shape"] == [24, 32, 3]
    assert done["dtype"] == "uint8"
    assert done["in"]["ir"] == [ir.stat().st_size, ir.stat().st_mtime]
    assert done["fp"] == header["fp"]
    assert {"read", "run", "write"} <= set(done["ms"])
    failed = next(item for item in items if item["key"] == "003")
    assert failed["error"]["code"] == "size.differ"
    assert "25" in failed["error"]["message"]


def test_a_line_is_on_disk_before_the_file_has_its_name(pairs, tmp_path, monkeypatch) -> None:
    out, seen = tmp_path / "out", []
    place = outputs.place

    def watching(parts) -> None:
        recorded = {line.get("out") for line in lines(out)}
        for part, final in parts:
            seen.append(Path(final).name)
            assert Path(final).name in recorded
            assert Path(part).exists()
            assert not Path(final).exists()
        place(parts)

    monkeypatch.setattr(outputs, "place", watching)
    assert fuse(*pairs, "-o", out) == 0
    assert len(seen) == 5


def test_resume_redoes_what_is_missing_or_changed_and_nothing_else(pairs, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    assert fuse(*pairs, "-o", out) == 0
    before, first = stamps(out), contents(out)
    (out / "001.png").unlink()
    draw(tmp_path / "ir" / "003.png", seed=77)
    capsys.readouterr()
    assert fuse(*pairs, "-o", out, "--resume", "--json") == 0
    report = last_json(capsys)
    assert report["counts"] == {"found": 5, "done": 2, "skipped": 3, "failed": 0}
    assert report["manifest"] == str(out / ".fusecli" / "manifest.jsonl")
    after = stamps(out)
    assert {name for name in after if after[name] != before.get(name)} == {"001.png", "003.png"}
    assert contents(out)["001.png"] == first["001.png"]
    assert contents(out)["003.png"] != first["003.png"]
    assert fuse(*pairs, "-o", out, "--resume") == 0
    assert stamps(out) == after


@pytest.mark.parametrize(
    "option",
    [["--tone", "stretch"], ["-m", "mfeif"], ["--chroma", "drop"], ["--seed", "1"],
     ["--precision", "bf16"], ["--batch-size", "2"], ["--compare", "side"]],
)  # fmt: skip
def test_other_settings_make_every_result_stale(option, pairs, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    assert fuse(*pairs, "-o", out, "--limit", "2") == 0
    capsys.readouterr()
    assert fuse(*pairs, "-o", out, "--limit", "2", "--resume", "--json", *option) == 0
    assert last_json(capsys)["counts"]["done"] == 2
    # and with the first settings again: the newest line counts, not any line
    assert fuse(*pairs, "-o", out, "--limit", "2", "--resume", "--json") == 0
    assert last_json(capsys)["counts"]["done"] == 2


@pytest.mark.parametrize("option", [["--jobs", "1"], ["--limit", "3"], ["--progress", "plain"]])
def test_settings_that_change_no_result_make_nothing_stale(option, pairs, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    assert fuse(*pairs, "-o", out) == 0
    capsys.readouterr()
    assert fuse(*pairs, "-o", out, "--resume", "--json", *option) == 0
    assert last_json(capsys)["counts"]["done"] == 0


def test_failed_items_are_tried_again(pairs, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    whole = Path(pairs[1], "002.png").read_bytes()
    Path(pairs[1], "002.png").write_bytes(whole[:100])
    assert fuse(*pairs, "-o", out) == 3
    Path(pairs[1], "002.png").write_bytes(whole)
    capsys.readouterr()
    assert fuse(*pairs, "-o", out, "--resume", "--json") == 0
    assert last_json(capsys)["counts"] == {"found": 5, "done": 1, "skipped": 4, "failed": 0}


def test_files_of_others_are_never_adopted(pairs, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "002.png").write_bytes(b"precious")
    assert fuse(*pairs, "-o", out, "--json") == 2
    error = last_json(capsys)["error"]
    assert error["code"] == "out.exists"
    assert "--resume" in error["hint"]
    assert "--overwrite" in error["hint"]
    assert fuse(*pairs, "-o", out, "--resume", "--json") == 2
    assert last_json(capsys)["error"]["code"] == "out.foreign"
    assert contents(out) == {"002.png": b"precious"}
    assert fuse(*pairs, "-o", out, "--overwrite") == 0
    assert len(contents(out)) == 5
    assert contents(out)["002.png"] != b"precious"


def test_a_torn_last_line_costs_one_item(pairs, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    assert fuse(*pairs, "-o", out) == 0
    first = contents(out)
    path = out / ".fusecli" / "manifest.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    key = json.loads(whole.splitlines()[-1])["key"]
    (out / f"{key}.png").unlink()  # its line was never complete, so it never got its name
    capsys.readouterr()
    assert fuse(*pairs, "-o", out, "--resume", "--json") == 0
    assert last_json(capsys)["counts"]["done"] == 1
    assert contents(out) == first
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_line_that_cannot_be_written_leaves_no_half(tmp_path: Path, monkeypatch) -> None:
    """A disk that is full for a while must not glue two lines together."""
    record = Record(tmp_path / "m.jsonl", str(tmp_path))
    with Manifest(record, "fuse", {}) as writer:
        write = os.write

        def full(file: int, data: bytes) -> int:
            if len(data) > 30:
                return write(file, data[:30])
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            with pytest.raises(OSError, match="No space"):
                writer._append({"key": "a" * 40})
        writer._append({"key": "b"})
    assert [json.loads(x).get("key") for x in record.path.read_text().splitlines()] == [None, "b"]


def test_leftovers_of_own_items_are_removed(pairs, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    own, foreign, other = ".001.png.0a1b2c3d.part", ".777.png.0a1b2c3d.part", ".001.png.part"
    for name in (own, foreign, other):
        (out / name).write_bytes(b"half")
    assert fuse(*pairs, "-o", out) == 0
    assert {p.name for p in out.iterdir() if p.name.startswith(".00") or "part" in p.name} == {
        foreign, other
    }  # fmt: skip


def test_a_second_process_is_refused(pairs, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    with Manifest(Record(out / ".fusecli" / "manifest.jsonl", str(out)), "fuse", {}):
        assert fuse(*pairs, "-o", out, "--json") == 2
        assert last_json(capsys)["error"]["code"] == "out.locked"
        assert fuse(*pairs, "-o", out, "--shard", "1/2") == 0
    assert fuse(*pairs, "-o", out, "--resume") == 0


def test_checksums_replace_times(pairs, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    assert fuse(*pairs, "-o", out, "--checksum") == 0
    touched, edited = Path(pairs[0], "000.png"), Path(pairs[0], "004.png")
    os.utime(touched, (1, 1))
    stat, data = edited.stat(), bytearray(edited.read_bytes())
    data[len(data) // 2] ^= 255
    edited.write_bytes(data)
    os.utime(edited, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (edited.stat().st_size, edited.stat().st_mtime) == (stat.st_size, stat.st_mtime)
    capsys.readouterr()
    command = ["-o", out, "--resume", "--dry-run"]
    assert fuse(*pairs, *command) == 0
    assert [line.split(" ")[0] for line in capsys.readouterr().out.splitlines()] == [str(touched)]
    assert fuse(*pairs, *command, "--checksum") == 0
    assert [line.split(" ")[0] for line in capsys.readouterr().out.splitlines()] == [str(edited)]


def test_a_kill_between_the_line_and_the_name_does_not_vouch_for_old_pixels(
    pairs, tmp_path
) -> None:
    """The line of a replaced result is written first; the old file must not pass for the new."""
    out, expected = tmp_path / "out", tmp_path / "expected"
    assert fuse(*pairs, "-o", out) == 0
    assert fuse(*pairs, "-o", expected, "--tone", "stretch") == 0

    def killed() -> None:
        outputs.place = lambda parts: os._exit(9)
        fuse(*pairs, "-o", out, "--resume", "--tone", "stretch")

    os.waitpid(in_child(killed), 0)
    assert list(out.glob(".*.part"))
    assert fuse(*pairs, "-o", out, "--resume", "--tone", "stretch") == 0
    assert contents(out) == contents(expected)


def test_an_input_that_changes_while_it_is_read_is_a_failure(
    pairs, tmp_path, monkeypatch, capsys
) -> None:
    from fusecli import images

    out, read = tmp_path / "out", images.read

    def slow(path: str):
        picture = read(path)
        if path.endswith("002.png") and "ir" in Path(path).parts:
            draw(Path(path), seed=99)
            os.utime(path, (5, 5))
        return picture

    with monkeypatch.context() as patch:
        patch.setattr(images, "read", slow)
        assert fuse(*pairs, "-o", out, "--json") == 3
    assert last_json(capsys)["failures"][0]["code"] == "read.changed"
    assert not list(out.rglob("*.part"))
    assert fuse(*pairs, "-o", out, "--resume") == 0
    assert fuse(*pairs, "-o", tmp_path / "fresh") == 0
    assert contents(out) == contents(tmp_path / "fresh")


def test_where_the_record_goes(pairs, tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "log" / "run.jsonl"
    assert fuse(*pairs, "-o", out, "--manifest", elsewhere) == 0
    assert len(elsewhere.read_text().splitlines()) == 6
    assert not (out / ".fusecli").exists()
    assert fuse(*pairs, "-o", out, "--manifest", elsewhere, "--resume") == 0
    assert fuse(*pairs, "-o", tmp_path / "bare", "--manifest", "none") == 0
    assert not (tmp_path / "bare" / ".fusecli").exists()


@pytest.mark.parametrize(
    "options",
    [["--resume", "--overwrite"], ["--resume", "--manifest", "none"],
     ["--checksum", "--manifest", "none"]],
)  # fmt: skip
def test_words_that_exclude_each_other(options, pairs, tmp_path: Path, capsys) -> None:
    assert fuse(*pairs, "-o", tmp_path / "out", "--json", *options) == 2
    assert last_json(capsys)["error"]["code"] == "usage.resume"


def test_one_file_has_no_record(pairs, tmp_path: Path, capsys) -> None:
    one = [Path(pairs[0], "000.png"), Path(pairs[1], "000.png"), "-o", tmp_path / "one.png"]
    assert fuse(*one) == 0
    assert not (tmp_path / ".fusecli").exists()
    capsys.readouterr()
    for option in (["--resume"], ["--overwrite", "--manifest", "x.jsonl"]):
        assert fuse(*one, "--json", *option) == 2
        assert last_json(capsys)["error"]["code"] == "usage.resume"


def test_what_cannot_be_written_is_said_before_the_work(pairs, tmp_path: Path, capsys) -> None:
    (tmp_path / "file").write_text("in the way")
    assert fuse(*pairs, "-o", tmp_path / "file" / "out", "--json") == 2
    assert last_json(capsys)["error"]["code"] == "write.failed"


def test_a_dry_run_counts_what_is_left(pairs, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    assert fuse(*pairs, "-o", out, "--limit", "2") == 0
    before = contents(out), lines(out)
    capsys.readouterr()
    assert fuse(*pairs, "-o", out, "--resume", "-n") == 0
    streams = capsys.readouterr()
    assert len(streams.out.splitlines()) == 3
    assert "would fuse 3 pairs" in streams.err
    assert "2 are up to date" in streams.err
    assert (contents(out), lines(out)) == before


def test_reading_a_record_of_100_000_lines_is_quick_and_small(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    line = {"status": "done", "ir": "i", "vis": "v", "in": {"ir": [1, 2.5], "vis": [3, 4.5]}}
    with path.open("w") as file:
        for number in range(100_000):
            file.write(json.dumps(line | {"out": f"seq/{number:06d}.png", "fp": "f" * 16}) + "\n")
    program = (
        "import resource, sys, time\n"
        "from pathlib import Path\n"
        "from fusecli.run import record as manifest\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before, start = peak(), time.process_time()\n"
        "known = manifest.read(Path(sys.argv[1]))\n"
        "print(len(known), peak() - before, time.process_time() - start)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, check=True
    )
    count, kib, seconds = done.stdout.split()
    assert int(count) == 100_000
    assert int(kib) < 60 * 1024
    assert float(seconds) < 20


def test_the_fingerprint_sees_every_setting() -> None:
    base = {"a": 1, "b": {"c": [1, 2]}}
    same = manifest.fingerprint({"b": {"c": [1, 2]}, "a": 1})
    assert manifest.fingerprint(base) == same
    assert len({same, manifest.fingerprint({}), manifest.fingerprint(base | {"a": 2})}) == 3
