"""bf16 unasked: near enough to float32, and only with weights that were tried."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fusecli import checkpoint, models
from fusecli.api import fuse
from fusecli.io import images
from fusecli.pipeline.preparation import against_bf16

PAIRS = Path(__file__).parent / "data"
LARGEST, MEAN = 2, 0.3  # grey levels


@pytest.mark.parametrize("entry", checkpoint.entries(), ids=lambda entry: entry.name)
def test_shipped_weights_keep_the_limits_of_bf16(entry: checkpoint.Entry) -> None:
    if not models.find(entry.model).safe_in_bf16:
        pytest.skip(f"{entry.model} is never run in bf16 unless asked")
    for ir in sorted((PAIRS / "ir").iterdir()):
        (vis,) = (PAIRS / "vis").glob(f"{ir.stem}.*")
        pair = [images.read(str(path)).pixels for path in (ir, vis)]
        options = {"model": entry.model, "weights": entry.name, "device": "cpu"}
        options |= {"chroma": "drop", "out_dtype": "uint8"}
        full, narrow = (
            fuse(*pair, precision=precision, **options).astype(int)
            for precision in ("fp32", "bf16")
        )
        difference = np.abs(full - narrow)
        assert 0 < difference.max() <= LARGEST
        assert difference.mean() <= MEAN


def test_only_measured_weights_are_narrowed_unasked() -> None:
    shipped = checkpoint.load("reconet")
    assert against_bf16(shipped) is None
    assert "random" in (against_bf16(checkpoint.load("reconet", "random")) or "")
    unsafe = replace(shipped, spec=replace(shipped.spec, safe_in_bf16=False))
    assert "not measured" in (against_bf16(unsafe) or "")
