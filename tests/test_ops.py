"""Ops: the definition is right, and every faster spelling of it agrees.

Kernels run on a GPU where there is one, and otherwise in Triton's interpreter, at tiny sizes.
"""

import copy
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusecli import ops
from fusecli.errors import UsageError
from fusecli.models import reconet
from fusecli.ops import dynamic_conv as dynamic_op
from fusecli.ops import graph_step as graph_op
from fusecli.ops import local_similarity as similarity_op
from fusecli.ops import recurrent_cell as cell_op
from fusecli.ops import transposed_attention as attention_op
from fusecli.ops.resample import integrate, resample
from fusecli.pipeline.preparation import fold_batch_norm

CUDA = torch.cuda.is_available()
CPU = torch.device("cpu")
KERNEL_DEVICE = torch.device("cuda") if CUDA else CPU

SIZES = [(2, 13, 17), (1, 1, 1), (1, 1, 9), (1, 21, 1)]
# Largest difference on values of order 1.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
BFLOAT = pytest.param(torch.bfloat16, id="bfloat16")
DTYPES = [pytest.param(torch.float32, id="float32"), BFLOAT]


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """Let nothing but Triton kernels run; return where."""
    pytest.importorskip("triton")
    monkeypatch.setenv("FUSECLI_OPS", "triton")
    yield KERNEL_DEVICE


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Tensor]:
    """Return a way to call a function with the definitions only."""

    def call(function: Callable[..., Tensor], *arguments: object) -> Tensor:
        with monkeypatch.context() as context:
            context.setenv("FUSECLI_OPS", "eager")
            return function(*arguments)

    return call


def uneven(image: Tensor) -> Tensor:
    """Return the values in memory that is neither contiguous nor aligned."""
    wide = F.pad(image, (1, 2, 1, 0))
    return wide[..., 1:, 1:-2]


