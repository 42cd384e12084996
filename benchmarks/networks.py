"""Measure every network against its plain self: float32, NCHW, batch norm as trained.

    python -m benchmarks.networks [-m mfeif] [--device cpu|cuda] [--batch 1 4] [--clock wall|cpu]
                                  [--size 640x480] [--rounds 2] [--json]

Each way of running a network has a process of its own, and they run in turn: the plain one as an
authors' script would, the others as `fusecli fuse` does. `ms` and `plain_ms` are milliseconds a
pair, `max_diff` the largest difference from the plain output in grey levels of 255, unrounded.
Weights are those shipped, or random ones where there are none: these cost the same, but their
pictures are flat, and their `max_diff` says little. `gflop` counts the multiplications and
additions of all convolutions and matrix products in the plain network; `of ceiling` is the share of
the rate of a wide convolution, measured in the same run, that these would need if none were saved.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

PRECISIONS = ("fp32", "bf16")


class Way:
    """A process that runs one network in one way whenever it is asked.

    Args:
        name: Of the network.
        precision: `plain`, `fp32` or `bf16`.
        given: The arguments of this program.
        batch: Pairs at once.
    """

    def __init__(self, name: str, precision: str, given: argparse.Namespace, batch: int) -> None:
        command = [sys.executable, "-m", "benchmarks.networks", "--serve", name, precision]
        command += ["--device", given.device, "--clock", given.clock, "--size", given.size]
        environment = {"OMP_WAIT_POLICY": "passive"} | os.environ
        environment["FUSECLI_OPS"] = "eager" if precision == "plain" else "auto"
        self._process = subprocess.Popen(
            [*command, "--batch", str(batch)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=Path(__file__).parents[1],
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._process.communicate()

    def ask(self, what: str) -> float:
        """Return what the process answers to one line."""
        pipes = self._process
        assert pipes.stdin is not None
        assert pipes.stdout is not None
        pipes.stdin.write(what + "\n")
        pipes.stdin.flush()
        answer = pipes.stdout.readline()
        if not answer:
            sys.exit("a process of the benchmark ended early")
        return float(answer)

    def run(self) -> float:
        """Run once and return the seconds."""
        return self.ask("run")

    def result(self, folder: Path) -> np.ndarray:
        """Return the last output, (B, 1, H, W) in 0..1."""
        path = folder / f"{id(self)}.npy"
        self.ask(f"save {path}")
        saved: np.ndarray = np.load(path)
        return saved


def serve(name: str, precision: str, given: argparse.Namespace) -> None:
    """Answer lines of standard input: `run` with seconds, `save PATH` and `count` with a number."""
    if precision != "plain":
        from fusecli.memory import keep_freed_memory

        keep_freed_memory()
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from benchmarks.timing import interleaved
    from fusecli import checkpoint
    from fusecli.fusion import Tiling
    from fusecli.fusion.network import Fuser

    known = {entry.model for entry in checkpoint.entries()}
    loaded = checkpoint.load(name, None if name in known else "random")
    device = torch.device(given.device)
    low, high = loaded.spec.input_range
    width, height = map(int, given.size.split("x"))
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(2 * given.batch[0], 1, height // 8, width // 8, generator=generator)
    size = (height, width)
    ir, vis = torch.nn.functional.interpolate(coarse, size, mode="bilinear").chunk(2)
    results: list[torch.Tensor] = []

    if precision == "plain":
        network = loaded.network.to(device)

        def run() -> None:
            with torch.no_grad():
                pair = (low + (high - low) * image.to(device) for image in (ir, vis))
                results[:] = [((network(*pair) - low) / (high - low)).cpu()]
    else:
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
        fuser = Fuser(
            loaded.network, loaded.spec, loaded.options,
            device=device, dtype=dtype, tiling=Tiling(0),
        )  # fmt: skip

        def run() -> None:
            results[:] = [fuser(ir, vis, toned=False)]

    for line in sys.stdin:
        what, _, path = line.strip().partition(" ")
        answer = 0.0
        if what == "run":
            (answer,) = interleaved([run], device, rounds=1, clock=given.clock, warm=bool(results))
        elif what == "count":
            with FlopCounterMode(display=False) as counter:
                run()
            answer = counter.get_total_flops()
        else:
            np.save(path, results[0].numpy())
        print(answer, flush=True)


def measure(name: str, batch: int, given: argparse.Namespace) -> list[dict[str, object]]:
    """Return one row for each precision of a network."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Way(name, "plain", given, batch) as plain,
        Way(name, "fp32", given, batch) as full,
        Way(name, "bf16", given, batch) as narrow,
    ):
        ways = (plain, full, narrow)
        rounds = [[way.run() for way in ways] for _ in range(given.rounds)]
        times = [min(spent) for spent in zip(*rounds, strict=True)]
        expected, *found = (np.clip(way.result(Path(folder)), 0, 1) for way in ways)
        gflop = plain.ask("count") / batch / 1e9
    return [
        {
            "network": name,
            "device": given.device,
            "precision": precision,
            "runtime": "torch",
            "batch": batch,
            "ms": 1000 * spent / batch,
            "plain_ms": 1000 * times[0] / batch,
            "ratio": times[0] / spent,
            "max_diff": 255 * float(np.abs(result - expected).max()),
            "gflop": gflop,
        }
        for precision, spent, result in zip(PRECISIONS, times[1:], found, strict=True)
    ]


def rates(given: argparse.Namespace) -> dict[str, float]:
    """Return the operations a second of a wide convolution in each precision."""
    import torch

    from benchmarks.timing import convolution_rate

    device = torch.device(given.device)
    dtypes = (torch.float32, torch.bfloat16)
    found = (convolution_rate(device, dtype, given.clock) for dtype in dtypes)
    return dict(zip(PRECISIONS, found, strict=True))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a Markdown table, or a JSON list of its rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--model", action="append")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, nargs="+", default=[1])
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--size", default="640x480", help="width x height")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.serve:
        return serve(*given.serve, given)
    names = given.model or ["reconet", "mfeif", "rfn-nest", "rfvif", "smfnet"]
    reachable = rates(given)
    rows = [row for name in names for batch in given.batch for row in measure(name, batch, given)]
    for row in rows:
        rate = float(str(row["gflop"])) * 1e12 / float(str(row["ms"]))
        row["of ceiling"] = f"{rate / reachable[str(row['precision'])]:.0%}"
    if given.json:
        print(json.dumps(rows))
        return None
    from benchmarks.timing import table

    ceilings = ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in reachable.items())
    print(f"A wide convolution does {ceilings} Gflop/s here.\n\n{table(rows)}")
    return None


if __name__ == "__main__":
    main()
