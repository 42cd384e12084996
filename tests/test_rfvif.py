"""RFVIF against its table of layers and its equations; no code or weights of it were published."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import quality
from fusecli import checkpoint, models, perceptual
from fusecli.errors import MissingError, UsageError
from fusecli.fusion.network import Fuser
from fusecli.models import Sample, _rfvif_alignment, _rfvif_refinement, rfvif
from fusecli.ops import dynamic_conv
from fusecli.ops.local_similarity import local_similarity


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def build(**options: str) -> rfvif.RfVif:
    torch.manual_seed(0)
    spec = models.find("rfvif")
    network = spec.network(models.parse_options(spec, {"width": "16"} | options))
    assert isinstance(network, rfvif.RfVif)
    return network


def pair(height: int = 24, width: int = 32, batch: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(2 * batch, 1, height // 4, width // 4, generator=generator)
    fine = F.interpolate(coarse, scale_factor=4.0, mode="bilinear")
    ir, vis = fine.chunk(2)
    return ir, vis


def sample(ir: Tensor, vis: Tensor, ir_true: Tensor, **options: object) -> Sample:
    defaults = {o.name: o.default for o in models.find("rfvif").options if o.recipe}
    return Sample(ir, vis, ir_true, vis, None, defaults | {"perceptual": "gradient"} | options)


@pytest.mark.parametrize(
    ("width", "counts", "total"),
    [
        (
            32,
            [1_215_136, 166_272, 133_856, 6_784, 2_080, 33, 36_960, 27_680, 19_104, 18_816, 3_104]
            + [27_712, 27_712, 110_976, 14_017],
            3_882_468,
        ),
        (
            16,
            [304_464, 41_664, 34_160, 1_728, 528, 17, 9_264, 6_928, 4_944, 4_800, 784]
            + [6_944, 6_944, 27_840, 3_553],
            975_604,
        ),
    ],
)
def test_parameters_of_the_table(width: int, counts: list[int], total: int) -> None:
    network = build(width=str(width))
    level, refine = network.alignment[1], network.refinement[1]
    parts = [network.branch_ir, network.modulation[1], level.kernels, level.blocks, level.align]
    parts += [network.reconstruction[1], network.masks[1], network.across[1]]
    parts += [refine.guide_vis, refine.guide_ir, refine.output]
    parts += [network.pyramid[1], network.join, network.tail, network.head]
    assert [count(part) for part in parts] == counts
    assert count(network) == total
    assert count(network.branch_vis) == count(network.branch_ir)


@pytest.mark.parametrize(
    ("options", "fewer"),
    [
        ({"cross_modulation": "off"}, 3 * (41_664 - 2 * (9 * 256 + 16))),
        ({"refinement": "off"}, 3 * (4_944 + 4_800 + 784)),
        ({"dynamic_kernels": "off"}, 3 * (34_160 - 16 * (9 + 25 + 49))),
        ({"alignment_blocks": "0"}, 3 * (34_160 + 1_728 + 528 + 17)),
        ({"alignment_blocks": "1"}, 3 * (864 + 256)),
        ({"alignment_blocks": "3"}, -3 * (864 + 256)),
        ({"window": "3", "temperature": "0.2"}, 0),
    ],
    ids=str,
)
def test_ablations_take_away_their_parameters_and_train(
    options: dict[str, str], fewer: int
) -> None:
    network = build(**options)
    assert count(network) == 975_604 - fewer
    ir, vis = pair(batch=2)
    terms = rfvif.fusion_loss(network, sample(ir.roll(1, -1), vis, ir))
    sum(weight * terms[t] for t, weight in (("pixel", 1.0), ("align", 0.3))).backward()
    without = [k for k, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without
    assert bool(terms["align"]) == (options.get("alignment_blocks") != "0")


def test_alignment_starts_as_the_identity() -> None:
    generator = _rfvif_alignment.KernelGenerator(16)
    features = torch.randn(2, 2, 16, 9, 8)
    for kernels in generator(*features):
        moved = dynamic_conv.filter_each(features[1], kernels)
        assert (moved - features[1]).abs().max() < 0.05
        assert not torch.equal(kernels[0], kernels[1])


@pytest.mark.parametrize("size", [3, 5, 7])
def test_both_ways_to_filter_agree_with_their_gradients(size: int) -> None:
    features = torch.randn(3, 4, 9, 7, dtype=torch.float64, requires_grad=True)
    kernels = torch.randn(3, 4, size, size, dtype=torch.float64, requires_grad=True)
    results = []
    for path in (dynamic_conv.filter_grouped, dynamic_conv.filter_neighbours):
        out = path(features, kernels)
        results.append((out, *torch.autograd.grad(out.sin().sum(), (features, kernels))))
    for grouped, taps in zip(*results, strict=True):
        assert torch.allclose(grouped, taps, rtol=1e-12, atol=1e-12)
    alone = F.conv2d(features[1:2, 2:3], kernels[1:2, 2:3], padding=size // 2)
    assert torch.allclose(results[0][0][1:2, 2:3], alone)


def test_a_kernel_of_one_tap_moves_features_by_its_offset() -> None:
    features = torch.randn(1, 2, 8, 8)
    kernels = torch.zeros(1, 2, 7, 7)
    kernels[:, :, 3 + 1, 3 - 2] = 1  # reads one below and two to the left
    moved = dynamic_conv.filter_each(features, kernels)
    assert torch.equal(moved[..., :-1, 2:], features[..., 1:, :-2])
    assert not moved[..., -1, :].any() and not moved[..., :2].any()


@pytest.mark.parametrize(("window", "temperature"), [(3, 1.0), (5, 1.0), (5, 0.1)])
def test_local_similarity_by_its_definition(window: int, temperature: float) -> None:
    features, guide = torch.randn(2, 2, 6, 9, 8, dtype=torch.float64)
    edge = window // 2
    around = F.unfold(F.pad(features, (edge,) * 4, mode="replicate"), window)
    around = around.reshape(2, 6, window**2, 9, 8)
    cosine = F.cosine_similarity(around, guide[:, :, None], dim=1)
    expected = (around * (cosine / temperature).softmax(1)[:, None]).sum(2)
    result = local_similarity(features, guide, window, temperature)
    assert (result - expected).abs().max() < 1e-4


def test_local_similarity_leaves_flat_features_to_the_border_and_has_a_gradient_at_zero() -> None:
    flat = torch.full((1, 3, 5, 6), 0.7)
    guide = torch.randn(1, 3, 5, 6)
    assert torch.allclose(local_similarity(flat, guide), flat)
    nothing = torch.zeros(1, 3, 5, 6, requires_grad=True)
    local_similarity(nothing, guide).sum().backward()
    assert nothing.grad is not None and nothing.grad.isfinite().all()


def test_a_temperature_that_would_empty_the_window_is_refused() -> None:
    for value in ("0.01", "nan", "-1"):
        with pytest.raises(UsageError, match="is below 0.05"):
            build(temperature=value)


def test_laplacian_of_a_ramp_is_flat_inside_and_signed_at_a_spot() -> None:
    ramp = torch.arange(7.0).expand(1, 1, 5, 7)
    assert not _rfvif_refinement.laplacian(ramp)[..., 1:-1].any()
    spot = torch.zeros(1, 1, 5, 5)
    spot[..., 2, 2] = 1
    response = _rfvif_refinement.laplacian(spot)[0, 0]
    assert response[2, 2] == -4 and response[1, 2] == 1 and response[1, 1] == 0


def test_the_loss_compares_with_the_registered_infrared_image() -> None:
    network = build().eval()
    ir, vis = pair(batch=2)
    moved = ir.roll((2, -1), (-2, -1))
    terms = rfvif.fusion_loss(network, sample(moved, vis, ir, alpha=0.25))
    fused, aligned = network.aligned(moved, vis)
    assert torch.equal(fused, network(moved, vis))
    pixel = 0.75 * (fused - vis).abs().mean() + 0.25 * (fused - ir).abs().mean()
    assert terms["pixel"].item() == pytest.approx(pixel.item(), rel=1e-5)
    align = 0.0
    for level, reconstruction in enumerate(aligned, start=1):
        step = 2**level
        assert reconstruction.shape == (2, 1, 24 // step, 32 // step)
        align += (reconstruction - F.avg_pool2d(ir, step)).abs().mean().item()
    assert terms["align"].item() == pytest.approx(align, rel=1e-5)


def test_reconstructions_are_for_training_only() -> None:
    network = build()
    network(*pair(batch=2)).sum().backward()
    idle = {k for k, p in network.named_parameters() if p.grad is None}
    assert idle == {k for k, _ in network.named_parameters() if k.startswith("reconstruction.")}


@torch.no_grad()
def test_half_precision_stays_near() -> None:
    network = build().eval().to(memory_format=torch.channels_last)
    images = pair(batch=2)
    expected = network(*images)
    with torch.autocast("cpu", torch.bfloat16):
        narrow = network(*images)
    assert (narrow.float() - expected).abs().max() < 0.02
    with torch.autocast("cpu", torch.bfloat16):
        kernels = network.alignment[0].kernels(*torch.rand(2, 1, 16, 4, 4))
    assert all(kernel.dtype == torch.float32 for kernel in kernels)


class Pieces(nn.Module):
    """The parts whose operations depend on batch or size, small enough to trace quickly."""

    def forward(self, features: Tensor, guide: Tensor, kernels: Tensor) -> Tensor:
        moved = dynamic_conv.filter_each(features, kernels)
        return local_similarity(moved, guide, window=3)


def trace(network: nn.Module, images: tuple[Tensor, ...], shapes: tuple[object, ...]) -> nn.Module:
    program = torch.export.export(network, images, dynamic_shapes=shapes)
    assert not any("autocast" in str(node.target) for node in program.graph.nodes)
    return program.module()


@torch.no_grad()
def test_a_traced_graph_takes_any_batch_and_size() -> None:
    batch, rows, columns = (
        torch.export.Dim(n, min=2, max=99) for n in ("batch", "rows", "columns")
    )
    maps = {0: batch, 2: rows, 3: columns}
    example = (*torch.rand(2, 2, 4, 6, 7), torch.rand(2, 4, 3, 3))
    traced = trace(Pieces(), example, (maps, maps, {0: batch}))
    other = (*torch.rand(2, 3, 4, 9, 5), torch.rand(3, 4, 3, 3))
    assert torch.allclose(traced(*other), Pieces()(*other), atol=1e-6)


@pytest.mark.slow
@torch.no_grad()
def test_the_whole_graph_takes_any_batch_and_size() -> None:
    network = build().eval()
    batch, rows, columns = (
        torch.export.Dim(n, min=2, max=64) for n in ("batch", "rows", "columns")
    )
    shape = {0: batch, 2: 8 * rows, 3: 8 * columns}
    traced = trace(network, pair(batch=2), (shape, shape))
    images = pair(40, 16, batch=3)
    assert torch.allclose(traced(*images), network(*images), atol=1e-5)


def test_a_few_steps_learn_to_align() -> None:
    network = build()
    optimiser = torch.optim.Adam(network.parameters(), 2e-3)
    ir, vis = pair(32, 32, batch=2)
    losses = []
    for step in range(12):
        shift = (step % 3 - 1, step % 2)
        batch = sample(ir.roll(shift, (-2, -1)), vis, ir)
        terms = rfvif.fusion_loss(network, batch)
        loss = terms["pixel"] + 0.3 * terms["align"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-3:]) < 0.7 * sum(losses[:3])


# Perceptual features


def test_gradient_features_measure_edges_at_three_scales() -> None:
    ir, vis = pair()
    same, other, brighter = perceptual.distances(ir, (ir, vis, ir + 0.3), "gradient")
    assert same == 0 and other > 0.01
    assert brighter < 1e-6  # gradients do not see a constant
    total, elements, a, b = 0.0, 0, ir, vis
    for _ in range(3):
        for first, second in zip(perceptual.sobel(a), perceptual.sobel(b), strict=True):
            total += (first - second).square().sum().item()
            elements += first.numel()
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    assert other.item() == pytest.approx((total / elements) ** 0.5, rel=1e-5)


def test_distance_of_an_image_to_itself_has_a_finite_gradient() -> None:
    image = torch.rand(1, 1, 16, 16, requires_grad=True)
    perceptual.distances(image, (image.detach(),), "gradient")[0].backward()
    assert image.grad is not None and image.grad.isfinite().all()


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(perceptual.VGG_VARIABLE, raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    perceptual._network.cache_clear()


@pytest.mark.usefixtures("no_weights")
def test_without_weights_the_features_are_gradients_and_the_card_says_so() -> None:
    assert perceptual.used("auto") == "gradient"
    facts = models.find("rfvif").training_facts({"perceptual": "auto"})
    assert "Sobel gradients" in facts["Perceptual features"]
    with pytest.raises(MissingError) as caught:
        perceptual.used("vgg")
    assert caught.value.code == "train.perceptual" and "FUSECLI_VGG16" in str(caught.value.hint)


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize("where", ["variable", "hub"])
def test_vgg_is_read_from_a_file_or_the_hub_cache(
    where: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "checkpoints" / "vgg16-397923af.pth"
    file.parent.mkdir()
    torch.manual_seed(0)
    state = perceptual.Vgg16().state_dict()
    assert [k for k in state if k.endswith("weight")][-1] == "features.14.weight"
    torch.save(state | {"classifier.6.bias": torch.zeros(1000)}, file)
    if where == "variable":
        monkeypatch.setenv(perceptual.VGG_VARIABLE, str(file))
    assert perceptual.used("auto") == "vgg"
    assert "relu3_3" in perceptual.describe("auto")
    ir, vis = pair()
    network = perceptual.Vgg16()
    network.load_state_dict(state)
    (a,), (b,) = network(ir), network(vis)
    assert a.shape == (1, 256, 6, 8) and a.min() == 0
    (result,) = perceptual.distances(ir, (vis,), "vgg")
    assert result.item() == pytest.approx((a - b).square().mean().sqrt().item(), rel=1e-4)


@pytest.mark.usefixtures("no_weights")
def test_a_file_that_is_not_vgg_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch.save({"features.0.weight": torch.zeros(64, 3, 5, 5)}, tmp_path / "other.pth")
    monkeypatch.setenv(perceptual.VGG_VARIABLE, str(tmp_path / "other.pth"))
    with pytest.raises(MissingError, match="does not hold the weights of Vgg16") as caught:
        perceptual.distances(*pair()[:1], pair()[1:], "vgg")
    assert "missing or of another shape: features.0.weight" in caught.value.facts


def test_shipped_weights_bear_a_shift_of_eight_pixels() -> None:
    def fuser(name: str) -> Fuser:
        loaded = checkpoint.load(name)
        cpu = torch.device("cpu")
        return Fuser(loaded.network, loaded.spec, loaded.options, device=cpu)

    steady, plain = fuser("rfvif"), fuser("reconet")
    data = Path(__file__).parent / "data"
    for key, ir, vis in quality.read_set(data, visible="vis"):
        here, there = (quality.score(steady, [(key, ir, vis)], shift) for shift in (0, 8))
        assert there["qabf:255"] > 0.97 * here["qabf:255"], key
        assert there["ssim:skimage_sum"] > 0.95 * here["ssim:skimage_sum"], key
        # not by leaving the infrared image out
        assert (steady(ir, vis) - steady(0 * ir, vis)).abs().mean() > 5 / 255, key
    here, there = (quality.score(plain, [(key, ir, vis)], shift) for shift in (0, 8))
    assert there["ssim:skimage_sum"] < 0.9 * here["ssim:skimage_sum"], "any network would pass"
