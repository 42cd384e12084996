"""What docs/json.md says about documents, events and the manifest is what the command prints."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from runs import FUSE, draw, draw_pairs, fuse, lines

PAGE = (Path(__file__).parents[1] / "docs" / "json.md").read_text("utf-8")


def documented(heading: str, place: int = 0) -> dict[str, set[str]]:
    """Return the fields of the `place`-th table with a heading, each with the names beside it."""
    table = PAGE.split(f"\n| {heading} | ")[1 + place].split("\n\n")[0]
    fields = {}
    for row in table.splitlines()[2:]:
        names, text = row.strip("| ").split(" | ", 1)
        for name in re.findall(r"`(\w+)`", names):
            fields[name] = set(re.findall(r"`(\w+)`", text))
    return fields


RUN, ERROR = documented("field"), documented("field", 1)


@pytest.fixture
def pairs(tmp_path: Path) -> tuple[str, str]:
    draw_pairs(tmp_path, 3)
    draw(tmp_path / "vis" / "002.png", (20, 20, 3))  # another size: fails
    return str(tmp_path / "ir"), str(tmp_path / "vis")


def test_the_document_of_a_run(pairs, tmp_path: Path, capsys) -> None:
    assert fuse(*pairs, "-o", tmp_path / "out", "--json") == 3
    document = json.loads(capsys.readouterr().out)
    assert set(document) == set(RUN)
    for name in ("counts", "model", "runtime", "rate"):
        assert set(document[name]) == RUN[name], name
    assert set(document["failures"][0]) == RUN["failures"]
    assert (document["ok"], document["exit_code"], document["command"]) == (False, 3, "fuse")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", document["started"])


def test_the_document_of_a_dry_run(pairs, tmp_path: Path, capsys) -> None:
    assert fuse(*pairs, "-o", tmp_path / "out", "-n", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document) == set(RUN) - {"manifest", "model", "runtime"} | {"dry_run"}
    assert document["counts"] == {"found": 3, "done": 0, "skipped": 0, "failed": 0}


def test_the_document_of_an_error(pairs, tmp_path: Path, capsys) -> None:
    assert fuse(*pairs, "-o", tmp_path / "out", "--shard", "9/3", "--json") == 2
    document = json.loads(capsys.readouterr().out)
    assert set(document) == set(ERROR)
    assert set(document["error"]) == ERROR["error"]


def test_progress_in_lines(pairs, tmp_path: Path) -> None:
    command = [*FUSE, *pairs, "-o", str(tmp_path / "out"), "--progress", "jsonl"]
    done = subprocess.run(
        [sys.executable, "-m", "fusecli", *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    events = [json.loads(line) for line in done.stderr.splitlines()]
    fields = documented("event")
    assert {event["event"] for event in events} == set(fields)
    for event in events:
        assert event["v"] == 1
        if event["event"] == "result":
            assert set(event) - {"v", "event"} == set(RUN)
        else:
            expected = fields[event["event"]] - {"done", "skipped", "failed"}
            expected |= {"failed"} if event["event"] == "progress" else set()
            assert set(event) - {"v", "event"} == expected
    assert events[-1]["event"] == "result"
    statuses = [event["status"] for event in events if event["event"] == "item"]
    assert sorted(statuses) == ["done", "done", "failed"]


def test_paths_that_are_safe_for_any_name(tmp_path: Path, capfd) -> None:
    ir, vis = draw_pairs(tmp_path, 1)
    for side in (ir, vis):
        Path(side, "000.png").rename(Path(side, "new\u00a0line and 'quotes'.png"))
    assert fuse(ir, vis, "-o", tmp_path / "out", "--print0", "-q") == 0
    streams = capfd.readouterr()
    assert streams.out == str(tmp_path / "out" / "new\u00a0line and 'quotes'.png") + "\0"
    assert streams.err == ""


def test_the_manifest(pairs, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert fuse(*pairs, "-o", out, "--checksum") == 3
    header, *items = lines(out)
    assert set(header) == set(documented("header"))
    fields = documented("line")
    done = next(item for item in items if item["status"] == "done")
    failed = next(item for item in items if item["status"] == "failed")
    assert set(done) == set(fields) - {"error"}
    assert set(failed) == {"key", "status", "ir", "vis", "out", "fp", "error"}
    for name in ("limits", "nonfinite", "in", "sha256"):
        assert set(done[name]) == fields[name] - {"checksum"}
    assert set(done["ms"]) == fields["ms"]
    assert set(failed["error"]) == fields["error"]
