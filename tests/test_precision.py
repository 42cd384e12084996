"""bf16 unasked: near enough to float32, and only with weights and a tone that were tried."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from benchmarks.parity import LIMITS
from fusecli import checkpoint, images, models
from fusecli.api import fuse
from fusecli.fusion.preparation import FullPrecision, against_bf16, spare

PAIRS = Path(__file__).parent / "data"
EDGE = 64  # of the part of each pair that is fused: several networks take seconds for a whole one


@pytest.mark.parametrize("entry", checkpoint.entries(), ids=lambda entry: entry.name)
def test_shipped_weights_keep_the_limits_of_bf16(entry: checkpoint.Entry) -> None:
    if not models.find(entry.model).safe_in_bf16:
        pytest.skip(f"{entry.model} is never run in bf16 unless asked")
    largest, mean = LIMITS["bf16"]
    differences = []
    for ir in sorted((PAIRS / "ir").iterdir()):
        (vis,) = (PAIRS / "vis").glob(f"{ir.stem}.*")
        pair = [images.read(str(path)).pixels[80 : 80 + EDGE, 80 : 80 + EDGE] for path in (ir, vis)]
        options = {"model": entry.model, "weights": entry.name, "device": "cpu"}
        options |= {"chroma": "drop", "out_dtype": "uint8"}
        full, narrow = (
            fuse(*pair, precision=precision, **options).astype(int)
            for precision in ("fp32", "bf16")
        )
        differences.append(np.abs(full - narrow))
        assert differences[-1].max() <= largest
        assert differences[-1].mean() <= mean
    assert np.max(differences) > 0


def test_only_what_was_measured_is_narrowed_unasked() -> None:
    shipped = checkpoint.load("reconet")
    assert against_bf16(shipped) is None
    assert against_bf16(shipped, "clip") is None
    assert "--tone stretch" in (against_bf16(shipped, "stretch") or "")
    assert "random" in (against_bf16(checkpoint.load("reconet", "random")) or "")
    unsafe = replace(shipped, spec=replace(shipped.spec, safe_in_bf16=False))
    assert "not measured" in (against_bf16(unsafe) or "")


def test_a_list_of_modules_is_spared_one_by_one() -> None:
    network = nn.Sequential(nn.ModuleList([nn.ReLU(), nn.Tanh()]), nn.ReLU())
    spare(network, "0")
    assert [type(module) for module in network[0]] == [FullPrecision, FullPrecision]
    assert isinstance(network[1], nn.ReLU)
