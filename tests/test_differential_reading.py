"""Files that another library writes are read as that library reads them, pixel for pixel.

A small edition by default, the whole under `slow`.
"""

import io
import itertools
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pictures import assert_same, cv_bytes, decode, npy_bytes, refused, tiff_bytes

from fusecli.images.tiff_rows import TiffRows

SIZE = (37, 45)
TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")
PREDICTORS = {"none": (1,), "packbits": (1,), "jpeg": (1,)}
EVERY = 23  # of all cases one in so many is tried by default; a prime, so that all values occur


def gdal_cases() -> list[tuple]:
    """Return bands, type, compression, predictor, interleave, tiled, byte order, photometric."""
    cases = []
    for bands, dtype, compress in itertools.product(
        (1, 2, 3, 4), TYPES, ("none", "lzw", "deflate", "packbits", "jpeg", "zstd")
    ):
        if compress == "jpeg" and (dtype != "uint8" or bands in (2, 4)):
            continue
        kinds = ("minisblack", "rgb") if bands >= 3 else ("minisblack",)
        if compress == "jpeg" and bands == 3:
            kinds = (*kinds, "ycbcr")
        predictors = PREDICTORS.get(compress, (1, 2))
        if dtype.startswith("float") and compress not in PREDICTORS:
            predictors = (1, 3)
        for rest in itertools.product(
            predictors, ("pixel", "band"), (False, True), ("LITTLE", "BIG"), kinds
        ):
            if rest[-1] != "ycbcr" or rest[1] == "pixel":
                cases.append((bands, dtype, compress, *rest))
    return cases


CASES = gdal_cases()


