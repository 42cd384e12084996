"""Ops: which path runs, and that every faster spelling agrees with the definition.

Kernels run on a GPU where there is one, and otherwise in Triton's interpreter, at tiny sizes. Here
are ReCoNet's and the warp; RFVIF's and SMFNet's have files of their own.
"""

import copy

import pytest
import torch
from closeness import CPU, DTYPES, SIZES, TOLERANCE, closeness, uneven
from torch import Tensor, nn

from fusecli import ops
from fusecli.errors import UsageError
from fusecli.fusion.preparation import fold_batch_norm
from fusecli.models import reconet
from fusecli.ops import recurrent_cell as cell_op
from fusecli.ops.resample import integrate, resample

# --- which path runs --------------------------------------------------------------------------


def test_an_unknown_mode_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSECLI_OPS", "fast")
    with pytest.raises(UsageError, match="FUSECLI_OPS=fast") as caught:
        ops.choose("test", [torch.zeros(1)])
    assert caught.value.code == "ops.mode"


@pytest.mark.parametrize(
    ("reason", "tensor", "more"),
    [
        ("float64", torch.zeros(1, dtype=torch.float64), {}),
        ("needs a gradient", torch.zeros(1, requires_grad=True), {}),
        ("the moon", torch.zeros(1), {"blocked": "the moon"}),
    ],
)
def test_the_reason_for_the_plain_version_is_told(
    monkeypatch: pytest.MonkeyPatch, reason: str, tensor: Tensor, more: dict
) -> None:
    monkeypatch.setenv("FUSECLI_OPS", "auto")
    assert ops.choose("test", [tensor], cpu="quick", **more) == "eager"
    assert reason in ops.taken()["test"]
    monkeypatch.setenv("FUSECLI_OPS", "triton")
    with pytest.raises(UsageError, match=reason):
        ops.choose("test", [tensor], cpu="quick", **more)


def test_modes_choose_among_the_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = [torch.zeros(1), None, torch.zeros(2, requires_grad=True)]
    paths = {}
    for mode in ("auto", "eager"):
        monkeypatch.setenv("FUSECLI_OPS", mode)
        paths[mode] = ops.choose("test", tensors, backward=True, cpu="quick")
    assert paths == {"auto": "cpu", "eager": "eager"}
    monkeypatch.setenv("FUSECLI_OPS", "auto")
    assert ops.choose("test", tensors, backward=True) == "eager"
    assert "not a CUDA device" in ops.taken()["test"]


def test_a_traced_graph_holds_the_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSECLI_OPS", "auto")

    class Chooser(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return image + (ops.choose("test", [image], cpu="quick") != "eager")

    exported = torch.export.export(Chooser(), (torch.zeros(1),)).module()
    assert Chooser()(torch.zeros(1)) == 1
    assert exported(torch.zeros(1)) == 0


# --- ReCoNet's cell ---------------------------------------------------------------------------


def fuser(variant: str, width: int) -> nn.Module:
    torch.manual_seed(0)
    network = reconet.Fuser(variant, width=width, loops=2).requires_grad_(False)
    for block in (*network.pdc, network.merge):
        if isinstance(block.bn, nn.BatchNorm2d):
            block.bn.running_mean.uniform_(-0.5, 0.5)
            block.bn.running_var.uniform_(0.2, 1)
    return fold_batch_norm(network)


def run_on(network: nn.Module, device: torch.device, dtype: torch.dtype, *inputs: Tensor) -> Tensor:
    network = copy.deepcopy(network).to(device)
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        result: Tensor = network(*(image.to(device) for image in inputs))
    return result.cpu().float()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [*SIZES, (1, 7, 3000), (1, 300, 11)], ids=str)
@pytest.mark.parametrize("variant", ["v0", "v1"])
def test_strips_of_the_cell_agree(plain, variant: str, size, dtype: torch.dtype) -> None:
    network = fuser(variant, 8)
    ir, vis = torch.rand(2, size[0], 1, *size[1:])
    expected = plain(network, ir, vis)
    result = run_on(network, CPU, dtype, uneven(ir), vis)
    assert ops.taken()["recurrent_cell"].startswith("strips")
    assert closeness(result, expected) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("variant", "width"), [("v0", 64), ("v1", 5)])
def test_kernels_of_the_cell_agree(
    kernels: torch.device, plain, variant: str, width: int, size, dtype: torch.dtype
) -> None:
    network = fuser(variant, width)
    ir, vis = torch.rand(2, size[0], 1, *size[1:])
    expected = plain(network, ir, vis)
    result = run_on(network, kernels, dtype, uneven(ir), vis)
    assert closeness(result, expected) < TOLERANCE[dtype]


def test_the_cell_learns_and_traces_as_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSECLI_OPS", "auto")
    network = reconet.Fuser(width=4)
    ir, vis = torch.rand(2, 1, 1, 9, 9)
    network(ir, vis).sum().backward()
    assert "batch norm" in ops.taken()["recurrent_cell"]
    with torch.no_grad():
        folded = fold_batch_norm(network)
        fast, written = folded(ir, vis), folded.trace(ir, vis).estimates[-1]
    assert closeness(fast, written) < 1e-6
    assert cell_op.DILATIONS == (1, 2, 3)


# --- warping ----------------------------------------------------------------------------------


@pytest.mark.parametrize("border", ["zeros", "replicate", "reflect"])
@pytest.mark.parametrize(
    ("size", "out"), [((2, 3, 9, 12), (11, 13)), ((1, 1, 1, 1), (3, 2)), ((2, 2, 1, 7), (1, 7))]
)
def test_kernels_of_resampling_agree(
    kernels: torch.device,
    plain,
    border: str,
    size: tuple[int, ...],
    out: tuple[int, int],
) -> None:
    torch.manual_seed(0)
    image = uneven(torch.rand(size)).to(kernels)
    field = 4 * torch.randn(1, 2, *out, device=kernels)
    field[..., 0, 0] = 0
    field[..., -1, -1] = 1e6
    fast = resample(image, field, border=border, fill=0.3)
    expected = plain(resample, image, field, "linear", border, 0.3)
    # at a million pixels the reflected place is a matter of rounding
    assert closeness(fast.flatten(2)[..., :-1], expected.flatten(2)[..., :-1]) < 2e-5
    assert fast.isfinite().all()
    narrow = resample(image.bfloat16(), field, border=border)
    assert narrow.dtype == torch.bfloat16
    with pytest.raises(UsageError, match="only linear"):
        resample(image, field, "nearest", border)


@pytest.mark.parametrize("steps", [0, 1, 4])
def test_kernels_of_integration_agree(kernels: torch.device, plain, steps: int) -> None:
    torch.manual_seed(0)
    velocity = uneven(3 * torch.randn(2, 2, 10, 13)).to(kernels)
    expected = plain(integrate, velocity, steps)
    assert closeness(integrate(velocity, steps), expected) < 1e-4
