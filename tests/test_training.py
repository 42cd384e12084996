"""The training loop: learning, stopping and going on, stages, critics, precision."""

import dataclasses
import math
import signal
import sys
import tomllib

import cv2
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from trainees import (
    CPU,
    STAGE,
    Plain,
    metrics,
    options_of,
    run,
    spec_of,
    toy_loss,
    write_pairs,
)

from fusecli import losses
from fusecli.errors import CheckError, MissingError, UsageError
from fusecli.models import Option
from fusecli.report import Reporter
from fusecli.training.loop import train
from fusecli.training.recipe import (
    resolve_stages,
)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("pairs"))


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


def test_tensorboard_that_is_not_installed(pairs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingError, match="tensorboard") as error:
        run(pairs, tmp_path / "run", options_of(spec_of(), tensorboard=True))
    assert error.value.code == "extra.missing"
    assert not (tmp_path / "run").exists()
