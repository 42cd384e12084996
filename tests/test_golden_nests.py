"""RFN-Nest and SMFNet against the authors' numbers, on weights filled by rule."""

import copy
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import rules
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from fusecli import models
from fusecli.errors import MissingError, UsageError
from fusecli.models import Sample, rfn_nest, smfnet
from fusecli.models._smfnet_layout import DEAD, LAYOUT
from fusecli.ops.graph_step import update
from fusecli.ops.transposed_attention import transposed_attention

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


def test_rfn_nest_enlarges_odd_sizes_in_a_traced_graph() -> None:
    class Join(nn.Module):
        def forward(self, fine: Tensor) -> Tensor:
            return rfn_nest.join(fine, coarse=F.max_pool2d(fine, 2))

    rows, columns = (
        torch.export.Dim("rows", min=4, max=99),
        torch.export.Dim("columns", min=4, max=99),
    )
    shapes = ({2: rows, 3: columns},)
    traced = torch.export.export(Join(), (torch.rand(1, 2, 9, 8),), dynamic_shapes=shapes).module()
    for size in ((9, 8), (6, 11), (7, 7)):
        fine = torch.rand(1, 2, *size)
        assert torch.equal(traced(fine), Join()(fine))


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


def test_rfn_nest_starts_with_an_open_last_layer() -> None:
    for seed in range(8):
        torch.manual_seed(seed)
        network = rfn_nest.RfnNest()
        image = 255 * torch.rand(1, 1, 16, 16)
        assert (network.decode(network.encode(image)) > 0).float().mean() > 0.9


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
        rfn_nest.fusion_loss(rfn, sample)["detail"]
    assert caught.value.code == "train.crop"


# SMFNet


def smf_file() -> dict[str, dict[str, Tensor]]:
    parts = [key.removeprefix("smfnet.") for key in KEYS if key.startswith("smfnet.")]
    return {p: rules.fill(KEYS[f"smfnet.{p}"], prefix=f"{p}.", gain=0.5) for p in parts}


@pytest.fixture(scope="module")
def smf() -> smfnet.SmfNet:
    network = smfnet.SmfNet().eval()
    network.load_state_dict(smfnet.adapt(smf_file()))
    return network


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_smfnet_with_rule_filled_weights(smf: smfnet.SmfNet, size: str) -> None:
    golden = arrays(f"rule_smfnet_{size}")
    trace = smf.trace(golden["ir"], golden["vi"])
    stored = {
        "shallow_ir": trace.ir.shallow,
        "base_ir": trace.ir.base,
        "detail_ir": trace.ir.detail,
        "graph": trace.graph,
        "fused_base": trace.base,
        "fused_detail": trace.detail,
    }
    for name, features in stored.items():
        assert features is not None
        assert difference(features[:, ::8], golden[name]) < 1e-4, name
    assert difference(trace.images[0], golden["out"]) < 1e-4
    assert torch.equal(smf(golden["ir"], golden["vi"]), trace.images[0])


@torch.no_grad()
def test_smfnet_edges_of_the_paper_differ_from_those_of_the_code(smf: smfnet.SmfNet) -> None:
    paper = smfnet.SmfNet(edge_broadcast="per_neighbour").eval()
    paper.load_state_dict(smf.state_dict())
    nodes = [torch.randn(1, 64, 3, 4) for _ in range(3)]
    apart = torch.cat([nodes[0] - nodes[1], nodes[0] - nodes[2]], 1)
    edges = torch.sigmoid(F.conv2d(apart, smf.reasoning.ir.edge.weight, groups=2))
    # the authors' code: both edges repeated in turn over the 128 stacked channels
    stacked = torch.cat(nodes[1:], 1) * edges.repeat(1, 64, 1, 1)
    units = [
        (side.gates, side.candidate, side.gamma) for side in (smf.reasoning.ir, paper.reasoning.ir)
    ]
    code = update(stacked[:, :64] + stacked[:, 64:], nodes[0], *units[0])
    assert difference(smf.reasoning.ir.passing(nodes)[0], code) < 1e-5
    by_neighbour = nodes[1] * edges[:, :1] + nodes[2] * edges[:, 1:]
    expected = update(by_neighbour, nodes[0], *units[1])
    assert difference(paper.reasoning.ir.passing(nodes)[0], expected) < 1e-5
    assert difference(code, expected) > 1e-2


def test_smfnet_has_the_parameters_of_the_table() -> None:
    network = smfnet.SmfNet()
    parts = [network.encoder, network.decoder, network.reasoning, network.base_fusion]
    assert [count(part) for part in parts] == [1_859_664, 50_520, 501_570, 27_336]
    assert count(network.detail_fusion) == 211_008
    assert [count(block) for block in network.encoder.base][1:] == [803_072, 803_072]
    assert [count(network.encoder.gradient), count(network.encoder.cross)] == [165_312, 5_192]


def test_smfnet_drops_exactly_the_layers_that_no_image_passes() -> None:
    state = smf_file()
    dead = {
        f"{part}.{key}": tensor
        for part, tensors in state.items()
        for key, tensor in tensors.items()
        if f"{part}.{key}" not in LAYOUT
    }
    assert set(dead) == DEAD
    learnable = [t for k, t in dead.items() if "running_" not in k and "num_batches" not in k]
    assert sum(tensor.numel() for tensor in learnable) == 498_720


