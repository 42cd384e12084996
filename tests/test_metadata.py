"""EXIF, XMP, colour profile and GeoTIFF tags survive; orientation becomes 1."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from pictures import assert_same, decode, oriented, scene, tiff_bytes

from fusecli import images
from fusecli.images import metadata
from fusecli.images.metadata import Metadata

XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><t tiff:Orientation="1">ü</t></x:xmpmeta>'.encode()

GEO_TAGS = {
    33550: (12, 3, (0.5, 0.5, 0.0)),
    33922: (12, 6, (0.0, 0.0, 0.0, 440720.0, 3751320.0, 0.0)),
    34735: (3, 16, (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32611)),
    34736: (12, 2, (6378137.0, 298.257222101)),
    34737: (2, 15, "UTM 11N|WGS84|"),
}


def exif_block(order: str = ">", orientation: int | None = 6) -> bytes:
    """Return an EXIF block with a maker and, unless None, an orientation."""
    entries = [(0x010F, 2, 4, struct.pack("4s", b"Cam\0"))]
    if orientation is not None:
        entries.append((0x0112, 3, 1, struct.pack(order + "HH", orientation, 0)))
    mark = {"<": b"II*\0", ">": b"MM\0*"}[order]
    block = mark + struct.pack(order + "IH", 8, len(entries))
    for tag, kind, count, value in entries:
        block += struct.pack(order + "HHI", tag, kind, count) + value
    return block + bytes(4)


def profile(space: bytes = b"RGB ", size: int = 300) -> bytes:
    """Return the header of a colour profile for a colour space, filled up."""
    body = struct.pack(">I", size) + b"test" + bytes(4) + b"mntr" + space + b"XYZ " + bytes(12)
    return (body + b"acsp").ljust(size, b"\x5a")


def everything(**changes) -> Metadata:
    fields = {"exif": exif_block(orientation=1), "xmp": XMP, "icc": profile()} | changes
    return Metadata(**fields)


@pytest.mark.parametrize("channels", [0, 3])
@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_everything_survives_a_round_trip(format: str, channels: int) -> None:
    # WebP has no grey pixels, so there a grey picture takes an RGB profile.
    space = b"GRAY" if channels == 0 and format != "webp" else b"RGB "
    given = everything(icc=profile(space))
    pixels = scene("uint8", channels)
    data = images.encode(pixels, format=format, metadata=given)
    picture = decode(data)
    assert picture.metadata == given
    plain = decode(images.encode(pixels, format=format))
    assert_same(picture.pixels, plain.pixels)
    assert plain.metadata == Metadata()


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_other_programs_find_what_was_written(format: str) -> None:
    pil = pytest.importorskip("PIL.Image")
    given = everything()
    data = images.encode(scene(channels=3), format=format.lower(), metadata=given)
    image = pil.open(io.BytesIO(data))
    image.load()
    assert image.format == format
    assert image.getexif()[0x010F] == "Cam"
    assert image.getexif()[0x0112] == 1
    assert image.info["icc_profile"] == given.icc
    xmp = image.info.get("xmp") or image.info["XML:com.adobe.xmp"]
    assert (xmp if isinstance(xmp, bytes) else xmp.encode()) == XMP


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_what_other_programs_wrote_is_found(format: str) -> None:
    pil = pytest.importorskip("PIL.Image")
    target = io.BytesIO()
    options = {"exif": b"Exif\0\0" + exif_block(), "icc_profile": profile()}
    if format != "PNG":
        options["xmp"] = XMP
    pil.fromarray(scene(channels=3)).save(target, format, **options)
    found = decode(target.getvalue()).metadata
    assert found.exif is not None
    assert b"Cam\0" in found.exif
    assert found.icc == profile()
    assert found.xmp == (None if format == "PNG" else XMP)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_orientation_is_applied_and_written_as_1(format: str, orientation: int, order: str) -> None:
    stored, alpha = scene("uint8", 3), None if format == "jpeg" else scene()
    turned = everything(exif=exif_block(order, orientation))
    upright = decode(images.encode(stored, format=format, alpha=alpha))
    picture = decode(images.encode(stored, format=format, alpha=alpha, metadata=turned))
    assert_same(picture.pixels, oriented(upright.pixels, orientation))
    if alpha is not None:
        assert picture.alpha is not None
        assert_same(picture.alpha, oriented(alpha, orientation))
    assert picture.metadata.exif == exif_block(order, 1)
    assert picture.pixels.flags["C_CONTIGUOUS"]


@pytest.mark.parametrize("orientation", [0, 9, 65535, None])
def test_orientations_that_mean_nothing_turn_nothing(orientation: int | None) -> None:
    assert metadata.orientation(exif_block(">", orientation)) == 1


@pytest.mark.parametrize(
    "block", [b"", b"MM", b"MM\0*", b"II*\0\xff\xff\xff\xff", exif_block()[:-8], b"garbage" * 9]
)
def test_damaged_exif_turns_nothing_and_is_kept(block: bytes) -> None:
    assert metadata.orientation(block) == 1
    assert metadata.upright(block) == block


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'<d tiff:Orientation="6"/>', b'<d tiff:Orientation="1"/>'),
        (b"<d tiff:Orientation = '8'/>", b"<d tiff:Orientation = '1'/>"),
        (b"<tiff:Orientation>3</tiff:Orientation>", b"<tiff:Orientation>1</tiff:Orientation>"),
        (b'<d tiff:Orientation="1" x="6"/>', b'<d tiff:Orientation="1" x="6"/>'),
    ],
)
def test_xmp_says_the_same_about_orientation(text: bytes, expected: bytes) -> None:
    png = images.encode(scene(), format="png", metadata=Metadata(xmp=text))
    assert decode(png).metadata.xmp == expected


class TestProfiles:
    @pytest.mark.parametrize("format", ["png", "jpeg", "webp", "tiff"])
    def test_one_for_other_channels_is_left_out(self, format: str) -> None:
        wrong = b"GRAY" if format == "webp" else b"RGB "
        data = images.encode(scene(), format=format, metadata=Metadata(icc=profile(wrong)))
        assert decode(data).metadata.icc is None

    def test_cmyk_does_not_describe_the_rgb_made_of_it(self) -> None:
        pil = pytest.importorskip("PIL.Image")
        target = io.BytesIO()
        image = pil.fromarray(scene(channels=3)).convert("CMYK")
        image.save(target, "JPEG", icc_profile=profile(b"CMYK"))
        assert decode(target.getvalue()).metadata.icc is None

    @pytest.mark.parametrize("size", [65518, 65519, 65520, 200_000])
    def test_large_ones_take_several_jpeg_segments(self, size: int) -> None:
        given = Metadata(icc=profile(size=size))
        data = images.encode(scene(channels=3), format="jpeg", metadata=given)
        assert decode(data).metadata == given

    def test_a_block_that_inflates_without_end_is_dropped(self) -> None:
        png = images.encode(scene(), format="png")
        body = b"iCCP" + b"x\0\0" + zlib.compress(bytes(1 << 25))
        chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
        picture = decode(png[:33] + chunk + png[33:])
        assert picture.metadata.icc is None
        assert_same(picture.pixels, scene())

    def test_blocks_too_long_for_jpeg_are_left_out(self) -> None:
        given = Metadata(exif=exif_block(orientation=1), xmp=b"x" * 70_000)
        found = decode(images.encode(scene(), format="jpeg", metadata=given)).metadata
        assert found == Metadata(exif=given.exif)


class TestGeoTiff:
    def reference(self, **options) -> bytes:
        tags = [(code, *values, True) for code, values in GEO_TAGS.items()]
        return tiff_bytes(scene("uint16"), extratags=tags, **options)

    def test_tags_survive_exactly(self) -> None:
        given = decode(self.reference()).metadata
        assert given.has_grid
        data = images.encode(scene("uint8", 3), format="tiff", metadata=given)
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            tags = file.pages.first.tags
            for code, (kind, count, value) in GEO_TAGS.items():
                tag = tags[code]
                found = tag.value.rstrip("\0") if isinstance(tag.value, str) else tag.value
                assert (int(tag.dtype), tag.count, found) == (kind, count, value)
        assert decode(data).metadata == given

    def test_tags_about_stored_values_stay_behind(self) -> None:
        data = tiff_bytes(scene("uint16"), extratags=[(42113, "s", 0, "-9999", True),
                                                      (42112, "s", 0, "<GDALMetadata/>", True),
                                                      *[(code, *values, True) for code, values
                                                        in GEO_TAGS.items()]])  # fmt: skip
        given = decode(data).metadata
        copy = images.encode(scene(), format="tiff", metadata=given)
        with tifffile.TiffFile(io.BytesIO(copy)) as file:
            codes = {tag.code for tag in file.pages.first.tags}
        assert set(GEO_TAGS) <= codes
        assert not codes & {42112, 42113}

    def test_without_grid_keeps_the_rest(self) -> None:
        given = decode(self.reference(resolution=(300, 150), resolutionunit=2)).metadata
        assert given.resolution == (300, 150, 2)
        bare = given.without_grid()
        assert not bare.has_grid
        assert bare.resolution is None
        assert bare.icc == given.icc

    def test_resolution_profile_and_xmp_survive(self) -> None:
        given = Metadata(xmp=XMP, icc=profile(), resolution=(118.0, 59.5, 3))
        data = images.encode(scene("uint16", 3), format="tiff", metadata=given)
        assert decode(data).metadata == given

    def test_tie_points_of_a_turned_picture_are_dropped(self) -> None:
        data = self.reference()
        turned = tiff_bytes(
            scene("uint16"),
            extratags=[(274, 3, 1, 6, True), (33550, *GEO_TAGS[33550], True)],
        )
        assert decode(data).metadata.has_grid
        assert not decode(turned).metadata.has_grid

    def test_other_formats_take_what_they_have_a_place_for(self) -> None:
        tags = [(33550, *GEO_TAGS[33550], True), (700, 1, len(XMP), XMP, True)]
        given = decode(tiff_bytes(scene("uint16"), extratags=tags)).metadata
        found = decode(images.encode(scene("uint16"), format="png", metadata=given)).metadata
        assert found == Metadata(xmp=XMP)


def test_metadata_never_changes_how_opencv_decodes() -> None:
    for format in ("png", "jpeg", "webp"):
        plain = images.encode(scene(channels=3), format=format)
        full = images.encode(scene(channels=3), format=format, metadata=everything())
        first, second = (
            cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) for data in (plain, full)
        )
        assert_same(first, second)


def test_lossless_webp_with_opacity_keeps_it_beside_metadata() -> None:
    for quality in (90, 101):  # OpenCV writes lossless WebP above 100
        data = images.encode(
            scene(channels=3), format="webp", alpha=scene(), metadata=everything(), quality=quality
        )
        picture = decode(data)
        assert picture.alpha is not None
        assert_same(picture.alpha, scene())
        assert picture.metadata == everything()
