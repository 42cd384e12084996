"""Geometry against closed forms and against SciPy, an independent library."""

import cv2
import numpy as np
import pytest
import torch
from scipy import interpolate, ndimage

from fusecli.errors import InputError
from fusecli.fields import (
    check_matrix,
    compose,
    corners,
    folds,
    grid_scaling,
    homography,
    inside,
    invert,
    jacobian,
    linear,
    matrix_field,
    transform_points,
    translation,
)
from fusecli.ops.resample import integrate, resample


def picture(height: int, width: int, channels: int = 1, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, channels, height, width, generator=generator)


def constant(dx: float, dy: float, height: int, width: int) -> torch.Tensor:
    return torch.tensor([dx, dy]).view(1, 2, 1, 1).expand(1, 2, height, width).clone()


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (5, 8), (240, 321)])
def test_the_zero_field_changes_nothing(mode, size, device):
    image = picture(*size, channels=3).to(device)
    same = resample(image, torch.zeros(1, 2, *size, device=device), mode)
    torch.testing.assert_close(same, image, atol=2e-4, rtol=0)


def test_one_pixel_along_x_moves_the_content_left_and_leaves_a_zero_column(device):
    image = picture(6, 9).to(device)
    moved = resample(image, constant(1, 0, 6, 9).to(device))
    torch.testing.assert_close(moved[..., :-1], image[..., 1:], atol=1e-5, rtol=0)
    assert moved[..., -1].abs().max() < 1e-5


def test_one_pixel_along_y_moves_the_content_up():
    image = picture(6, 9)
    moved = resample(image, constant(0, 1, 6, 9))
    torch.testing.assert_close(moved[..., :-1, :], image[..., 1:, :], atol=1e-5, rtol=0)


def test_a_one_pixel_image_has_an_outside():
    moved = resample(torch.ones(1, 1, 1, 1), constant(1, 0, 1, 1), fill=0.25)
    assert moved.item() == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("border", "scipy_mode"),
    [("zeros", "grid-constant"), ("replicate", "nearest"), ("reflect", "reflect")],
)
@pytest.mark.parametrize(("mode", "order"), [("linear", 1), ("nearest", 0)])
def test_sampling_agrees_with_scipy(mode, order, border, scipy_mode, device):
    image = picture(23, 31).double()
    generator = torch.Generator().manual_seed(1)
    # beyond the border too; never half way between two pixels, where the tie is a matter of taste
    field = (torch.rand(1, 2, 19, 27, generator=generator).double() - 0.5) * 30
    y, x = np.mgrid[0:19, 0:27]
    places = np.stack([y + field[0, 1].numpy(), x + field[0, 0].numpy()])
    expected = ndimage.map_coordinates(
        image[0, 0].numpy(), places, order=order, mode=scipy_mode, cval=0.5
    )
    actual = resample(image.to(device), field.to(device), mode, border, fill=0.5)
    np.testing.assert_allclose(actual[0, 0].cpu().numpy(), expected, atol=1e-9)


def test_cubic_sampling_agrees_with_opencv():
    image = picture(23, 31)
    generator = torch.Generator().manual_seed(1)
    # OpenCV rounds positions to 1/32 pixel, so ask for such positions
    field = torch.randint(-160, 160, (1, 2, 23, 31), generator=generator) / 32
    y, x = np.mgrid[0:23, 0:31].astype(np.float32)
    expected = cv2.remap(
        image[0, 0].numpy(),
        x + field[0, 0].numpy(),
        y + field[0, 1].numpy(),
        cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_CONSTANT,
    )
    np.testing.assert_allclose(resample(image, field, "cubic")[0, 0].numpy(), expected, atol=1e-4)


def test_half_precision_images_are_read_at_exact_places():
    ramp = torch.arange(1024.0).div(1024).expand(1, 1, 4, 1024)
    moved = resample(ramp.to(torch.bfloat16), constant(0, 0, 4, 1024))
    torch.testing.assert_close(moved, ramp.to(torch.bfloat16))


def test_the_gradient_is_right():
    image = picture(5, 6).double().requires_grad_()
    field = (torch.rand(1, 2, 5, 6, dtype=torch.double) * 1.7 + 0.1).requires_grad_()
    assert torch.autograd.gradcheck(lambda i, f: resample(i, f, border="replicate"), (image, field))


