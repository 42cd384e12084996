"""The benchmarks that others read: what they print, and the page that is made of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as renewing
from benchmarks import reach
from benchmarks.timing import table

ROOT = Path(__file__).parents[1]
CONTRACT = {
    "network", "device", "precision", "runtime", "batch", "ms", "plain_ms", "ratio", "max_diff",
}  # fmt: skip


def test_networks_are_compared_with_their_plain_selves() -> None:
    command = [sys.executable, "-m", "benchmarks.networks", "--json", "-m", "reconet"]
    done = subprocess.run(
        [*command, "--size", "48x32", "--batch", "2", "--rounds", "1", "--device", "cpu"],
        capture_output=True, text=True, check=True, cwd=ROOT, env=os.environ,
    )  # fmt: skip
    full, narrow = json.loads(done.stdout)
    assert full.keys() >= CONTRACT
    assert (full["precision"], narrow["precision"]) == ("fp32", "bf16")
    assert full["max_diff"] < 0.01 < narrow["max_diff"] < 3
    for row in (full, narrow):
        assert (row["network"], row["device"], row["batch"]) == ("reconet", "cpu", 2)
        assert row["ratio"] == pytest.approx(row["plain_ms"] / row["ms"])


def test_goals_are_judged_by_the_tables_of_the_page() -> None:
    page = renewing.PAGE.read_text("utf-8")
    assert f"<!-- python -m benchmarks.reach -->\n{table(reach.reach())}\n<!-- end -->" in page


def test_only_what_is_named_is_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "RESULTS.md"
    page.write_text(
        "# A\n<!-- python -m benchmarks.a -->\nold\n<!-- end -->\nprose\n"
        "<!-- python -m benchmarks.b -->\nold\n<!-- end -->\n"
        "<!-- python -m benchmarks.reach -->\nold\n<!-- end -->\n"
    )
    monkeypatch.setattr(renewing, "PAGE", page)
    monkeypatch.setattr(renewing, "printed", lambda command: f"new {command[-1]}\n")
    monkeypatch.setattr(sys, "argv", ["benchmarks", "benchmarks.b"])
    renewing.main()
    assert page.read_text() == (
        "# A\n<!-- python -m benchmarks.a -->\nold\n<!-- end -->\nprose\n"
        "<!-- python -m benchmarks.b -->\nnew b\n<!-- end -->\n"
        "<!-- python -m benchmarks.reach -->\nnew h\n<!-- end -->\n"
    )
    monkeypatch.setattr(sys, "argv", ["benchmarks"])
    renewing.main()
    assert "old" not in page.read_text()
