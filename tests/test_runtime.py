"""Words of the command line to devices and threads, and the memory that inference keeps."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from runs import draw_pairs, fuse

from fusecli.errors import FusecliError
from fusecli.runtime import Runtime, worker_count


def test_defaults_are_one_device_and_float32() -> None:
    runtime = Runtime.resolve("cpu")
    assert runtime.devices == (torch.device("cpu"),)
    assert runtime.dtype == torch.float32
    assert 1 <= runtime.jobs <= 8


@pytest.mark.parametrize(
    ("device", "precision", "code", "status"),
    [
        ("cuda:63", "fp32", "device.missing", 5),
        ("toaster", "fp32", "device.syntax", 2),
        ("xla", "fp32", "device.syntax", 2),
        ("cpu,cpu", "fp32", "device.twice", 2),
        ("cpu", "fp16", "device.precision", 2),
    ],
)
def test_what_cannot_be_is_refused(device: str, precision, code: str, status: int) -> None:
    with pytest.raises(FusecliError) as caught:
        Runtime.resolve(device, precision)
    assert (caught.value.code, caught.value.exit_code) == (code, status)


@pytest.mark.parametrize(
    ("asked", "native", "unsafe", "expected", "why"),
    [
        ("auto", True, None, "bf16", "native here and measured"),
        ("auto", False, None, "fp32", "no instructions for bf16"),
        ("auto", True, "it would show", "fp32", "it would show"),
        ("fp32", True, None, "fp32", "auto would take bf16"),
        ("fp32", True, "it would show", "fp32", "as asked"),
        ("fp32", False, None, "fp32", "as asked"),
        ("bf16", False, "it would show", "bf16", "as asked"),
    ],
)
def test_auto_is_bf16_where_it_is_native_and_safe(
    asked, native: bool, unsafe: str | None, expected: str, why: str, monkeypatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    runtime, reason = Runtime.resolve("cpu", asked).settled(unsafe)
    assert (runtime.precision, why in reason) == (expected, True)


def test_auto_is_not_bf16_where_it_was_not_measured() -> None:
    runtime = Runtime((torch.device("cuda:0"),), "fp32", 1, automatic=True)
    assert runtime.settled(None)[0].precision == "fp32"


@pytest.mark.parametrize("jobs", ["0", "-1", "many", "1.5"])
def test_jobs_are_auto_or_positive(jobs: str) -> None:
    with pytest.raises(FusecliError) as caught:
        worker_count(jobs)
    assert caught.value.code == "usage.jobs"
    assert worker_count("3") == 3


PROGRAM = """
import resource, sys, threading
from fusecli.memory import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "keep" else None
import torch
def work():
    image = torch.ones(1, 16, 512, 512)
    for _ in range(24):
        layer = image
        for _ in range(4):  # 16 MiB each, as between two layers
            layer = layer * 0.5 + image
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
faults = []
thread = threading.Thread(target=work); thread.start(); thread.join()
print(kept, faults[-1] - faults[11])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a matter of glibc")
def test_freed_blocks_are_used_again() -> None:
    def run(mode: str) -> tuple[str, int]:
        command = [sys.executable, "-c", PROGRAM, mode]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        kept, faults = done.stdout.split()
        return kept, int(faults)

    kept, faults = run("keep")
    if kept != "True":
        pytest.skip("the C library has no mallopt, or MALLOC_* is set")
    # twelve rounds of four layers would need 48 times these pages if freed ones were given back
    assert faults <= 4 * (16 << 20) // resource.getpagesize()


def test_a_run_tells_which_path_it_takes_and_why(tmp_path: Path, capsys) -> None:
    """With random weights, which nobody measured in bf16, and in tiles that were asked for."""
    pairs = draw_pairs(tmp_path, 1)
    options = ("-m", "reconet", "--precision", "auto", "--tile", "32")
    capsys.readouterr()
    assert fuse(*pairs, "-o", tmp_path / "out", "-v", *options) == 0
    told = capsys.readouterr().err
    assert "ReCoNet (random) on cpu in fp32 (bf16 was not measured with the weights" in told
    assert "images are cut into tiles of 32 pixels" in told
    assert "recurrent_cell: strips that stay in the cache" in told
