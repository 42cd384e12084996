"""The bench of wrong and of hard pairs: small on drawn scenes, whole on real ones under `slow`."""

from itertools import islice

import pytest
from outlines import scene

from benchmarks.wrong_pairs import HARD, WRONG, Two, hard, pairs, right, wrong
from fusecli.registration.estimate import estimate


def drawn(count: int) -> list[Two]:
    return [Two(str(seed), *(side / 255 for side in scene(seed))) for seed in range(count)]


def test_no_wrong_pair_of_drawn_scenes_is_accepted():
    for trial in islice(wrong(drawn(3)), len(WRONG)):
        found = estimate(trial.fixed, trial.moving)
        assert not found.accepted, (trial.kind, trial.key, found.attempts)


def test_hard_pairs_of_drawn_scenes_are_found_or_refused():
    found = 0
    for trial in islice(hard(drawn(1)), len(HARD)):
        answer = estimate(trial.fixed, trial.moving)
        assert not answer.accepted or right(answer, trial), (trial.kind, answer.attempts)
        found += answer.accepted
    assert found >= 5


@pytest.mark.slow
def test_no_wrong_pair_of_560_is_accepted(data_dir):
    for trial in islice(wrong(pairs(data_dir)), 560):
        found = estimate(trial.fixed, trial.moving)
        assert not found.accepted, (trial.kind, trial.key, found.attempts)