def test_one_field_serves_a_batch():
    images = torch.cat([picture(8, 9), picture(8, 9, seed=3)])
    field = constant(0.5, -1.5, 8, 9)
    together = resample(images, field)
    torch.testing.assert_close(together[1:], resample(images[1:], field))


def test_integration_of_a_rotation_is_the_rotation():
    height, width, angle = 65, 65, 0.3
    y, x = torch.meshgrid(torch.arange(65.0) - 32, torch.arange(65.0) - 32, indexing="ij")
    velocity = angle * torch.stack((-y, x))[None]
    cosine, sine = np.cos(angle), np.sin(angle)
    expected = torch.stack((cosine * x - sine * y - x, sine * x + cosine * y - y))[None]
    inside = (x**2 + y**2 < 25**2).expand(1, 2, height, width)
    displacement = integrate(velocity, steps=7)
    # a first step of angle / 128 leaves a relative error of angle**2 / 256 in the radius
    torch.testing.assert_close(displacement[inside], expected[inside], atol=0.02, rtol=0)


def test_no_steps_take_the_velocity_for_the_displacement():
    velocity = torch.rand(1, 2, 4, 4)
    torch.testing.assert_close(integrate(velocity, steps=0), velocity)


def bump(height: int, width: int, amplitude: float, sigma: float = 16, seed: int = 5):
    """A smooth random field of the given largest displacement."""
    generator = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(generator.uniform(-1, 1, (2, height, width)), (0, sigma, sigma))
    noise *= amplitude / np.hypot(*noise).max()
    return torch.from_numpy(noise)[None].float()


TURN = linear((40, 30), shift=(5, -3), rotate=12, scale=1.1, shear=4)
KEYSTONE = homography(corners((61, 81)), corners((61, 81)) + [[4, 3], [-5, 2], [1, -6], [2, 2]])


def test_a_homography_takes_corners_where_it_was_told():
    target = corners((61, 81)) + [[4, 3], [-5, 2], [1, -6], [2, 2]]
    np.testing.assert_allclose(transform_points(KEYSTONE, corners((61, 81))), target, atol=1e-9)