def sensor(dtype: str, bands: int) -> np.ndarray:
    """Return values (bands, H, W) that use all bytes of the type, smooth enough for JPEG."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    unit = np.stack([0.5 + 0.5 * np.sin(x / 7 + i) * np.cos(y / (5 + i)) for i in range(bands)])
    if dtype.startswith("float"):
        return (unit * 87.5 - 20).astype(dtype)
    info = np.iinfo(dtype)
    return np.rint(info.min + unit * (float(info.max) - info.min) * 0.999).astype(dtype)


def as_read(stored: np.ndarray) -> np.ndarray:
    """Return the pixels that a picture has of bands (C, H, W): one or three, in its own types."""
    kept = stored[0] if len(stored) < 3 else np.moveaxis(stored[:3], 0, -1)
    return kept if kept.dtype in (np.uint8, np.uint16) else kept.astype(np.float32)


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=[pytest.mark.slow] if number % EVERY else []) for number, case
     in enumerate(CASES)],
    ids=lambda case: "-".join(map(str, case)),
)  # fmt: skip
def test_what_gdal_writes(case: tuple, tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    bands, dtype, compress, predictor, interleave, tiled, order, photometric = case
    if compress == "zstd":
        pytest.importorskip("imagecodecs")
    values, path = sensor(dtype, bands), tmp_path / "a.tif"
    options = {"compress": compress, "interleave": interleave, "photometric": photometric}
    if predictor != 1:
        options["predictor"] = predictor
    options |= {"tiled": True, "blockxsize": 16, "blockysize": 32} if tiled else {"blockysize": 16}
    with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_ENDIANNESS=order):
        warnings.simplefilter("ignore")
        with rasterio.open(
            path, "w", driver="GTiff", height=SIZE[0], width=SIZE[1], count=bands, dtype=dtype,
            ENDIANNESS=order, **options,
        ) as file:  # fmt: skip
            file.write(values)
        with rasterio.open(path) as file:
            stored = file.read()
    picture = decode(path.read_bytes())
    assert picture.invalid is None
    # Decoders of JPEG round as they like, and fill in chroma of half the size as they like.
    by = 12 if photometric == "ycbcr" else 1 if compress == "jpeg" else 0
    _assert_close(picture.pixels, as_read(stored), by)
    if not by:
        assert_same(stored, values)
    rows = TiffRows.open(str(path))
    if rows is not None:
        with rows:
            _assert_close(np.concatenate(list(rows.bands())), as_read(stored), by)


def _assert_close(actual: np.ndarray, expected: np.ndarray, by: int) -> None:
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    if by:
        away = np.abs(actual.astype(int) - expected)
        assert away.max() <= by
        assert away.mean() < 1.5
    else:
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("compress", ["none", "lzw", "deflate", "packbits"])
@pytest.mark.parametrize("bits", [9, 10, 12, 14, 15])
@pytest.mark.parametrize("bands", [1, 3])
def test_packed_bits_are_counts(bits: int, bands: int, compress: str, tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    values = sensor("uint16", bands) >> (16 - bits)
    path = tmp_path / "a.tif"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(
            path, "w", driver="GTiff", height=SIZE[0], width=SIZE[1], count=bands, dtype="uint16",
            nbits=bits, compress=compress, interleave="pixel",
        ) as file:  # fmt: skip
            file.write(values)
    assert_same(decode(path.read_bytes()).pixels, as_read(values))


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "I;16", "I", "F"])
def test_what_pillow_writes_as_tiff(mode: str, compression: str) -> None:
    pil = pytest.importorskip("PIL.Image")
    colours = np.moveaxis(sensor("uint8", 3), 0, -1)
    image = {
        "I;16": lambda: pil.fromarray(sensor("uint16", 1)[0]),
        "I": lambda: pil.fromarray(sensor("int32", 1)[0]),
        "F": lambda: pil.fromarray(sensor("float32", 1)[0]),
    }.get(mode, lambda: pil.fromarray(colours).convert(mode))()
    target = io.BytesIO()
    image.save(target, "TIFF", compression=compression)
    again = pil.open(io.BytesIO(target.getvalue()))
    plain = {"1": "L", "P": "RGB", "CMYK": "RGB"}.get(mode)
    expected = np.asarray(again.convert(plain) if plain else again)
    expected = expected.astype(np.float32) if mode in ("I", "F") else expected
    assert_same(decode(target.getvalue()).pixels, expected)


@pytest.mark.parametrize("level", [0, 6])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_what_imagecodecs_writes_as_png(dtype: str, channels: int, level: int) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    values = np.ascontiguousarray(np.moveaxis(sensor(dtype, channels), 0, -1))
    data = bytes(imagecodecs.png_encode(np.squeeze(values), level=level))
    picture = decode(data)
    assert_same(picture.pixels, as_read(np.moveaxis(values, -1, 0)))
    assert (picture.alpha is not None) == (channels in (2, 4))
    if picture.alpha is not None:
        assert_same(picture.alpha, values[..., -1])


def test_jpeg_of_more_bits_is_refused() -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    values = sensor("uint16", 1)[0] >> 4
    data = bytes(imagecodecs.jpeg_encode(values, bitspersample=12))
    assert "12 bits" in refused(data).message


def encodings() -> Iterator[tuple[str, bytes, np.ndarray]]:
    """Yield 16-bit counts in every encoding that holds them exactly, and what is to be read."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    counts = (1000 + 20 * y + 5 * x + (x % 3)).astype(np.uint16)  # below 2048: exact in float16
    as_float = counts.astype(np.float32)
    for kind, order, big in itertools.product(
        ("u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"), "<>", (False, True)
    ):
        data = tiff_bytes(counts.astype(order + kind), byteorder=order, bigtiff=big)
        yield f"tiff {kind} {order} {big}", data, counts if kind == "u2" else as_float
    for kind, order, compression, tile in itertools.product(
        ("u2", "i2", "f4"), "<>", ("zlib", "packbits"), (None, (16, 16))
    ):
        for predictor in (False, True) if compression == "zlib" and kind != "f4" else (False,):
            data = tiff_bytes(
                counts.astype(order + kind), byteorder=order, compression=compression, tile=tile,
                predictor=predictor,
            )  # fmt: skip
            name = f"tiff {kind} {order} {compression} {tile} {predictor}"
            yield name, data, counts if kind == "u2" else as_float
    yield "png", cv_bytes(".png", counts), counts
    yield "tiff of OpenCV, LZW", cv_bytes(".tiff", counts), counts
    head = f"{SIZE[1]} {SIZE[0]}\n"
    yield "pgm", f"P5\n{head}65535\n".encode() + counts.astype(">u2").tobytes(), counts
    text = "\n".join(" ".join(map(str, row)) for row in counts)
    yield "pgm as text", f"P2\n{head}65535\n{text}\n".encode(), counts
    for scale, order in (("-1.0", "<"), ("1.0", ">")):
        body = as_float[::-1].astype(order + "f4").tobytes()
        yield f"pfm {order}", f"Pf\n{head}{scale}\n".encode() + body, as_float
    for kind, order in itertools.product(("u2", "i2", "u4", "f2", "f4", "f8"), "<>"):
        expected = counts if kind == "u2" else as_float
        yield f"npy {kind} {order}", npy_bytes(counts.astype(order + kind)), expected
    yield "npy in columns", npy_bytes(np.asfortranarray(counts)), counts


def test_every_encoding_of_one_image_of_16_bits_gives_its_counts() -> None:
    names = set()
    for name, data, expected in encodings():
        names.add(name)
        picture = decode(data)
        assert picture.pixels.dtype == expected.dtype, name
        np.testing.assert_array_equal(picture.pixels, expected, err_msg=name)
    assert len(names) >= 74
