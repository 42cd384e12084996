"""Frames of two cameras that trigger on their own are paired by the times in their names."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from fusecli.cli import run
from fusecli.errors import FusecliError
from fusecli.pairs import find_pairs
from fusecli.pairs.times import Timing, reader, seconds_of

START = datetime(2024, 5, 6, 7, 8, 9)


def film(
    folder: Path, rate: float, count: int, late: float = 0.0, style: str = "{:%Y%m%d_%H%M%S_%f}"
) -> None:
    """Touch the frames of a camera."""
    folder.mkdir()
    for number in range(count):
        moment = START + timedelta(seconds=late + number / rate)
        (folder / (style.format(moment) + ".png")).touch()


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("20240506_070809", 0.0),
        ("20240506_070809_250", 0.25),
        ("20240506070809250", 0.25),
        ("2024-05-06T07:08:09.5", 0.5),
        ("DJI_20240506070809_0001_T", 0.0),
        ("img_2024-05-06-07-08-09-000125", 0.000125),
        ("1714979289", 0.0),
        ("1714979289.75", 0.75),
        ("frame_1714979289750", 0.75),
        ("1714979289750000000", 0.75),
    ],
)
def test_times_are_found_in_names(name: str, seconds: float) -> None:
    assert seconds_of(name) == pytest.approx(1714979289 + seconds, abs=1e-6)


def test_a_time_of_day_is_a_time_and_a_counter_is_none() -> None:
    assert seconds_of("cam_07-08-09.5") == 7 * 3600 + 8 * 60 + 9.5
    assert seconds_of("frame_000123") is None
    assert seconds_of("frame_12") is None
    assert seconds_of("20241399_999999") is None


def test_cameras_of_30_and_9_hertz_pair_with_the_nearest(tmp_path: Path) -> None:
    film(tmp_path / "vis", 30, 60)
    film(tmp_path / "ir", 9, 18, late=0.004)
    found = find_pairs(str(tmp_path / "ir"), str(tmp_path / "vis"), pair_by="time")
    assert len(found.pairs) == 18
    assert len(found.unmatched_vis) == 42
    for pair in found.pairs:
        times = [seconds_of(Path(path).stem) for path in (pair.ir, pair.vis)]
        assert abs(times[0] - times[1]) <= 1 / 60 + 1e-6
        assert pair.key == Path(pair.vis).stem


def test_no_frame_is_used_twice_and_late_ones_are_left_out(tmp_path: Path) -> None:
    film(tmp_path / "vis", 10, 20)
    film(tmp_path / "ir", 10, 20, late=0.03)
    for number in (3, 4, 11):
        sorted((tmp_path / "vis").iterdir())[number].unlink()
    found = find_pairs(str(tmp_path / "ir"), str(tmp_path / "vis"), pair_by="time")
    assert len(found.pairs) == 17 == len({pair.vis for pair in found.pairs})
    assert len(found.unmatched_ir) == 3


def test_an_offset_mends_clocks_that_differ(tmp_path: Path) -> None:
    film(tmp_path / "vis", 10, 10)
    film(tmp_path / "ir", 10, 10, late=3600)
    sides = str(tmp_path / "ir"), str(tmp_path / "vis")
    with pytest.raises(FusecliError, match="apart") as caught:
        find_pairs(*sides, pair_by="time")
    assert "--offset" in (caught.value.hint or "")
    assert len(find_pairs(*sides, pair_by="time", timing=Timing(offset=-3600)).pairs) == 10
    assert len(find_pairs(*sides, pair_by="time", timing=Timing(max_gap=3600)).pairs) == 1


def test_a_format_reads_what_is_not_found(tmp_path: Path) -> None:
    film(tmp_path / "vis", 10, 5, style="v {:%d.%m.%y %Hh%Mm%S.%f}")
    film(tmp_path / "ir", 10, 5, style="i {:%d.%m.%y %Hh%Mm%S.%f}")
    timing = Timing(format="%d.%m.%y %Hh%Mm%S.%f")
    found = find_pairs(str(tmp_path / "ir"), str(tmp_path / "vis"), pair_by="time", timing=timing)
    assert [Path(p.ir).stem[1:] for p in found.pairs] == [Path(p.vis).stem[1:] for p in found.pairs]


@pytest.mark.parametrize("format", ["frame", "%Q"])
def test_a_format_without_time_is_refused(format: str) -> None:
    with pytest.raises(FusecliError, match="--time-format") as caught:
        reader(format)
    assert caught.value.code == "pair.time"


def test_the_command_tells_once_what_is_left_out(tmp_path: Path, capsys) -> None:
    film(tmp_path / "vis", 30, 30)
    film(tmp_path / "ir", 10, 10)
    sides = [str(tmp_path / "ir"), str(tmp_path / "vis"), "-o", str(tmp_path / "out"), "-n"]
    assert run(["fuse", *sides, "--pair-by", "time", "--max-gap", "0.01"]) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 10
    assert said.err.count("20 files without a partner are left out") == 1
    assert run(["fuse", *sides, "--offset", "2"]) == 2
    assert "add --pair-by time" in capsys.readouterr().err
    (tmp_path / "ir" / "mean.png").touch()
    assert run(["fuse", *sides, "--pair-by", "time"]) == 2
    assert "hold no time" in capsys.readouterr().err
