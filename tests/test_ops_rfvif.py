"""RFVIF's ops: the definition is right, and every faster spelling of it agrees."""

from collections.abc import Callable

import pytest
import torch
from closeness import SIZES, assert_all_close, closeness, gradients, uneven
from torch import Tensor

from fusecli import ops
from fusecli.errors import UsageError
from fusecli.ops import dynamic_conv as dynamic_op
from fusecli.ops import local_similarity as similarity_op

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
