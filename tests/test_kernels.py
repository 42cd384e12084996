"""Kernels compile for real cards, without one, and keep within what the cards have."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fusecli import ops

ROOT = Path(__file__).parents[1]


def compiled(*arguments: str) -> list[dict]:
    """Return what `benchmarks.kernels` prints; it ends with 1 where a limit is not kept."""
    pytest.importorskip("triton")
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.kernels", "--json", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rows: list[dict] = json.loads(done.stdout)
    return rows


def test_what_fuse_needs_compiles_for_usual_cards() -> None:
    with_kernels = ("-m", "reconet", "-m", "rfvif", "-m", "smfnet")
    rows = compiled("--fuse", *with_kernels, "--for", "8.0", "9.0")
    assert {row["card"] for row in rows} == {"8.0", "9.0"}
    assert {row["network"] for row in rows} == {"rfvif", "smfnet", "reconet"}


@pytest.mark.slow
@pytest.mark.parametrize("card", ["7.5", "8.0", "8.6", "8.9", "9.0", "10.0", "12.0"])
def test_every_kernel_compiles(card: str) -> None:
    rows = compiled("--for", card)
    assert any("gradient" in row["way"] for row in rows)


@pytest.mark.parametrize(
    ("card", "products", "reason"),
    [
        ((7, 0), False, "needs compute capability 7.5, this card has 7.0"),
        ((7, 5), True, "7.5 multiplies in neither TF32 nor bfloat16"),
        ((7, 5), False, None),
        ((8, 0), True, None),
    ],
)
def test_an_old_card_takes_the_plain_path_and_says_why(
    monkeypatch: pytest.MonkeyPatch, card: tuple[int, int], products: bool, reason: str | None
) -> None:
    import torch

    pytest.importorskip("triton")
    monkeypatch.setattr(ops, "capability", lambda device: card)
    found = ops.kernel_reason(torch.device("cuda:0"), "auto", products)
    assert found == reason if reason is None else reason in str(found)
