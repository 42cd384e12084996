"""EXIF out of one file and into another: same values, other offsets, other byte order."""

import io
import struct

import numpy as np
import pytest
import tifffile
from hypothesis import example, given
from hypothesis import strategies as st
from pictures import decode, scene, tiff_bytes
from test_fuzz_readers import fuzzed

from fusecli import images
from fusecli.images import exif, tiff
from fusecli.images.metadata import Metadata

CAMERA: exif.Directory = {
    271: (2, b"Maker\0"),
    306: (2, b"2026:01:31 12:00:00\0"),
    exif.EXIF: {
        33434: (5, struct.pack("<II", 1, 250)),  # exposure time
        34855: (3, struct.pack("<H", 400)),  # sensitivity
        37500: (7, b"a maker's note"),
        exif.INTEROPERABILITY: {1: (2, b"R98\0")},
    },
    exif.GPS: {
        1: (2, b"N\0"),
        2: (5, struct.pack("<6I", 52, 1, 30, 1, 1234, 100)),
    },
}


def in_other_order(block: bytes) -> bytes:
    """Return the block of `CAMERA` as a big-endian camera writes it: every number turned."""

    def write(directory: exif.Directory, at: int) -> bytes:
        start = at + 2 + 12 * len(directory) + 4
        rows, bodies = b"", b""
        for tag, content in sorted(directory.items()):
            if isinstance(content, dict):
                kind, many, value = 4, 1, struct.pack(">I", start + len(bodies))
                bodies += write(content, start + len(bodies))
            else:
                kind, value = content
                width, unit = exif.SIZES[kind]
                many = len(value) // width
                value = b"".join(value[i : i + unit][::-1] for i in range(0, len(value), unit))
                if len(value) > 4:
                    value += bytes(len(value) % 2)
                    bodies, value = bodies + value, struct.pack(">I", start + len(bodies))
            rows += struct.pack(">HHI4s", tag, kind, many, value)
        return struct.pack(">H", len(directory)) + rows + bytes(4) + bodies

    return b"MM\0*" + struct.pack(">I", 8) + write(exif.parse(block), 8)


def test_a_block_comes_back() -> None:
    block = exif.build(CAMERA)
    assert exif.parse(block) == CAMERA
    turned = in_other_order(block)
    assert turned[:2] == b"MM"
    assert exif.parse(turned) == CAMERA


@pytest.mark.parametrize("block", [exif.build(CAMERA), in_other_order(exif.build(CAMERA))])
@pytest.mark.parametrize("big", [False, True])
def test_a_tiff_carries_it(block: bytes, big: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if big:
        monkeypatch.setattr(tiff, "BIG_ABOVE", 0)
    data = images.encode(scene("uint16"), format="tiff", metadata=Metadata(exif=block))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        assert file.is_bigtiff is big
        tags = file.pages.first.tags
        assert tags[271].value == "Maker"
        assert tags[exif.EXIF].value["ExposureTime"] == (1, 250)
        assert tags[exif.EXIF].value["ISOSpeedRatings"] == 400
        assert tags[exif.GPS].value["GPSLatitude"] == (52, 1, 30, 1, 1234, 100)
    picture = decode(data)
    np.testing.assert_array_equal(picture.pixels, scene("uint16"))
    assert exif.parse(picture.metadata.exif or b"") == CAMERA


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "tiff"])
def test_from_a_tiff_into_anything(format: str) -> None:
    given = Metadata(exif=exif.build(CAMERA))
    source = decode(images.encode(scene(), format="tiff", metadata=given))
    found = decode(images.encode(scene(), format=format, metadata=source.metadata)).metadata
    assert exif.parse(found.exif or b"") == CAMERA


def test_pillow_reads_it() -> None:
    pil = pytest.importorskip("PIL.Image")
    given = Metadata(exif=exif.build(CAMERA))
    read = pil.open(io.BytesIO(images.encode(scene(), format="tiff", metadata=given))).getexif()
    assert read[271] == "Maker"
    assert float(read.get_ifd(exif.EXIF)[33434]) == 1 / 250
    assert [float(part) for part in read.get_ifd(exif.GPS)[2]] == [52, 30, 12.34]


def test_a_file_without_it_stays_without() -> None:
    picture = decode(tiff_bytes(scene(), software="somebody"))
    assert picture.metadata.exif is None


@fuzzed
@given(st.sampled_from([b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b""]), st.binary(max_size=200))
@example(b"II*\0\x08\0\0\0", struct.pack("<HHHII", 1, exif.EXIF, 4, 1, 8))  # nested in itself
def test_any_block(start: bytes, rest: bytes) -> None:
    found = exif.parse(start + rest)
    assert exif.parse(exif.build(found)) == found
    data = images.encode(scene(), format="tiff", metadata=Metadata(exif=start + rest))
    assert decode(data).pixels.shape == scene().shape
