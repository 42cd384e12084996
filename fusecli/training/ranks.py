"""The processes of one training run, started by torchrun, one per device.

Gradients are averaged by hand after the backward pass instead of through a wrapper around the
network: losses may then call any part of a network, and critics and frozen parts need no care.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fusecli.errors import UsageError


@dataclass(frozen=True)
class Ranks:
    """This process among its peers.

    Args:
        rank: Its number; only rank 0 writes and reports.
        size: How many there are.
        device: Where this one computes.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes and reports."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Return this process's part of `count` equal items.

        Raises:
            UsageError: A number that cannot be shared equally; unequal shares would weigh crops
                differently.
        """
        if count % self.size:
            raise UsageError(
                f"a batch of {count} crops cannot be shared equally by {self.size} processes",
                code="train.batch",
                hint=f"use --batch-size {-(-count // self.size) * self.size}",
            )
        part = count // self.size
        return slice(self.rank * part, (self.rank + 1) * part)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its mean over the processes."""
        if self.size == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(flat)
        flat /= self.size
        for gradient, mean in zip(
            gradients, flat.split([g.numel() for g in gradients]), strict=True
        ):
            gradient.copy_(mean.view_as(gradient))

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean of a tensor over the processes."""
        if self.size > 1:
            values = values.clone()
            dist.all_reduce(values)
            values /= self.size
        return values

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process, so that all act alike."""
        if self.size == 1:
            return flag
        value = torch.tensor(float(flag), device=self.device)
        dist.all_reduce(value, op=dist.ReduceOp.MAX)
        return bool(value)


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """Join the peers that torchrun announces in the environment; alone without it.

    Args:
        device: Where a single process would compute; on CUDA each peer takes its own.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Ranks(0, 1, device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Ranks(dist.get_rank(), size, device)
        dist.barrier()  # nobody hangs up while another still writes: the store lives in rank 0
    finally:
        dist.destroy_process_group()
