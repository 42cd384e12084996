"""Recipes: stages after the user had their say, schedules, durations."""

import dataclasses

import pytest
from trainees import (
    STAGE,
    Toy,
    spec_of,
)

from fusecli.errors import UsageError
from fusecli.models import ModelSpec
from fusecli.training.recipe import (
    learning_rate,
    parse_duration,
    resolve_stages,
)


@pytest.mark.parametrize(
    ("schedule", "step", "epoch", "factor"),
    [
        ("constant", 70, 7, 1.0),
        ("cosine", 0, 0, 1.0),
        ("cosine", 50, 5, 0.5),
        ("cosine", 100, 10, 0.0),
        ("step:20:0.5", 0, 19, 1.0),
        ("step:20:0.5", 0, 20, 0.5),
        ("step:20:0.5", 0, 65, 0.125),
        ("step:1:0.1:1e-6", 0, 30, 1e-3),
    ],
)
def test_schedules(schedule, step, epoch, factor):
    stage = dataclasses.replace(STAGE, lr=1e-3, schedule=schedule)
    assert learning_rate(stage, step, 100, epoch) == pytest.approx(1e-3 * factor, abs=1e-12)


def test_warmup_rises_from_the_first_step_to_the_full_rate():
    stage = dataclasses.replace(STAGE, lr=1.0, warmup=4)
    rates = [learning_rate(stage, step, 100, 0) for step in range(6)]
    assert rates == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("schedule", ["linear", "step", "step:0:0.5", "step:a:b", "cosine:3"])
def test_unreadable_schedule(schedule):
    with pytest.raises(UsageError) as error:
        resolve_stages(spec_of(), schedule=schedule)
    assert error.value.code == "train.schedule"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("8h", 28800), ("30m", 1800), ("90s", 90), ("1h30m", 5400), ("1.5h", 5400)],
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "90", "5d", "h", "30m8h"])
def test_bad_durations(text):
    with pytest.raises(UsageError, match="not a duration"):
        parse_duration(text)


def test_overrides_reach_the_stages_that_have_them():
    other = dataclasses.replace(STAGE, name="second", weights={"adversarial": 1.0})
    spec = spec_of(STAGE, other, dataclasses.replace(STAGE, name="offered", epochs=0))
    first, second = resolve_stages(spec, loss={"ssim": 3.0}, crop=20, lr=None)
    assert first.weights == {"pixel": 1.0, "ssim": 3.0}
    assert second.weights == {"adversarial": 1.0}
    assert (first.crop, first.lr) == (20, STAGE.lr)
    (offered,) = resolve_stages(spec, stage="offered", steps=5)
    assert offered.name == "offered"


@pytest.mark.parametrize(
    ("change", "code", "hint"),
    [
        ({"loss": {"pixl": 2.0}}, "train.loss", "pixel=2"),
        ({"loss": {"pixel": -1.0}}, "train.loss", None),
        ({"stage": "fusee"}, "train.stage", "--stage fuse?"),
        ({"crop": 0}, "train.number", None),
        ({"lr": 0.0}, "train.number", None),
        ({"misalign": "shift:x"}, "train.misalign", "shift:10"),
    ],
)
def test_wrong_numbers_are_refused(change, code, hint):
    with pytest.raises(UsageError) as error:
        resolve_stages(spec_of(), **change)
    assert error.value.code == code
    assert hint is None or hint in error.value.hint


def test_a_network_without_recipe_is_refused():
    with pytest.raises(UsageError) as error:
        resolve_stages(ModelSpec("Toy", "nobody", Toy))
    assert error.value.code == "train.recipe"
