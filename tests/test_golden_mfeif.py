"""MFEIF against the authors' numbers, and the guard against features that play no part."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rules
import torch

from fusecli import checkpoint
from fusecli.errors import MissingError
from fusecli.models import Sample, find, mfeif
from fusecli.models._mfeif_layout import LAYOUT

GOLDEN = Path(__file__).parent / "golden"
TOLERANCE = 1e-4


def arrays(file: Path) -> dict[str, torch.Tensor]:
    with np.load(file) as archive:
        return {key: torch.from_numpy(archive[key]) for key in archive}


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).abs().max())


def live_state() -> dict[str, dict[str, torch.Tensor]]:
    """Return the published dictionary of three, filled by the rule."""
    shapes = rules.shapes_of(mfeif.MFEIF(temperature=0).state_dict(), LAYOUT)
    parts: dict[str, dict[str, torch.Tensor]] = {"ext": {}, "con": {}, "att": {}}
    for key, value in rules.fill(shapes).items():
        part, _, rest = key.partition("/")
        parts[part][rest] = value
    parts["con"]["conv_4.bn.bias"] = torch.tensor([4.0])
    return parts


def live_network(temperature: float = 0) -> mfeif.MFEIF:
    network = mfeif.MFEIF(temperature=temperature)
    network.load_state_dict(mfeif.adapt(live_state()), strict=not temperature)
    return network.eval()


@pytest.fixture(scope="module")
def published(reference_dir: Path) -> mfeif.MFEIF:
    file = reference_dir / "checkpoints/mfeif_default.pth"
    state = torch.load(file, weights_only=True, map_location="cpu")
    network = mfeif.MFEIF(temperature=0)
    network.load_state_dict(mfeif.adapt(state))
    return network.eval()


@pytest.mark.parametrize("size", ["37x53", "48x64"])
def test_rule_filled_weights(size: str) -> None:
    golden = arrays(GOLDEN / f"rule_mfeif_{size}.npz")
    network = live_network()
    with torch.no_grad():
        trace = network.trace(golden["ir"], golden["vi"])
        fused = network(golden["ir"], golden["vi"])
    assert difference(trace.attention_ir, golden["att_ir"]) < TOLERANCE
    assert difference(trace.weights[:, ::8], golden["fused"]) < TOLERANCE
    assert difference(trace.fused, golden["out"]) < TOLERANCE
    assert torch.equal(fused, trace.fused)


@pytest.mark.golden
@pytest.mark.parametrize("pair", ["TNO_037", "FLIR_06621"])
def test_published_weights_on_further_pairs(
    pair: str, published: mfeif.MFEIF, reference_dir: Path
) -> None:
    golden = arrays(reference_dir / f"golden/mfeif_{pair}.npz")
    with torch.no_grad():
        assert difference(published(golden["ir"], golden["vi"]), golden["out"]) < TOLERANCE


@pytest.mark.golden
def test_published_weights_and_their_dead_features(
    published: mfeif.MFEIF, reference_dir: Path
) -> None:
    golden = arrays(reference_dir / "golden/mfeif_TNO_025.npz")
    with torch.no_grad():
        trace = published.trace(golden["ir"], golden["vi"])
    assert difference(trace.fused, golden["out"]) < TOLERANCE
    shallow, middle, deep = trace.features_ir
    intermediates = {
        "f_ir_chmean": deep.mean(1, keepdim=True),
        "b1_ir_chmean": middle.mean(1, keepdim=True),
        "b2_ir_chmean": shallow.mean(1, keepdim=True),
        "att_ir": trace.attention_ir,
        "att_vi": trace.attention_vis,
        "fused_chmax": trace.weights.amax(1, keepdim=True),
    }
    for name, value in intermediates.items():
        scale = golden[name].abs().max()
        assert difference(value, golden[name]) < 1e-3 * scale, name
    assert mfeif.softmax_peak(trace.weights).item() == pytest.approx(1 / 64, abs=1e-6)


def test_the_guard_tells_live_features_from_dead_ones() -> None:
    ir, vis = torch.rand(2, 1, 1, 24, 24, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        network = live_network()
        assert mfeif.softmax_peak(network.trace(ir, vis).weights) > 2 / 64
        for path in network.extractor.paths:
            path[2].bn.weight.zero_()
            path[2].bn.bias.zero_()
        assert mfeif.softmax_peak(network.trace(ir, vis).weights) == 1 / 64


def test_the_temperature_sharpens_the_softmax() -> None:
    ir, vis = torch.rand(2, 1, 1, 24, 24, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        peaks = [
            mfeif.softmax_peak(live_network(temperature).trace(ir, vis).weights)
            for temperature in (0, 1, 8)
        ]
    assert peaks[0] == peaks[1] < peaks[2]


def test_training_leaves_the_uniform_softmax() -> None:
    torch.manual_seed(0)
    stage = find("mfeif").stages[0]
    network = mfeif.MFEIF()
    critic = mfeif.PatchCritic()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    sample = shapes_sample()
    peaks, errors = [], []
    for _ in range(12):
        terms = stage.loss(network, sample, critic)
        total = sum(stage.weights[name] * term for name, term in terms.items())
        assert isinstance(total, torch.Tensor)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        peaks.append(terms["softmax_peak"].item())
        errors.append(terms["mse"].item())
    assert peaks[-1] > 2 / 64
    assert errors[-1] < 0.5 * errors[0]


def shapes_sample() -> Sample:
    """Return a small batch with edges in it."""
    draw = torch.Generator().manual_seed(3)
    coarse = torch.rand(8, 1, 4, 4, generator=draw)
    images = torch.nn.functional.interpolate(coarse, scale_factor=8, mode="nearest")
    ir, vis = images.chunk(2)
    return Sample(ir, vis, ir, vis)


def test_the_critic_learns_to_tell_rebuilt_images() -> None:
    torch.manual_seed(0)
    stage = find("mfeif").stages[0]
    network, critic = mfeif.MFEIF().eval(), mfeif.PatchCritic()
    sample = shapes_sample()
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3)
    assert stage.critic_loss is not None
    start = stage.critic_loss(critic, network, sample)
    for _ in range(8):
        optimizer.zero_grad()
        stage.critic_loss(critic, network, sample).backward()
        optimizer.step()
    assert stage.critic_loss(critic, network, sample) < 0.7 * start
    assert all(parameter.grad is None for parameter in network.parameters())


def test_attention_starts_at_one() -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 1, 16, 16)
    for variant, maps in (("journal", 1), ("conference", 64)):
        attention = mfeif.MFEIF(variant).attention(image)
        assert attention.shape == (1, maps, 16, 16)
        assert attention.mean().item() == pytest.approx(1, abs=0.15)


def test_conference_edges() -> None:
    image = torch.zeros(1, 1, 4, 5)
    image[..., 2, 3] = 1.0
    edges = mfeif.forward_edges(image)[0, 0]
    # the step is seen at (1, 3), (2, 2) and, in both directions, at (2, 3)
    root = 2**0.5
    expected = [
        [0, 0, 1, 1, 0],
        [0, 1, root, root, 0],
        [0, 1, root, root, 0],
        [0, 0, 0, 0, 0],
    ]
    assert torch.allclose(edges, torch.tensor(expected, dtype=torch.float32), atol=1e-6)


def test_edges_have_a_gradient_on_flat_images() -> None:
    image = torch.full((1, 1, 6, 6), 0.5, requires_grad=True)
    for edges in (mfeif.central_edges, mfeif.forward_edges):
        (gradient,) = torch.autograd.grad(edges(image).sum(), image)
        assert gradient.isfinite().all()


@pytest.mark.parametrize("prefix", ["", "module."])
def test_published_layouts(prefix: str) -> None:
    state: dict[str, Any] = {
        part: {prefix + key: value for key, value in content.items()}
        for part, content in live_state().items()
    }
    adapted = mfeif.adapt(state)
    assert torch.equal(adapted["decoder.d4.bn.bias"], torch.tensor([4.0]))
    with pytest.raises(MissingError, match="7 of 112 keys missing, 0 unknown") as caught:
        state["con"] = {k: v for k, v in state["con"].items() if "conv_2" not in k}
        mfeif.adapt(state)
    assert caught.value.code == "weights.layout"
    with pytest.raises(MissingError, match="1 unknown"):
        mfeif.adapt(live_state() | {"epoch": 495})


def test_the_margin_keeps_the_border_as_bright() -> None:
    """Without it the zeros around the images darken the border under a dark infrared sky."""
    ir, vis = torch.full((1, 1, 40, 33), 0.06), torch.full((1, 1, 40, 33), 0.93)
    rims = {}
    for margin in (0, 8):
        network = checkpoint.load("mfeif", options={"margin": margin}).network
        with torch.no_grad():
            fused = network(ir, vis)
        assert fused.shape == ir.shape
        rims[margin] = float((fused[..., 0, 16] - fused[..., 20, 16]).abs())
    assert rims[8] < 0.01 < rims[0]


@pytest.mark.parametrize("variant", ["journal", "conference"])
def test_settling_leaves_the_norms_alone(variant: str) -> None:
    network = mfeif.MFEIF(variant)
    norms = {
        f"{name}.{kind}"
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.BatchNorm2d)
        for kind in ("weight", "bias")
    }
    everything = {name for name, _ in network.named_parameters()}
    assert norms
    assert {name for name in everything if name.startswith(mfeif.UNNORMED)} == everything - norms
