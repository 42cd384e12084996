"""Training: recipes, schedules, crops, the loop, stopping and going on, several processes."""

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from fusecli import cli, losses
from fusecli.errors import CheckError, InputError, MissingError, UsageError
from fusecli.io.pairs import Pair
from fusecli.models import ModelSpec, Option, Sample, Stage
from fusecli.ops.resample import resample
from fusecli.pipeline.crops import CropPlan, Crops, Pictures, ahead, split
from fusecli.pipeline.recipes import (
    TrainOptions,
    learning_rate,
    parse_duration,
    resolve_stages,
)
from fusecli.pipeline.training import train
from fusecli.report import Reporter
from fusecli.runtime import Runtime

CPU = Runtime((torch.device("cpu"),), "fp32", 2)


class Toy(nn.Module):
    """A fuser small enough to train in a test; `encoder` has a batch norm and dropout."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(2, width, 3, padding=1), nn.BatchNorm2d(width), nn.Dropout(0.2), nn.ReLU()
        )
        self.decoder = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, ir, vis):
        return (ir + vis) / 2 + self.decoder(self.encoder(torch.cat([ir, vis], 1)))


class Plain(nn.Module):
    """The same without anything that depends on the batch or on chance."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 6, 3, padding=1)
        self.last = nn.Conv2d(6, 1, 3, padding=1)

    def forward(self, ir, vis):
        return self.last(torch.relu(self.first(torch.cat([ir, vis], 1))))


def toy_loss(network, sample):
    fused = network(sample.ir, sample.vis)
    return {
        "pixel": (fused - torch.maximum(sample.ir, sample.vis)).abs().mean(),
        "ssim": losses.ssim_loss(fused, sample.vis),
    }


STAGE = Stage("fuse", toy_loss, {"pixel": 1.0, "ssim": 0.0}, batch_size=4, crop=16, lr=5e-3)


def spec_of(*stages, build=Toy, options=()):
    return ModelSpec("Toy", "nobody", build, options=options, stages=stages or (STAGE,))


def options_of(spec, steps=6, **more):
    more.setdefault("stages", resolve_stages(spec))
    return TrainOptions("toy", spec, spec.defaults(), steps=steps, **more)


