"""Metrics: values worked out by hand, bounds, symmetry, batches, and degenerate images."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fusecli.metrics import (
    MetricSpec,
    Plane,
    Scene,
    find,
    keys,
    measure,
    select,
)
from fusecli.metrics.fmi import window_information

IMAGES = ("ir", "vis", "fused", "reference")
ALL = [spec for spec in map(find, keys()) if set(spec.needs) <= set(IMAGES)]
FUSION = [spec for spec in ALL if "reference" not in spec.needs]
# Conventions whose published programs divide rounding noise by rounding noise in flat windows.
NOISY = {"qy:liu", "qc:liu"}


def street(seed: int, height: int = 60, width: int = 72, channels: int = 1) -> Tensor:
    """Return (1, C, H, W) whole grey levels: shades, edges and noise, nowhere flat."""
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, channels, 4, 5, generator=draw)
    shades = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    shapes = torch.nn.functional.interpolate(coarse, (height, width), mode="nearest")
    noise = torch.randn(1, channels, height, width, generator=draw)
    return (40 + 170 * (0.5 * shades + 0.5 * shapes) + 4 * noise).round().clamp(0, 255).double()


def scene(*pictures: Tensor) -> Scene:
    return Scene(*(Plane(picture) for picture in pictures))


def values(specs: list[MetricSpec], *pictures: Tensor) -> dict[str, float]:
    return {key: value.item() for key, value in measure(specs, scene(*pictures)).items()}


@pytest.fixture(scope="module")
def pictures() -> list[Tensor]:
    """Return infrared, visible, fused and reference images that are related but differ."""
    ir, vis, other = street(1, 180, 190), street(2, 180, 190), street(3, 180, 190)
    fused = (0.4 * ir + 0.5 * vis + 0.1 * other).round()
    return [ir, vis, fused, (0.5 * ir + 0.5 * vis).round()]


# ---- values worked out by hand


def checks(*rows: str) -> Tensor:
    """Return an image of one digit per pixel, times 10."""
    return 10 * torch.tensor([[int(digit) for digit in row] for row in rows]).double()[None, None]


def test_entropy_of_four_equal_shares_is_two_bits():
    assert values([find("en")], *[checks("0123", "0123")] * 3)["en:gray"] == pytest.approx(2)


def test_information_of_a_copy_and_of_an_independent_image():
    ir, vis = checks("0011", "0011"), checks("0101", "0101")
    assert values([find("mi:bits")], ir, vis, ir)["mi:bits"] == pytest.approx(1)  # 1 bit + none
    assert values([find("mi:nats")], ir, vis, ir)["mi:nats"] == pytest.approx(math.log(2))
    assert values([find("nmi")], ir, vis, ir)["nmi:hossny"] == pytest.approx(1)


def test_cross_entropy_leaves_out_levels_that_the_fused_image_lacks():
    ir, fused = checks("0011"), checks("0001")
    expected = 0.5 * math.log2(0.5 / 0.75) + 0.5 * math.log2(0.5 / 0.25)
    assert values([find("ce")], ir, ir, fused)["ce:gray"] == pytest.approx(expected)
    assert values([find("ce")], checks("0012"), checks("0012"), checks("0000"))[
        "ce:gray"
    ] == pytest.approx(0.5 * math.log2(0.5))


def test_saturated_levels_share_a_bin_in_the_linfeng_convention():
    image = torch.tensor([[[[0.0, 0, 254, 255]]]]).double()
    got = values([find("mi:bits"), find("mi:linfeng")], image, image, image)
    assert got["mi:bits"] == pytest.approx(2 * 1.5)
    assert got["mi:linfeng"] == pytest.approx(2 * (1.5 + 1.5 - 1))


def test_errors_by_hand():
    ir, vis, fused = checks("00"), checks("24"), checks("10")
    got = values([spec for spec in FUSION if spec.name in ("mse", "rmse", "psnr")], ir, vis, fused)
    mse_ir, mse_vis = (100 + 0) / 2, (100 + 1600) / 2
    assert got["mse:gray"] == pytest.approx((mse_ir + mse_vis) / 2)
    assert got["mse:unit"] == pytest.approx((mse_ir + mse_vis) / 2 / 65025)
    assert got["rmse:sqrt_mse"] == pytest.approx(math.sqrt((mse_ir + mse_vis) / 2))
    assert got["rmse:mean"] == pytest.approx((math.sqrt(mse_ir) + math.sqrt(mse_vis)) / 2)
    assert got["rmse:vifb"] == pytest.approx(got["rmse:mean"] / math.sqrt(2))
    assert got["psnr:std"] == pytest.approx(10 * math.log10(65025 / got["mse:gray"]))
    assert got["psnr:maxf"] == pytest.approx(10 * math.log10(100 / got["mse:gray"]))
    assert got["psnr:linfeng"] == pytest.approx(got["psnr:std"] + 20 * math.log10(255))
    assert got["psnr:vifb"] == pytest.approx(20 * math.log10(255 / math.sqrt(got["rmse:vifb"])))


def test_spread_and_steps_by_hand():
    fused = checks("02", "02")
    got = values([spec for spec in FUSION if spec.name in ("sd", "sf", "ag")], fused, fused, fused)
    assert got["sd:gray"] == pytest.approx(10)
    assert got["sd:rfnnest"] == pytest.approx(10 * 2 / 255)
    assert got["sf:mean"] == pytest.approx(20)
    assert got["sf:mn"] == pytest.approx(math.sqrt(800 / 4))
    # three channels side by side: six steps of 20 and four of -20 at the two seams
    assert got["sf:vifb"] == pytest.approx(math.sqrt(10 * 400 / 12))
    assert got["ag:smfnet"] == pytest.approx(20)
    assert got["ag:mean"] == pytest.approx(20 / math.sqrt(2))
    assert got["ag:mn1"] == pytest.approx(4 * 20 / math.sqrt(2))
    assert got["ag:forward"] == pytest.approx(20 / math.sqrt(2))


def test_edge_intensity_of_a_ramp():
    ramp = torch.arange(8.0).double().expand(1, 1, 5, 8) * 10
    inside, rim = 8 * 10, 4 * 10  # a step of two pixels against one, times 1 + 2 + 1
    expected = (6 * inside + 2 * rim) / 8
    assert values([find("ei")], ramp, ramp, ramp)["ei:gray"] == pytest.approx(expected)


def test_differences_correlate_with_the_source_that_they_hold():
    ir, vis = street(5), street(6)
    got = values([find("scd"), find("cc")], ir, vis, ir + vis)
    assert got["scd:sum"] == pytest.approx(2)
    r = np.corrcoef(ir.flatten(), vis.flatten())[0, 1]
    assert values([find("cc")], ir, vis, ir)["cc:mean"] == pytest.approx((1 + r) / 2)
    assert values([find("ncc")], ir, vis)["ncc:global"] == pytest.approx(r)


def test_registration_scores_of_a_pair():
    pair = checks("0011", "0011"), checks("0101", "0101")
    specs = [find(key) for key in ("mi_ab", "nmi_ab:sum_over_joint", "nmi_ab:2mi_over_sum", "nlcc")]
    independent, same = values(specs, *pair), values(specs, pair[0], pair[0])
    assert list(independent.values()) == pytest.approx([0, 1, 0, 0])
    assert list(same.values()) == pytest.approx([1, 2, 1, 1 / 8])
    local = find("ncc:local")
    assert values([local], street(1), 255 - street(1))["ncc:local"] == pytest.approx(1, abs=1e-2)
    assert values([local], street(1), street(2))["ncc:local"] < 0.5


def test_fmi_of_windows():
    draw = torch.Generator().manual_seed(0)
    a = torch.rand(9, 50, generator=draw, dtype=torch.float64)
    assert torch.equal(window_information(a, a, a), torch.full((50,), 1.0).double())
    constant = torch.zeros(9, 50).double()
    assert window_information(constant, constant + 1, constant).tolist() == [1.0] * 50
    assert window_information(a, a, constant).abs().max() < 1e-12
    # the mixture of one copy and one independent window: half of the information
    assert window_information(a, constant, 3 * a + 2) == pytest.approx(0.5, abs=1e-9)


def test_petrovic_parts_add_up_to_one(pictures):
    got = values(FUSION, *pictures[:3])
    for scale in ("255", "unit"):
        parts = (got[f"{name}:{scale}"] for name in ("qabf_petrovic", "labf", "nabf"))
        assert sum(parts) == pytest.approx(1, abs=1e-12)


# ---- what all metrics share


@pytest.mark.parametrize("channels", [1, 3])
def test_a_batch_is_its_images_one_by_one(channels):
    size = (49, 63)
    pairs = [[street(10 * i + j, *size, channels) for j in range(3)] for i in range(2)]
    pairs[0][0], pairs[1][0] = pairs[0][0][:, :1], pairs[1][0][:, :1]  # infrared stays grey
    together = measure(FUSION, scene(*(torch.cat(images) for images in zip(*pairs, strict=True))))
    for i, pair in enumerate(pairs):
        for key, value in measure(FUSION, scene(*pair)).items():
            torch.testing.assert_close(
                together[key][i : i + 1], value, rtol=1e-12, atol=1e-14, equal_nan=True, msg=key
            )


def test_devices_agree(device, pictures):
    if device.type == "cpu":
        pytest.skip("compares with the CPU")
    here = measure(ALL, scene(*pictures))
    there = measure(ALL, scene(*(picture.to(device) for picture in pictures)))
    for key in here.keys() - NOISY:
        torch.testing.assert_close(there[key].cpu(), here[key], rtol=1e-9, atol=1e-12, msg=key)


def test_equal_channels_score_as_grey():
    pictures = [street(seed) for seed in range(3)]
    grey = scene(*pictures)
    colour = scene(*(picture.expand(-1, 3, -1, -1) for picture in pictures))
    one = measure(FUSION, grey)
    three = measure(FUSION, colour, colour)
    for key in one:
        torch.testing.assert_close(
            three[key], one[key], rtol=1e-10, atol=1e-12, equal_nan=True, msg=key
        )


def test_methods_that_share_sources_do_not_disturb_each_other():
    ir, vis, fused, other = (street(seed) for seed in range(4))
    sources = Plane(ir), Plane(vis)
    measure(FUSION, Scene(*sources, Plane(other)))
    shared = measure(FUSION, Scene(*sources, Plane(fused)))
    fresh = measure(FUSION, scene(ir, vis, fused))
    for key in fresh:
        torch.testing.assert_close(shared[key], fresh[key], rtol=0, atol=0, equal_nan=True, msg=key)


def test_large_images_are_forgotten_between_families(pictures, monkeypatch):
    kept = scene(*pictures[:3])
    plain = measure(select("standard"), kept)
    monkeypatch.setattr("fusecli.metrics.LARGE", 1)
    frugal = scene(*pictures[:3])
    assert measure(select("standard"), frugal) == plain
    assert kept.ir._known and not any(plane._known for plane in frugal.planes)


def test_values_are_finite_and_within_their_ranges(pictures):
    for key, value in values(ALL, *pictures).items():
        low, high = find(key).range
        assert math.isfinite(value), key
        assert low - 1e-9 <= value <= high + 1e-9, key


LIMITS = {
    "ce:gray": 0, "ce:vifb": 0, "mse:gray": 0, "mse:unit": 0, "mse:reference": 0,
    "rmse:sqrt_mse": 0, "rmse:mean": 0, "rmse:vifb": 0, "rmse:vifb_gray": 0,
    "cc:mean": 1, "cc:linfeng": 1, "cc:reference": 1, "ncc:global": 1, "qsf:liu": 0,
    "ssim:sum": 2, "ssim:vifb": 2, "ssim:mean": 1, "ssim:matlab_mean": 1, "ssim:linfeng": 1,
    "ssim:skimage_sum": 2, "ssim:skimage_sum_L2": 2, "ssim:reference": 1,
    "msssim:wang_mean": 1, "msssim:smfnet": 1, "msssim:reference": 1, "msssim:mef": 1,
    "vif:sum": 2, "vif:mean": 1, "vif:reference": 1, "viff:han": 1, "qs:liu": 1, "qw:liu": 1,
    "qe:liu": 1, "qy:liu": 1, "qy:robust": 1, "qcb:gray": 1, "qcb:vifb": 1, "qcv:gray": 0,
    "qcv:vifb": 0, "nabf:255": 0, "nabf:unit": 0, "nabf:smfnet": 0, "nabf_petrovic:255": 0,
    "nabf_petrovic:unit": 0, "fmi:none": 1, "fmi:gradient": 1, "fmi:edge": 1, "fmi:dct": 1,
    "fmi:wavelet": 1, "nmi:hossny": 2, "nmi:hossny_raw": 2,
    "nmi_ab:sum_over_joint": 2, "nmi_ab:2mi_over_sum": 1, "psnr:std": math.inf,
    "psnr:maxf": math.inf, "psnr:linfeng": math.inf, "psnr:vifb": math.inf,
    "psnr:vifb_gray": math.inf, "psnr:reference": math.inf,
}  # fmt: skip


def test_equal_images_reach_the_best_value():
    image = street(4, 180, 184)
    got = values([find(key) for key in LIMITS], *[image] * 4)
    for key, limit in LIMITS.items():
        # the multi-exposure index adds 1e-3 to contrasts that it divides by
        assert got[key] == pytest.approx(limit, abs=1e-3 if key == "msssim:mef" else 1e-9), key
    assert math.isnan(values([find("scd")], *[image] * 3)["scd:sum"])


# Infrared is not like visible here, or one of them wins ties.
ORDERED = (
    "uneven",
    "level",
    "halo",
    "kept:",
    "msssim:smfnet",
    "nabf:smfnet",
    "fmi:",
    "viff:han",
    "qc:",
)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10_000), st.integers(48, 70), st.integers(48, 70))
def test_sources_may_change_places(seed, height, width):
    ir, vis, fused = (street(seed + i, height, width) for i in range(3))
    specs = [spec for spec in FUSION if not spec.key.startswith(ORDERED)]
    one, two = values(specs, ir, vis, fused), values(specs, vis, ir, fused)
    for key in one:
        assert one[key] == pytest.approx(two[key], rel=1e-9, abs=1e-12, nan_ok=True), key


# ---- degenerate images


def constant(level: float) -> Tensor:
    return torch.full((1, 1, 48, 52), level).double()


UNDEFINED_WHERE_FUSED_IS_CONSTANT = {
    "cc:mean", "cc:linfeng", "nmi:hossny", "qncie:liu", "qcb:gray", "qcb:vifb", "qcv:gray",
    "qcv:vifb",
}  # fmt: skip
UNDEFINED_WHERE_A_SOURCE_IS_CONSTANT = UNDEFINED_WHERE_FUSED_IS_CONSTANT | {
    "scd:sum", "vif:sum", "vif:mean", "ncc:global", "nlcc:liu",
}  # fmt: skip


def test_a_constant_fused_image_leaves_cells_empty_and_never_fails():
    got = values(FUSION, street(1, 48, 52), street(2, 48, 52), constant(90))
    for key in UNDEFINED_WHERE_FUSED_IS_CONSTANT:
        assert math.isnan(got[key]), key
    assert got["en:gray"] == got["sd:gray"] == got["sf:mean"] == got["mi:rfnnest"] == 0
    assert got["mi:bits"] == pytest.approx(0, abs=1e-12)


def test_a_constant_source_leaves_cells_empty_and_never_fails():
    got = values(FUSION, constant(90), street(2, 48, 52), street(3, 48, 52))
    for key in UNDEFINED_WHERE_A_SOURCE_IS_CONSTANT:
        assert math.isnan(got[key]), key
    for key in ("qy:robust", "qc:robust", "ssim:sum", "qabf:255", "fmi:edge", "fmi:none"):
        assert math.isfinite(got[key]), key


@pytest.mark.parametrize("level", [0, 128, 255])
def test_nothing_but_constant_images_never_fails(level):
    got = values(ALL, *[constant(level)] * 4)
    assert got["mse:gray"] == 0
    assert math.isnan(got["qabf:255"]) == (level == 0)  # zeros outside make an edge at the border


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 2), (3, 5), (7, 5), (10, 11), (17, 19)])
def test_tiny_images_never_fail_and_small_ones_leave_cells_empty(size):
    got = values(ALL, *(street(i, *size) for i in range(4)))
    for key, value in got.items():
        if min(size) < find(key).min_size:
            assert math.isnan(value), key


@pytest.mark.parametrize("spec", [s for s in ALL if s.min_size > 2], ids=lambda spec: spec.key)
def test_the_smallest_size_is_the_smallest_size(spec):
    size = spec.min_size
    at, below = ([street(i, n, n + 3) for i in range(4)] for n in (size, size - 1))
    pictures = dict(zip(IMAGES, at, strict=True))
    value = spec.compute(*(Plane(pictures[image]) for image in spec.needs))
    assert value.shape == (1, 1)
    assert math.isfinite(value.item()) or spec.key.startswith("msssim")  # may be negative: NaN
    assert math.isnan(measure([spec], scene(*below))[spec.key].item())


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000), st.integers(12, 80), st.integers(12, 80), st.booleans())
def test_any_image_keeps_within_the_ranges(seed, height, width, colour):
    draw = np.random.default_rng(seed)
    pictures = [
        torch.from_numpy(draw.integers(0, 256, (1, 3 if colour else 1, height, width))).double()
        for _ in range(4)
    ]
    pictures[0] = pictures[0][:, :1]
    for key, value in values(ALL, *pictures).items():
        low, high = find(key).range
        assert math.isnan(value) or low - 1e-9 <= value <= high + 1e-9, key
