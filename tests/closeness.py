"""Awkward tensors for ops, and how near two spellings of one come to each other."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

SIZES = [(2, 13, 17), (1, 1, 1), (1, 1, 9), (1, 21, 1)]
# Largest difference on values of order 1.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
DTYPES = [pytest.param(dtype, id=str(dtype).split(".")[1]) for dtype in TOLERANCE]
CPU = torch.device("cpu")


def uneven(image: Tensor) -> Tensor:
    """Return the values in memory that is neither contiguous nor aligned."""
    wide = F.pad(image, (1, 2, 1, 0))
    return wide[..., 1:, 1:-2]


def closeness(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return float((a.float() - b.float()).abs().max())


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
