"""Random misalignments: seeded, bounded by their magnitudes, and with a truth that is true."""

import numpy as np
import pytest
import torch

from fusecli.errors import UsageError
from fusecli.fields import compose, folds
from fusecli.ops.resample import resample
from fusecli.warps import KINDS, PRESETS, recipe
from fusecli.warps.drawing import draw, draw_warp, seeded

SIZE = (97, 130)


def smooth_picture() -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(97.0), torch.arange(130.0), indexing="ij")
    return (torch.sin(x / 9) * torch.cos(y / 7) + torch.sin((x + 2 * y) / 15))[None, None]


@pytest.mark.parametrize("kind", KINDS)
def test_the_truth_restores_the_clean_image(kind):
    warp = draw_warp(recipe("medium", kind), SIZE, seeded(1, "a"))
    clean = smooth_picture()
    warped = resample(clean, warp.backward, "cubic", "reflect")
    restored = resample(warped, warp.forward, "cubic", "reflect")
    inner = (..., slice(30, -30), slice(30, -30))
    assert (warped - clean)[inner].abs().mean() > 0.05
    assert (restored - clean)[inner].abs().max() < 0.02


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_draw_invertible_warps(preset):
    warp = draw_warp(recipe(preset, "mixed"), SIZE, seeded(3, preset))
    assert folds(warp.backward).item() == 0
    there_and_back = compose(warp.forward, warp.backward).norm(dim=1, keepdim=True)
    assert there_and_back[warp.valid].max() < 0.05
    assert warp.valid.float().mean() > 0.4


def test_the_draw_depends_on_seed_key_and_variant_only():
    def field(*identity):
        return draw_warp(recipe("medium", "mixed"), SIZE, seeded(*identity)).backward

    same = field(7, "set/0001", 2)
    assert torch.equal(same, field(7, "set/0001", 2))
    for other in [(8, "set/0001", 2), (7, "set/0002", 2), (7, "set/0001", 3)]:
        assert not torch.equal(same, field(*other))


def test_exact_magnitudes_are_taken_as_they_are():
    exact = recipe("medium", "shift", {"shift": 5})
    warp = draw_warp(exact, SIZE, seeded(0, "a"), exact=True)
    assert warp.parameters["shift_x"] == warp.parameters["shift_y"] == 5
    # an object moves right and down by 5, so its place in the warped image is at +5
    torch.testing.assert_close(warp.forward, torch.full_like(warp.forward, 5))


def test_the_elastic_part_reaches_its_exact_amplitude():
    exact = recipe("medium", "elastic", {"elastic_alpha": 3, "elastic_sigma": 20})
    warp = draw_warp(exact, SIZE, seeded(0, "a"), exact=True)
    assert warp.backward.norm(dim=1).max().item() == pytest.approx(3, abs=1e-3)
    assert warp.matrix is None


def test_magnitudes_bound_what_is_drawn():
    drawn = [
        draw_warp(recipe("severe", "perspective"), (20, 30), seeded(0, str(i))).parameters
        for i in range(40)
    ]
    shifts = np.array([d["shift_x"] for d in drawn])
    assert np.abs(shifts).max() <= 16 < 2 * np.abs(shifts).max()
    assert (shifts > 0).any() and (shifts < 0).any()
    assert max(abs(d["corner_tl_x"]) for d in drawn) <= 0.04 * 30


def test_reconet_corners_move_inward_by_up_to_half_the_distortion():
    drawn = [
        draw_warp(recipe("reconet-hard", "perspective"), (100, 200), seeded(0, str(i))).parameters
        for i in range(30)
    ]
    left = np.array([d["corner_tl_x"] for d in drawn])
    assert left.min() >= 0 and 20 < left.max() <= 40
    assert max(d["corner_br_y"] for d in drawn) <= 0
    assert all(d["rotate"] == 0 for d in drawn)


def test_reconet_noise_grows_from_easy_to_hard():
    def size_of(preset):
        warps = [draw_warp(recipe(preset, "elastic"), SIZE, seeded(0, str(i))) for i in range(4)]
        return np.mean([warp.backward.norm(dim=1).mean() for warp in warps])

    assert size_of("reconet-easy") < size_of("reconet-normal") < size_of("reconet-hard")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("huge",), "usage.preset"),
        (("medium", "twist"), "usage.kind"),
        (("reconet-easy", "shift"), "usage.kind"),
        (("medium", "shift", {"rotate": 3.0}), "usage.magnitude"),
        (("medium", "mixed", {"perspective": 0.1}), "usage.magnitude"),
        (("medium", "elastic", {"elastic_sigma": 0.0}), "usage.magnitude"),
    ],
)
def test_nonsense_is_refused(arguments, code):
    with pytest.raises(UsageError) as refused:
        recipe(*arguments)
    assert refused.value.code == code


def test_an_elastic_warp_that_must_fold_is_refused():
    with pytest.raises(UsageError, match="without folds"):
        draw_warp(
            recipe("medium", "elastic", {"elastic_alpha": 60, "elastic_sigma": 2}),
            SIZE,
            seeded(0, "a"),
            exact=True,
        )


def test_training_draws_one_field_per_crop():
    fields = draw("medium:mixed", (3, 40, 50), torch.Generator().manual_seed(1))
    assert fields.shape == (3, 2, 40, 50)
    assert not torch.equal(fields[0], fields[1])
    again = draw("medium:mixed", (3, 40, 50), torch.Generator().manual_seed(1))
    assert torch.equal(fields, again)


@pytest.mark.parametrize("size", [(1, 1), (1, 8), (5, 7)])
def test_tiny_images_can_be_warped(size):
    warp = draw_warp(recipe("mild", "mixed"), size, seeded(0, "a"))
    assert torch.isfinite(warp.backward).all()
