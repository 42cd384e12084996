"""Geometry against closed forms and against SciPy, an independent library."""

import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage

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
