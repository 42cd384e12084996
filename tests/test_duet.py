"""What duet aims at, and what its shipped weights make of scenes whose answer is known."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from fusecli import api, checkpoint, images
from fusecli.models import Sample, duet

SIZE = 96


def flat(value: float) -> Tensor:
    return torch.full((1, 1, SIZE, SIZE), value)


def patch(background: float, inside: float, row: int = 40, column: int = 40) -> Tensor:
    """Return a flat image with a square of 16x16 pixels."""
    image = flat(background)
    image[..., row : row + 16, column : column + 16] = inside
    return image


def texture(seed: int, strength: float = 0.1) -> Tensor:
    """Return something around 0 with the grain of foliage."""
    noise = torch.rand(1, 1, SIZE // 2, SIZE // 2, generator=torch.Generator().manual_seed(seed))
    fine = torch.nn.functional.interpolate(noise - 0.5, scale_factor=2.0, mode="bilinear")
    return 2 * strength * fine


def within(image: Tensor) -> float:
    return image[..., 44:52, 44:52].mean().item()


def beside(image: Tensor) -> float:
    return image[..., 44:52, 8:16].mean().item()


class TestTarget:
    def test_equal_sources_come_back(self) -> None:
        image = 0.5 + texture(1)
        tinted = image + duet.TINT * (duet._smooth(image, duet.BASE_SIGMA) - image.mean())
        plain, aim = duet.target(image, image)
        assert (plain - tinted).abs().max() < 1e-5
        assert (aim - image)[..., 20:-20, 20:-20].abs().max() < 0.1

    def test_detail_comes_from_the_source_that_has_it_and_a_tie_goes_to_the_visible(self) -> None:
        one, other = texture(1), texture(2)

        def likeness(aim: Tensor, detail: Tensor) -> float:
            pair = torch.stack([aim.flatten(), detail.flatten()])
            return torch.corrcoef(pair)[0, 1].item()

        assert likeness(duet.target(0.5 + one, flat(0.5))[0], one) > 0.95
        assert likeness(duet.target(flat(0.5), 0.5 + other)[0], other) > 0.95
        both, _ = duet.target(0.5 + one, 0.5 + 1.5 * other)
        assert likeness(both, other) > 0.9 > 0.3 > likeness(both, one)

    @pytest.mark.parametrize("of_visible", [0.05, 0.2, 0.35])
    def test_a_warm_target_has_its_step_however_dark_it_is_in_the_visible_image(
        self, of_visible: float
    ) -> None:
        plain, aim = duet.target(patch(0.3, 0.7), patch(0.2, of_visible))
        assert within(aim) - beside(aim) > 0.38
        assert (aim - plain)[..., 44:52, 8:16].abs().max() < 0.03, "nothing is lifted around it"

    def test_a_lamp_stays_brighter(self) -> None:
        _, wall = duet.target(flat(0.9), patch(0.2, 1.0))
        assert within(wall) > beside(wall) + 0.6

    def test_a_hot_surface_is_as_even_as_it_is(self) -> None:
        ir = flat(0.3)
        ir[..., 24:72, 24:72] = 0.7
        _, aim = duet.target(ir, flat(0.3))
        assert aim[..., 28:68, 28:68].std() < 0.005

    def test_nothing_leaves_the_range(self) -> None:
        for aim in duet.target(patch(0.0, 1.0), flat(1.0)):
            assert aim.min() >= 0 and aim.max() <= 1


class TestContrastLoss:
    """Of a square of 16 pixels that is 0.5 brighter in the infrared than what surrounds it."""

    ir = patch(0.2, 0.7)

    def test_the_step_of_the_infrared_is_asked_for_on_any_level(self) -> None:
        missing = [float(duet.contrast_loss(patch(0.3, 0.3 + k), self.ir)) for k in (0.1, 0.3, 0.6)]
        assert missing[0] > missing[1] + 0.15 > missing[2] + 0.15
        assert missing[2] < 0.02

    def test_the_opposite_sign_costs_more_than_none(self) -> None:
        none, against = (duet.contrast_loss(patch(0.5, x), self.ir) for x in (0.5, 0.3))
        assert against > none + 0.15

    def test_without_a_target_nothing_is_asked_for(self) -> None:
        assert duet.contrast_loss(patch(0.9, 0.1), flat(0.4)) < 1e-3


class TestAgreement:
    @staticmethod
    def best(ir: Tensor, vis: Tensor) -> Tensor:
        """Return the displacement that agrees best in each cell, (2, H / 8, W / 8) steps."""
        found = duet.agreement(torch.cat([ir, vis], 1))[0].argmax(1)[0]
        edge = 2 * duet.REACH + 1
        return torch.stack([found % edge, found // edge]) - duet.REACH

    @pytest.mark.parametrize("steps", [(0, 0), (2, 0), (0, -3), (-1, 2)])
    def test_a_displacement_is_seen_whatever_the_sign_of_the_edges(
        self, steps: tuple[int, int]
    ) -> None:
        scene = 0.5 + texture(1, 0.4)
        dx, dy = (duet.STEP * step for step in steps)
        moved = 1 - torch.roll(scene, (dy, dx), (-2, -1))  # and dark is bright now
        found = self.best(moved, scene)[:, 3:-3, 3:-3]
        assert (found == torch.tensor(steps)[:, None, None]).all()

    def test_each_part_of_an_image_is_compared_on_its_own(self) -> None:
        scene = torch.cat([0.5 + texture(1, 0.4), 0.5 + texture(2, 0.4)], -1)
        moved = torch.cat([scene[..., :SIZE], torch.roll(scene[..., SIZE:], 8, -1)], -1)
        across = self.best(moved, scene)[0]
        assert (across[3:-3, :4] == 0).all()
        assert (across[3:-3, -4:] == 2).all()

    def test_without_edges_no_displacement_agrees(self) -> None:
        agreed, edges = duet.agreement(torch.cat([flat(0.3), flat(0.6)], 1))
        assert agreed.abs().max() == edges.abs().max() == 0

    def test_absence_of_edges_can_be_told_from_contradiction(self) -> None:
        of_ir = 0.5 + texture(1, 0.4)
        _, absent = duet.agreement(torch.cat([of_ir, flat(0.5)], 1))
        _, contrary = duet.agreement(torch.cat([of_ir, 0.5 + texture(2, 0.4)], 1))
        assert absent[:, 0].min() > 0.3 > absent[:, 1].max()
        assert contrary.min() > 0.3


class Oracle:
    """Makes what it is told to, and keeps what it is shown."""

    def __init__(self, ir: Tensor) -> None:
        self.ir, self.shown = ir, torch.empty(0)

    def parts(self, ir: Tensor, vis: Tensor) -> tuple[Tensor, Tensor]:
        self.shown = ir
        plain, whole = duet.target(self.ir, vis)
        return plain, whole - plain


class TestDisplacedPairs:
    """The last pairs of a batch."""

    aligned, moved, vis = torch.rand(3, 8, 1, 48, 48, generator=torch.Generator().manual_seed(0))

    def terms(self, oracle: Oracle, vis: Tensor) -> dict[str, Tensor]:
        return duet.fusion_loss(oracle, Sample(self.moved, vis, self.aligned, vis))

    def test_they_are_judged_in_place_where_the_visible_image_has_edges(self) -> None:
        oracle = Oracle(self.aligned)
        terms = self.terms(oracle, self.vis)
        assert torch.equal(oracle.shown, torch.cat([self.aligned[:6], self.moved[6:]]))
        assert terms["target"] + terms["plain"] + terms["edges"] < 1e-5

    def test_where_it_has_none_they_are_taken_to_lie_right(self) -> None:
        oracle = Oracle(torch.cat([self.aligned[:6], self.moved[6:]]))
        terms = self.terms(oracle, torch.full_like(self.vis, 0.5))
        assert terms["target"] + terms["plain"] + terms["edges"] < 1e-5


class TestWarmth:
    """The lift of what is warm is a part of its own."""

    network = duet.Fuser().eval().requires_grad_(False)
    pair = patch(0.3, 0.9), 0.4 + texture(1)

    def fused(self, warmth: float) -> Tensor:
        self.network.warmth = warmth
        return self.network(*self.pair)

    def test_it_scales_the_lift(self) -> None:
        plain, lift = self.network.parts(*self.pair)
        assert lift.min() >= 0 and lift[..., 44:52, 44:52].mean() > 0.4
        for warmth in (0.0, 0.5, 1.0):
            torch.testing.assert_close(self.fused(warmth), plain + warmth * lift)

    def test_twice_as_strong_goes_as_far_as_there_is_room(self) -> None:
        once, twice = self.fused(1.0), self.fused(2.0)
        assert (twice >= once).all()
        assert within(twice) > within(once)
        assert twice[once < 1].max() <= 1


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    return checkpoint.load("duet").network.eval().requires_grad_(False)


class TestShippedWeights:
    def test_a_warm_target_stands_out_of_the_dark(self, network: torch.nn.Module) -> None:
        fused = network(patch(0.3, 0.9), 0.2 + texture(1, 0.02))
        assert within(fused) > beside(fused) + 0.15

    def test_a_lamp_stays_visible_on_a_warm_wall(self, network: torch.nn.Module) -> None:
        fused = network(0.85 + texture(2, 0.02), patch(0.2, 0.95))
        assert within(fused) > beside(fused) + 0.3

    def test_a_warm_target_is_seen_through_smoke(self, network: torch.nn.Module) -> None:
        fused = network(patch(0.3, 0.9), 0.6 + texture(1, 0.01))
        assert within(fused) > beside(fused) + 0.08

    def test_visible_texture_survives_a_flat_infrared_image(self, network: torch.nn.Module) -> None:
        detail = texture(3)
        fused = network(flat(0.4), 0.5 + detail)
        inner = (..., slice(16, -16), slice(16, -16))
        found, wanted = (x[inner] - x[inner].mean() for x in (fused, detail))
        assert (found * wanted).sum() / wanted.square().sum() > 0.8

    def test_nothing_saturates_and_nothing_is_invented(self, network: torch.nn.Module) -> None:
        for ir, vis in ((0.1, 0.9), (0.9, 0.1), (0.5, 0.5), (0.9, 0.9)):
            inner = network(flat(ir), flat(vis))[..., 24:-24, 24:-24]
            assert inner.diff(dim=-1).abs().max() < 0.01, "grain in a flat scene"
            assert min(ir, vis) - 0.15 < inner.mean() < max(ir, vis) + 0.15

    def test_detail_of_a_displaced_infrared_image_is_kept_out(
        self, network: torch.nn.Module
    ) -> None:
        scene = 0.5 + texture(7, 0.3)

        def trace(moved: int) -> float:
            """Return how much of infrared detail that the visible image lacks is in the result."""
            own = texture(8, 0.15)
            ir = torch.roll(0.5 + 0.5 * (scene - 0.5) + own, (moved, moved), (-2, -1))
            own = torch.roll(own, (moved, moved), (-2, -1))
            inner = (..., slice(16, -16), slice(16, -16))
            added = (network(ir, scene) - scene)[inner]
            return float((added * own[inner]).sum() / own[inner].square().sum())

        assert trace(8) < 0.5 * trace(0)

    def test_noise_of_a_camera_is_not_amplified_from_frame_to_frame(
        self, network: torch.nn.Module
    ) -> None:
        scene = patch(0.3, 0.8) + texture(4), 0.4 + texture(5)
        generator = torch.Generator().manual_seed(6)

        def frame() -> list[Tensor]:
            return [x + 0.02 * torch.randn(x.shape, generator=generator) for x in scene]

        first, second = frame(), frame()
        change = (network(*first) - network(*second)).abs().mean()
        of_sources = max((a - b).abs().mean() for a, b in zip(first, second, strict=True))
        assert change < 1.2 * of_sources


class TestColoursAtNight:
    """The colours of the visible image are kept, not scaled with the brightness."""

    @staticmethod
    def chroma(pixels: np.ndarray) -> np.ndarray:
        return cv2.cvtColor(pixels, cv2.COLOR_RGB2YCrCb)[..., 1:].astype(np.float64)

    def test_noise_of_the_colours_is_not_lifted_with_the_dark(self) -> None:
        noise = np.random.default_rng(1).normal(40, 4, (96, 96, 3))
        vis = np.clip(noise, 0, 255).round().astype(np.uint8)
        ir = (255 * patch(0.2, 0.6)[0, 0].numpy()).round().astype(np.uint8)
        fused = api.fuse(ir, vis)
        warm = np.s_[44:52, 44:52]
        assert fused[warm].mean() > vis[warm].mean() + 25
        assert np.abs(self.chroma(fused)[warm] - self.chroma(vis)[warm]).max() <= 2  # of rounding

    @pytest.mark.realdata
    @pytest.mark.parametrize("key", ["00681N", "00730N", "00762N", "00858N", "00881N", "01023N"])
    def test_at_real_nights(self, key: str, data_dir: Path) -> None:
        ir, vis = (data_dir / "extra-train/msrs" / side / f"{key}.png" for side in ("ir", "vi"))
        fused, before = api.fuse(ir, vis), images.read(str(vis)).pixels
        inside = (fused.min(-1) > 0) & (fused.max(-1) < 255)  # where nothing was clipped
        assert inside.mean() > 0.85
        moved = np.abs(self.chroma(fused) - self.chroma(before))[inside]
        assert moved.max() <= 2
