"""SMFNet's ops: the definition is right, and every faster spelling of it agrees."""

import pytest
import torch
from closeness import CPU, closeness, uneven
from torch import Tensor, nn

from fusecli import ops
from fusecli.ops import graph_step as graph_op
from fusecli.ops import transposed_attention as attention_op

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