def test_smfnet_reads_data_parallel_files_and_refuses_others() -> None:
    state = smf_file()
    parallel = {part: {f"module.{k}": t for k, t in v.items()} for part, v in state.items()}
    adapted = smfnet.adapt(parallel)
    assert adapted.keys() == smfnet.SmfNet().state_dict().keys()
    with pytest.raises(MissingError, match="0 unknown"):
        smfnet.adapt({part: state[part] for part in state if part != "GraphModel"})
    state["GraphModel"]["graph.C_cat.6.0.weight"] = torch.zeros(1)
    with pytest.raises(MissingError, match="0 of .* keys missing, 1 unknown"):
        smfnet.adapt(state)


def test_smfnet_starts_without_messages_but_gamma_learns() -> None:
    network = smfnet.SmfNet()
    smfnet.fusion_loss(network, sample_of("smfnet", *torch.rand(2, 1, 1, 16, 16)))[
        "intensity"
    ].backward()
    assert network.reasoning.ir.gamma.item() == 0
    assert network.reasoning.ir.gamma.grad.abs() > 0
    assert not network.reasoning.ir.candidate.weight.grad.count_nonzero()


@pytest.mark.parametrize("loss", [smfnet.reproduction_loss, smfnet.fusion_loss])
def test_smfnet_decomposition_has_a_gradient_unless_detached(
    smf: smfnet.SmfNet, loss: Callable[[smfnet.SmfNet, Sample], dict[str, Tensor]]
) -> None:
    pair = torch.rand(2, 1, 1, 16, 16)
    smf.zero_grad()
    term = loss(smf, sample_of("smfnet", *pair))["decomp"]
    term.backward()
    reached = {k.split(".")[0] for k, p in smf.named_parameters() if p.grad is not None}
    assert "encoder" in reached
    assert ("reasoning" in reached) == (loss is smfnet.fusion_loss)
    assert smf.encoder.embed.weight.grad.abs().max() > 1e-6
    smf.zero_grad()
    detached = loss(smf, Sample(*pair, *pair, options={"decomp": "detached"}))["decomp"]
    assert not detached.requires_grad
    same = loss is smfnet.reproduction_loss
    assert (detached.item() == pytest.approx(term.item(), rel=1e-6)) == same


def test_smfnet_semantic_term_is_the_lovasz_extension_of_the_jaccard_loss() -> None:
    truth = torch.tensor([[1, 1, 1, 0, 0, 0, 0, 0.0]]).bool().reshape(1, 1, 2, 4)
    for wrong in range(9):
        guess = truth.flatten() ^ (torch.arange(8) < wrong)
        # a margin of 1 on either side: right pixels cost 0, wrong ones 2
        loss = smfnet.lovasz_hinge(guess.float().reshape(1, 1, 2, 4), truth)
        union = (guess | truth.flatten()).sum()
        jaccard = 1 - (guess & truth.flatten()).sum() / union
        assert loss.item() == pytest.approx(2 * jaccard.item(), abs=1e-6)


@torch.no_grad()
def test_smfnet_survives_large_exponents_under_autocast(smf: smfnet.SmfNet) -> None:
    coupling = copy.deepcopy(smf.encoder.coupling)
    coupling.rho[5].weight.mul_(60)
    features = torch.randn(1, 64, 8, 8)
    expected = coupling(features)
    assert expected.abs().max() > 1e6, "not a test of large values"
    with torch.autocast("cpu", torch.bfloat16):
        narrow = coupling(features)
    assert narrow.dtype == torch.float32 and narrow.isfinite().all()


@torch.no_grad()
def test_smfnet_attention_by_its_definition() -> None:
    q, k, v = torch.randn(3, 2, 64, 5, 7)
    temperature = torch.rand(8, 1, 1)
    output = nn.Conv2d(64, 64, 1)
    heads = [t.reshape(2, 8, 8, 35) for t in (q, k, v)]
    weights = F.normalize(heads[0], dim=-1) @ F.normalize(heads[1], dim=-1).mT * temperature
    expected = output((weights.softmax(-1) @ heads[2]).reshape(2, 64, 5, 7))
    assert (
        difference(transposed_attention(q, k, v, temperature, output.weight, output.bias), expected)
        < 1e-5
    )


@pytest.mark.parametrize("name", ["rfn-nest", "smfnet"])
def test_shapes_can_be_followed_without_computing(name: str) -> None:
    image = torch.empty(1, 1, 33, 40, device="meta")
    with torch.device("meta"):
        network = models.find(name).network(models.find(name).defaults()).eval()
    assert network(image, image).shape == image.shape


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rfn-nest", "smfnet"])
@torch.no_grad()
def test_a_traced_graph_takes_any_batch_and_size(name: str) -> None:
    spec = models.find(name)
    network = spec.network(spec.defaults()).eval()
    batch = torch.export.Dim("batch", min=1, max=8)
    rows, columns = (torch.export.Dim(n, min=16, max=4096) for n in ("rows", "columns"))
    shape = {0: batch, 2: rows, 3: columns}
    example = (torch.rand(2, 1, 33, 46), torch.rand(2, 1, 33, 46))
    traced = torch.export.export(network, example, dynamic_shapes=(shape, shape)).module()
    for size in ((3, 1, 40, 37), (1, 1, 17, 64)):
        images = spec.input_range[1] * torch.rand(2, *size)
        assert torch.allclose(traced(*images), network(*images), rtol=1e-5, atol=1e-5)
