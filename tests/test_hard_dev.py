"""Every file of hard-dev, against the original where MANIFEST.md says how it was made."""

from pathlib import Path

import numpy as np
import pytest
from pictures import assert_same

from fusecli import images
from fusecli.errors import InputError
from fusecli.images import Picture


@pytest.mark.realdata
class TestHardDev:
    """Every file of hard-dev, against the original where MANIFEST.md says how it was made."""

    @pytest.fixture(autouse=True)
    def folders(self, data_dir: Path) -> None:
        self.data, self.hard = data_dir, data_dir / "hard-dev"

    def pair(self, stem: str) -> tuple[Picture, Picture]:
        found = [
            next(path for path in (self.hard / side).iterdir() if path.stem == stem)
            for side in ("ir", "vi")
        ]
        return images.read(str(found[0])), images.read(str(found[1]))

    def original(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        folder, stem = name.split("/")
        found = [
            next(path for path in (self.data / folder / side).iterdir() if path.stem == stem)
            for side in ("ir", "vi")
        ]
        return images.read(str(found[0])).pixels, images.read(str(found[1])).pixels

    @pytest.mark.parametrize(
        ("stem", "name"),
        [("UPPER_CASE", "roadscene-test/FLIR_05879"), ("grey_as_rgb", "tno-test/tno_01"),
         ("夜の道 straße №1", "roadscene-test/FLIR_05893"),
         ("jpeg_named_png", "roadscene-test/FLIR_06993")],
    )  # fmt: skip
    def test_exact_copies(self, stem: str, name: str) -> None:
        for picture, pixels in zip(self.pair(stem), self.original(name), strict=True):
            assert_same(picture.pixels, pixels)

    def test_odd_size(self) -> None:
        for picture, pixels in zip(self.pair("odd_size"), self.original("tno-test/tno_18"),
                                   strict=True):  # fmt: skip
            assert_same(picture.pixels, pixels[11:228, 7:338])

    def test_off_by_one(self) -> None:
        (ir, vis), original = self.pair("off_by_one"), self.original("roadscene-test/FLIR_01130")
        assert_same(ir.pixels, original[0][:-1, :-1])
        assert_same(vis.pixels, original[1])

    def test_resolution_gap(self) -> None:
        ir, vis = self.pair("resolution_gap")
        assert (ir.pixels.shape, vis.pixels.shape) == ((358, 535), (1116, 1503, 3))

    def test_colour_ir(self) -> None:
        ir, vis = self.pair("colour_ir")
        with pytest.raises(InputError) as caught:
            images.as_grey(ir)
        assert caught.value.code == "read.colour"
        original, _ = self.original("roadscene-test/FLIR_04688")
        brightness = images.as_grey(ir, luma_ok=True).ravel().astype(float)
        assert np.corrcoef(brightness, original.ravel())[0, 1] > 0.95
        assert vis.pixels.shape == (309, 524, 3)

    def test_sixteen_bit(self) -> None:
        (ir, vis), original = self.pair("sixteen_bit"), self.original("tno-test/tno_08")
        assert_same(ir.pixels, original[0].astype(np.uint16) * 40 + 7300)
        assert_same(vis.pixels, original[1].astype(np.uint16) * 257)

    def test_float_tiff(self) -> None:
        (ir, vis), original = self.pair("float_tiff"), self.original("tno-test/tno_19")
        assert_same(ir.pixels, original[0].astype(np.float32) * np.float32(0.25) + 270)
        assert_same(vis.pixels, original[1])

    def test_palette(self) -> None:
        (ir, vis), original = self.pair("palette"), self.original("roadscene-test/FLIR_05005")
        assert_same(ir.pixels, original[0])
        assert vis.pixels.shape == original[1].shape
        assert np.abs(vis.pixels.astype(int) - original[1]).mean() < 6

    def test_exif_rotated(self) -> None:
        (ir, vis), original = self.pair("exif_rotated"), self.original("roadscene-test/FLIR_05064")
        assert_same(ir.pixels, original[0])
        assert vis.pixels.shape[:2] == ir.pixels.shape
        assert np.abs(vis.pixels.astype(int) - original[1]).mean() < 2

    def test_alpha(self) -> None:
        (ir, vis), original = self.pair("alpha"), self.original("roadscene-test/FLIR_06282")
        assert_same(ir.pixels, original[0])
        assert_same(vis.pixels, original[1])
        assert vis.alpha is not None
        assert np.count_nonzero(vis.alpha == 0) == 40 * 40
        assert ir.alpha is not None
        assert (ir.alpha == 255).all()

    def test_tiny(self) -> None:
        for picture, pixels in zip(self.pair("tiny"), self.original("tno-test/tno_22"),
                                   strict=True):  # fmt: skip
            assert_same(picture.pixels, pixels[240:245, 300:307])

    def test_flat_ir(self) -> None:
        ir, vis = self.pair("flat_ir")
        assert_same(ir.pixels, np.full(vis.pixels.shape[:2], 128, np.uint8))

    def test_cmyk(self) -> None:
        (ir, vis), original = self.pair("cmyk"), self.original("roadscene-test/FLIR_06795")
        assert_same(ir.pixels, original[0])
        assert np.abs(vis.pixels.astype(int) - original[1]).mean() < 3

    @pytest.mark.parametrize(
        ("name", "reason"),
        [("truncated.jpg", "truncated file: the end marker of the JPEG is missing"),
         ("truncated.png", "truncated file: it ends inside the PNG chunk 'IDAT'"),
         ("header_only.png", "truncated file: the end of the PNG is missing"),
         ("empty.png", "the file is empty"),
         ("bad_crc.png", "damaged file: wrong checksum in the PNG chunk 'IDAT'"),
         ("truncated.tif", "truncated file: a TIFF strip lies beyond its end"),
         ("text.png", "the content is text, not a picture"),
         ("random.jpg", "the content is not a picture of any kind that is read here")],
    )  # fmt: skip
    def test_corrupt_files_say_what_is_wrong(self, name: str, reason: str) -> None:
        path = str(self.hard / "corrupt" / name)
        with pytest.raises(InputError) as caught:
            images.read(path)
        assert caught.value.code == "read.decode"
        assert caught.value.message == f"cannot decode {path}: {reason}"

    def test_the_partner_is_good(self) -> None:
        picture = images.read(str(self.hard / "corrupt" / "good_partner.jpg"))
        assert_same(picture.pixels, self.original("roadscene-test/FLIR_06995")[0])
