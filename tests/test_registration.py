"""Registration of images that share outlines but not brightness, and refusal of all others."""

import cv2
import numpy as np
import pytest
import torch
from outlines import SIZE, distance, moved, scene

from fusecli.fields import (
    corners,
    grid_scaling,
    homography,
    invert,
    linear,
    matrix_field,
    transform_points,
    translation,
)
from fusecli.ops.resample import resample
from fusecli.registration import classical
from fusecli.registration import judge as score
from fusecli.registration.candidates import Guess
from fusecli.registration.estimate import estimate
from fusecli.registration.refine import fit
from fusecli.warps import recipe
from fusecli.warps.drawing import draw_warp, seeded

CENTRE = (127.5, 95.5)
TRUTHS = {
    "translation": translation(9, -6),
    "euclidean": linear(CENTRE, shift=(4, 7), rotate=5),
    "similarity": linear(CENTRE, shift=(-8, 3), rotate=-4, scale=1.06),
    "affine": linear(CENTRE, shift=(6, 5), rotate=3, scale=0.96, shear=2),
    "homography": homography(corners(SIZE), corners(SIZE) + [[6, 3], [-4, 5], [3, -6], [7, 4]]),
}


@pytest.mark.parametrize("shape", TRUTHS)
def test_each_family_of_matrices_is_found(shape):
    visible, infrared = scene(1)
    found = estimate(visible, moved(infrared, TRUTHS[shape]), transform=shape)
    assert found.accepted and found.shape == shape
    assert found.after > found.before
    assert distance(found.matrix, TRUTHS[shape]) < 0.6


def test_a_pure_shift_is_found_within_a_fifth_of_a_pixel():
    visible, infrared = scene(2)
    found = estimate(visible, moved(infrared, translation(13, 11)), transform="translation")
    np.testing.assert_allclose(found.matrix, translation(13, 11), atol=0.2)


def test_reversed_contrast_does_not_matter():
    visible, infrared = scene(3)
    there = moved(infrared, TRUTHS["affine"])
    one, other = (estimate(visible, image, transform="affine") for image in (there, 255 - there))
    np.testing.assert_allclose(one.matrix, other.matrix, atol=1e-3)


def test_the_value_range_does_not_matter():
    visible, infrared = scene(3)
    there = moved(infrared, TRUTHS["affine"])
    plain = estimate(visible, there, transform="affine")
    kelvin = estimate(visible * 257, 270 + there / 10, transform="affine")
    assert distance(plain.matrix, kelvin.matrix) < 0.05


def test_sizes_and_resolutions_may_differ():
    visible, infrared = scene(4, (384, 512))
    small = cv2.resize(moved(infrared, linear((255, 191), shift=(10, -7), rotate=2)), (256, 192),
                       interpolation=cv2.INTER_AREA)  # fmt: skip
    truth = grid_scaling((384, 512), (192, 256)) @ linear((255, 191), shift=(10, -7), rotate=2)
    found = estimate(visible, small, transform="similarity")
    assert found.accepted
    assert distance(found.matrix, truth, (384, 512)) < 0.5


def test_a_camera_with_a_narrower_view_is_found():
    visible, infrared = scene(5, (300, 400))
    narrow = infrared[60:240, 90:330]  # 180 x 240: proportions kept, scale 1 instead of 0.6
    found = estimate(visible, np.ascontiguousarray(narrow), transform="similarity")
    assert found.accepted
    assert distance(found.matrix, translation(-90, -60), (300, 400)) < 1.5


def test_the_dense_stage_follows_an_elastic_warp():
    visible, infrared = scene(6)
    elastic = recipe("medium", "elastic", {"elastic_alpha": 6, "elastic_sigma": 24})
    warp = draw_warp(elastic, SIZE, seeded(0, "a"), exact=True)
    there = resample(torch.from_numpy(infrared)[None, None], warp.backward, "cubic", "replicate")
    truth = warp.forward[0].permute(1, 2, 0).numpy()

    def error(field: np.ndarray) -> float:
        return float(np.linalg.norm(field - truth, axis=2)[12:-12, 12:-12].mean())

    found = estimate(visible, there[0, 0].numpy())
    assert found.shape == "dense"  # verified to be better
    flat = matrix_field(found.matrix, SIZE)[0].permute(1, 2, 0).numpy()
    assert error(found.field) < 0.6 * error(flat)
    assert error(found.field) < 1.0


def test_registration_is_deterministic():
    visible, infrared = scene(7)
    first, second = (estimate(visible, moved(infrared, TRUTHS["affine"])) for _ in range(2))
    assert np.array_equal(first.matrix, second.matrix)
    assert first.confidence == second.confidence


def test_there_and_back_agree():
    visible, infrared = scene(8)
    there = moved(infrared, TRUTHS["affine"])
    forth = estimate(visible, there, transform="affine").matrix
    back = estimate(there, visible, transform="affine").matrix
    assert distance(forth @ back, np.eye(3)) < 0.7


