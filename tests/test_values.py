"""Stored numbers to 0..1 and back, luma, and which pictures count as grey."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pictures import assert_same, decode, npy_bytes, scene

from fusecli import images
from fusecli.errors import InputError, UsageError
from fusecli.images import Picture


class TestGrey:
    def colour(self, spread: float) -> Picture:
        pixels = np.full((20, 20, 3), 100, np.uint8)
        pixels[: round(spread * 20), :, 0] = 101
        return Picture(pixels, None, images.Metadata(), "png", path="ir/a.png")

    def test_one_channel_is_itself(self) -> None:
        pixels = scene("uint16")
        picture = Picture(pixels, None, images.Metadata(), "png")
        assert images.as_grey(picture) is pixels

    def test_chroma_noise_is_still_grey(self) -> None:
        rng = np.random.default_rng(0)
        pixels = np.dstack([scene()] * 3).astype(int) + rng.integers(-1, 2, (37, 45, 3))
        picture = Picture(pixels.clip(0, 255).astype(np.uint8), None, images.Metadata(), "jpeg")
        grey = images.as_grey(picture)
        assert grey.dtype == np.uint8
        assert np.abs(grey.astype(int) - scene()).max() <= 1

    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
    def test_false_colours_need_permission(self, dtype: str) -> None:
        pixels = scene(dtype, 3)
        picture = Picture(pixels, None, images.Metadata(), "png", path="ir/a.png")
        with pytest.raises(InputError) as caught:
            images.as_grey(picture)
        assert caught.value.code == "read.colour"
        assert "ir/a.png" in caught.value.message
        assert "--ir-luma" in (caught.value.hint or "")
        grey = images.as_grey(picture, luma_ok=True)
        assert grey.dtype == pixels.dtype
        expected = pixels.astype(float) @ [0.299, 0.587, 0.114]
        assert np.abs(grey - expected).max() <= (0.51 if dtype != "float32" else 1e-6)

    @pytest.mark.realdata
    def test_the_tolerance_separates_the_real_sets(self, data_dir: Path) -> None:
        folders = [data_dir / name / "ir" for name in ("vifb-dev", "tno-test", "hard-dev")]
        folders += [
            data_dir / "extra2-train" / name / "ir" for name in ("unaligned", "thermoverse")
        ]
        spreads = {}
        for path in itertools.chain.from_iterable(folder.iterdir() for folder in folders):
            picture = images.read(str(path))
            if picture.pixels.ndim == 3:
                spreads[path.stem] = images._spread(picture.pixels, None)
        grey = {name for name, spread in spreads.items() if spread <= images.GREY_TOLERANCE}
        assert grey == {"vehicle_1686403336", *(f"vi_ir_{i:02}" for i in (2, 3, 7, 8, 9, 10))}
        assert min(spread for name, spread in spreads.items() if name not in grey) > 0.3


class TestRanges:
    def test_auto_is_the_type_for_8_bits_and_percentiles_otherwise(self) -> None:
        assert images.limits(np.array([[3, 9]], np.uint8)) == (0, 255)
        for dtype in ("uint16", "float32"):
            ramp = np.arange(2001, dtype=dtype).reshape(3, 667)
            assert images.limits(ramp) == pytest.approx((10, 1990))

    def test_dtype(self) -> None:
        assert images.limits(np.zeros((2, 2), np.uint16), "dtype") == (0, 65535)
        assert images.limits(np.full((2, 2), 7, np.float32), "dtype") == (0, 1)

    @pytest.mark.parametrize(
        ("rule", "expected"),
        [("-20:120", (-20, 120)), ("0.5:1e3", (0.5, 1000)), (" -1:.5", (-1, 0.5)),
         ("+1.:2", (1, 2)), ("p0:p100", (0, 2000)), ("P1:p99", (20, 1980))],
    )  # fmt: skip
    def test_rules(self, rule: str, expected: tuple[float, float]) -> None:
        ramp = np.arange(2001, dtype=np.uint16)[None]
        assert images.limits(ramp, rule) == pytest.approx(expected)
        assert images.limits(ramp.astype(np.float32), rule) == pytest.approx(expected)

    @pytest.mark.parametrize(
        "rule", ["", "auto:", "1", "1:2:3", "p1:99", "1:p99", "a:b", "nan:1", "0:inf", "p-1:p99",
                 "p1:p101", "1..2:3", "1,5:2"]
    )  # fmt: skip
    def test_rules_that_are_not_understood(self, rule: str) -> None:
        with pytest.raises(UsageError) as caught:
            images.parse_range(rule)
        assert caught.value.code == "range.syntax"
        assert rule in caught.value.message

    @pytest.mark.parametrize("rule", ["5:5", "7:5", "p50:p50", "p99:p1", "-1e308:1e308"])
    def test_ranges_that_hold_nothing(self, rule: str) -> None:
        with pytest.raises(UsageError) as caught:
            images.limits(np.zeros((2, 2), np.uint16), rule)
        assert caught.value.code == "range.empty"

    @given(
        hnp.arrays(np.uint16, hnp.array_shapes(min_dims=1, max_dims=2, max_side=12)),
        st.floats(0, 99),
        st.floats(0.1, 50),
    )
    def test_integer_percentiles_equal_numpys(
        self, values: np.ndarray, low: float, width: float
    ) -> None:
        high = min(low + width, 100)
        expected = np.percentile(values, (low, high))
        rule = f"p{low!r}:p{high!r}"
        assert images.limits(values, rule) == pytest.approx(tuple(expected), abs=1e-6)

    def test_what_is_not_finite_is_left_out_and_becomes_the_low_end(self) -> None:
        pixels = np.linspace(10, 20, 100, dtype=np.float32).reshape(10, 10)
        clean = images.limits(pixels, "p0:p100")
        pixels[0, :3] = np.nan, np.inf, -np.inf
        picture = decode(npy_bytes(pixels))
        assert picture.nonfinite == 3
        low, high = images.limits(pixels, "p0:p100")
        assert (low, high) == (pixels[0, 3], clean[1])
        unit = images.to_unit(pixels, (low, high))
        assert_same(unit[0, :3], np.zeros(3, np.float32))
        assert unit.min() == 0
        assert unit.max() == 1

    def test_signalling_nan_is_as_good_as_any(self) -> None:
        pixels = np.linspace(10, 20, 16, dtype=np.float32).reshape(4, 4)
        pixels.view(np.uint32)[1, 2] = 0x7F800001
        unit = images.to_unit(pixels, images.limits(pixels))
        assert unit[1, 2] == 0
        assert np.isfinite(unit).all()

    def test_a_colour_with_one_bad_channel_counts_once(self) -> None:
        pixels = scene("float32", 3)
        pixels[4, 5] = np.nan
        pixels[6, 7, 1] = np.inf
        assert decode(npy_bytes(pixels)).nonfinite == 2

    def test_nothing_valid_at_all(self) -> None:
        pixels = np.full((3, 3), np.nan, np.float32)
        assert images.limits(pixels) == (0, 1)
        assert_same(images.to_unit(pixels, (0, 1)), np.zeros((3, 3), np.float32))
        everything = np.ones((3, 3), bool)
        assert images.limits(np.zeros((3, 3), np.uint16), "auto", everything) == (0, 1)

    @pytest.mark.parametrize("dtype", ["uint16", "float32"])
    def test_constant_images_divide_by_nothing(self, dtype: str) -> None:
        pixels = np.full((20, 20), 77, dtype)
        limits = images.limits(pixels)
        assert limits == (77, 77)
        assert not images.to_unit(pixels, limits).any()
        pixels[0, 0] = 90  # one hot pixel on a flat ground is above the upper percentile
        assert images.to_unit(pixels, images.limits(pixels)).sum() == 1

    @pytest.mark.parametrize(
        ("low", "high"), [(1e9, 1e9 + 64), (-3e38, 3e38), (0, 1e-40), (300.15, 300.151)]
    )
    def test_extreme_ranges_stay_in_order(self, low: float, high: float) -> None:
        pixels = np.array([[low, high]], np.float32)
        unit = images.to_unit(pixels, (low, high))
        assert np.isfinite(unit).all()
        assert 0 <= unit[0, 0] < unit[0, 1] <= 1

    def test_uint16_keeps_its_levels(self) -> None:
        pixels = np.arange(7300, 7900, dtype=np.uint16)[None]
        unit = images.to_unit(pixels, images.limits(pixels, "dtype"))
        assert_same(images.from_unit(unit, np.uint16), pixels)


class TestUnit:
    @pytest.mark.parametrize("dtype", ["uint8", "uint16"])
    def test_there_and_back_is_exact(self, dtype: str) -> None:
        top = np.iinfo(dtype).max
        values = np.arange(top + 1, dtype=dtype)[None]
        assert_same(images.from_unit(images.to_unit(values, (0, top)), dtype), values)

    def test_values_are_clipped_and_rounded_half_to_even(self) -> None:
        unit = np.array([-1, 0, 0.5 / 255, 1.5 / 255, 2.5 / 255, 0.999, 1, 9, np.nan])
        assert images.from_unit(unit, "uint8").tolist() == [0, 0, 0, 2, 2, 255, 255, 255, 0]

    def test_float_is_clipped_and_keeps_its_precision(self) -> None:
        unit = np.array([-0.5, 0.1234567, 1.5], np.float32)
        assert_same(images.from_unit(unit, "float32"), np.array([0, 0.1234567, 1], np.float32))

    def test_the_input_is_left_alone(self) -> None:
        unit = np.array([[-1.0, 0.3, np.nan]], np.float32)
        before = unit.copy()
        images.from_unit(unit, "uint8")
        images.from_unit(unit, "float32")
        np.testing.assert_array_equal(unit, before)

    def test_luma_is_bt601_in_the_scale_of_the_pixels(self) -> None:
        pixels = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]]], np.uint8)
        expected = [[255 * 0.299, 255 * 0.587, 255 * 0.114, 9]]
        np.testing.assert_allclose(images.luma(pixels), expected, rtol=1e-6)
        assert images.luma(pixels).dtype == np.float32
        np.testing.assert_array_equal(images.luma(scene()), scene().astype(np.float32))
