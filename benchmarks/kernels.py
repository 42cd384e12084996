"""Compile every Triton kernel for cards that are not here, and say what each takes.

    python -m benchmarks.kernels [-m NETWORK ...] [--for 8.0 9.0 ...] [--fuse] [--json]

A network runs on the CPU at a tiny size; where it would launch a kernel on a GPU, the kernel is
compiled for the card that was named, and nothing is run. Triton needs no GPU for that, only a
driver that names a target, and it brings the assembler, which counts registers and spills. Every
network is seen in each value of its options, in float32 and bfloat16, forward and backward, and at
two sizes of picture, which must not make two kernels. `--fuse` leaves it at what `fusecli fuse`
needs: the networks as shipped, without gradients. Seconds are of the processor, ours and the
assembler's. The exit status is 1 where a limit is not kept.
"""

import argparse
import contextlib
import io
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from benchmarks.timing import table
from fusecli import models, ops
from fusecli.fusion.preparation import prepare
from fusecli.models import ModelSpec

# Compute capabilities, and the KiB of shared memory that one program may take on such a card.
SHARED = {
    (7, 5): 64,
    (8, 0): 163,
    (8, 6): 99,
    (8, 9): 99,
    (9, 0): 227,
    (10, 0): 227,
    (12, 0): 99,
}
# Bytes of a thread. The assembler leaves out a value or four to fit a second program beside the
# first (graph_step: 128 registers of 255); more than these is a kernel too large for the card.
SPILLS = 16
SECONDS, FIRST_RUN = 5.0, 15.0  # of one kernel; of all that a network's first run needs
SIZES = (1, 1, 48, 64), (2, 1, 37, 51)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

Capability = tuple[int, int]


@dataclass(frozen=True)
class Compiled:
    """What one kernel takes on one card.

    Args:
        network: That launches it first.
        kernel: Its file and name.
        way: Precision, and whether it serves the gradient.
        capability: Of the card.
        registers: Of a thread.
        spills: Bytes of a thread that did not fit into registers.
        shared: Bytes of shared memory of a program.
        code: Bytes of machine code, with its tables.
        seconds: Of the processor, to compile it.
    """

    network: str
    kernel: str
    way: str
    capability: Capability
    registers: int
    spills: int
    shared: int
    code: int
    seconds: float

    def faults(self) -> list[str]:
        """Return which limits are not kept."""
        found = []
        if self.spills > SPILLS and self.capability >= (8, 0):
            found.append(f"spills {self.spills} bytes")
        if self.shared > 1024 * SHARED[self.capability]:
            found.append(f"takes {self.shared} bytes of shared memory")
        if self.seconds > SECONDS:
            found.append(f"takes {self.seconds:.1f} s to compile")
        card = ".".join(map(str, self.capability))
        return [f"{self.kernel} ({self.network}, {self.way}) on {card} {text}" for text in found]

    def row(self) -> dict[str, object]:
        """Return a line of the table."""
        return {
            "card": ".".join(map(str, self.capability)),
            "network": self.network,
            "kernel": self.kernel,
            "way": self.way,
            "registers": self.registers,
            "spills": self.spills,
            "shared KiB": self.shared / 1024,
            "code KiB": self.code / 1024,
            "CPU s": self.seconds,
        }


class Driver:
    """What Triton asks of a driver before it compiles: the card, in place of a card."""

    def __init__(self, capability: Capability) -> None:
        self.number = 10 * capability[0] + capability[1]

    def get_current_target(self) -> Any:
        """Return the card in Triton's words."""
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", self.number, 32)

    def get_current_device(self) -> int:
        """Return what Triton keeps its kernels by: each card has its own."""
        return self.number

    def get_current_stream(self, device: int) -> int:
        """Return a stream that nothing is put into."""
        return 0