def test_images_that_lie_right_stay_where_they_are():
    visible, infrared = scene(9)
    found = estimate(visible, infrared)
    assert found.accepted
    field = found.field if found.field is not None else 0
    assert distance(found.matrix, np.eye(3)) < 0.3
    assert np.abs(field).mean() < 0.3


@pytest.mark.parametrize("method", ["ecc", "mi", "phase", "feature"])
def test_the_other_methods_find_a_small_shift(method):
    visible, infrared = scene(10)
    shape = "translation" if method == "phase" else "affine"
    found = estimate(visible, moved(infrared, translation(3, 2)), method=method, transform=shape)
    assert found.method == method
    assert found.accepted
    assert distance(found.matrix, translation(3, 2)) < 1.5


def test_flow_follows_a_small_shift():
    visible, infrared = scene(11)
    field = classical.flow(visible, moved(infrared, translation(2, 1)), np.eye(3))
    middle = np.median(field[40:-40, 40:-40].reshape(-1, 2), axis=0)
    np.testing.assert_allclose(middle, [2, 1], atol=0.7)


@pytest.mark.parametrize(
    ("fixed", "moving", "why"),
    [
        (np.full(SIZE, 7, np.float32), scene()[1], "flat"),
        (scene()[0], np.zeros(SIZE, np.float32), "flat"),
        (scene()[0][:20, :20], scene()[1][:20, :20], "too small"),
        (scene()[0], scene(99)[1], "do not agree"),
        (np.random.default_rng(0).normal(size=SIZE).astype(np.float32), scene()[1], "do not agree"),
        (scene()[0][:, :100].copy(), scene()[1][:, 156:].copy(), "do not agree"),
    ],
    ids=["flat fixed", "flat moving", "tiny", "other scene", "noise", "no overlap"],
)
def test_what_cannot_be_registered_is_refused(fixed, moving, why):
    refused = estimate(fixed, moving)
    assert not refused.accepted
    assert why in refused.refusal
    np.testing.assert_allclose(refused.matrix, grid_scaling(fixed.shape, moving.shape))
    assert refused.field is None


def test_a_gain_that_is_asked_for_must_be_there():
    visible, infrared = scene(12)
    there = moved(infrared, translation(5, 5))
    assert estimate(visible, there, min_gain=0.01).accepted
    refused = estimate(visible, there, min_gain=0.99)
    assert "rises by" in refused.refusal


def test_the_judge_prefers_the_truth_to_every_neighbour():
    visible, infrared = scene(13)
    described = score.self_similarity(visible)
    all_there = np.ones(SIZE, np.float32)
    right = score.judge(described, score.self_similarity(infrared), all_there)
    assert right.confidence > 2 * score.CONFIDENT
    shifted = score.self_similarity(np.roll(infrared, 10, 1))
    assert score.judge(described, shifted, all_there).confidence < score.CONFIDENT


@pytest.mark.parametrize("shape", TRUTHS)
def test_exact_correspondences_give_the_exact_matrix(shape):
    y, x = np.mgrid[10:180:20, 10:250:20]
    points = np.stack([x, y], -1).reshape(-1, 2).astype(float)
    shifts = transform_points(TRUTHS[shape], points) - points
    found = fit(shape, points, shifts, np.ones(len(points)))
    assert distance(found, TRUTHS[shape]) < (0.05 if shape == "homography" else 1e-3)


@pytest.mark.realdata
def test_a_real_warped_pair_is_registered_as_its_aligned_original(data_dir):
    """The pair's own misalignment cancels: both results are compared through the truth."""
    folder = data_dir / "misaligned-dev"

    def grey(kind: str) -> np.ndarray:
        path = next((folder / kind).glob("roadscene_040.*"))
        return cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_GRAYSCALE).astype(np.float32)

    flow = np.load(folder / "flow" / "roadscene_040.npz")["flow"]
    truth = invert(torch.from_numpy(flow).permute(2, 0, 1)[None])
    visible = grey("vi")

    def whole(moving: np.ndarray) -> torch.Tensor:
        found = estimate(visible, moving)
        assert found.accepted
        if found.field is None:
            return matrix_field(found.matrix, visible.shape)
        return torch.from_numpy(found.field).permute(2, 0, 1)[None]

    aligned, warped = whole(grey("ir")), whole(grey("ir_warp"))
    expected = aligned + resample(truth.field, aligned, border="replicate")
    gap = (warped - expected).norm(dim=1)[0, 20:-20, 30:-30]
    start = truth.field.norm(dim=1)[0, 20:-20, 30:-30]
    assert start.mean() > 12
    assert gap.mean() < 2.0


def test_auto_goes_on_where_the_search_finds_nothing(monkeypatch):
    visible, infrared = scene(1)
    there = moved(infrared, translation(3, 2))
    astray = translation(40, 0)
    lost = [Guess(astray, None, "affine", "ngf")]
    monkeypatch.setattr("fusecli.registration.candidates._searched", lambda *_: iter(lost))
    assert not estimate(visible, there, method="ngf").accepted
    found = estimate(visible, there)
    assert (found.accepted, found.method) == (True, "ecc")
    assert distance(found.matrix, translation(3, 2)) < 1
