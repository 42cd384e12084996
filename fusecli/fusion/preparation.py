"""What is done to a trained network before it runs: the same function, spelt for speed."""

import copy
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fusecli.checkpoint import Loaded
from fusecli.models import ModelSpec
from fusecli.ops import full_precision


def prepare(
    network: nn.Module, spec: ModelSpec, device: torch.device, dtype: torch.dtype
) -> nn.Module:
    """Return a copy for inference on a device, under autocast where `dtype` is not float32."""
    prepared = fold_batch_norm(network)
    # 1.3 to 2 times faster on a CPU for every convolutional network
    prepared = prepared.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    prepared = prepared.to(device)  # last: a copy is waited for, work in another stream is not
    if dtype != torch.float32:
        for name in spec.full_precision:
            spare(prepared, name)
    return prepared.requires_grad_(False)


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """Return a copy in eval mode whose batch norms are folded into the convolutions before them.

    A convolution is followed by its norm where the two are neighbours in an `nn.Sequential`, or are
    called `conv` and `bn` in a block that applies them in that order.
    """
    network = copy.deepcopy(network).eval()
    for block in network.modules():
        named = dict(block.named_children())
        pairs = pairwise(named) if isinstance(block, nn.Sequential) else [("conv", "bn")]
        for first, second in pairs:
            convolution, norm = named.get(first), named.get(second)
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(block, first, fuse_conv_bn_eval(convolution, norm))
                setattr(block, second, nn.Identity())
    return network


def spare(network: nn.Module, name: str) -> None:
    """Let autocast leave a module, or all of a list of modules, alone."""
    parent, _, child = name.rpartition(".")
    owner, module = network.get_submodule(parent), network.get_submodule(name)
    if isinstance(module, nn.ModuleList):
        for index in range(len(module)):
            spare(module, str(index))
    else:
        setattr(owner, child, FullPrecision(module))


class FullPrecision(nn.Module):
    """A module that autocast leaves alone; it takes tensors and tuples of them."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor | tuple[Tensor, ...]) -> Tensor:
        """Return what the module makes of its inputs, all float32."""
        first = inputs[0] if isinstance(inputs[0], Tensor) else inputs[0][0]
        with full_precision(first):
            result: Tensor = self.module(*map(_widened, inputs))
        return result


def _widened(value: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
    return value.float() if isinstance(value, Tensor) else tuple(part.float() for part in value)


def against_bf16(loaded: Loaded, tone: str = "model") -> str | None:
    """Return why bfloat16 may not be chosen without being asked for; None where it is safe.

    How far it leads depends on the weights, so what was measured counts only for those shipped,
    and with their own tone: a stretch enlarges differences too.
    """
    if not loaded.spec.safe_in_bf16:
        return f"bf16 was not measured to be near enough for {loaded.spec.title}"
    if not loaded.shipped:
        return f"bf16 was not measured with the weights '{loaded.label}'"
    if tone == "stretch" != loaded.spec.tone:
        return "bf16 was not measured with --tone stretch"
    return None
