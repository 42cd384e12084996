"""Files of thermal cameras, built here byte by byte with temperatures that we chose."""

import json
import math
import struct
import sys
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import cv2
import numpy as np
import pytest
from hypothesis import given
from pictures import scene
from runs import draw, fuse, lines
from test_fuzz_readers import changed, edits, fuzzed
from test_metadata import exif_block

from fusecli import images
from fusecli.errors import InputError
from fusecli.images import metadata, thermal

PLANCK = {"r1": 16556.0, "b": 1428.0, "f": 1.0, "o": -342, "r2": 0.0413}
DEGREES = np.linspace(-5, 45, 24 * 32).reshape(24, 32)


@dataclass
class View:
    """Where the thermal image lies in the photograph: see `thermal.read_both`."""

    wider: float
    right: int = 0
    down: int = 0


@dataclass
class Shot:
    """What goes into one file."""

    degrees: np.ndarray = field(default_factory=lambda: DEGREES)
    photograph: np.ndarray | None = None
    view: View | None = None
    orientation: int = 1
    order: str = ">"

    def write(self, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        grey = cv2.normalize(self.degrees, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
        shown = images.encode(cv2.applyColorMap(grey, cv2.COLORMAP_INFERNO), format="jpeg")
        exif = metadata.JPEG_EXIF + exif_block(orientation=self.orientation)
        about = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
        path.write_bytes(shown[:2] + about + self._segments() + shown[2:])
        return path

    def _segments(self) -> bytes:
        """Return the records in APP1 segments of at most 60,000 bytes."""
        records = self._records()
        directory, bodies = b"", b""
        start = 64 + 32 * (len(records) + 2)
        for kind, body in records:
            directory += struct.pack(
                self.order + "HHIIII12x", kind, 1, 100, 1, start + len(bodies), len(body)
            )
            bodies += body
        head = struct.pack(self.order + "4s16sIII32x", b"FFF\0", b"test", 100, 64, len(records) + 2)
        data = head + directory + bytes(64) + bodies
        parts = [data[at : at + 60_000] for at in range(0, len(data), 60_000)]
        return b"".join(
            b"\xff\xe1"
            + struct.pack(">H5sBBB", len(part) + 10, b"FLIR\0", 1, number, len(parts) - 1)
            + part
            for number, part in enumerate(parts)
        )

    def _records(self) -> list[tuple[int, bytes]]:
        height, width = self.degrees.shape
        kelvin = self.degrees + 273.15
        raw = PLANCK["r1"] / (PLANCK["r2"] * (np.exp(PLANCK["b"] / kelvin) - PLANCK["f"]))
        stored = np.rint(raw - PLANCK["o"]).astype("<u2").tobytes()
        records = [(1, _headed(width, height, stored)), (32, _camera())]
        if self.photograph is not None:
            picture = images.encode(self.photograph, format="png")
            records.append((14, _headed(*self.photograph.shape[1::-1], picture)))
        if self.view is not None:
            view = self.view
            box = (0, width - 1, 0, height - 1)
            records.append((42, struct.pack("<f6h16x", view.wider, view.right, view.down, *box)))
        return records


def _headed(width: int, height: int, data: bytes) -> bytes:
    return struct.pack("<HHH26x", 2, width, height) + data


def _camera() -> bytes:
    """Return constants of a camera without losses: emissivity 1, no air, no window."""
    block = bytearray(900)
    struct.pack_into("<6f", block, 32, 1.0, 0.0, 293.15, 293.15, 293.15, 1.0)
    struct.pack_into("<f", block, 60, 0.5)
    struct.pack_into("<3f", block, 88, PLANCK["r1"], PLANCK["b"], PLANCK["f"])
    struct.pack_into("<5f", block, 112, 0.006569, 0.01262, -0.002276, -0.00667, 1.9)
    struct.pack_into("<if", block, 776, PLANCK["o"], PLANCK["r2"])
    return bytes(block)


@pytest.fixture
def flyr() -> ModuleType:
    return pytest.importorskip("flyr", reason="the extra thermal is not installed")


def test_temperatures_are_degrees(flyr, tmp_path: Path) -> None:
    picture = thermal.read(str(Shot().write(tmp_path / "shot.jpg")))
    assert picture.pixels.dtype == np.float32
    np.testing.assert_allclose(picture.pixels, DEGREES, atol=0.05)  # raw values are whole numbers


@pytest.mark.parametrize("big", [False, True])
def test_drones_write_the_lowest_byte_first(big: bool, flyr, tmp_path: Path) -> None:
    degrees = np.linspace(-5, 45, 200 * 256).reshape(200, 256) if big else DEGREES  # in two parts
    path = Shot(degrees, order="<", photograph=scene(channels=3)).write(tmp_path / "xt.jpg")
    picture, photograph = thermal.read_both(str(path))
    np.testing.assert_allclose(picture.pixels, degrees, atol=0.02)
    np.testing.assert_array_equal(photograph.pixels, scene(channels=3))


def test_a_turned_camera_turns_both_images(flyr, tmp_path: Path) -> None:
    photograph = scene("uint8", 3, (48, 64))
    shot = Shot(photograph=photograph, view=View(1.0), orientation=6)
    degrees, photo = thermal.read_both(str(shot.write(tmp_path / "shot.jpg")))
    np.testing.assert_allclose(degrees.pixels, np.rot90(DEGREES, -1), atol=0.05)
    np.testing.assert_array_equal(photo.pixels, np.rot90(photograph, -1))
    assert metadata.orientation(photo.metadata.exif) == 1


def test_the_photograph_is_cut_to_the_thermal_view(flyr, tmp_path: Path) -> None:
    """It is twice as wide, so a thermal pixel is 2 of its pixels; 6 to the right, 4 up."""
    photograph = scene("uint8", 3, (96, 128))
    shot = Shot(photograph=photograph, view=View(2.0, right=6, down=-4))
    degrees, photo = thermal.read_both(str(shot.write(tmp_path / "shot.jpg")))
    assert degrees.pixels.shape == (24, 32)
    top, left = (96 - 48) // 2 - 4, (128 - 64) // 2 + 6
    np.testing.assert_array_equal(photo.pixels, photograph[top : top + 48, left : left + 64])


def test_without_a_stored_view_the_images_are_whole(flyr, tmp_path: Path) -> None:
    photograph = scene("uint8", 3, (60, 80))
    shot = Shot(photograph=photograph).write(tmp_path / "shot.jpg")
    degrees, photo = thermal.read_both(str(shot))
    assert degrees.pixels.shape == (24, 32)
    np.testing.assert_array_equal(photo.pixels, photograph)


@pytest.mark.parametrize(
    ("count", "length", "scale", "offset", "pixels", "where"),
    [
        (32, 128, 2.0, 6, (0, 32), (38, 102)),  # well inside
        (32, 128, 4.0, 0, (0, 32), (0, 128)),  # the same view
        (32, 128, 4.0, 9, (0, 29), (9, 125)),  # the last three are beyond the edge
        (32, 128, 5.0, 0, (4, 28), (4, 124)),  # the thermal view is the wider one
        (32, 128, 2.0, -40, (4, 32), (0, 56)),
        (32, 128, 2.0, 900, (0, 32), (0, 128)),  # beside each other: constants to be ignored
    ],
)
def test_the_common_view(count, length, scale, offset, pixels, where) -> None:
    assert thermal._shared(count, length, scale, offset) == (pixels, where)


@pytest.mark.parametrize("wider", [0.0, -1.0, 1e-38, 1e38, math.nan, math.inf])
def test_views_without_a_scale_are_whole(wider: float) -> None:
    whole = slice(None)
    found = thermal._common_view((24, 32), (96, 128), wider, (3, 4))
    assert found == (whole, whole, (whole, whole))


def test_a_folder_of_photographs_is_fused_with_itself(flyr, tmp_path: Path, capsys) -> None:
    photograph = scene("uint8", 3, (96, 128))
    for number in range(2):
        shot = Shot(DEGREES + number, photograph, View(2.0))
        shot.write(tmp_path / "in" / f"{number}.jpg")
    out = tmp_path / "out"
    assert fuse(tmp_path / "in", "-o", out, "--reader", "thermal", "--ir-range", "-10:60") == 0
    for number in range(2):
        picture = images.read(str(out / f"{number}.png"))
        assert picture.pixels.shape == (48, 64, 3)
        assert picture.metadata.exif == exif_block(orientation=1)
    (_, *items) = lines(out)
    assert [line["limits"]["ir"] for line in items] == [[-10, 60]] * 2
    capsys.readouterr()
    again = (tmp_path / "in", "-o", out, "--reader", "thermal", "--ir-range", "-10:60", "--resume")
    assert fuse(*again, "--json") == 0
    assert json.loads(capsys.readouterr().out)["counts"]["skipped"] == 2


def test_a_photograph_stored_as_luma_and_chroma_is_shown_in_its_colours(flyr, tmp_path) -> None:
    colours = np.empty((48, 64, 3), np.uint8)
    colours[:24], colours[24:], colours[12:36, 20:40] = (
        (90, 160, 240),
        (120, 110, 100),
        (200, 40, 30),
    )
    stored = cv2.cvtColor(colours, cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]]
    _, photograph = thermal.read_both(str(Shot(photograph=stored).write(tmp_path / "a.jpg")))
    assert np.abs(photograph.pixels.astype(int) - colours).max() <= 2
    for plain in (colours, np.full_like(colours, 200)):  # what is RGB stays as it is
        path = Shot(photograph=plain).write(tmp_path / "b.jpg")
        _, photograph = thermal.read_both(str(path))
        assert (photograph.pixels == (plain if photograph.pixels.ndim == 3 else 200)).all()


def test_what_the_camera_does_not_know_is_registered(flyr, tmp_path: Path) -> None:
    shot = Shot(photograph=scene("uint8", 3, (96, 128)), view=View(2.0)).write(tmp_path / "a.jpg")
    out = tmp_path / "out"
    command = ["--reader", "thermal", "--align", "auto", "--on-reject", "identity"]
    assert fuse(shot, "-o", out, *command) == 0
    assert images.read(str(out / "a.png")).pixels.shape == (48, 64, 3)


def test_percentiles_of_a_sequence(flyr, tmp_path: Path) -> None:
    for number, warmer in enumerate((0, 20)):
        shot = Shot(DEGREES + warmer, scene("uint8", 3, (48, 64)), View(1.0))
        shot.write(tmp_path / "in" / f"{number}.jpg")
    command = ["--reader", "thermal", "--range-scope", "all", "--ir-range", "p0:p100"]
    assert fuse(tmp_path / "in", "-o", tmp_path / "out", *command) == 0
    (_, *items) = lines(tmp_path / "out")
    for line in items:
        np.testing.assert_allclose(line["limits"]["ir"], [-5, 65], atol=0.05)


def test_degrees_with_images_of_another_camera(flyr, tmp_path: Path) -> None:
    Shot().write(tmp_path / "ir" / "a.jpg")
    draw(tmp_path / "vis" / "a.png", (24, 32, 3))
    out = tmp_path / "out"
    assert fuse(tmp_path / "ir", tmp_path / "vis", "-o", out, "--reader", "thermal") == 0
    low, high = lines(out)[1]["limits"]["ir"]
    assert -5.1 < low < high < 45.1
    assert high - low > 45


def test_files_that_do_not_have_both(flyr, tmp_path: Path, capsys) -> None:
    Shot().write(tmp_path / "in" / "alone.jpg")
    draw(tmp_path / "in" / "plain.jpg", (24, 32, 3))
    whole = Shot(photograph=scene("uint8", 3, (48, 64))).write(tmp_path / "in" / "whole.jpg")
    cut = whole.read_bytes()
    whole.with_name("cut.jpg").write_bytes(cut[: len(cut) // 3])
    capsys.readouterr()
    assert fuse(tmp_path / "in", "-o", tmp_path / "out", "--reader", "thermal", "--json") == 3
    report = json.loads(capsys.readouterr().out)
    assert [(item["key"], item["code"]) for item in report["failures"]] == [
        ("alone", "read.photograph"), ("cut", "read.thermal"), ("plain", "read.thermal")
    ]  # fmt: skip


@fuzzed
@given(changes=edits())
def test_damaged_files(changes: list[tuple[str, float, bytes]]) -> None:
    pytest.importorskip("flyr", reason="the extra thermal is not installed")
    with TemporaryDirectory() as folder:
        shot = Shot(photograph=scene("uint8", 3, (48, 64)), view=View(2.0))
        path = shot.write(Path(folder, "shot.jpg"))
        path.write_bytes(changed(path.read_bytes(), changes))
        try:
            degrees, photo = thermal.read_both(str(path))
        except InputError as error:
            assert error.code in ("read.thermal", "read.photograph", "read.decode", "read.array")
            return
    assert degrees.pixels.ndim == 2
    assert photo.pixels.shape[:2] > (0, 0)


def test_a_claim_of_records_without_end(flyr, tmp_path: Path) -> None:
    path = Shot().write(tmp_path / "shot.jpg")
    data = path.read_bytes()
    at = data.index(b"FFF\0") + 28
    path.write_bytes(data[:at] + b"\xff\xff\xff\xff" + data[at + 4 :])
    with pytest.raises(InputError) as caught:
        thermal.read(str(path))
    assert (caught.value.code, "4294967295" in caught.value.facts[0]) == ("read.thermal", True)


def test_the_missing_extra_is_exit_5(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "flyr", None)
    draw(tmp_path / "in" / "a.jpg", (24, 32, 3))
    assert fuse(tmp_path / "in", "-o", tmp_path / "out", "--reader", "thermal", "--json") == 5
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], "fusecli[thermal]" in error["hint"]) == ("extra.missing", True)
    assert not (tmp_path / "out").exists()


def test_options_about_pairs_have_no_place_without_vis(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "flyr", ModuleType("flyr"))
    draw(tmp_path / "in" / "a.jpg", (24, 32, 3))
    command = [tmp_path / "in", "-o", tmp_path / "out", "--reader", "thermal", "--json"]
    assert fuse(*command, "--ir-suffix", "_ir") == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "usage.pairs"
