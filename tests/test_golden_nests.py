"""RFN-Nest and SMFNet against the authors' numbers, on weights filled by rule."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import rules
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from fusecli import models
from fusecli.errors import MissingError, UsageError
from fusecli.models import Sample, rfn_nest

GOLDEN = Path(__file__).parent / "golden"
KEYS: Mapping[str, Mapping[str, list[int]]] = json.loads(
    (GOLDEN / "official_keys.json").read_text()
)
SIZES = ("37x53", "48x64")


def arrays(name: str) -> dict[str, Tensor]:
    with np.load(GOLDEN / f"{name}.npz") as archive:
        return {key: torch.from_numpy(archive[key]) for key in archive}


def difference(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).abs().max())


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def sample_of(name: str, *pair: Tensor) -> Sample:
    options = {o.name: o.default for o in models.find(name).options if o.recipe}
    return Sample(*pair, *pair, options=options)


# RFN-Nest


@pytest.fixture(scope="module")
def rfn_files() -> dict[str, Tensor]:
    nest = rules.fill(KEYS["rfn_nest.nest"], prefix="nest.")
    return nest | rules.fill(KEYS["rfn_nest.rfn"], prefix="rfn.")


@pytest.fixture(scope="module")
def rfn(rfn_files: dict[str, Tensor]) -> rfn_nest.RfnNest:
    network = rfn_nest.RfnNest().eval()
    network.load_state_dict(rfn_nest.adapt(rfn_files))
    return network


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_rfn_nest_with_rule_filled_weights(rfn: rfn_nest.RfnNest, size: str) -> None:
    golden = arrays(f"rule_rfn_nest_{size}")
    ir, vis = 255 * golden["ir"], 255 * golden["vi"]
    of_ir, of_vis = rfn.encode(ir), rfn.encode(vis)
    fused = rfn.fuse(of_ir, of_vis)
    assert difference(of_ir[3], golden["enc4_ir"]) < 2e-2
    assert difference(fused[3], golden["phi4"]) < 2e-2
    assert difference(rfn.decode(fused), golden["out"]) < 2e-2
    assert torch.equal(rfn(ir, vis), rfn.decode(fused))
    assert difference(rfn(vis, ir), golden["out"]) > 1


def test_rfn_nest_has_the_parameters_of_the_table() -> None:
    network = rfn_nest.RfnNest()
    assert count(network.encoder) == 221_680
    assert count(network.decoder) == 2_511_081
    assert [count(r) for r in network.fusion] == [229_760, 703_136, 1_434_560, 2_424_032]


def test_rfn_nest_takes_the_two_published_files_and_nothing_else(
    rfn_files: dict[str, Tensor],
) -> None:
    encoder_only = {k: v for k, v in rfn_files.items() if not k.startswith("fusion_block")}
    with pytest.raises(MissingError, match="48 of 92 keys missing, 0 unknown"):
        rfn_nest.adapt(encoder_only)
    with pytest.raises(MissingError, match="0 of 92 keys missing, 1 unknown"):
        rfn_nest.adapt(rfn_files | {"fusion_block5.conv_ir.conv2d.weight": torch.zeros(1)})


@pytest.mark.parametrize("size", [(2, 3), (5, 4), (7, 9)])
def test_rfn_nest_enlarges_like_a_reflected_border(size: tuple[int, int]) -> None:
    height, width = size
    coarse = torch.rand(1, 1, height // 2, width // 2)
    fine = torch.zeros(1, 1, height, width)
    enlarged = coarse.repeat_interleave(2, 2).repeat_interleave(2, 3).numpy()
    missing = [(0, 0), (0, 0), (0, height % 2), (0, width % 2)]
    expected = torch.from_numpy(np.pad(enlarged, missing, mode="reflect"))
    assert torch.equal(rfn_nest.join(fine, coarse=coarse)[:, 1:], expected)


@torch.no_grad()
def test_rfn_nest_official_tiles_average_four_quadrants(rfn: rfn_nest.RfnNest) -> None:
    cut = rfn_nest.RfnNest(tiles="official").eval()
    cut.load_state_dict(rfn.state_dict())
    ir, vis = 255 * torch.rand(2, 1, 1, 32, 514)
    right = (..., slice(None), slice(255, 514))
    left = (..., slice(None), slice(0, 260))

    def quadrants(columns: tuple[object, ...]) -> Tensor:
        total, weight = torch.zeros_like(ir[columns]), torch.zeros_like(ir[columns])
        for rows in (slice(0, 19), slice(14, 32)):
            part = (..., rows, slice(None))
            total[part] += rfn(ir[columns][part], vis[columns][part])
            weight[part] += 1
        return total / weight

    fused = cut(ir, vis)
    assert difference(fused[..., :255], quadrants(left)[..., :255]) < 1e-3
    assert difference(fused[..., 260:], quadrants(right)[..., 5:]) < 1e-3
    middle = (quadrants(left)[..., 255:] + quadrants(right)[..., :5]) / 2
    assert difference(fused[..., 255:260], middle) < 1e-3
    assert torch.equal(cut(ir[..., :512], vis[..., :512]), rfn(ir[..., :512], vis[..., :512]))


def test_rfn_nest_stretches_each_image_by_itself() -> None:
    pair = torch.rand(2, 1, 8, 8) * torch.tensor([1.0, 9.0]).view(2, 1, 1, 1)
    both = rfn_nest.normalised(pair, "image")
    assert torch.equal(both[:1], rfn_nest.normalised(pair[:1], "image"))
    assert both.amin((1, 2, 3)).tolist() == [0, 0]
    assert both.amax((1, 2, 3)).tolist() == pytest.approx([255, 255])
    coupled = rfn_nest.normalised(pair, "batch")
    assert coupled[0].max() < 100
    assert difference(coupled[:1], rfn_nest.normalised(pair[:1], "batch")) > 100
    assert rfn_nest.normalised(pair, "none") is pair


def test_rfn_nest_multiscale_ssim_of_the_authors() -> None:
    generator = np.random.default_rng(5)
    a = 255 * generator.uniform(size=(180, 191))
    b = 0.7 * a + 60 * generator.uniform(size=a.shape)
    tensors = [torch.from_numpy(x).float()[None, None] for x in (a, b)]

    def blur(x: np.ndarray) -> np.ndarray:
        return gaussian_filter(x, 1.5, truncate=5 / 1.5)[5:-5, 5:-5]

    expected = 1.0
    for weight in rfn_nest.MULTISCALE_WEIGHTS:
        va, vb = blur(a * a) - blur(a) ** 2, blur(b * b) - blur(b) ** 2
        c1, c2 = 2.55**2, 7.65**2
        contrast = (2 * (blur(a * b) - blur(a) * blur(b)) + c2) / (va + vb + c2)
        light = (2 * blur(a) * blur(b) + c1) / (blur(a) ** 2 + blur(b) ** 2 + c1)
        last = weight == rfn_nest.MULTISCALE_WEIGHTS[-1]
        value = ((light * contrast if last else contrast).mean() + 1) / 2
        expected *= value ** (4 * weight if last else weight)
        a, b = (
            x[: x.shape[0] // 2 * 2, : x.shape[1] // 2 * 2]
            .reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2)
            .mean((1, 3))
            for x in (a, b)
        )
    assert rfn_nest.multiscale_ssim(*tensors).item() == pytest.approx(expected, abs=1e-5)
    with pytest.raises(UsageError, match="at least 176 pixels, not 128"):
        rfn_nest.multiscale_ssim(*torch.rand(2, 1, 1, 128, 200))


def test_rfn_nest_feature_targets_follow_the_options(rfn: rfn_nest.RfnNest) -> None:
    pair = 255 * torch.rand(2, 1, 1, 32, 32)
    sample = sample_of("rfn-nest", *pair)
    of_ir, of_vis = rfn.encode(sample.ir), rfn.encode(sample.vis)
    fused = rfn.fuse(of_ir, of_vis)
    terms = rfn_nest.fusion_loss(rfn, sample)
    for scale in range(4):
        expected = (fused[scale] - 6 * of_ir[scale] - 3 * of_vis[scale]).square().mean()
        assert terms[f"feature{scale + 1}"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_rfn_nest_official_structure_term_needs_its_crop(rfn: rfn_nest.RfnNest) -> None:
    pair = 255 * torch.rand(2, 1, 1, 32, 32)
    sample = Sample(
        *pair, *pair, options={"ssim": "official", "normalise": "image", "w_ir": 1.0, "w_vis": 1.0}
    )
    with pytest.raises(UsageError, match="at least 176 pixels, not 32") as caught:
        rfn_nest.fusion_loss(rfn, sample)
    assert caught.value.code == "train.crop"
