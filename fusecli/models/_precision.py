"""Where a network must count in float32 although it runs under autocast."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def full_precision(tensor: Tensor) -> AbstractContextManager[object]:
    """Return a block without autocast on the device of `tensor`; its inputs are yours to widen.

    Where autocast is off it does nothing at all, so that an exported graph has no trace of it.
    """
    device = tensor.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()
