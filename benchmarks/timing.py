"""Comparable times: functions in turn in one process, and the ceilings of the machine."""

import gc
import time
from collections.abc import Callable, Sequence

import torch

Function = Callable[[], object]


def interleaved(
    functions: Sequence[Function],
    device: torch.device,
    *,
    rounds: int = 5,
    seconds: float = 0.0,
    clock: str = "wall",
    warm: bool = False,
) -> list[float]:
    """Return the shortest time of each function in seconds, the functions called in turn.

    Another program slows all of them alike, and the shortest time is the one it disturbed least.

    Args:
        functions: Without arguments. Each is called once beforehand, unless `warm`.
        device: Waited for after each call.
        rounds: Calls of each function, at least.
        seconds: Go on until this much time was spent.
        clock: `wall`, or `cpu`: the time of this process alone, summed over its threads. On a
            shared machine only `cpu` with one thread is steady.
        warm: Whether each has been called before.
    """
    now = time.perf_counter if clock == "wall" else time.process_time

    def timed(function: Function) -> float:
        start = now()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return now() - start

    for function in () if warm else functions:
        timed(function)
    gc.collect()
    best = [float("inf")] * len(functions)
    begun, done = time.perf_counter(), 0
    while done < rounds or time.perf_counter() - begun < seconds:
        best = [min(old, timed(function)) for old, function in zip(best, functions, strict=True)]
        done += 1
    return best


def bandwidth(device: torch.device, clock: str = "wall") -> float:
    """Return the bytes that a large copy reads and writes in a second."""
    source = torch.empty(64 << 20 if device.type == "cpu" else 512 << 20, dtype=torch.uint8)
    source = source.to(device).fill_(1)
    target = torch.empty_like(source)
    (best,) = interleaved([lambda: target.copy_(source)], device, rounds=10, clock=clock)
    return 2 * source.numel() / best


def convolution_rate(device: torch.device, dtype: torch.dtype, clock: str = "wall") -> float:
    """Return the operations that a wide channels-last convolution does in a second."""
    channels, edge = (64, 128) if device.type == "cpu" else (256, 256)
    image = torch.randn(1, channels, edge, edge, device=device, dtype=dtype)
    image = image.contiguous(memory_format=torch.channels_last)
    layer = torch.nn.Conv2d(channels, channels, 3, padding=1, device=device, dtype=dtype)
    layer = layer.to(memory_format=torch.channels_last).requires_grad_(False)
    (best,) = interleaved([lambda: layer(image)], device, rounds=10, clock=clock)
    return 2 * 9 * channels**2 * edge**2 / best


def machine(device: torch.device) -> str:
    """Return what is measured on, in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"


def table(rows: Sequence[dict[str, object]]) -> str:
    """Return equal rows as a Markdown table."""
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    for row in rows:
        cells = (f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values())
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
