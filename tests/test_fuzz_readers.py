"""Damaged and hostile input: an `InputError` or a picture, soon and in little memory.

Pictures are changed in a few places, near the front where headers are as often as anywhere, and
PNG checksums are put right again, since otherwise no damage would ever reach the decoder.
`FUSECLI_FUZZ=5000` in the environment tries so many files of each kind.
"""

import io
import os
import struct
import sys
import zlib
from functools import cache
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pictures import cv_bytes, npy_bytes, scene, tiff_bytes

from fusecli import images
from fusecli.errors import InputError, UsageError
from fusecli.images import metadata
from fusecli.pairs import Pair, read_pair_list
from fusecli.pairs.files import check_key

resource = pytest.importorskip("resource")  # not on Windows

MAX_PIXELS = 1 << 20
MEMORY = 64 << 20  # bytes by which one file of at most that many pixels may raise the peak

FIELDS = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\1\0\0\0",
          b"\0\0\0\1", b"\xff\xff", b"\0\0")  # fmt: skip

fuzzed = settings(
    max_examples=int(os.environ.get("FUSECLI_FUZZ", "60")),
    deadline=5000,  # milliseconds: the promise is that nothing hangs
    suppress_health_check=[HealthCheck.too_slow],
)


@cache
def whole_files() -> dict[str, bytes]:
    """Return one small file of each kind."""
    colour, grey = scene(channels=3, size=(24, 31)), scene("uint16", size=(24, 31))
    exif = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    extras = metadata.Metadata(exif=exif, xmp=b"<x/>")
    files = {
        name: images.encode(colour, format=name, metadata=extras)
        for name in ("png", "jpeg", "webp", "tiff")
    }
    return files | {
        "png with alpha": images.encode(colour, format="png", alpha=colour[..., 0]),
        "16-bit png": images.encode(grey, format="png"),
        "16-bit tiff": images.encode(grey, format="tiff"),
        "float tiff in tiles": tiff_bytes(
            grey.astype(np.float32), tile=(16, 16), compression="zlib"
        ),
        "bigtiff": tiff_bytes(colour, bigtiff=True),
        "lzw tiff": cv_bytes(".tiff", colour, 259, 5),
        "packbits tiff": cv_bytes(".tiff", colour, 259, 32773),
        "npy": npy_bytes(grey),
        "bmp": cv_bytes(".bmp", colour),
        "ppm": b"P6\n31 24\n255\n" + colour.tobytes(),
        "text pgm": b"P2\n3 2\n255\n1 2 3 4 5 6\n",
        "pfm": b"Pf\n31 24\n-1.0\n" + grey.astype("<f4").tobytes(),
    }


@st.composite
def edits(draw: st.DrawFn) -> list[tuple[str, float, bytes]]:
    """Return changes as (what, where as a share of the file or of its front, bytes)."""
    return draw(
        st.lists(
            st.tuples(
                st.sampled_from(["put", "put near front", "insert", "delete", "cut"]),
                st.floats(0, 1, exclude_max=True),
                st.sampled_from(FIELDS) | st.binary(min_size=1, max_size=8),
            ),
            min_size=1,
            max_size=6,
        )
    )


