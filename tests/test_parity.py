"""The pictures of the fast paths are those of the plain networks: whole, odd, in batches, tiled."""

from pathlib import Path

import pytest
import torch

from benchmarks import parity
from benchmarks.parity import Difference, Row
from fusecli import checkpoint

LIGHT = ("duet", "reconet")
PAIRS = Path(__file__).parent / "data"


@pytest.fixture
def small_set(tmp_path: Path) -> Path:
    (tmp_path / "ir").symlink_to(PAIRS / "ir")
    (tmp_path / "vi").symlink_to(PAIRS / "vis")
    return tmp_path


@pytest.mark.parametrize("entry", checkpoint.entries(), ids=lambda entry: entry.name)
def test_every_way_of_running_keeps_its_limits(
    entry: checkpoint.Entry, small_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = entry.model == "smfnet"  # its tiles are run a dozen times
    wanted = {"fp32"} if slow else {"fp32", "bf16"}
    monkeypatch.setattr(parity, "TILE", 16 if slow else 32)
    found = list(parity.rows([small_set], [entry.name], sorted(wanted), 24 if slow else 48, 2))
    assert {row.precision for row in found} == wanted
    for row in found:
        assert set(row.worst) == {"whole", "odd", "batch", "tiled"}
        assert row.within, row


@pytest.mark.realdata
@pytest.mark.parametrize("name", parity.SETS.split(","))
def test_pictures_of_the_test_sets_keep_the_limits(name: str, data_dir: Path) -> None:
    found = list(parity.rows([data_dir / name], LIGHT, ["fp32", "bf16"], 96, 2))
    assert len(found) == 2 * len(LIGHT)
    assert all(row.within for row in found), found


def test_a_picture_beyond_its_limits_is_told() -> None:
    expected = torch.full((1, 1, 10, 10), 0.4)
    found = expected.clone()
    found[..., 0, 0] += 3 / 255
    difference = Difference.of(expected, found)
    assert (difference.largest, round(difference.mean, 3)) == (3, 0.03)
    rows = [Row("duet", "bf16", "one", 1, 10, {"whole": difference})]
    assert not rows[0].within
    rows.append(Row("duet", "bf16", "two", 4, 12, {"whole": Difference(1, 0.2)}))
    (line,) = parity.summary(rows)
    assert line["verdict"] == "**beyond** on one"
    assert (line["pairs"], line["longest side"]) == (5, 12)
    assert (line["whole"], line["tiled"]) == ("3, 0.200", "not tiled")


def test_the_plain_network_takes_no_fast_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fast path that is wrong must show: its results are not compared with themselves."""
    from fusecli.ops import recurrent_cell

    loaded = checkpoint.load("reconet")
    ir, vis = torch.rand(2, 1, 1, 20, 20, generator=torch.manual_seed(0))
    expected = parity.plain(loaded, ir, vis)
    monkeypatch.setattr(recurrent_cell, "in_strips", None)
    assert torch.equal(parity.plain(loaded, ir, vis), expected)
