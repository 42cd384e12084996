"""Image files to arrays and back: formats, types, channels, and every way to be broken."""

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pictures import (
    assert_same,
    cv_bytes,
    decode,
    npy_bytes,
    refused,
    scene,
    set_tag,
    tiff_bytes,
)

from fusecli import images, writing
from fusecli.errors import InputError, UsageError

EXACT = [
    (name, dtype)
    for name, dtypes in images.HOLDS.items()
    for dtype in dtypes
    if name not in ("jpeg", "webp")
]


class TestRoundTrips:
    @pytest.mark.parametrize("channels", [0, 3])
    @pytest.mark.parametrize(("format", "dtype"), EXACT)
    def test_lossless_formats_keep_every_value(
        self, format: str, dtype: str, channels: int
    ) -> None:
        pixels = scene(dtype, channels)
        picture = decode(images.encode(pixels, format=format))
        assert_same(picture.pixels, pixels)
        assert picture.alpha is None
        assert picture.format == format
        assert picture.nonfinite == 0

    @pytest.mark.parametrize("channels", [0, 3])
    @pytest.mark.parametrize(("format", "dtype"), EXACT)
    def test_opacity_goes_along(self, format: str, dtype: str, channels: int) -> None:
        pixels, alpha = scene(dtype, channels), scene(dtype)[::-1]
        picture = decode(images.encode(pixels, format=format, alpha=alpha))
        assert_same(picture.pixels, pixels)
        assert picture.alpha is not None
        assert_same(picture.alpha, alpha)

    @pytest.mark.parametrize("channels", [0, 3])
    @pytest.mark.parametrize("format", ["jpeg", "webp"])
    def test_lossy_formats_stay_close_and_obey_quality(self, format: str, channels: int) -> None:
        pixels = scene("uint8", channels)
        best = images.encode(pixels, format=format, quality=98)
        assert len(images.encode(pixels, format=format, quality=30)) < len(best)
        picture = decode(best)
        actual = picture.pixels if channels else images.as_grey(picture)
        assert np.abs(actual.astype(float) - pixels).mean() < 2

    def test_webp_keeps_opacity(self) -> None:
        picture = decode(images.encode(scene("uint8", 3), format="webp", alpha=scene()))
        assert picture.alpha is not None
        assert_same(picture.alpha, scene())

    @given(
        hnp.arrays(
            st.sampled_from([np.uint8, np.uint16]),
            hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9),
        ),
        st.sampled_from(["png", "tiff", "npy"]),
    )
    def test_any_small_grey_picture(self, pixels: np.ndarray, format: str) -> None:
        assert_same(decode(images.encode(pixels, format=format)).pixels, pixels)

    def test_bytes_depend_on_nothing_but_the_pixels(self) -> None:
        for format in images.HOLDS:
            first = images.encode(scene(channels=3), format=format)
            assert images.encode(scene(channels=3), format=format) == first

    @pytest.mark.parametrize(
        ("format", "dtype", "alpha"),
        [("png", "float32", False), ("jpeg", "uint16", False), ("jpeg", "float32", False),
         ("webp", "uint16", False), ("npy", "float64", False), ("jpeg", "uint8", True),
         ("bmp", "uint8", False)],
    )  # fmt: skip
    def test_what_a_format_cannot_hold_is_a_usage_error(
        self, format: str, dtype: str, alpha: bool
    ) -> None:
        pixels = np.zeros((2, 2), dtype)
        with pytest.raises(UsageError) as caught:
            images.encode(pixels, format=format, alpha=pixels if alpha else None)
        assert caught.value.code == "out.format"
        assert caught.value.hint

    def test_an_encoder_that_refuses_is_an_item_failure(self) -> None:
        with pytest.raises(InputError) as caught:
            images.encode(np.zeros((2, 17000), np.uint8), format="webp")
        assert caught.value.code == "write.encode"


