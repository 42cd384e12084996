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
        tinted = image + duet.TINT * (duet._smooth(image, duet.BASE_SIGMA) - 0.5)
        aim = duet.target(image, image)
        assert (aim - tinted)[..., 20:-20, 20:-20].abs().max() < 0.06

    def test_detail_comes_from_the_source_that_has_it_and_a_tie_goes_to_the_visible(self) -> None:
        one, other = texture(1), texture(2)

        def likeness(aim: Tensor, detail: Tensor) -> float:
            pair = torch.stack([aim.flatten(), detail.flatten()])
            return torch.corrcoef(pair)[0, 1].item()

        assert likeness(duet.target(0.5 + one, flat(0.5)), one) > 0.95
        assert likeness(duet.target(flat(0.5), 0.5 + other), other) > 0.95
        both = duet.target(0.5 + one, 0.5 + other)
        assert likeness(both, other) > 0.9 > 0.3 > likeness(both, one)

    def test_a_warm_target_stands_out_and_a_lamp_stays_brighter(self) -> None:
        aim = duet.target(patch(0.3, 0.9), flat(0.2))
        assert within(aim) > beside(aim) + 0.3
        lamp = patch(0.2, 1.0)
        wall = duet.target(flat(0.9), lamp)
        assert within(wall) > beside(wall) + 0.6

    def test_nothing_leaves_the_range(self) -> None:
        aim = duet.target(patch(0.0, 1.0), flat(1.0))
        assert aim.min() >= 0 and aim.max() <= 1


class TestAgreement:
    @staticmethod
    def best(ir: Tensor, vis: Tensor) -> Tensor:
        """Return the displacement that agrees best in each cell, (2, H / 8, W / 8) steps."""
        found = duet.agreement(torch.cat([ir, vis], 1)).argmax(1)[0]
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
        assert duet.agreement(torch.cat([flat(0.3), flat(0.6)], 1)).abs().max() == 0


def test_the_last_pairs_of_a_batch_are_displaced_and_judged_in_place() -> None:
    seen: list[Tensor] = []

    def network(ir: Tensor, vis: Tensor) -> Tensor:
        seen.append(ir)
        return duet.target(aligned, vis)

    generator = torch.Generator().manual_seed(0)
    aligned, moved, vis = torch.rand(3, 8, 1, 48, 48, generator=generator)
    terms = duet.fusion_loss(network, Sample(moved, vis, aligned, vis))
    assert torch.equal(seen[0], torch.cat([aligned[:6], moved[6:]]))
    assert terms["target"] == terms["edges"] == 0  # the aim is that of the aligned pairs


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
