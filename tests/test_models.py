"""What every network must keep to: one parametrised test for each rule that they all share."""

import copy
import functools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusecli import models
from fusecli.models import ModelSpec, Sample

# Learnable parameters, from the papers' layer tables.
PARAMETERS = {
    ("reconet", ()): 7_527,
    ("reconet", (("variant", "v1"),)): 3_589,
    ("reconet", (("norm", "none"),)): 7_141,
    ("reconet-m-register", ()): 202_706,
    ("reconet-m-register", (("aux", "none"),)): 202_418,
    ("reconet-u-register", ()): 101_394,
    ("reconet-u-register", (("aux", "none"),)): 100_530,
    ("reconet-plus", ()): 202_706 + 7_527,
    ("reconet-plus", (("register", "u"), ("variant", "v1"))): 101_394 + 3_589,
    ("rfvif", ()): 3_882_468,
    ("rfvif", (("width", "16"),)): 975_604,
    ("smfnet", ()): 2_650_098,
    ("mfeif", ()): 371_140 + 1,
    ("mfeif", (("temperature", "0"),)): 371_140,
    ("mfeif", (("variant", "conference"), ("temperature", "0"))): 535_105,
    ("rfn-nest", ()): 7_524_249,
    ("duet", ()): 46_733,
}

# Swapping the inputs of these changes nothing, to the last bit.
SYMMETRIC = ("mfeif",)

# Options whose network differs enough to be tested beside the default one.
VARIANTS: dict[str, list[dict[str, str]]] = {
    "reconet": [{"variant": "v1", "loops": "2", "init": "mean"}],
    "reconet-m-register": [{"aux": "none", "integrate_steps": "0"}],
    "reconet-u-register": [{"aux": "canny"}],
    "reconet-plus": [{"register": "u", "variant": "v1"}],
    "mfeif": [{"variant": "conference", "temperature": "0"}],
}

CASES = [(name, options) for name in models.names() for options in ({}, *VARIANTS.get(name, []))]
every_network = pytest.mark.parametrize(
    ("name", "options"),
    CASES,
    ids=[" ".join([name, *(f"{k}={v}" for k, v in options.items())]) for name, options in CASES],
)


def build(name: str, options: dict[str, str]) -> tuple[ModelSpec, nn.Module]:
    """Return a network in eval mode whose every parameter and statistic is alive."""
    return models.find(name), copy.deepcopy(_alive(name, tuple(options.items())))


