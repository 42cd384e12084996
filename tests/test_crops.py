"""Training crops: who is held back, what is cut, turned and displaced, and what is refused."""

import dataclasses

import numpy as np
import pytest
import torch
from trainees import (
    options_of,
    run,
    spec_of,
    write,
    write_pairs,
)

from fusecli.errors import InputError, UsageError
from fusecli.models import Sample
from fusecli.ops.resample import resample
from fusecli.pairs import Pair
from fusecli.training.crops import CropPlan, Crops, Pictures, ahead, split


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("pairs"))


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
    torch.testing.assert_close(resample(sample.vis, sample.field)[inner], sample.vis_true[inner])
    back = resample(sample.ir, -sample.field)
    torch.testing.assert_close(back[inner], sample.ir_true[inner])


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


def test_sample_fields_of_an_undisplaced_crop(pairs):
    sample = Crops(Pictures(pairs, 16), CropPlan(seed=0, crop=16)).batch([0, 1])
    assert isinstance(sample, Sample)
    assert sample.field is None
    assert sample.ir_true is sample.ir
