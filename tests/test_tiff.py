"""TIFF in its many layouts, by tifffile or by libtiff."""

import io
import struct
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from pictures import assert_same, cv_bytes, decode, oriented, refused, scene, set_tag, tiff_bytes

from fusecli import images
from fusecli.images import tiff


class TestTiff:
    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
    @pytest.mark.parametrize(
        "options",
        [{}, {"compression": "zlib"}, {"tile": (16, 16)}, {"byteorder": ">"}, {"rowsperstrip": 5},
         {"bigtiff": True}, {"planarconfig": "separate"}],
        ids=str,
    )  # fmt: skip
    def test_colour_in_every_layout(self, dtype: str, options: dict) -> None:
        pixels = scene(dtype, 3)
        stored = np.moveaxis(pixels, -1, 0) if "planarconfig" in options else pixels
        assert_same(decode(tiff_bytes(stored, photometric="rgb", **options)).pixels, pixels)

    @pytest.mark.parametrize("compression", [1, 5, 8, 32773])
    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
    def test_compressions_with_and_without_imagecodecs(self, dtype: str, compression: int) -> None:
        for pixels in (scene(dtype), scene(dtype, 3)):
            data = cv_bytes(".tiff", pixels, cv2.IMWRITE_TIFF_COMPRESSION, compression)
            assert_same(decode(data).pixels, pixels)

    def test_the_floating_point_predictor(self) -> None:
        pixels = scene("float32")
        data = cv_bytes(
            ".tiff", pixels, cv2.IMWRITE_TIFF_COMPRESSION, 8, cv2.IMWRITE_TIFF_PREDICTOR, 3
        )
        assert_same(decode(data).pixels, pixels)

    @pytest.mark.parametrize("compression", [1, 5, 8])
    @pytest.mark.parametrize("dtype", ["uint8", "uint16"])
    def test_white_is_zero(self, dtype: str, compression: int) -> None:
        data = cv_bytes(".tiff", scene(dtype), cv2.IMWRITE_TIFF_COMPRESSION, compression)
        top = np.array(np.iinfo(dtype).max, dtype)
        assert_same(decode(set_tag(data, 262, 0)).pixels, top - scene(dtype))

    @pytest.mark.parametrize("compression", [1, 5])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_orientation(self, orientation: int, compression: int) -> None:
        pil = pytest.importorskip("PIL.Image")
        target = io.BytesIO()
        kind = {1: "raw", 5: "tiff_lzw"}[compression]
        stored = scene(channels=3)
        pil.fromarray(stored).save(target, "TIFF", compression=kind, tiffinfo={274: orientation})
        assert_same(decode(target.getvalue()).pixels, oriented(stored, orientation))

    def test_opacity_is_not_multiplied_into_the_colours(self) -> None:
        pil = pytest.importorskip("PIL.Image")
        stored = scene(channels=4)
        for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate"):
            target = io.BytesIO()
            pil.fromarray(stored).save(target, "TIFF", compression=compression)
            picture = decode(target.getvalue())
            assert_same(picture.pixels, stored[..., :3])
            assert_same(picture.alpha, stored[..., 3])

    def test_a_fourth_band_that_is_not_opacity_is_left_out(self) -> None:
        stored = scene("uint16", 4)
        data = tiff_bytes(stored, photometric="rgb", extrasamples=["unspecified"])
        picture = decode(data)
        assert_same(picture.pixels, stored[..., :3])
        assert picture.alpha is None

    @pytest.mark.parametrize("shape", [(5, 7, 6), (6, 5, 7)])
    def test_more_bands_than_a_picture_has_are_refused(self, shape: tuple[int, ...]) -> None:
        planar = "contig" if shape[-1] == 6 else "separate"
        data = tiff_bytes(np.zeros(shape, np.uint16), photometric="minisblack", planarconfig=planar)
        assert "6 bands" in refused(data).message

    def test_the_codecs_extra_reads_more(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("imagecodecs")
        stored = np.moveaxis(scene("uint16", 3), -1, 0)
        data = tiff_bytes(stored, photometric="rgb", planarconfig="separate", compression="zstd")
        assert_same(decode(data).pixels, scene("uint16", 3))
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        assert "pip install 'fusecli[codecs]'" in refused(data).message

    @pytest.mark.parametrize(
        ("mode", "compression"), [("P", "tiff_lzw"), ("1", "group4"), ("CMYK", "raw"),
                                  ("YCbCr", "jpeg"), ("1", "raw"), ("P", "raw")]
    )  # fmt: skip
    def test_kinds_that_only_libtiff_knows(self, mode: str, compression: str) -> None:
        pil = pytest.importorskip("PIL.Image")
        target = io.BytesIO()
        pil.fromarray(scene(channels=3)).convert(mode).save(target, "TIFF", compression=compression)
        expected = np.asarray(pil.open(io.BytesIO(target.getvalue())).convert("RGB"))
        pixels = decode(target.getvalue()).pixels
        pixels = pixels if pixels.ndim == 3 else np.dstack([pixels] * 3)
        assert_same(pixels, expected)

    def test_further_pages_are_noticed_and_overviews_are_not(self) -> None:
        target = io.BytesIO()
        with tifffile.TiffWriter(target) as writer:
            writer.write(scene(), metadata=None)
            writer.write(scene()[::2, ::2], subfiletype=1, metadata=None)
        assert not decode(target.getvalue()).more_pages
        target = io.BytesIO()
        with tifffile.TiffWriter(target) as writer:
            writer.write(scene(), metadata=None)
            writer.write(scene()[::-1], metadata=None)
        picture = decode(target.getvalue())
        assert picture.more_pages
        assert_same(picture.pixels, scene())

    def test_no_data_pixels_are_marked(self) -> None:
        pixels = scene("uint16")
        pixels[:3] = 0
        pixels[3:, 0] = 1
        tag = [(42113, "s", 0, "0", True)]
        picture = decode(tiff_bytes(pixels, extratags=tag))
        assert_same(picture.pixels, pixels)
        assert picture.invalid is not None
        assert_same(picture.invalid, pixels == 0)
        assert picture.nonfinite == 3 * 45 + int((pixels[3:] == 0).sum())
        low, _ = images.limits(picture.pixels, "p0:p100", picture.invalid)
        assert low == 1

    def test_no_data_outside_the_type_is_no_pixel(self) -> None:
        picture = decode(tiff_bytes(scene(), extratags=[(42113, "s", 0, "-3.4e38", True)]))
        assert picture.invalid is None

    def test_a_deflate_bomb_is_inflated_no_further_than_its_pixels(self) -> None:
        stream = zlib.compress(bytes(1 << 24))
        data = bytearray(tiff_bytes(scene(), compression="zlib"))
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages.first
            offset, count = page.tags[273], page.tags[279]
        struct.pack_into("<I", data, offset.valueoffset, len(data))
        struct.pack_into("<I", data, count.valueoffset, len(stream))
        tracemalloc.start()
        try:
            assert not decode(bytes(data) + stream).pixels.any()
            assert tracemalloc.get_traced_memory()[1] < 1 << 22
        finally:
            tracemalloc.stop()

    def test_large_tiffs_are_tiled(self) -> None:
        for width, tiled in ((tiff.TILED_ABOVE, False), (tiff.TILED_ABOVE + 1, True)):
            data = images.encode(scene("uint16", size=(3, width)), format="tiff")
            with tifffile.TiffFile(io.BytesIO(data)) as file:
                assert file.pages.first.is_tiled == tiled
                assert file.pages.first.compression == 8
            assert decode(data).pixels.shape == (3, width)

    def test_huge_tiffs_are_bigtiff(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert tiff.BIG_ABOVE == 2 * 1024**3
        pixels = scene("float32")
        monkeypatch.setattr(tiff, "BIG_ABOVE", pixels.nbytes - 1)
        data = images.encode(pixels, format="tiff")
        assert data[:4] == b"II+\0"
        assert_same(decode(data).pixels, pixels)