def closeness(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return float((a.float() - b.float()).abs().max())


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


# --- gradients --------------------------------------------------------------------------------


def gradients(function: Callable[..., Tensor], *inputs: Tensor) -> tuple[Tensor, ...]:
    """Return the result and the gradient of each input, under a weighting that is never flat."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    result = function(*leaves)
    weights = torch.linspace(-1, 1, result.numel(), device=result.device).view(result.shape)
    (result.float() * weights.sin()).sum().backward()
    found = [leaf.grad for leaf in leaves if leaf.grad is not None]
    assert len(found) == len(leaves)
    return result.detach(), *found


def assert_all_close(one: tuple[Tensor, ...], other: tuple[Tensor, ...], tolerance: float) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        scale = max(1.0, float(b.abs().max()))
        assert closeness(a.cpu(), b.cpu()) < tolerance * scale


# --- local similarity -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "channels", "window", "temperature"),
    [((2, 3, 33), 16, 3, 1.0), ((1, 1, 1), 3, 5, 0.3), ((1, 5, 2), 32, 5, 1.0)],
)
def test_kernels_of_local_similarity_agree(
    kernels: torch.device,
    size: tuple[int, int, int],
    channels: int,
    window: int,
    temperature: float,
) -> None:
    torch.manual_seed(0)
    features, guide = uneven(torch.randn(2, size[0], channels, *size[1:])).to(kernels)
    features[1:, :, 0, 0] = 0  # a vector without direction
    one, other = (
        gradients(lambda f, g, op=op: op(f, g, window, temperature), features, guide)
        for op in (similarity_op.local_similarity, similarity_op.reference)
    )
    assert_all_close(one, other, 1e-4)
    narrow = similarity_op.local_similarity(features.bfloat16(), guide, window, temperature)
    assert narrow.dtype == torch.bfloat16
    assert closeness(narrow, other[0]) < 2e-2 * float(other[0].abs().max())


def test_strips_of_local_similarity_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity_op, "VALUES", 100)
    features, guide = uneven(torch.randn(4, 3, 11, 9)).chunk(2)
    result = similarity_op.local_similarity(features, guide)
    assert "cache" in ops.taken()["local_similarity"]
    assert closeness(result, similarity_op.reference(features, guide, 5, 1.0)) < 1e-6
    similarity_op.local_similarity(features.requires_grad_(), guide).sum().backward()
    assert features.grad is not None


# --- dynamic convolution ----------------------------------------------------------------------


def dynamic_inputs(size: tuple[int, int, int], channels: int) -> list[Tensor]:
    torch.manual_seed(0)
    batch, height, width = size
    return [
        uneven(torch.randn(batch, channels, height, width)),
        *(torch.randn(batch, channels, k, k) / k for k in dynamic_op.KERNEL_SIZES),
        torch.randn(channels, 3 * channels, 1, 1) / channels,
        torch.randn(channels),
    ]


def dynamic(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def flat(features: Tensor, a: Tensor, b: Tensor, c: Tensor, *mixing: Tensor) -> Tensor:
        return function(features, (a, b, c), *mixing)

    return flat


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_samples_of_dynamic_conv_agree(size: tuple[int, int, int]) -> None:
    inputs = dynamic_inputs(size, 5)
    expected = dynamic(dynamic_op.reference)(*inputs)
    assert closeness(dynamic(dynamic_op.dynamic_conv)(*inputs), expected) < 1e-5
    assert "sample" in ops.taken()["dynamic_conv"]
    without_bias = dynamic(dynamic_op.dynamic_conv)(*inputs[:-1]) + inputs[-1][:, None, None]
    assert closeness(without_bias, expected) < 1e-5
    with torch.autocast("cpu", torch.bfloat16):
        narrow = dynamic(dynamic_op.dynamic_conv)(*inputs)
    assert narrow.dtype == torch.bfloat16
    assert closeness(narrow, expected) < 2e-2 * float(expected.abs().max())


@pytest.mark.parametrize(("size", "channels"), [((2, 1, 33), 16), ((1, 1, 1), 5), ((1, 3, 2), 32)])
def test_kernels_of_dynamic_conv_agree(
    kernels: torch.device, size: tuple[int, int, int], channels: int
) -> None:
    inputs = [tensor.to(kernels) for tensor in dynamic_inputs(size, channels)]
    fast, written = dynamic(dynamic_op.dynamic_conv), dynamic(dynamic_op.reference)
    expected = gradients(written, *inputs)
    assert_all_close(gradients(fast, *inputs), expected, 1e-4)
    with torch.inference_mode(), torch.autocast(kernels.type, torch.bfloat16):
        narrow = fast(*inputs)
    assert narrow.dtype == torch.bfloat16
    assert closeness(narrow, expected[0]) < 2e-2 * float(expected[0].abs().max())
    without_bias = fast(*inputs[:-1]) + inputs[-1][:, None, None]
    assert closeness(without_bias, expected[0]) < 1e-4


def test_dynamic_conv_says_what_its_kernel_cannot_do(kernels: torch.device) -> None:
    features, a, b, c, mixing, bias = dynamic_inputs((1, 4, 4), 16)
    with pytest.raises(UsageError, match="3, 5 and 7"):
        dynamic_op.dynamic_conv(features, (b, a, c), mixing, bias)
    with pytest.raises(UsageError, match="number of channels"):
        dynamic_op.dynamic_conv(features, (a, b, c), mixing[:8], bias[:8])


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


# --- message passing --------------------------------------------------------------------------


def graph(channels: int, device: torch.device) -> list[nn.Module | Tensor]:
    torch.manual_seed(0)
    edge = nn.Conv2d(channels, 2, 1, bias=False)
    gates = nn.Conv2d(2 * channels, 2 * channels, 1)
    candidate = nn.Conv2d(2 * channels, channels, 1)
    return [layer.to(device) for layer in (edge, gates, candidate)] + [
        torch.tensor([0.7], device=device)
    ]


def nodes_of(size: tuple[int, int, int], channels: int, device: torch.device) -> list[Tensor]:
    shape = 3, size[0], channels, *size[1:]
    return list(uneven(torch.randn(shape).flatten(0, 1)).view(shape).to(device))


def passed(nodes: list[Tensor], weights: list, interleaved: bool) -> Tensor:
    results = graph_op.graph_step(nodes, *weights, interleaved=interleaved, rounds=2)
    return torch.stack(results)


GRAPH_CASES = [((2, 5, 9), 16, True), ((1, 1, 1), 64, False), ((1, 3, 50), 6, True)]


@pytest.mark.parametrize(("size", "channels", "interleaved"), GRAPH_CASES)
@torch.no_grad()
def test_strips_of_message_passing_agree(
    plain, size: tuple[int, int, int], channels: int, interleaved: bool
) -> None:
    weights, nodes = graph(channels, CPU), nodes_of(size, channels, CPU)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph_op, "PIXELS", 32)
        result = passed(nodes, weights, interleaved)
        assert "cache" in ops.taken()["graph_step"]
        expected = plain(passed, nodes, weights, interleaved)
        assert closeness(result, expected) < 1e-5
        with torch.autocast("cpu", torch.bfloat16):
            narrow = passed(nodes, weights, interleaved)
    assert narrow.dtype == torch.bfloat16
    assert closeness(narrow, expected) < 2e-2 * float(expected.abs().max())


@pytest.mark.parametrize(("size", "channels", "interleaved"), GRAPH_CASES)
@torch.no_grad()
def test_kernels_of_message_passing_agree(
    kernels: torch.device, plain, size: tuple[int, int, int], channels: int, interleaved: bool
) -> None:
    weights, nodes = graph(channels, kernels), nodes_of(size, channels, kernels)
    expected = plain(passed, nodes, weights, interleaved)
    assert closeness(passed(nodes, weights, interleaved), expected) < 1e-5
    with torch.autocast(kernels.type, torch.bfloat16):
        narrow = passed(nodes, weights, interleaved)
    assert narrow.dtype == torch.bfloat16
    assert closeness(narrow, expected) < 2e-2 * float(expected.abs().max())


# --- transposed attention ---------------------------------------------------------------------


ATTENTION_CASES = [((2, 5, 13), 16, 4), ((1, 1, 1), 8, 2), ((1, 9, 30), 64, 8)]


def attention_inputs(
    size: tuple[int, int, int], channels: int, heads: int, device: torch.device
) -> list[Tensor]:
    torch.manual_seed(0)
    qkv = uneven(torch.randn(size[0], 3 * channels, *size[1:])).to(device)
    weight = torch.randn(channels, channels, 1, 1, device=device) / channels**0.5
    temperature = torch.rand(heads, 1, 1, device=device)
    return [*qkv.chunk(3, 1), temperature, weight, torch.randn(channels, device=device)]


@pytest.mark.parametrize(("size", "channels", "heads"), ATTENTION_CASES)
def test_strips_of_transposed_attention_agree(
    plain,
    monkeypatch: pytest.MonkeyPatch,
    size: tuple[int, int, int],
    channels: int,
    heads: int,
) -> None:
    monkeypatch.setattr(attention_op, "PIXELS", 16)
    inputs = attention_inputs(size, channels, heads, CPU)
    result = attention_op.transposed_attention(*inputs)
    assert "cache" in ops.taken()["transposed_attention"]
    assert closeness(result, plain(attention_op.transposed_attention, *inputs)) < 1e-5


@pytest.mark.parametrize(("size", "channels", "heads"), ATTENTION_CASES)
def test_kernels_of_transposed_attention_agree(
    kernels: torch.device, plain, size: tuple[int, int, int], channels: int, heads: int
) -> None:
    inputs = attention_inputs(size, channels, heads, kernels)
    expected = plain(attention_op.transposed_attention, *inputs)
    assert closeness(attention_op.transposed_attention(*inputs), expected) < 1e-5
    narrow = [tensor.bfloat16() for tensor in inputs[:3]]
    result = attention_op.moments(*narrow[:2])
    for sums, wanted in zip(result, attention_op.reference(*narrow[:2]), strict=True):
        assert closeness(sums, wanted) < 1e-3


def test_attention_of_nothing_has_a_finite_gradient() -> None:
    q, k, v, temperature, weight, bias = attention_inputs((1, 4, 4), 8, 2, CPU)
    leaves = [torch.zeros_like(q).requires_grad_(), k.requires_grad_()]
    attention_op.transposed_attention(*leaves, v, temperature, weight, bias).sum().backward()
    assert all(leaf.grad is not None and leaf.grad.isfinite().all() for leaf in leaves)