class TestLayouts:
    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
    def test_three_equal_channels_are_one(self, dtype: str) -> None:
        grey = scene(dtype)
        assert_same(decode(npy_bytes(np.dstack([grey] * 3))).pixels, grey)

    def test_one_differing_pixel_keeps_three_channels(self) -> None:
        pixels = np.dstack([scene()] * 3)
        pixels[20, 20, 2] ^= 1
        assert_same(decode(images.encode(pixels, format="png")).pixels, pixels)

    @pytest.mark.parametrize(
        ("stored", "expected"),
        [("bool", "uint8"), (">u2", "uint16"), ("int8", "float32"), ("int16", "float32"),
         ("uint32", "float32"), ("float16", "float32"), (">f8", "float32")],
    )  # fmt: skip
    def test_other_number_types_become_the_nearest_of_ours(
        self, stored: str, expected: str
    ) -> None:
        values = (scene("uint8") % 100).astype(stored)
        pixels = decode(npy_bytes(values)).pixels
        factor = 255 if stored == "bool" else 1
        assert_same(pixels, values.astype(expected) * np.array(factor, expected))
        assert pixels.dtype.isnative

    def test_npy_in_fortran_order_with_one_channel(self) -> None:
        values = np.asfortranarray(scene("float32")[..., None])
        assert_same(decode(npy_bytes(values)).pixels, values[..., 0])

    @pytest.mark.parametrize("shape", [(5,), (2, 3, 5), (2, 3, 3, 1), (0, 4), (4, 0, 3), ()])
    def test_npy_shapes_that_are_no_picture(self, shape: tuple[int, ...]) -> None:
        assert refused(npy_bytes(np.zeros(shape, np.uint8))).code == "read.decode"

    def test_npy_never_unpickles(self) -> None:
        target = io.BytesIO()
        np.save(target, np.array([[{}, 1]], dtype=object), allow_pickle=True)
        assert "not a picture" in refused(target.getvalue()).message
        assert refused(npy_bytes(np.zeros((2, 2), complex))).code == "read.decode"

    @pytest.mark.parametrize("kind", ["P", "1", "LA", "CMYK"])
    def test_palettes_bitmaps_opacity_and_cmyk_as_pillow_reads_them(self, kind: str) -> None:
        pil = pytest.importorskip("PIL.Image")
        image = pil.fromarray(scene(channels=3)).convert(kind)
        target = io.BytesIO()
        image.save(target, "JPEG" if kind == "CMYK" else "PNG", quality=95)
        picture = decode(target.getvalue())
        reference = pil.open(io.BytesIO(target.getvalue()))
        expected = np.asarray(reference.convert("L" if kind in ("1", "LA") else "RGB"))
        close = 1 if kind == "CMYK" else 0  # rounding of the conversion
        assert np.abs(picture.pixels.astype(int) - expected).max() <= close
        assert (picture.alpha is not None) == (kind == "LA")

    def test_bmp_in_all_its_depths(self) -> None:
        pil = pytest.importorskip("PIL.Image")
        for kind in ("1", "P", "L", "RGB"):
            target = io.BytesIO()
            image = pil.fromarray(scene(channels=3)).convert(kind)
            image.save(target, "BMP")
            expected = np.asarray(image.convert("RGB"))
            pixels = decode(target.getvalue()).pixels
            pixels = pixels if pixels.ndim == 3 else np.dstack([pixels] * 3)
            assert_same(pixels, expected)

    @pytest.mark.parametrize(
        ("head", "body", "expected"),
        [
            (b"P5 3 1 255\n", bytes((0, 7, 255)), np.array([[0, 7, 255]], np.uint8)),
            (b"P5\n# made by hand\n3 1\n100\n", bytes((0, 50, 100)),
             np.array([[0, 128, 255]], np.uint8)),
            (b"P5\n2 1\n16383\n", b"\x3f\xff\x00\x01", np.array([[16383, 1]], np.uint16)),
            (b"P6\n1 1\n255\n", bytes((1, 2, 3)), np.array([[[1, 2, 3]]], np.uint8)),
            (b"P6\n1 1\n65535\n", b"\1\0\0\2\0\3", np.array([[[256, 2, 3]]], np.uint16)),
            (b"P2\n2 1\n255\n", b"12 250\n", np.array([[12, 250]], np.uint8)),
            (b"P3\n1 1\n255\n", b"9 8 7\n", np.array([[[9, 8, 7]]], np.uint8)),
            (b"P4\n9 1\n", b"\x55\x00", np.array([[255, 0] * 4 + [255]], np.uint8)),
            (b"Pf\n1 2\n-1.0\n", struct.pack("<2f", 1.5, -2), np.array([[-2], [1.5]], np.float32)),
            (b"Pf\n1 2\n1.0\n", struct.pack(">2f", 1.5, -2), np.array([[-2], [1.5]], np.float32)),
            (b"PF\n1 1\n-1\n", struct.pack("<3f", 1, 2, 3), np.array([[[1, 2, 3]]], np.float32)),
        ],
    )  # fmt: skip
    def test_netpbm(self, head: bytes, body: bytes, expected: np.ndarray) -> None:
        assert_same(decode(head + body).pixels, expected)
        assert refused(head + body[: len(body) // 3]).code == "read.decode"


class TestRefusals:
    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"", "empty"),
            (b"this is not a picture\n", "text"),
            (bytes(range(256)) * 16, "not a picture"),
            (b"\xff\xd8\xff\xd9", "truncated|damaged"),
            (b"\x89PNG\r\n\x1a\n", "truncated"),
            (b"GIF89a" + bytes(500), "GIF picture is not read here"),
            (b"BM" + bytes(60), "damaged|0x0"),
            (b"II*\0\x08\0\0\0", "TIFF"),
            (b"\x93NUMPY\x01\0\xff\xff", "NPY"),
            (b"RIFF\x20\0\0\0WEBPVP8 ", "truncated"),
            (b"P5\n3 3\n70000\n" + bytes(99), "white"),
        ],
    )
    def test_bytes_that_are_no_picture(self, data: bytes, reason: str) -> None:
        error = refused(data)
        assert error.code == "read.decode"
        assert error.message.startswith("cannot decode picture: ")
        assert any(word in error.message for word in reason.split("|")), error.message

    @pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9, 0.99, "all but one"])
    @pytest.mark.parametrize("format", ["png", "jpeg", "webp", "tiff", "npy", "bmp"])
    def test_truncated_files_of_every_format(self, format: str, share: float | str) -> None:
        pixels = scene("uint8", 3, (64, 80))
        data = cv_bytes(".bmp", pixels) if format == "bmp" else images.encode(pixels, format=format)
        if format == "tiff":  # tifffile writes the directory first; the pixels end the file
            assert decode(data).pixels.shape == pixels.shape
        keep = len(data) - 1 if isinstance(share, str) else int(len(data) * share)
        assert refused(data[:keep]).code == "read.decode"

    def test_every_changed_byte_of_png_data_is_noticed(self) -> None:
        data = images.encode(scene(), format="png")
        for place in range(60, len(data) - 20, 37):
            changed = bytearray(data)
            changed[place] ^= 0x55
            assert "checksum" in refused(bytes(changed)).message

    def test_chunks_beside_the_pixels_are_kept_from_libpng(
        self, capfd: pytest.CaptureFixture[str]
    ) -> None:
        png = images.encode(scene(channels=3), format="png")
        body = b"iCCPbroken profile\0\0" + zlib.compress(b"nonsense")
        checksum = struct.pack(">I", zlib.crc32(body))
        for end in (checksum, b"nope"):
            chunk = struct.pack(">I", len(body) - 4) + body + end
            assert_same(decode(png[:33] + chunk + png[33:]).pixels, scene(channels=3))
        assert capfd.readouterr().err == ""

    def test_pixel_bombs_are_refused_before_memory_is_taken(self) -> None:
        header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
        ihdr = b"IHDR" + header
        png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + ihdr
        png += struct.pack(">I", zlib.crc32(ihdr))
        body = b"IDAT" + zlib.compress(bytes(30_000_000))
        png += struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
        png += struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
        bombs = {
            "png": png,
            "pnm": b"P5\n99999 99999\n255\n",
            "tiff": set_tag(set_tag(tiff_bytes(scene()), 256, 65535), 257, 65535),
            "npy": npy_bytes(np.zeros((2, 2), np.uint8)).replace(b"(2, 2)", b"(9**9,)"),
        }
        for name, data in bombs.items():
            code = refused(data).code
            assert code in ("read.bomb", "read.decode"), name
        assert refused(bombs["tiff"]).code == "read.bomb"

    def test_sizes_that_the_bytes_cannot_hold_are_damage(self) -> None:
        jpeg = bytearray(images.encode(scene(size=(64, 64)), format="jpeg"))
        place = jpeg.index(b"\xff\xc0") + 5
        struct.pack_into(">HH", jpeg, place, 9000, 9000)
        assert "cannot hold 9000x9000" in refused(bytes(jpeg)).message

    def test_the_bound_can_be_set(self) -> None:
        data = images.encode(scene(), format="png")
        assert decode(data, max_pixels=37 * 45).pixels.shape == (37, 45)
        error = refused(data, max_pixels=37 * 45 - 1)
        assert error.code == "read.bomb"
        assert "45x37" in error.message

    def test_opencv_stays_silent(self, tmp_path: Path) -> None:
        whole = tiff_bytes(scene(size=(64, 64)), compression="zlib")
        for number, data in enumerate(
            (b"", images.encode(scene(), format="png")[:99], whole[: len(whole) // 2],
             whole.replace(b"\x08\x00", b"\x05\x00", 3), b"\xff\xd8\xff\xe0" + bytes(99))
        ):  # fmt: skip
            (tmp_path / f"{number}.bin").write_bytes(data)
        code = (
            "import sys; from fusecli import images; from fusecli.errors import InputError\n"
            "for path in sys.argv[1:]:\n"
            "    try: images.read(path)\n"
            "    except InputError: print('refused')\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, sorted(tmp_path.iterdir()))],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        )
        assert done.stdout.split() == ["refused"] * 5
        assert done.stderr == ""


class TestRead:
    def test_any_unicode_path(self, tmp_path: Path) -> None:
        path = tmp_path / "夜の道 straße №1 e\u0301 \U0001f525" / "İ.PNG"
        writing.write_atomic(str(path), images.encode(scene(), format="png"))
        picture = images.read(str(path))
        assert_same(picture.pixels, scene())
        assert picture.path == str(path)

    def test_content_decides_not_the_suffix(self, tmp_path: Path) -> None:
        path = tmp_path / "a.png"
        for format in images.HOLDS:
            path.write_bytes(images.encode(scene(), format=format))
            assert images.read(str(path)).format == format

    @pytest.mark.parametrize(
        ("name", "code"), [("none.png", "read.missing"), ("a.png/b.png", "read.missing"),
                           (".", "read.decode"), ("pipe", "read.decode")]
    )  # fmt: skip
    def test_what_is_not_a_file(self, tmp_path: Path, name: str, code: str) -> None:
        (tmp_path / "a.png").write_bytes(b"")
        if name == "pipe":
            if not hasattr(os, "mkfifo"):
                pytest.skip("no named pipes here")
            os.mkfifo(tmp_path / name)
        with pytest.raises(InputError) as caught:
            images.read(str(tmp_path / name))
        assert caught.value.code == code
        assert str(tmp_path) in caught.value.message

    def test_errors_of_the_system_are_item_failures(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "a.png"
        path.write_bytes(images.encode(scene(), format="png"))
        for error, code in (
            (PermissionError(13, "Permission denied"), "read.permission"),
            (OSError(5, "Input/output error"), "read.failed"),
        ):

            def broken(*args, error: OSError = error) -> None:
                raise error

            monkeypatch.setattr("builtins.open", broken)
            with pytest.raises(InputError) as caught:
                images.read(str(path))
            assert caught.value.code == code

    def test_a_file_larger_than_any_picture_is_not_read(self, tmp_path: Path) -> None:
        path = tmp_path / "sparse.png"
        with path.open("wb") as file:
            file.truncate(1 << 20)
        with pytest.raises(InputError) as caught:
            images.read(str(path), max_pixels=1000)
        assert caught.value.code == "read.bomb"