def write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Four pairs of 44x36: blobs that only the infrared shows, stripes that only the visible."""
    folder, generator = tmp_path_factory.mktemp("pairs"), np.random.default_rng(1)
    y, x = np.mgrid[:36, :44]
    found = []
    for index in range(4):
        cy, cx = generator.integers(8, 28, 2)
        ir = (
            40
            + 180 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 30)
            + generator.normal(0, 4, y.shape)
        )
        vis = 110 + 60 * np.sin(x / (2 + index)) + generator.normal(0, 4, y.shape)
        for kind, image in (("ir", ir), ("vis", vis)):
            write(folder / kind / f"{index}.png", image.clip(0, 255).astype(np.uint8))
        found.append(
            Pair(str(index), str(folder / f"ir/{index}.png"), str(folder / f"vis/{index}.png"))
        )
    return found


def run(pairs, out, options, runtime=CPU, **more):
    quiet = Reporter(quiet=True)
    return train(pairs[1:], pairs[:1], out, options, runtime, quiet, **more)


def metrics(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line.pop("seconds", None)
    return lines


# --- recipes -----------------------------------------------------------------------------------


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


# --- data --------------------------------------------------------------------------------------


def many(count):
    return [Pair(f"set/{index:03}", "", "") for index in range(count)]


def test_split_depends_on_the_key_alone():
    learned, held = split(many(200), 0.1)
    assert 8 <= len(held) <= 32
    assert sorted(p.key for p in learned + held) == [p.key for p in many(200)]
    fewer = {pair.key for pair in split(many(200)[50:], 0.1)[1]}
    assert fewer == {pair.key for pair in held if int(pair.key[4:]) >= 50}


@pytest.mark.parametrize("fraction", [0.001, 0.5, 0.9])
def test_split_leaves_one_on_each_side(fraction):
    learned, held = split(many(2), fraction)
    assert len(learned) == len(held) == 1


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_pairs(count):
    with pytest.raises(InputError) as error:
        split(many(count), 0.1)
    assert error.value.code == "train.pairs"


def test_a_crop_depends_on_its_number_alone(pairs):
    pictures, plan = Pictures(pairs, 16), CropPlan(seed=3, crop=16)
    together = Crops(pictures, plan).batch(range(9))
    alone = Crops(pictures, plan).batch([7])
    torch.testing.assert_close(alone.ir[0], together.ir[7], rtol=0, atol=0)
    torch.testing.assert_close(alone.vis[0], together.vis[7], rtol=0, atol=0)
    other = Crops(pictures, dataclasses.replace(plan, seed=4)).batch(range(9))
    assert not torch.equal(other.ir, together.ir)


def test_every_epoch_visits_every_picture_once(pairs):
    crops = Crops(Pictures(pairs, 16), CropPlan(seed=0, crop=16))
    epochs = [[crops.picture_of(4 * epoch + n) for n in range(4)] for epoch in range(6)]
    assert all(sorted(epoch) == [0, 1, 2, 3] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_both_images_are_cut_and_turned_alike(tmp_path):
    image = np.arange(20 * 30, dtype=np.uint8).reshape(20, 30)
    for name in ("ir", "vis"):
        write(tmp_path / f"{name}.png", image)
    pictures = Pictures([Pair("a", f"{tmp_path}/ir.png", f"{tmp_path}/vis.png")], 8)
    sample = Crops(pictures, CropPlan(seed=0, crop=8)).batch(range(40))
    assert torch.equal(sample.ir, sample.vis)
    seen = {tuple(crop.flatten().tolist()) for crop in sample.ir}
    assert len(seen) > 20


def test_shifted_crops_know_their_truth(pairs):
    plan = CropPlan(seed=0, crop=16, misalign="shift:5")
    sample = Crops(Pictures(pairs, plan.smallest), plan).batch(range(200))
    dx, dy = sample.field[:, 0, 0, 0], sample.field[:, 1, 0, 0]
    assert dx.min() == dy.min() == -5
    assert dx.max() == dy.max() == 5
    still = ((dx == 0) & (dy == 0)).float().mean()
    assert 0.04 < still < 0.2  # a tenth on purpose, and 0.9 / 121 by chance
    inner = (..., slice(5, 11), slice(5, 11))
    torch.testing.assert_close(resample(sample.ir, sample.field)[inner], sample.ir_true[inner])
    back = resample(sample.vis, -sample.field)
    torch.testing.assert_close(back[inner], sample.vis_true[inner])


def test_warped_crops_know_their_truth(tmp_path):
    y, x = np.mgrid[:80, :90]
    image = (127 + 60 * np.sin(x / 9) + 60 * np.cos(y / 7)).astype(np.uint8)
    for name in ("ir", "vis"):
        write(tmp_path / f"{name}.png", image)
    pictures = Pictures([Pair("a", f"{tmp_path}/ir.png", f"{tmp_path}/vis.png")], 48)
    sample = Crops(pictures, CropPlan(seed=0, crop=48, misalign="mild")).batch(range(4))
    inner = (..., slice(12, 36), slice(12, 36))
    assert (sample.vis - sample.vis_true)[inner].abs().mean() > 0.02
    restored = resample(sample.vis, sample.field)
    assert (restored - sample.vis_true)[inner].abs().max() < 0.02
    torch.testing.assert_close(sample.ir_true, sample.vis)  # here both show the same scene


def test_an_unknown_misalignment_is_refused():
    with pytest.raises(UsageError, match="mildd"):
        CropPlan(seed=0, crop=8, misalign="mildd")


def test_sixteen_bits_and_the_range_of_the_network(tmp_path):
    image = np.linspace(0, 65535, 400).astype(np.uint16).reshape(20, 20)
    for name in ("ir", "vis"):
        write(tmp_path / f"{name}.png", image)
    pair = Pair("a", f"{tmp_path}/ir.png", f"{tmp_path}/vis.png")
    plan = CropPlan(seed=0, crop=20, augment=False, input_range=(0.0, 255.0))
    sample = Crops(Pictures([pair], 20), plan).batch([0])
    assert sample.ir.min() == 0
    assert sample.ir.max() == 255
    assert len(sample.ir.unique()) > 300  # more than 8 bits could hold


def test_pairs_beyond_the_memory_are_read_again(pairs):
    small, all_kept = Pictures(pairs, 16, memory=0), Pictures(pairs, 16)
    assert len(small.kept) == len(pairs)  # one block of four is always read
    del small.kept[3]
    np.testing.assert_array_equal(small[3][0], all_kept[3][0])
    blocks = Pictures(pairs * 3, 16, memory=1)
    assert len(blocks.kept) == 4
    np.testing.assert_array_equal(blocks[11][1], all_kept[3][1])


def test_small_and_unequal_images_are_named(pairs, tmp_path):
    with pytest.raises(InputError, match="'0' is 44x36") as error:
        Pictures(pairs, 40)
    assert error.value.code == "train.crop"
    assert "--crop" in error.value.hint
    write(tmp_path / "odd.png", np.zeros((36, 43), np.uint8))
    with pytest.raises(InputError, match="43x36.*44x36") as error:
        Pictures([Pair("odd", str(tmp_path / "odd.png"), pairs[0].vis)], 8)
    assert (error.value.code, error.value.exit_code) == ("size.mismatch", 2)
    assert "fusecli register" in error.value.hint


def test_unreadable_image_ends_the_run_before_it_begins(pairs, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    broken = [*pairs, Pair("bad", str(tmp_path / "bad.png"), pairs[0].vis)]
    with pytest.raises(InputError, match="bad.png"):
        run(broken, tmp_path / "run", options_of(spec_of()))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("threads", [1, 3])
def test_prepared_ahead_in_order(threads):
    assert list(ahead(lambda n: n * n, range(10), threads)) == [n * n for n in range(10)]


# --- the loop ----------------------------------------------------------------------------------


def test_loss_falls_and_the_run_explains_itself(pairs, tmp_path):
    out = tmp_path / "run"
    every = {"eval_every": 16, "save_every": 16}
    options = options_of(spec_of(build=Plain), steps=60, seed=1, command="fusecli x y", **every)
    report = run(pairs, out, options)
    assert (report.exit_code, report.done) == (0, 60)
    values = [line["val_loss"] for line in metrics(out) if "val_loss" in line]
    assert values[-1] < 0.6 * values[0]
    watched = [line for line in metrics(out) if "val_loss" in line]
    assert all(line["val_ssim"] > 0 for line in watched)  # a term of weight 0: seen, not counted
    assert all(line["val_pixel"] == pytest.approx(line["val_loss"]) for line in watched)
    assert not any("ssim" in line for line in metrics(out))
    best = min((line for line in metrics(out) if "val_loss" in line), key=lambda r: r["val_loss"])
    assert report.best == {
        "stage": "fuse", "step": best["step"], "epoch": best["epoch"], "loss": best["val_loss"],
    }  # fmt: skip
    config = tomllib.loads((out / "config.toml").read_text())
    assert config["stage"][0]["weights"] == {"pixel": 1.0, "ssim": 0.0}
    assert config["train"]["seed"] == 1
    assert "`fusecli x y`" in (out / "card.md").read_text()
    assert len(list((out / "checkpoints").iterdir())) == 3
    sample = cv2.imread(str(sorted((out / "samples").iterdir())[-1]), cv2.IMREAD_UNCHANGED)
    assert sample.shape == (16, 48)
    assert not list(out.rglob("*.part*"))


def stop_at(step, number):
    """Return the toy's loss, raising a signal when it is called for the given step."""
    calls = 0

    def loss(network, sample):
        nonlocal calls
        if network.training:
            calls += 1
            if calls == step:
                signal.raise_signal(number)
        return toy_loss(network, sample)

    return loss


