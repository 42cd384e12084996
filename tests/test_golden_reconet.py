"""ReCoNet's fuser against the authors' numbers: published weights and rule-filled ones."""

from pathlib import Path

import numpy as np
import pytest
import rules
import torch

from fusecli import models
from fusecli.errors import MissingError, UsageError
from fusecli.models import reconet

GOLDEN = Path(__file__).parent / "golden"
TOLERANCE = 1e-4


def arrays(file: Path) -> dict[str, torch.Tensor]:
    with np.load(file) as archive:
        return {key: torch.from_numpy(archive[key]) for key in archive}


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).abs().max())


@pytest.fixture(scope="module")
def published(reference_dir: Path) -> dict[str, torch.Tensor]:
    file = reference_dir / "checkpoints/reconet_v0_params.pth"
    state: dict[str, torch.Tensor] = torch.load(file, weights_only=True, map_location="cpu")
    return state


@pytest.mark.parametrize("size", ["37x53", "48x64"])
@pytest.mark.parametrize(
    ("variant", "file", "table"),
    [
        ("v0", "rule_reconet_v0", reconet.V0_LAYOUT),
        ("v1", "rule_reconet_v1_fuser", reconet.V1_LAYOUT),
    ],
)
def test_fuser_with_rule_filled_weights(
    variant: str, file: str, table: dict[str, str], size: str
) -> None:
    network = reconet.Fuser(variant).eval()
    state = rules.fill(rules.shapes_of(network.state_dict(), table))
    network.load_state_dict(reconet.adapt(state))
    golden = arrays(GOLDEN / f"{file}_{size}.npz")
    with torch.no_grad():
        fused = network(golden["ir"], golden["vi"])
        swapped = network(golden["vi"], golden["ir"])
    assert difference(fused, golden["out"]) < TOLERANCE
    assert difference(swapped, golden["out"]) > 10 * TOLERANCE


@pytest.mark.golden
@pytest.mark.parametrize("pair", ["TNO_025", "TNO_037", "FLIR_06621"])
def test_fuser_with_the_published_weights(
    pair: str, published: dict[str, torch.Tensor], reference_dir: Path
) -> None:
    network = reconet.Fuser().eval()
    network.load_state_dict(reconet.adapt(published))
    golden = arrays(reference_dir / f"golden/reconet_{pair}.npz")
    with torch.no_grad():
        trace = network.trace(golden["ir"], golden["vi"])
    assert difference(trace.estimates[-1], golden["out"]) < TOLERANCE
    if pair == "TNO_025":
        assert difference(trace.estimates[0], golden["f1"]) < TOLERANCE
        assert difference(trace.estimates[1], golden["f2"]) < TOLERANCE
        assert difference(trace.attention_ir[-1], golden["att_ir_last"]) < TOLERANCE
        assert difference(trace.attention_vis[-1], golden["att_vi_last"]) < TOLERANCE


@pytest.mark.golden
def test_each_loop_moves_the_mean_as_documented(
    published: dict[str, torch.Tensor], reference_dir: Path
) -> None:
    golden = arrays(reference_dir / "golden/reconet_TNO_025.npz")
    network = reconet.Fuser(loops=8).eval()
    network.load_state_dict(reconet.adapt(published))
    with torch.no_grad():
        estimates = network.trace(golden["ir"], golden["vi"]).estimates
    means = [estimates[loops - 1].mean().item() for loops in (1, 2, 3, 5, 8)]
    assert means == pytest.approx([0.356, 0.442, 0.431, 0.433, 0.442], abs=6e-4)


def test_published_layouts_are_read_strictly() -> None:
    state = rules.fill(rules.shapes_of(reconet.Fuser().state_dict(), reconet.V0_LAYOUT))
    with pytest.raises(MissingError, match="1 of 30 keys missing, 0 unknown") as caught:
        reconet.adapt({key: value for key, value in state.items() if key != "fus_conv.0.bias"})
    assert caught.value.code == "weights.layout"
    assert "missing: fus_conv.0.bias" in caught.value.facts
    with pytest.raises(MissingError, match="0 of 30 keys missing, 1 unknown"):
        reconet.adapt(state | {"extra.weight": torch.zeros(1)})


def test_a_training_checkpoint_of_v1_gives_its_fuser_with_or_without_norm() -> None:
    for norm, table in (("none", reconet.V1_LAYOUT), ("batch", reconet.V1_NORM_LAYOUT)):
        network = reconet.Fuser("v1", norm=norm)
        state = rules.fill(rules.shapes_of(network.state_dict(), table))
        checkpoint = {"epoch": 3, "state_dict": state | {"register.flow.bias": torch.zeros(2)}}
        network.load_state_dict(reconet.adapt(checkpoint))
        weight = state["fuser.decoder.conv_d.2.group.0.weight"]
        assert torch.equal(network.state_dict()["pdc.2.conv.weight"], weight)


def test_options_change_the_network() -> None:
    spec = models.find("reconet")
    network = spec.network(models.parse_options(spec, {"variant": "v1", "width": "8"}))
    assert sum(p.numel() for p in network.parameters()) == 2 * 18 + 3 * (27 * 8 + 8) + 9 * 24 + 1
    ir, vis = torch.rand(2, 1, 1, 9, 9)
    torch.manual_seed(0)
    fused = reconet.Fuser(init="max").eval()
    other = reconet.Fuser(init="mean").eval()
    other.load_state_dict(fused.state_dict())
    assert not torch.equal(fused(ir, vis), other(ir, vis))
    assert len(reconet.Fuser(loops=5).trace(ir, vis).estimates) == 5
    with pytest.raises(UsageError, match="loops=0"):
        reconet.Fuser(loops=0)