@functools.cache
def _alive(name: str, options: tuple[tuple[str, str], ...]) -> nn.Module:
    spec = models.find(name)
    torch.manual_seed(0)
    network = spec.network(models.parse_options(spec, dict(options))).train()
    if not any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        for module in network.modules():  # nothing else keeps the scale up from layer to layer
            if isinstance(module, nn.Conv2d) and module.out_channels > 1:  # last ones have reasons
                nn.init.kaiming_normal_(module.weight)
    for parameter in network.parameters():
        if not parameter.count_nonzero() or parameter.std(correction=0) < 1e-4:
            nn.init.normal_(parameter, parameter.detach().mean().item(), 0.05)
    edge = 16 * -(-small(spec) // 16)
    with torch.no_grad():
        for _ in range(10):  # batch norms see what they normalise, so that no last ReLU is shut
            network(*images(spec, edge, edge, batch=2))
    return network.eval()


def images(spec: ModelSpec, height: int, width: int, batch: int = 1) -> tuple[Tensor, Tensor]:
    """Return a random pair, smooth enough to have shapes in it, in the network's range."""
    low, high = spec.input_range
    coarse = torch.rand(2 * batch, 1, max(2, height // 4), max(2, width // 4))
    fine = F.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)
    pair = 0.8 * fine + 0.2 * torch.rand(2 * batch, 1, height, width)
    ir, vis = (low + (high - low) * pair).chunk(2)
    return ir, vis


def padded(spec: ModelSpec, image: Tensor) -> Tensor:
    """Return the image extended right and bottom to a size the network takes."""
    extra = [-size % spec.multiple_of for size in image.shape[-2:]]
    return F.pad(image, (0, extra[1], 0, extra[0]), mode="replicate")


def run(spec: ModelSpec, network: nn.Module, ir: Tensor, vis: Tensor) -> Tensor:
    """Return the output for images of any size, on their grid and in units of the range."""
    with torch.no_grad():
        output: Tensor = network(padded(spec, ir), padded(spec, vis))
    low, high = (0.0, 1.0) if spec.role == "register" else spec.input_range
    return (output[..., : ir.shape[-2], : ir.shape[-1]] - low) / (high - low)


def small(spec: ModelSpec) -> int:
    """Return an edge that every layer of the network can work on."""
    return max(24, spec.min_size)


@pytest.mark.parametrize(("key", "count"), PARAMETERS.items(), ids=str)
def test_parameter_count(key: tuple[str, tuple[tuple[str, str], ...]], count: int) -> None:
    name, options = key
    if name not in models.names():
        pytest.skip(f"no network {name} yet")
    spec = models.find(name)
    network = spec.network(models.parse_options(spec, dict(options)))
    assert sum(p.numel() for p in network.parameters()) == count


@pytest.mark.parametrize("name", models.names())
def test_parameter_count_is_in_the_table(name: str) -> None:
    assert any(known == name for known, _ in PARAMETERS)


@every_network
@pytest.mark.parametrize("size", [(24, 32), (33, 27), (29, 31), None], ids=str)
def test_output_has_the_size_of_the_input(
    name: str, options: dict[str, str], size: tuple[int, int] | None
) -> None:
    spec, network = build(name, options)
    height, width = size or (spec.min_size, spec.min_size + 1)
    if min(height, width) < spec.min_size:
        pytest.skip(f"{name} takes {spec.min_size} pixels and more")
    channels = 2 if spec.role == "register" else 1
    output = run(spec, network, *images(spec, height, width, batch=2))
    assert output.shape == (2, channels, height, width)
    assert output.isfinite().all()


@every_network
def test_gradient_reaches_every_parameter(name: str, options: dict[str, str]) -> None:
    spec, network = build(name, options)
    edge = 16 * -(-small(spec) // 16)
    sample = displaced(spec, edge)
    reached: set[str] = set()
    for stage in spec.stages:
        network.train().zero_grad()
        terms = terms_of(stage, network, sample)
        weights = [stage.weights[term] or 1.0 for term in terms]
        total = sum(w * terms[t] for w, t in zip(weights, terms, strict=True))
        assert isinstance(total, Tensor)
        total.backward()
        learning = {key for key, _ in network.named_parameters() if key.startswith(stage.trains)}
        assert learning, stage.trains
        reached |= {
            key
            for key, parameter in network.named_parameters()
            if key in learning and parameter.grad is not None and parameter.grad.count_nonzero()
        }
    assert reached == {key for key, _ in network.named_parameters()}


def displaced(spec: ModelSpec, edge: int) -> Sample:
    """Return a training batch in which the visible image is a pixel off."""
    ir, vis = images(spec, edge, edge, batch=2)
    field = torch.zeros(2, 2, edge, edge)
    field[:, 0] = 1.0
    options = {o.name: o.default for o in spec.options if o.recipe}
    return Sample(ir, vis.roll(1, -1), ir.roll(1, -1), vis, field, options)


def terms_of(stage: Any, network: nn.Module, sample: Sample) -> dict[str, Tensor]:
    """Return what the stage's loss makes of a batch."""
    if stage.critic is None:
        terms: dict[str, Tensor] = stage.loss(network, sample)
    else:
        terms = stage.loss(network, sample, stage.critic())
    return terms


@every_network
def test_recipe_weights_name_the_terms_of_the_loss(name: str, options: dict[str, str]) -> None:
    spec, network = build(name, options)
    sample = displaced(spec, 16 * -(-small(spec) // 16))
    for stage in spec.stages:
        terms = terms_of(stage, network, sample)
        assert set(terms) == set(stage.weights), stage.name
        assert any(stage.weights.values())
        for term, value in terms.items():
            assert value.shape == () and value.isfinite(), term


@every_network
def test_same_result_twice(name: str, options: dict[str, str]) -> None:
    spec, network = build(name, options)
    pair = images(spec, small(spec), small(spec) + 5)
    output = run(spec, network, *pair)
    assert torch.equal(output, run(spec, network, *pair))
    assert output.std() > 1e-4, "a constant output would hide what these tests look for"


@every_network
def test_a_sample_alone_equals_the_sample_in_a_batch(name: str, options: dict[str, str]) -> None:
    spec, network = build(name, options)
    ir, vis = images(spec, small(spec), small(spec) + 5, batch=3)
    together = run(spec, network, ir, vis)
    for index in range(3):
        alone = run(spec, network, ir[index : index + 1], vis[index : index + 1])
        assert torch.allclose(alone[0], together[index], rtol=0, atol=1e-5)


@every_network
def test_order_of_the_inputs(name: str, options: dict[str, str]) -> None:
    spec, network = build(name, options)
    ir, vis = images(spec, small(spec), small(spec))
    right, swapped = run(spec, network, ir, vis), run(spec, network, vis, ir)
    if name in SYMMETRIC:
        assert torch.equal(right, swapped)
    else:
        assert (right - swapped).abs().max() > 1e-4


@every_network
@pytest.mark.parametrize("share", [(0.0, 0.0), (1.0, 1.0), (0.0, 1.0), (0.5, 0.5)], ids=str)
def test_flat_images_give_finite_results_and_gradients(
    name: str, options: dict[str, str], share: tuple[float, float]
) -> None:
    spec, network = build(name, options)
    low, high = spec.input_range
    edge = 16 * -(-small(spec) // 16)
    ir, vis = (torch.full((1, 1, edge, edge), low + (high - low) * s) for s in share)
    assert run(spec, network, ir, vis).isfinite().all()
    network(ir, vis).sum().backward()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert gradients and all(g.isfinite().all() for g in gradients)


@every_network
def test_a_tile_with_its_halo_equals_the_whole(name: str, options: dict[str, str]) -> None:
    spec, network = build(name, options)
    if spec.tiling != "exact":
        pytest.skip(f"tiling of {name} is {spec.tiling}")
    halo = spec.halo(models.parse_options(spec, options))
    step = max(spec.stride, spec.multiple_of)
    before = step * -(-halo // step)
    tile = step * -(-8 // step)
    edge = 2 * before + tile + 2 * step
    ir, vis = images(spec, edge, edge)
    if step == 1:  # the outermost pixels of the reach count for very little
        network, ir, vis = network.double(), ir.double(), vis.double()
    whole = run(spec, network, ir, vis)
    core = slice(before + step, before + step + tile)

    def error(context: int) -> float:
        window = slice(core.start - context, core.stop + context)
        part = run(spec, network, ir[..., window, window], vis[..., window, window])
        inner = part[..., context : context + tile, context : context + tile]
        return float((inner - whole[..., core, core]).abs().max())

    assert error(before) < (1e-12 if step == 1 else 1e-5)
    if step == 1:
        assert error(halo - 1) > 0, "the halo is larger than the network's reach"