@pytest.mark.parametrize("at", [3, 5, 8])
def test_resumed_equals_uninterrupted(pairs, tmp_path, at):
    def stages(loss):
        first = dataclasses.replace(STAGE, loss=loss, misalign="shift:3", schedule="cosine")
        second = dataclasses.replace(STAGE, name="tune", loss=loss, trains=("decoder",))
        return (first, second)

    whole = options_of(spec_of(*stages(toy_loss)), steps=5)
    run(pairs, tmp_path / "whole", whole)
    stopping = options_of(spec_of(*stages(stop_at(at, signal.SIGTERM))), steps=5)
    report = run(pairs, tmp_path / "parts", stopping)
    assert (report.exit_code, report.done) == (143, at)
    report = run(pairs, tmp_path / "parts", whole, resume=True)
    assert (report.exit_code, report.done) == (0, 10 - at)
    for name in ("last.safetensors", "best.safetensors"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert metrics(tmp_path / "parts") == metrics(tmp_path / "whole")


def test_a_finished_run_resumes_to_nothing(pairs, tmp_path):
    options = options_of(spec_of(), steps=2)
    run(pairs, tmp_path, options)
    before = (tmp_path / "last.safetensors").read_bytes()
    assert run(pairs, tmp_path, options, resume=True).done == 0
    assert (tmp_path / "last.safetensors").read_bytes() == before


@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGUSR1", 143)])
def test_signals_save_and_exit(pairs, tmp_path, number, code):
    stage = dataclasses.replace(STAGE, loss=stop_at(2, getattr(signal, number)))
    report = run(pairs, tmp_path, options_of(spec_of(stage)))
    assert (report.exit_code, report.done) == (code, 2)
    assert torch.load(tmp_path / "last.state.pt", weights_only=True)["step"] == 2


def test_max_time_ends_the_run_with_a_checkpoint(pairs, tmp_path):
    report = run(pairs, tmp_path, options_of(spec_of(), steps=500, max_time=0.0))
    assert (report.exit_code, report.done) == (0, 1)
    assert (tmp_path / "last.safetensors").exists()


def test_resume_refuses_other_options_and_other_pairs(pairs, tmp_path):
    run(pairs, tmp_path, options_of(spec_of(), steps=2))
    with pytest.raises(UsageError) as error:
        run(pairs, tmp_path, options_of(spec_of(), steps=4, seed=9), resume=True)
    assert error.value.code == "train.resume"
    assert error.value.facts == ("seed: 0 then, 9 now",)
    with pytest.raises(UsageError, match="other options"):
        run(pairs[:3], tmp_path, options_of(spec_of(), steps=4), resume=True)
    assert run(pairs, tmp_path, options_of(spec_of(), steps=4), resume=True).done == 2


def test_an_existing_run_is_kept_unless_told_otherwise(pairs, tmp_path):
    run(pairs, tmp_path, options_of(spec_of(), steps=2))
    with pytest.raises(UsageError) as error:
        run(pairs, tmp_path, options_of(spec_of(), steps=2))
    assert error.value.code == "out.exists"
    (tmp_path / "notes.txt").write_text("mine")
    assert run(pairs, tmp_path, options_of(spec_of(), steps=3), overwrite=True).done == 3
    assert (tmp_path / "notes.txt").exists()


def test_frozen_parts_stay_as_they_are_and_keep_their_statistics(pairs, tmp_path):
    spec = spec_of(dataclasses.replace(STAGE, trains=("decoder",)))
    options = options_of(spec, steps=3)
    run(pairs, tmp_path, options)
    from fusecli.checkpoint import untrained

    before, after = untrained(spec, {}).state_dict(), load_file(tmp_path / "last.safetensors")
    for key, value in before.items():
        assert torch.equal(value, after[key]) == key.startswith("encoder"), key


def test_a_stage_that_trains_nothing_is_refused(pairs, tmp_path):
    stage = dataclasses.replace(STAGE, trains=("encodr",))
    with pytest.raises(UsageError, match="encodr"):
        run(pairs, tmp_path, options_of(spec_of(stage)))


class Critic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 3)

    def forward(self, image):
        return self.layer(image)


