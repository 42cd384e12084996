"""The shared loss terms on images whose terms are known."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from fusecli import losses, metrics
from fusecli.metrics import Plane, Scene


def image(seed: int, height: int = 20, width: int = 24) -> torch.Tensor:
    return torch.rand(1, 1, height, width, generator=torch.Generator().manual_seed(seed))


def test_ssim_map_against_its_definition() -> None:
    a, b = image(1), image(2) * 0.5 + image(1) * 0.5
    x, y = a[0, 0].double().numpy(), b[0, 0].double().numpy()

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        blurred: NDArray[np.float64] = gaussian_filter(values, 1.5, radius=5)
        return blurred

    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    reference = (2 * mx * my + 1e-4) * (2 * cov + 9e-4)
    reference = reference / ((mx * mx + my * my + 1e-4) * (vx + vy + 9e-4))
    inner = torch.from_numpy(reference)[5:-5, 5:-5]
    assert torch.allclose(losses.ssim_map(a, b)[0, 0].double(), inner, atol=1e-5)
    assert losses.ssim_map(a, b, same_size=True).shape == a.shape
    scaled = losses.ssim_map(255 * a, 255 * b, peak=255)
    assert torch.allclose(scaled, losses.ssim_map(a, b), atol=1e-4)


def test_every_term_is_zero_when_all_three_images_are_one() -> None:
    a = image(1)
    terms = losses.fusion_terms(a, a, a)
    assert set(terms) == {*losses.OFFERED, "ssim", "pixel"}, "--loss must know every shared term"
    # where nothing was added to a source, that it looks like the other one cannot be said
    assert terms["difference"].item() == 2
    for name in set(terms) - {"difference"}:
        assert terms[name].item() == pytest.approx(0, abs=1e-6), name


def test_a_term_is_worked_out_once_and_only_when_it_is_read() -> None:
    worked: list[str] = []

    def term(name: str) -> torch.Tensor:
        worked.append(name)
        return torch.tensor(1.0)

    terms = losses.Terms({"a": lambda: term("a"), "b": lambda: term("b")}) | {
        "c": torch.tensor(2.0)
    }
    assert list(terms) == ["a", "b", "c"] and worked == []
    assert terms["b"] == 1 and terms["b"] == 1 and terms["c"] == 2
    assert worked == ["b"]


def test_gradient_terms_take_the_stronger_source() -> None:
    across = torch.arange(24.0).expand(1, 1, 20, 24) / 24  # gx = 8/24 inside, 4/24 at two borders
    flat = torch.zeros_like(across)
    assert losses.signed_gradient_loss(across, across, flat) == 0
    assert losses.max_gradient_loss(across, flat, across) == 0
    mean = (22 * 8 + 2 * 4) / 24 / 24
    assert losses.max_gradient_loss(flat, across, flat).item() == pytest.approx(mean, rel=1e-5)
    assert losses.max_gradient_loss(-across, across, flat) == 0, "the magnitude has no sign"
    signed = losses.signed_gradient_loss(-across, across, flat).item()
    assert signed == pytest.approx(2 * mean, rel=1e-5)


def test_weighted_ssim_follows_the_source_with_contrast() -> None:
    busy, flat = image(1), torch.full((1, 1, 20, 24), 0.5)
    assert losses.weighted_ssim_loss(busy, busy, flat) < 0.001
    assert losses.weighted_ssim_loss(flat, busy, flat) > 0.9


def test_intensity_and_range() -> None:
    ir, vis = image(1), image(2)
    assert losses.max_intensity_loss(torch.maximum(ir, vis), ir, vis) == 0
    assert losses.range_loss(ir) == 0
    outside = torch.tensor([-0.25, 0.5, 1.0, 2.0]).view(1, 1, 2, 2)
    assert losses.range_loss(outside).item() == pytest.approx(1.25 / 4)
    assert losses.range_loss(100 * outside, 0, 255).item() == pytest.approx(25 / 4)


def test_correlation() -> None:
    a, b = image(1), image(2)
    assert losses.correlation(a, 3 * a + 1).item() == pytest.approx(1, abs=1e-4)
    assert losses.correlation(a, -a).item() == pytest.approx(-1, abs=1e-4)
    assert abs(losses.correlation(a, b).item()) < 0.2


def test_the_difference_term_is_two_minus_its_metric() -> None:
    ir, vis = image(1), image(2)
    fused = 0.6 * ir + 0.3 * vis.square()
    planes = [Plane(255 * picture.double()) for picture in (ir, vis, fused)]
    (spec,) = metrics.select("scd:sum")
    expected = 2 - float(metrics.measure([spec], Scene(*planes))[spec.key])
    assert losses.difference_loss(fused, ir, vis).item() == pytest.approx(expected, abs=1e-4)
