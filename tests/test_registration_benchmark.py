"""The registration benchmark: its two errors mean what it says, for both kinds of sets."""

import numpy as np
import pytest
import torch
from outlines import SIZE, moved, scene
from runs import draw_pairs

from benchmarks import registration as benchmark
from fusecli.cli import run
from fusecli.fields import compose, matrix_field, translation


def shift(dx: float, dy: float) -> torch.Tensor:
    return matrix_field(translation(dx, dy), SIZE)


def case(truth: torch.Tensor) -> benchmark.Case:
    visible, infrared = scene(3)
    warped = moved(infrared, translation(7, 2))
    return benchmark.Case("a", visible, warped, infrared, truth, torch.ones(1, 1, *SIZE))


def test_consistency_does_not_believe_in_the_published_pair() -> None:
    truth, bias = shift(7, 2), shift(3, 0)
    # a perfect method finds that the published pair is off, and the truth on top of it
    off, undone, raw = benchmark.errors(case(truth), compose(bias, truth), bias)
    assert off == pytest.approx(0, abs=1e-4)
    assert undone == pytest.approx(np.hypot(10, 2), abs=1e-4)
    assert raw == pytest.approx(3, abs=1e-4)


def test_a_method_that_does_nothing_has_the_whole_misalignment_as_error() -> None:
    off, undone, raw = benchmark.errors(case(shift(7, 2)), shift(0, 0), shift(0, 0))
    assert off == undone == raw == pytest.approx(np.hypot(7, 2), abs=1e-4)


def test_one_pair_is_measured_and_reported() -> None:
    rows = [
        benchmark.measure(case(shift(7, 2)), method, shape)
        for method, shape in (("ngf", "translation"), ("truth", "auto"))
    ]
    assert rows[0].consistency < 0.5 < rows[0].undone and not rows[0].worse
    assert rows[1].raw == 0
    lines = benchmark.report(rows).splitlines()
    assert lines[2].startswith("| ngf translation | 1 | 0.")
    assert "- truth: none" in lines


def test_sets_of_warp_are_read(tmp_path) -> None:
    ir, vis = draw_pairs(tmp_path, 2)
    assert run(["warp", ir, vis, "-o", str(tmp_path / "set"), "--kind", "mixed", "-q"]) == 0
    first, second = benchmark.cases(tmp_path / "set")
    assert (first.key, second.key) == ("000", "001")
    assert first.truth.shape == (1, 2, *first.warped.shape)


@pytest.mark.realdata
def test_sets_of_superfusion_are_read(data_dir) -> None:
    first = next(benchmark.cases(data_dir / "misaligned-dev"))
    assert first.known.mean() > 0.8
    assert float(first.truth.norm(dim=1).mean()) > 5


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.parametrize(("name", "error"), [("roadscene-test", 1.5), ("tno-test", 1.5)])
def test_real_sets_under_mixed_warps(tmp_path, data_dir, name, error) -> None:
    sides = (str(data_dir / name / "ir"), str(data_dir / name / "vi"))
    made = tmp_path / "set"
    assert run(["warp", *sides, "-o", str(made), "--kind", "mixed", "--seed", "5", "-q"]) == 0
    rows = [benchmark.measure(case, "auto") for case in benchmark.cases(made)]
    assert not any(row.worse for row in rows)
    assert np.mean([row.consistency for row in rows]) < error