def adversarial(network, sample, critic):
    assert not any(p.requires_grad for p in critic.parameters())
    return {"pixel": (critic(network(sample.ir, sample.vis)) - 1).square().mean()}


def critic_loss(critic, network, sample):
    with torch.no_grad():
        fake = network(sample.ir, sample.vis)
    return (critic(sample.vis) - 1).square().mean() + critic(fake).square().mean()


def test_critic_and_network_learn_in_turn_and_resume(pairs, tmp_path):
    stage = dataclasses.replace(
        STAGE, weights={"pixel": 1.0}, loss=adversarial, critic=Critic, critic_loss=critic_loss
    )
    spec = spec_of(stage, build=Plain)
    run(pairs, tmp_path / "two", options_of(spec, steps=2))
    two = torch.load(tmp_path / "two/last.state.pt", weights_only=True)["learner"]
    run(pairs, tmp_path / "four", options_of(spec, steps=4))
    four = torch.load(tmp_path / "four/last.state.pt", weights_only=True)["learner"]
    assert not torch.equal(two["critic"]["layer.weight"], four["critic"]["layer.weight"])
    assert not torch.equal(two["network"]["last.weight"], four["network"]["last.weight"])
    run(pairs, tmp_path / "two", options_of(spec, steps=4), resume=True)
    resumed = torch.load(tmp_path / "two/last.state.pt", weights_only=True)["learner"]
    assert torch.equal(resumed["critic"]["layer.weight"], four["critic"]["layer.weight"])
    assert torch.equal(resumed["network"]["last.weight"], four["network"]["last.weight"])


