"""Device, precision and thread numbers, resolved once and then only received."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from fusecli.errors import MissingError, UsageError

Precision = Literal["fp32", "bf16", "fp16", "auto"]

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Runtime:
    """Where and how networks run.

    Args:
        devices: One inference worker runs on each.
        precision: `fp32`, `bf16` or `fp16`.
        jobs: Threads that read and write files.
        automatic: `fp32` until `settled` knows more: the precision was left to us.
    """

    devices: tuple[torch.device, ...]
    precision: Literal["fp32", "bf16", "fp16"]
    jobs: int
    automatic: bool = False

    @classmethod
    def resolve(
        cls, device: str = "auto", precision: Precision = "fp32", jobs: str = "auto"
    ) -> Runtime:
        """Turn the words of the command line into devices and numbers.

        Raises:
            MissingError: The device is not there (exit 5).
            UsageError: Not a device, number or precision that the device has (exit 2).
        """
        devices = tuple(_device(name.strip()) for name in device.split(","))
        if len(set(devices)) != len(devices):
            raise UsageError(
                f"--device {device} names one device twice",
                code="device.twice",
                hint=f"--device {','.join(map(str, dict.fromkeys(devices)))}",
            )
        chosen = "fp32" if precision == "auto" else precision
        if chosen == "fp16" and any(d.type == "cpu" for d in devices):
            raise UsageError(
                "fp16 is not supported on the CPU",
                code="device.precision",
                hint="use --precision bf16 or fp32",
            )
        return cls(devices, chosen, worker_count(jobs), precision == "auto")

    def settled(self, unsafe: str | None) -> tuple[Runtime, str]:
        """Return this with the fastest safe precision, where it was left to us, and why.

        Args:
            unsafe: Why a network must not run in bf16; None where it may.
        """
        unsafe = unsafe or _without_bf16(self.devices)
        if not self.automatic:
            faster = self.precision == "fp32" and not unsafe
            return self, "exact; --precision auto would take bf16" if faster else "as asked"
        if unsafe:
            return replace(self, automatic=False), unsafe
        why = "native here and measured to be within 2 grey levels of fp32"
        return replace(self, precision="bf16", automatic=False), why

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of network activations."""
        return DTYPES[self.precision]

    def as_dict(self) -> dict[str, Any]:
        """Return the `runtime` part of the JSON document."""
        return {
            "device": ",".join(str(device) for device in self.devices),
            "precision": self.precision,
            "jobs": self.jobs,
            "backend": "threading",
            "torch": torch.__version__,
        }


def _without_bf16(devices: Sequence[torch.device]) -> str | None:
    """Return why bf16 would not pay, or is not known to be safe, on one of some devices."""
    if any(device.type != "cpu" for device in devices):
        return "bf16 was measured on CPUs only"
    if not torch.cpu._is_avx512_bf16_supported():
        return "this processor has no instructions for bf16"
    return None


def _device(name: str) -> torch.device:
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda:0")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(
            f"'{name}' is not a device",
            code="device.syntax",
            hint="use auto, cpu, cuda, cuda:N or mps",
        ) from None
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        device = torch.device("cuda", device.index or 0)
        if device.index is not None and device.index < count:
            return device
        raise MissingError(
            f"device {name} is not available: {count} CUDA devices found",
            code="device.missing",
            hint="use --device cpu, or install a CUDA build of torch (see fusecli doctor)",
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise MissingError(
            "device mps is not available on this machine",
            code="device.missing",
            hint="use --device cpu",
        )
    if device.type not in ("cpu", "mps"):
        raise UsageError(
            f"device type '{device.type}' is not supported",
            code="device.syntax",
            hint="use auto, cpu, cuda, cuda:N or mps",
        )
    return device


def worker_count(jobs: str) -> int:
    """Return the number of reading and writing threads; `auto` is the usable cores, at most 8."""
    if jobs == "auto":
        return max(1, min(8, usable_cores()))
    try:
        count = int(jobs)
    except ValueError:
        count = 0
    if count < 1:
        raise UsageError(
            f"--jobs {jobs} is neither auto nor a positive number",
            code="usage.jobs",
            hint="--jobs auto takes the cores that may be used, at most 8",
        )
    return count


def usable_cores() -> int:
    """Return the cores this process may use: affinity, and the quota of its control group."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    quota = Path("/sys/fs/cgroup/cpu.max")
    try:
        limit, period = quota.read_text().split()
        if limit != "max":
            cores = min(cores, max(1, int(limit) // int(period)))
    except (OSError, ValueError):
        pass  # no control groups here
    return cores


def total_memory(device: torch.device) -> int:
    """Return the bytes of memory of a device, or of this process's control group if that is less.

    It is the whole memory, whatever of it is in use.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 8 << 30  # Windows does not say
    try:
        return min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):
        return total  # no control groups here, or no limit
