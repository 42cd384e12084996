"""Tensor functions that networks share or that have a fast path beside the plain one.

Each function has an eager version, which is its definition. Some have a spelling that is faster on
a CPU, most a Triton kernel. `choose` says which of them runs; what it said last, and why, is kept
for `--verbose`. FUSECLI_OPS is `auto`, `eager` (the definitions only) or `triton` (anything but a
kernel is an error, which is what a parity test wants).
"""

import functools
import importlib.util
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor

from fusecli.errors import UsageError

Path = Literal["eager", "cpu", "triton"]

MODES = ("auto", "eager", "triton")

# Compute capabilities: what Triton compiles for at all, and where units multiply TF32 and bfloat16.
# Without them a product of float32 matrices unrolls into megabytes of single multiplications.
OLDEST, PRODUCTS = (7, 5), (8, 0)

_taken: dict[str, str] = {}


def choose(
    name: str,
    tensors: Sequence[Tensor | None],
    *,
    backward: bool = False,
    cpu: str | None = None,
    blocked: str | None = None,
    products: bool = False,
) -> Path:
    """Return the path an op takes for these tensors.

    Args:
        name: Of the op.
        tensors: All that the op reads.
        backward: Whether the fast paths can be differentiated.
        cpu: What the op's CPU path does, where it has one.
        blocked: Why no fast path can run, where the op itself knows a reason.
        products: Whether the kernel multiplies matrices, which takes a fitting unit.

    Raises:
        UsageError: FUSECLI_OPS=triton and no kernel can run (`ops.eager`), or an unknown value of
            it (`ops.mode`).
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return "eager"  # a graph to be exported or compiled holds the definition
    mode = requested()
    present = [tensor for tensor in tensors if tensor is not None]
    reason = blocked or eager_reason(present, backward)
    if reason is None and mode != "eager":
        reason = kernel_reason(present[0].device, mode, products)
        if reason is None:
            return _take(name, "triton", "Triton kernel")
        if cpu is not None and mode == "auto" and present[0].device.type == "cpu":
            return _take(name, "cpu", cpu)
    if mode == "triton":
        raise UsageError(
            f"{name} cannot use its Triton kernel: {reason}",
            code="ops.eager",
            hint="FUSECLI_OPS=auto runs the plain version where there is no other",
        )
    return _take(name, "eager", f"plain: {reason or 'FUSECLI_OPS=eager'}")


def requested() -> str:
    """Return the value of FUSECLI_OPS."""
    mode = os.environ.get("FUSECLI_OPS", "auto")
    if mode not in MODES:
        raise UsageError(f"FUSECLI_OPS={mode} must be one of {', '.join(MODES)}", code="ops.mode")
    return mode


def eager_reason(tensors: Sequence[Tensor], backward: bool) -> str | None:
    """Return why only the plain version can take these tensors, or None."""
    if any(tensor.dtype == torch.float64 for tensor in tensors):
        return "float64 is plain only"
    if not backward and needs_gradient(*tensors):
        return "it needs a gradient, and the fast path has none"
    return None


def needs_gradient(*tensors: Tensor | None) -> bool:
    """Return whether a result of these tensors will be differentiated."""
    present = (tensor for tensor in tensors if tensor is not None)
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in present)


def kernel_reason(device: torch.device, mode: str, products: bool = False) -> str | None:
    """Return why no Triton kernel can run on a device, or None."""
    reason = kernel_device(device, mode)
    if reason is not None or (device.type != "cuda" and interpreted()):
        return reason
    card = capability(device)
    if card < OLDEST:
        return f"Triton needs compute capability {_dotted(OLDEST)}, this card has {_dotted(card)}"
    if products and card < PRODUCTS:
        return f"compute capability {_dotted(card)} multiplies in neither TF32 nor bfloat16"
    return None


def kernel_device(device: torch.device, mode: str) -> str | None:
    """Return why a device runs no Triton kernel at all, or None."""
    if device.type != "cuda" and not (mode == "triton" and interpreted()):
        return f"{device.type} is not a CUDA device"
    if not _has_triton():
        return "triton is not installed"
    return None


@functools.cache
def capability(device: torch.device) -> tuple[int, int]:
    """Return the compute capability of a CUDA device."""
    return torch.cuda.get_device_capability(device)


def _dotted(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))


def interpreted() -> bool:
    """Return whether Triton runs kernels in its interpreter, as tests do without a GPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def _take(name: str, path: Path, why: str) -> Path:
    _taken[name] = why
    return path


def taken() -> dict[str, str]:
    """Return which path each op that ran took last, and why."""
    return dict(_taken)


def full_precision(tensor: Tensor) -> AbstractContextManager[object]:
    """Return a block without autocast on the device of `tensor`; its inputs are yours to widen.

    Where autocast is off it does nothing at all, so that an exported graph has no trace of it.
    """
    if _narrows(tensor):
        return torch.autocast(tensor.device.type, enabled=False)
    return nullcontext()


def working_dtype(tensor: Tensor) -> torch.dtype:
    """Return the type that autocast narrows to on the device of `tensor`; without it, its own."""
    return torch.get_autocast_dtype(tensor.device.type) if _narrows(tensor) else tensor.dtype


def _narrows(tensor: Tensor) -> bool:
    device = tensor.device.type
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