def broken_after(steps, how):
    calls = 0

    def loss(network, sample):
        nonlocal calls
        calls += network.training
        terms = toy_loss(network, sample)
        if calls > steps:
            if how == "loss":
                terms["pixel"] = terms["pixel"] * math.nan
            else:  # a root at zero: the value is finite, its slope is not
                terms["pixel"] = terms["pixel"] + (0 * network.decoder.weight).square().sum().sqrt()
        return terms

    return loss


@pytest.mark.parametrize("how", ["loss", "gradient"])
def test_training_that_diverges_stops_with_the_last_good_weights(pairs, tmp_path, how):
    run(pairs, tmp_path / "good", options_of(spec_of(), steps=2))
    stage = dataclasses.replace(STAGE, loss=broken_after(2, how))
    with pytest.raises(CheckError, match="at step 3 of stage fuse") as error:
        run(pairs, tmp_path / "bad", options_of(spec_of(stage), steps=6))
    assert error.value.code == "train.nonfinite"
    good = load_file(tmp_path / "good/last.safetensors")
    saved = load_file(tmp_path / "bad/last.safetensors")
    assert saved.keys() == good.keys()
    for key, value in saved.items():
        if "running" not in key and "batches" not in key:  # the forward pass has moved those
            assert torch.equal(value, good[key]), key


def test_accumulated_batches_equal_one_large_one(pairs, tmp_path):
    spec = spec_of(build=Plain)
    run(pairs, tmp_path / "one", options_of(spec, steps=4))
    small = options_of(spec, steps=4, accumulate=2, stages=resolve_stages(spec, batch_size=2))
    run(pairs, tmp_path / "two", small)
    one, two = (load_file(tmp_path / name / "last.safetensors") for name in ("one", "two"))
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-4, atol=1e-6)


def test_gradient_is_clipped_per_top_level_module(pairs, tmp_path):
    spec = spec_of(dataclasses.replace(STAGE, clip_grad=0.01), build=Plain)
    run(pairs, tmp_path, options_of(spec, steps=10))
    state = torch.load(tmp_path / "last.state.pt", weights_only=True)["learner"]["optimizer"]
    # Adam's first moment is a mean of clipped gradients, two of them for each of two modules
    first, last = (
        [state["state"][i]["exp_avg"] for i in (0, 1)],
        [state["state"][i]["exp_avg"] for i in (2, 3)],
    )
    for part in (first, last):
        assert torch.cat([p.flatten() for p in part]).norm() <= 0.01
    assert metrics(tmp_path)[-2]["grad_norm"] > 0.02


def test_options_of_the_recipe_reach_the_loss_but_not_the_network(pairs, tmp_path):
    seen = []

    def loss(network, sample):
        seen.append(sample.options)
        return toy_loss(network, sample)

    option = Option("alpha", 0.25, "of the loss", recipe=True)
    spec = spec_of(dataclasses.replace(STAGE, loss=loss), options=(option,))
    run(pairs, tmp_path, options_of(spec, steps=1))
    assert all(options == {"alpha": 0.25} for options in seen)


def test_bfloat16_learns_and_keeps_float32_weights(pairs, tmp_path):
    runtime = dataclasses.replace(CPU, precision="bf16")
    options = options_of(spec_of(build=Plain), steps=40, eval_every=25, save_every=25)
    run(pairs, tmp_path, options, runtime)
    values = [line["val_loss"] for line in metrics(tmp_path) if "val_loss" in line]
    assert values[-1] < 0.85 * values[0]
    assert {t.dtype for t in load_file(tmp_path / "last.safetensors").values()} == {torch.float32}


def test_structural_terms_do_not_lose_precision_under_autocast():
    generator = torch.Generator().manual_seed(0)
    a, b = (0.6 + 0.05 * torch.rand(2, 1, 32, 32, generator=generator) for _ in range(2))
    wide = losses.ssim_loss(a.bfloat16().float(), b)
    with torch.autocast("cpu", torch.bfloat16):
        narrow = losses.ssim_loss(a.bfloat16(), b)
    torch.testing.assert_close(narrow, wide, rtol=0, atol=1e-6)


def test_deterministic_is_switched_off_again(pairs, tmp_path):
    run(pairs, tmp_path, options_of(spec_of(), steps=1, deterministic=True))
    assert not torch.are_deterministic_algorithms_enabled()


