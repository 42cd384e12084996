"""Pixels without a measurement: known from the reader to the file that is written."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from pictures import assert_same, cv_bytes, decode, npy_bytes, refused, scene, tiff_bytes
from runs import fuse

from fusecli import images
from fusecli.images import palettes
from fusecli.images.values import bytes_swapped, stray_value
from fusecli.registration.move import Resampling, move_picture
from fusecli.registration.transform import Transform

INSIDE = np.hypot(*(np.mgrid[:37, :45] - np.array([18, 22])[:, None, None])) < 15


def georeferenced(path: Path, pixels: np.ndarray, kind: str) -> Path:
    """Write (C, H, W) as an orthophoto whose collar is told by a tag, an opacity or a mask."""
    rasterio = pytest.importorskip("rasterio")
    empty = 255 if kind == "tag 255" else 0
    pixels = np.where(INSIDE, pixels, empty).astype(pixels.dtype)
    if kind == "alpha":
        pixels = np.concatenate((pixels, (INSIDE * 255).astype(pixels.dtype)[None]))
    options: dict = {"nodata": empty} if kind.startswith("tag") else {}
    if kind == "alpha":
        options["alpha"] = "yes"
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path, "w", driver="GTiff", height=37, width=45, count=len(pixels), dtype=pixels.dtype,
            crs="EPSG:32632", transform=rasterio.Affine(0.1, 0, 500_000, 0, -0.1, 5_300_000),
            photometric="rgb" if len(pixels) >= 3 else "minisblack", **options,
        ) as file,
    ):  # fmt: skip
        file.write(pixels)
        if kind == "mask":
            file.write_mask(INSIDE)
    return path


@pytest.mark.parametrize("kind", ["tag 0", "tag 255", "alpha", "mask"])
def test_a_collar_is_without_measurement_however_it_is_told(kind: str, tmp_path: Path) -> None:
    colours = np.moveaxis(scene("uint8", 3), -1, 0).clip(30, 220)
    picture = images.read(str(georeferenced(tmp_path / "a.tif", colours, kind)))
    assert picture.invalid is not None
    assert_same(picture.invalid, ~INSIDE)
    assert picture.nonfinite == (~INSIDE).sum()
    assert not picture.more_pages


def test_an_opacity_of_nothing_everywhere_is_no_mask() -> None:
    stored = scene("uint8", 4)
    stored[..., 3] = 0
    assert decode(cv_bytes(".png", stored)).invalid is None


@pytest.mark.parametrize("format", ["png", "tiff", "webp"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", [0, 3])
def test_what_is_written_says_where_it_has_no_measurement(
    format: str, dtype: str, channels: int
) -> None:
    if dtype not in images.HOLDS[format]:
        return
    pixels = scene(dtype, channels)
    again = decode(images.encode(pixels, format=format, quality=100, invalid=~INSIDE))
    assert again.invalid is not None
    assert_same(again.invalid, ~INSIDE)
    if format != "webp":
        away = np.abs(again.pixels[INSIDE].astype(float) - pixels[INSIDE].astype(float))
        assert away.max() <= (1 if format == "tiff" and dtype != "float32" else 0)


def test_npy_says_it_by_nan_and_jpeg_cannot() -> None:
    again = decode(images.encode(scene("float32"), format="npy", invalid=~INSIDE))
    assert_same(np.isnan(again.pixels), ~INSIDE)
    assert decode(images.encode(scene(), format="jpeg", invalid=~INSIDE)).invalid is None


@pytest.mark.parametrize(("dtype", "value"), [("float32", -9999), ("uint16", 0), ("uint16", 65535)])
def test_a_value_far_from_all_others_is_noticed(dtype: str, value: int) -> None:
    counts = (29_000 + 300 * scene("float32")).astype(dtype)
    assert stray_value(counts) is None
    counts[:2] = value
    found = stray_value(counts)
    assert found is not None
    assert (found.value, found.share) == (value, pytest.approx(2 / 37))
    assert (found.low, found.high) == (counts[2:].min(), counts[2:].max())
    notes = images.notes_of(decode(npy_bytes(counts)))
    assert f"exactly {value}" in notes["range.stray"]
    known = counts == value
    assert stray_value(counts, known) is None


def test_pictures_of_the_whole_range_have_no_stray_value() -> None:
    for dtype in ("uint8", "uint16", "float32"):
        assert images.notes_of(decode(npy_bytes(scene(dtype)))) == {}


def test_bytes_in_the_wrong_order_are_noticed() -> None:
    counts = (29_000 + 300 * scene("float32", size=(120, 160))).astype(np.uint16)
    assert not bytes_swapped(counts)
    assert bytes_swapped(counts.byteswap())
    assert (
        "byte order" in images.notes_of(decode(cv_bytes(".png", counts.byteswap())))["read.swapped"]
    )
    eight = scene("uint8").astype(np.uint16)
    noise = np.random.default_rng(0).integers(0, 65536, (99, 99)).astype(np.uint16)
    for fine in (eight, eight << 8, eight * 257, scene("uint16"), noise):
        assert not bytes_swapped(fine)


@pytest.mark.parametrize("quality", [None, 90])
@pytest.mark.parametrize("name", palettes.tables())
def test_false_colours_are_read_as_the_scale_they_are(name: str, quality: int | None) -> None:
    level = (scene("uint8", size=(90, 120)) // 2 + np.arange(120, dtype=np.uint8)).astype(np.uint8)
    painted = palettes.tables()[name][level].round().astype(np.uint8)
    data = cv_bytes(".png", painted)
    if quality is not None:
        data = cv_bytes(".jpg", painted, cv2.IMWRITE_JPEG_QUALITY, quality)
    picture = decode(data)
    grey = images.as_grey(picture, luma_ok=True)
    assert np.abs(grey.astype(int) - level).mean() < 4
    assert images.notes_of(picture) == {}
    assert "--ir-luma" in str(pytest.raises(images.InputError, images.as_grey, picture).value.hint)


def test_other_colours_keep_their_luma_with_a_warning() -> None:
    picture = decode(cv_bytes(".png", scene("uint8", 3)))
    assert "no known palette" in images.notes_of(picture)["read.palette"]
    expected = np.rint(images.luma(picture.pixels)).astype(np.uint8)
    assert_same(images.as_grey(picture, luma_ok=True), expected)


@pytest.mark.parametrize(
    ("start", "words"),
    [(b"\0\0\0\x18ftypheic", ("HEIC", "magick")), (b"\0\0\0\x18ftypavif", ("AVIF", "magick")),
     (b"\xff\x0a\1\2", ("JPEG XL", "djxl")), (b"\0\0\0\x0cjP  \r\n", ("JPEG 2000", "gdal")),
     (b"FFF\0", ("SEQ, FFF", "FLIR")), (b"PK\3\4", ("NPZ", "numpy.save")),
     (b"\0\0\0\x20ftypisom", ("film", "ffmpeg"))],
)  # fmt: skip
def test_what_is_not_read_is_named_with_the_way_to_convert_it(
    start: bytes, words: tuple[str, str]
) -> None:
    message = refused(start + bytes(5000)).message
    assert all(word in message for word in words)


def test_bands_that_come_first_are_told() -> None:
    assert "bands first" in refused(npy_bytes(np.zeros((1, 30, 40), np.uint16))).message


def test_a_tag_of_nan_alone_marks_no_pixel() -> None:
    tagged = tiff_bytes(scene("float32"), extratags=[(42113, "s", 0, "nan", True)])
    assert decode(tagged).invalid is None


@pytest.mark.parametrize("kind", ["tag 0", "tag 255", "alpha", "mask"])
@pytest.mark.parametrize("format", ["tiff", "png"])
def test_a_collar_stays_empty_in_the_fused_image(kind: str, format: str, tmp_path: Path) -> None:
    (tmp_path / "ir").mkdir()
    (tmp_path / "vis").mkdir()
    colours = np.moveaxis(scene("uint8", 3), -1, 0).clip(30, 220)
    georeferenced(tmp_path / "vis" / "a.tif", colours, kind)
    degrees = np.where(INSIDE, 20 + scene("float32"), np.nan).astype(np.float32)
    (tmp_path / "ir" / "a.tif").write_bytes(tiff_bytes(degrees))
    folders = [str(tmp_path / side) for side in ("ir", "vis")]
    assert fuse(*folders, "-o", tmp_path / "out", "--format", format) == 0
    suffix = "tif" if format == "tiff" else format
    (path,) = (tmp_path / "out").glob(f"a.{suffix}*")
    fused = images.read(str(path))
    assert fused.invalid is not None
    assert_same(fused.invalid, ~INSIDE)


def test_what_register_cannot_fill_is_no_measurement_for_fuse(tmp_path: Path) -> None:
    counts = (29_000 + 1000 * scene("float32", size=(120, 160))).astype(np.uint16)
    vis = np.rint(255 * scene("float32", size=(120, 160))).astype(np.uint8)
    for side, pixels in (("ir", counts), ("vis", vis)):
        (tmp_path / side).mkdir()
        (tmp_path / side / "a.png").write_bytes(cv_bytes(".png", pixels))
    shift = [[1, 0, 12], [0, 1, 7], [0, 0, 1]]
    moved, covered = move_picture(
        images.read(str(tmp_path / "ir" / "a.png")),
        Transform(
            "a", "translation", np.array(shift, float), (120, 160), (120, 160)
        ).displacement(),
        Resampling(),
    )
    assert moved.invalid is not None
    assert_same(moved.invalid, ~covered)
    again = decode(images.encode(moved.pixels, format="png", invalid=moved.invalid))
    low, high = images.limits(again.pixels, "auto", again.invalid)
    assert 28_900 < low < high < 30_100