def test_the_field_of_a_matrix_agrees_with_opencv():
    image = picture(61, 81)
    expected = cv2.warpPerspective(
        image[0, 0].numpy(), KEYSTONE, (81, 61), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
    actual = resample(image, matrix_field(KEYSTONE, (61, 81)))[0, 0].numpy()
    # OpenCV rounds positions to 1/32 pixel
    assert np.abs(actual - expected).mean() < 0.01


def test_the_inverse_of_an_affine_field_is_the_inverse_matrix():
    inverse = invert(matrix_field(TURN, (61, 81)).double())
    expected = matrix_field(np.linalg.inv(TURN), (61, 81)).double()
    torch.testing.assert_close(inverse.field, expected, atol=1e-6, rtol=0)
    assert 0.5 < inverse.valid.float().mean() < 1


@pytest.mark.parametrize("field", [matrix_field(KEYSTONE, (61, 81)), bump(61, 81, 6)])
def test_there_and_back_is_within_a_twentieth_of_a_pixel(field, device):
    field = field.to(device)
    inverse = invert(field)
    assert inverse.error < 0.05
    assert inverse.valid.float().mean() > 0.7
    forth = compose(inverse.field, field).norm(dim=1, keepdim=True)
    back = compose(field, inverse.field).norm(dim=1, keepdim=True)
    assert forth[inverse.valid].max() < 0.05
    # the inverse is itself sampled on a grid, so reading it between pixels costs a little
    assert back[..., 12:-12, 12:-12].max() < 0.05


def test_the_inverse_agrees_with_scattered_interpolation():
    field = compose(matrix_field(TURN, (61, 81)), bump(61, 81, 5))
    inverse = invert(field)
    y, x = np.mgrid[0:61, 0:81]
    lands = np.stack([x + field[0, 0].numpy(), y + field[0, 1].numpy()], -1).reshape(-1, 2)
    home = np.stack([x, y], -1).reshape(-1, 2).astype(float)
    expected = interpolate.griddata(lands, home, np.stack([x, y], -1).astype(float))
    expected = expected.transpose(2, 0, 1) - np.stack([x, y])
    inner = inverse.valid[0, 0].numpy() & np.isfinite(expected).all(0)
    inner[:3], inner[-3:], inner[:, :3], inner[:, -3:] = False, False, False, False
    assert inner.mean() > 0.4
    assert np.abs(inverse.field[0].numpy() - expected)[:, inner].max() < 0.05


def test_the_inverse_lives_on_the_other_grid():
    scaling = grid_scaling((30, 40), (61, 81))
    field = matrix_field(scaling, (30, 40))
    inverse = invert(field, (61, 81))
    assert inverse.field.shape == (1, 2, 61, 81)
    expected = matrix_field(np.linalg.inv(scaling), (61, 81))
    torch.testing.assert_close(inverse.field, expected, atol=1e-3, rtol=0)


def test_a_fold_is_found_and_never_inverted():
    field = bump(61, 81, 60, sigma=6)
    assert folds(field).item() > 0.05
    inverse = invert(field)
    assert inverse.valid.float().mean() < 0.9
    assert inverse.error < 0.05  # what is called valid is valid


@pytest.mark.parametrize("field", [matrix_field(TURN, (61, 81)), bump(61, 81, 3)])
def test_gentle_fields_do_not_fold(field):
    assert folds(field).item() == 0


def test_the_jacobian_of_an_affine_map_is_its_determinant():
    area = jacobian(matrix_field(TURN, (61, 81)).double())
    expected = torch.full_like(area, np.linalg.det(TURN[:2, :2]))
    torch.testing.assert_close(area, expected, atol=1e-5, rtol=0)


def test_composition_of_matrices_is_their_product():
    other = linear((40, 30), shift=(-2, 6), rotate=-20)
    both = compose(matrix_field(TURN, (61, 81)), matrix_field(other, (61, 81)))
    expected = matrix_field(other @ TURN, (61, 81))
    torch.testing.assert_close(both, expected, atol=1e-3, rtol=0)


def test_reading_along_a_composition_equals_reading_twice():
    image = torch.nn.functional.avg_pool2d(picture(80, 80), 9, 1, 4)
    first, second = bump(80, 80, 3), bump(80, 80, 4, seed=9)
    twice = resample(resample(image, second), first)
    once = resample(image, compose(first, second))
    assert (twice - once)[..., 10:-10, 10:-10].abs().max() < 0.02


def test_an_integrated_velocity_is_undone_by_its_negative():
    velocity = bump(80, 80, 8)
    both = compose(integrate(velocity), integrate(-velocity))
    assert both[..., 12:-12, 12:-12].norm(dim=1).max() < 0.05


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1)])
def test_one_pixel_sides_have_fields_too(size):
    field = matrix_field(translation(1.5, 0.5), size)
    assert torch.isfinite(invert(field).field).all()
    torch.testing.assert_close(invert(field).field, -field)
    assert folds(field).item() == 0


def test_grids_meet_at_their_outer_edges():
    scaling = grid_scaling((10, 20), (30, 60))
    np.testing.assert_allclose(transform_points(scaling, np.array([[-0.5, -0.5], [19.5, 9.5]])),
                               [[-0.5, -0.5], [59.5, 29.5]])  # fmt: skip


@pytest.mark.parametrize(
    "matrix",
    [
        np.eye(2),
        np.zeros((3, 3)),
        np.diag([1, np.nan, 1]),
        np.diag([1.0, 0.0, 1.0]),
        np.array([[1, 0, 0], [0, 1, 0], [-0.1, 0, 1]]),
    ],
)
def test_a_matrix_that_loses_pixels_is_refused(matrix):
    with pytest.raises(InputError) as refused:
        check_matrix(matrix, (20, 30))
    assert refused.value.code == "register.matrix"


def test_inside_marks_what_the_image_holds():
    mask = inside(matrix_field(translation(2, -1), (5, 6)), (5, 6))
    assert mask[0, 0, 1:, :4].all()
    assert mask.sum() == 4 * 4