def test_training_leaves_the_global_generator_alone(pairs, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    run(pairs, tmp_path, options_of(spec_of(), steps=2))
    assert torch.equal(torch.rand(1), expected)


def test_without_validation_the_latest_weights_are_the_best(pairs, tmp_path):
    options = options_of(spec_of(), steps=3)
    train(pairs, [], tmp_path, options, CPU, Reporter(quiet=True))
    last, best = (load_file(tmp_path / f"{name}.safetensors") for name in ("last", "best"))
    assert all(torch.equal(last[key], best[key]) for key in last)


def test_sample_fields_of_an_undisplaced_crop(pairs):
    sample = Crops(Pictures(pairs, 16), CropPlan(seed=0, crop=16)).batch([0, 1])
    assert isinstance(sample, Sample)
    assert sample.field is None
    assert sample.ir_true is sample.ir


# --- the command -------------------------------------------------------------------------------

TINY = ["-m", "reconet", "--stage", "fuse",
        "--set", "variant=v1", "--set", "width=4", "--set", "loops=1",
        "--crop", "16", "--batch-size", "2", "--progress", "none"]  # fmt: skip


def folders(pairs):
    return [str(Path(pairs[0].ir).parent), str(Path(pairs[0].vis).parent)]


def test_command_trains_and_resumes(pairs, tmp_path, capsys):
    arguments = ["train", *folders(pairs), "-o", str(tmp_path / "run"), *TINY, "--json"]
    assert cli.run([*arguments, "--steps", "2"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["command"] == "train"
    assert document["counts"]["done"] == 2
    assert [Path(file).exists() for file in document["checkpoints"]] == [True, True]
    assert cli.run([*arguments, "--steps", "3"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "out.exists"
    assert cli.run([*arguments, "--steps", "3", "--resume"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"]["done"] == 1


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        (["--loss", "ssimm=1"], "train.loss"),
        (["--loss", "ssim"], "usage.assignment"),
        (["--loss", "ssim=much"], "train.loss"),
        (["--set", "widht=3"], "usage.set"),
        (["--max-time", "soon"], "train.time"),
        (["--crop", "400"], "train.crop"),
        (["--misalign", "wobbly"], "usage.preset"),
        (["--val-ir", "somewhere"], "usage.arguments"),
        (["--resume", "--overwrite"], "usage.exclusive"),
        (["--log", "paper"], "usage.log"),
        (["--init", "nothing-like-that"], "weights.missing"),
        (["-m", "reconnet"], "model.unknown"),
        (["--limit", "1"], "train.pairs"),
    ],
)
def test_command_refuses(pairs, tmp_path, capsys, flags, code):
    out = tmp_path / "run"
    arguments = ["train", *folders(pairs), "-o", str(out), *TINY, "--steps", "1", "--json", *flags]
    assert cli.run(arguments) == (5 if code.startswith("weights") else 2)
    assert json.loads(capsys.readouterr().out)["error"]["code"] == code
    assert not out.exists()


def test_command_rehearses(pairs, tmp_path, capsys):
    out = tmp_path / "run"
    assert cli.run(["train", *folders(pairs), "-o", str(out), *TINY, "-n", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["dry_run"] is True
    assert document["stages"][0]["crop"] == 16
    assert not out.exists()


def test_two_processes_equal_one(pairs, tmp_path):
    common = [*folders(pairs), *TINY, "--steps", "3", "--device", "cpu", "-j", "1"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[1])
    two = [sys.executable, "-m", "fusecli", "train", *common, "-o", str(tmp_path / "two")]
    done = subprocess.run(
        [*two, "--devices", "2", "--json"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"]["done"] == 3  # one document: only one reports
    assert cli.run(["train", *common, "-o", str(tmp_path / "one"), "-q"]) == 0
    one, both = (load_file(tmp_path / name / "last.safetensors") for name in ("one", "two"))
    for key, value in one.items():
        torch.testing.assert_close(both[key], value, rtol=1e-4, atol=1e-6)
    scores = {
        name: [line["val_loss"] for line in metrics(tmp_path / name) if "val_loss" in line]
        for name in ("one", "two")
    }
    assert scores["two"] == pytest.approx(scores["one"], rel=1e-4)


def test_a_batch_that_processes_cannot_share_is_refused(pairs):
    from fusecli.pipeline.ranks import Ranks

    with pytest.raises(UsageError) as error:
        Ranks(0, 3, torch.device("cpu")).share(4)
    assert error.value.hint == "use --batch-size 6"


def test_tensorboard_that_is_not_installed(pairs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingError, match="tensorboard") as error:
        run(pairs, tmp_path / "run", options_of(spec_of(), tensorboard=True))
    assert error.value.code == "extra.missing"
    assert not (tmp_path / "run").exists()
