"""What metrics are made of, against NumPy, SciPy and definitions: windows, borders, transforms."""

import numpy as np
import pytest
import torch
from scipy import fft, ndimage
from torch import Tensor

from fusecli.metrics import Plane, grey_levels
from fusecli.metrics.fmi import cosine_transform, edge_map
from fusecli.metrics.phase import congruency
from fusecli.ops.filters import correlate, gaussian, pad, sobel
from fusecli.ops.histogram import histogram, joint_histogram
from fusecli.ops.wavelet import dmey


def levels(seed: int, *shape: int) -> Tensor:
    """Return whole grey levels."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, generator=draw).double()


def test_grey_levels_round_half_to_even():
    unit = torch.tensor([-0.1, 0.5 / 255, 1.5 / 255, 2.5 / 255, 1.2], dtype=torch.float64)
    assert grey_levels(unit).tolist() == [0, 0, 2, 2, 255]


@pytest.mark.parametrize("border", ["zero", "replicate", "symmetric", "reflect"])
@pytest.mark.parametrize("size", [(9, 12), (4, 3), (2, 1)])
def test_borders_are_those_of_numpy(border, size):
    image = torch.rand(2, 1, *size).double()
    mode = {"zero": "constant", "replicate": "edge"}.get(border, border)
    expected = np.pad(image.numpy(), ((0, 0), (0, 0), (5, 5), (5, 5)), mode)
    assert np.array_equal(pad(image, 5, border).numpy(), expected)


@pytest.mark.parametrize(
    ("border", "mode"),
    [("zero", "constant"), ("replicate", "nearest"), ("symmetric", "reflect"),
     ("reflect", "mirror")],
)  # fmt: skip
def test_windows_are_those_of_scipy(border, mode):
    image = torch.rand(23, 31).double()
    window = np.array(gaussian(11, 1.5))
    expected = ndimage.correlate1d(ndimage.correlate1d(image, window, 0, mode=mode), window, 1,
                                   mode=mode)  # fmt: skip
    full = correlate(image, gaussian(11, 1.5), border)
    np.testing.assert_allclose(full, expected, rtol=1e-14)
    assert torch.equal(correlate(image, gaussian(11, 1.5)), full[5:-5, 5:-5])
    assert torch.equal(correlate(image, gaussian(11, 1.5), border, stride=2), full[::2, ::2])


def test_a_window_larger_than_the_image_fits_nowhere():
    assert correlate(torch.rand(5, 20).double(), gaussian(11, 1.5)).numel() == 0


def test_sobel_is_that_of_scipy():
    image = torch.rand(2, 12, 17).double()
    across, down = sobel(image, "symmetric")
    for i in range(2):
        np.testing.assert_allclose(across[i], ndimage.sobel(image[i], 1), atol=1e-14)
        np.testing.assert_allclose(down[i], ndimage.sobel(image[i], 0), atol=1e-14)


def test_histograms_count_every_pixel():
    first, second = levels(1, 1, 3, 60, 72), levels(2, 1, 1, 60, 72)
    counts = joint_histogram(first, second)
    assert counts.shape == (1, 3, 256, 256)
    expected, *_ = np.histogram2d(
        first[0, 2].flatten().numpy(), second[0, 0].flatten().numpy(), bins=256,
        range=[[-0.5, 255.5]] * 2,
    )  # fmt: skip
    assert np.array_equal(counts[0, 2].numpy(), expected)
    assert torch.equal(counts.sum(-1), histogram(first))


def test_transforms_are_those_of_their_definitions():
    image = levels(1, 1, 1, 45, 38)
    expected = fft.dctn(image[0, 0].numpy(), norm="ortho")
    np.testing.assert_allclose(cosine_transform(Plane(image))[0, 0], expected, atol=1e-9)
    # a constant has next to no details, and the low-pass filter sums to the root of 2 either way
    details = dmey(torch.full((40, 51), 7.0).double())
    assert details.shape == (100, 112)
    np.testing.assert_allclose(details[:50, :56], 14, atol=1e-9)
    assert details[50:].abs().max() < 0.02 and details[:, 56:].abs().max() < 0.02


def test_the_edge_map_is_a_thin_line_on_a_step():
    image = torch.zeros(1, 1, 9, 12).double()
    image[..., 6:] = 100
    image[..., 5] = 40  # makes one side of the step the steeper
    edges = edge_map(Plane(image))[0, 0]
    assert edges.sum(0).nonzero().flatten().tolist() == [5]


def test_phase_congruency_marks_steps_and_not_shades():
    image = torch.zeros(1, 1, 64, 64).double()
    image[..., 20:44, 20:44] = 200
    found = congruency(Plane(image))
    assert found.strength[0, 0, 32, 19:21].max() > 0.5 > 0.1 > found.strength[0, 0, 32, 32]
    corner, side = found.corner[0, 0, 18:23, 18:23].max(), found.corner[0, 0, 30:34, 18:23].max()
    assert corner > 3 * side