class Compiling:
    """Compiles where a kernel would be launched, and measures what is new.

    Args:
        capability: Of the card.
    """

    def __init__(self, capability: Capability) -> None:
        self.capability = capability
        self.network = self.way = ""
        self.compiled: list[Compiled] = []

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        """Return a block in which kernels are compiled instead of launched."""
        from triton.runtime import driver
        from triton.runtime.jit import JITFunction

        original = JITFunction.run

        def run(kernel: Any, *arguments: Any, grid: Any, warmup: bool, **constants: Any) -> None:
            types = [a.dtype if isinstance(a, Tensor) else a for a in arguments]
            with mock.patch.object(JITFunction, "run", original):
                self._compile(kernel, types, grid, constants)

        driver.set_active(Driver(self.capability))
        with (
            mock.patch.object(JITFunction, "run", run),
            mock.patch.object(ops, "kernel_device", lambda device, mode: None),
            mock.patch.object(ops, "capability", lambda device: self.capability),
            tempfile.TemporaryDirectory() as cache,
            mock.patch.dict(os.environ, TRITON_CACHE_DIR=cache, FUSECLI_OPS="auto"),
        ):
            yield

    def _compile(self, kernel: Any, types: list[Any], grid: Any, constants: dict[str, Any]) -> None:
        from triton import knobs

        known = len(kernel.device_caches[10 * self.capability[0] + self.capability[1]][0])
        log = io.StringIO()
        start = _processor()
        with knobs.nvidia.scope(), contextlib.redirect_stdout(log):
            knobs.nvidia.dump_ptxas_log = True
            binary = kernel.warmup(*types, grid=grid, **constants)
        seconds = _processor() - start
        cache = kernel.device_caches[10 * self.capability[0] + self.capability[1]][0]
        if len(cache) == known:
            return
        registers = re.search(r"Used (\d+) registers", log.getvalue())
        assert registers is not None, log.getvalue()
        self.compiled.append(
            Compiled(
                self.network,
                f"{kernel.__module__.rpartition('.')[2]}.{kernel.__name__.lstrip('_')}",
                self.way,
                self.capability,
                int(registers[1]),
                sum(map(int, re.findall(r"(\d+) bytes spill stores", log.getvalue()))),
                binary.metadata.shared,
                len(binary.asm["cubin"]),
                seconds,
            )
        )


def _processor() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def variants(spec: ModelSpec) -> list[dict[str, Any]]:
    """Return the options of a network as they are, and with each other value of each in turn."""
    built = [option for option in spec.options if not option.recipe and not option.output]
    usual = {option.name: option.default for option in built}
    others = [
        usual | {option.name: value}
        for option in built
        for value in option.choices
        if value != option.default
    ]
    return [usual, *others]


def launch(network: nn.Module, spec: ModelSpec, way: str, backward: bool) -> None:
    """Run a network at two sizes, and back where asked for."""
    low, high = spec.input_range
    dtype = DTYPES[way.split()[0]]
    network = network if backward else prepare(network, spec, torch.device("cpu"), dtype)
    for size in SIZES:
        pair = (low + (high - low) * torch.rand(size) for _ in range(2))
        multiple = spec.multiple_of
        rows, columns = (-edge % multiple for edge in size[2:])
        pair = (nn.functional.pad(image, (0, columns, 0, rows)) for image in pair)
        with (
            torch.set_grad_enabled(backward),
            torch.autocast("cpu", dtype, enabled=dtype != torch.float32),
        ):
            result = network(*pair)
        if backward:
            result.float().sum().backward()


def compile_all(
    capability: Capability, names: list[str], fuse_only: bool = False
) -> list[Compiled]:
    """Return every kernel of some networks on a card, each once."""
    compiling = Compiling(capability)
    with compiling():
        for compiling.network in names:
            spec = models.find(compiling.network)
            for options in variants(spec)[: 1 if fuse_only else None]:
                network = spec.build(**options)
                for backward in (False,) if fuse_only else (False, True):
                    for precision in DTYPES:
                        compiling.way = f"{precision} gradient" if backward else precision
                        launch(network, spec, compiling.way, backward)
    return compiling.compiled


def first_runs(compiled: list[Compiled]) -> list[str]:
    """Return the networks whose first run waits too long, in one precision."""
    waits: dict[tuple[Capability, str, str], float] = {}
    for one in compiled:
        place = one.capability, one.network, one.way.split()[0]
        waits[place] = waits.get(place, 0) + one.seconds
    return [
        f"{network} ({way}) on {'.'.join(map(str, card))} compiles for {seconds:.1f} s"
        for (card, network, way), seconds in waits.items()
        if seconds > FIRST_RUN
    ]


def main() -> None:
    """Print a table, or a JSON list of its rows; complain of limits that are not kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--model", action="append", choices=models.names())
    parser.add_argument("--for", dest="cards", nargs="+", metavar="CAPABILITY")
    parser.add_argument("--fuse", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    cards = [tuple(map(int, card.split("."))) for card in arguments.cards or ()] or list(SHARED)
    names = arguments.model or list(models.names())
    compiled = [one for card in cards for one in compile_all(card, names, arguments.fuse)]
    rows = [one.row() for one in compiled]
    print(json.dumps(rows) if arguments.json else table(rows))
    faults = [fault for one in compiled for fault in one.faults()] + first_runs(compiled)
    if faults:
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main()