def changed(data: bytes, changes: list[tuple[str, float, bytes]]) -> bytes:
    for what, where, value in changes:
        front = min(len(data), 200) if what == "put near front" else len(data)
        place = int(where * front)
        if what == "cut":
            data = data[: max(place, len(data) // 2)]
        elif what == "insert":
            data = data[:place] + value + data[place:]
        elif what == "delete":
            data = data[:place] + data[place + len(value) :]
        else:
            data = data[:place] + value + data[place + len(value) :]
    return data


def with_checksums(data: bytes) -> bytes:
    """Return a PNG file whose chunks, as far as they can be followed, have the right checksum."""
    fixed, place = bytearray(data), 8
    while place + 12 <= len(fixed):
        end = place + 8 + int.from_bytes(fixed[place : place + 4], "big")
        if end + 4 > len(fixed):
            break
        fixed[end : end + 4] = struct.pack(">I", zlib.crc32(fixed[place + 4 : end]))
        place = end + 4
    return bytes(fixed)


def peak_memory() -> int:
    """Return the largest size that this process ever had, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def assert_picture_or_reason(data: bytes) -> None:
    before = peak_memory()
    _assert_picture_or_reason(data)
    assert peak_memory() - before < MEMORY


def _assert_picture_or_reason(data: bytes) -> None:
    try:
        picture = images.decode(data, "fuzz", max_pixels=MAX_PIXELS)
    except InputError as error:
        assert error.code in ("read.decode", "read.bomb")
        assert len(error.message) > len("cannot decode fuzz: ")
        assert "\n" not in error.message
        return
    pixels = picture.pixels
    assert pixels.dtype.name in ("uint8", "uint16", "float32")
    assert 0 < pixels.shape[0] * pixels.shape[1] <= MAX_PIXELS
    assert pixels.shape[2:] in ((), (3,))
    for plane in (picture.alpha, picture.invalid):
        assert plane is None or plane.shape == pixels.shape[:2]
    # What was read must be usable: a damaged file may hold any value.
    unit = images.to_unit(pixels, images.limits(pixels, "auto", picture.invalid), picture.invalid)
    assert np.isfinite(unit).all()
    images.encode(images.from_unit(unit, np.uint8), format="png", metadata=picture.metadata)


@pytest.mark.parametrize("name", whole_files())
def test_the_files_are_whole_to_begin_with(name: str) -> None:
    size = (2, 3) if name == "text pgm" else (24, 31)
    picture = images.decode(whole_files()[name], name)
    assert sorted(picture.pixels.shape[:2]) == sorted(size)


@pytest.mark.parametrize("name", whole_files())
@fuzzed
@given(changes=edits())
def test_damaged_files(name: str, changes: list[tuple[str, float, bytes]]) -> None:
    data = changed(whole_files()[name], changes)
    assert_picture_or_reason(data)
    if "png" in name:
        assert_picture_or_reason(with_checksums(data))


@pytest.mark.parametrize(
    "start",
    [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe1", b"II*\0\x08\0\0\0", b"MM\0+\0\x08\0\0", b"BM",
     b"RIFF\x99\0\0\0WEBPVP8X", b"\x93NUMPY\x01\0", b"\x93NUMPY\x02\0", b"P5 ", b"P1\n", b"PF\n"],
)  # fmt: skip
@fuzzed
@given(rest=st.binary(max_size=300))
def test_any_bytes_after_a_signature(start: bytes, rest: bytes) -> None:
    assert_picture_or_reason(start + rest)


@fuzzed
@given(st.text(st.characters(codec="ascii"), max_size=80))
@example("{'descr': '|O', 'fortran_order': False, 'shape': (2, 2), }")
@example("{'descr': '<f4', 'fortran_order': False, 'shape': (2, -2), }")
@example("{'descr': '<f4', 'fortran_order': False, 'shape': (" + "9" * 40 + ", 2), }")
@example("__import__('os').system('false')")
@example("(" * 80)
def test_npy_headers_are_data_not_code(header: str) -> None:
    line = header.encode() + b"\n"
    data = b"\x93NUMPY\x01\0" + struct.pack("<H", len(line)) + line + bytes(64)
    assert_picture_or_reason(data)


@fuzzed
@given(st.binary(max_size=120))
def test_any_exif_block(block: bytes) -> None:
    for exif in (block, b"II*\0" + block, b"MM\0*\0\0\0\x08" + block):
        assert 1 <= metadata.orientation(exif) <= 8
        upright = metadata.upright(exif)
        assert upright is not None
        assert len(upright) == len(exif)
        assert metadata.orientation(upright) == 1


@fuzzed
@given(st.text(max_size=40))
def test_a_key_that_is_accepted_stays_inside(key: str) -> None:
    try:
        check_key(key)
    except InputError as error:
        assert error.code == "pair.key"
        return
    assert key
    assert "\0" not in key
    path = PurePosixPath("/out") / key
    assert path.parts[:2] == ("/", "out")
    assert ".." not in path.parts


@fuzzed
@given(
    st.sampled_from(["csv", "tsv", "jsonl", "txt"]),
    st.sampled_from([b"", b"ir,vis\n", b"ir\tvis\tname\n", b'{"ir":"a","vis":"b"}\n']),
    st.binary(max_size=120)
    | st.text(st.sampled_from('ab,\t"\n\r{}[]:./\\\0é'), max_size=60).map(str.encode),
)
def test_any_pair_list(suffix: str, head: bytes, rest: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, f"list.{suffix}")
        path.write_bytes(head + rest)
        pairs: list[Pair] = []
        try:
            pairs.extend(read_pair_list(str(path)))
        except InputError as error:
            assert error.code.startswith("pair.")
    for pair in pairs:
        assert check_key(pair.key)
        assert "\0" not in pair.ir + pair.vis


@fuzzed
@given(st.text(st.sampled_from("0123456789.:-+epPainfo ,"), max_size=16))
def test_any_range(rule: str) -> None:
    pixels = np.arange(12, dtype=np.float32).reshape(3, 4)
    try:
        low, high = images.limits(pixels, rule)
    except UsageError as error:
        assert error.code in ("range.syntax", "range.empty")
        return
    assert low <= high
    assert np.isfinite(images.to_unit(pixels, (low, high))).all()


def test_no_file_is_pickled_open() -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return (pytest.fail, ("unpickled",))

    target = io.BytesIO()
    np.save(target, np.array([[Trap()]], dtype=object), allow_pickle=True)
    assert_picture_or_reason(target.getvalue())
