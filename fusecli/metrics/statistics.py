"""Metrics on pixel values alone: SD, CC, SCD, MSE, RMSE and PSNR."""

import math
from functools import partial

from torch import Tensor

from fusecli.metrics import metric
from fusecli.metrics.scene import Plane, mean, once, total
from fusecli.ops.filters import box, correlate


@once
def centred(plane: Plane) -> Tensor:
    """Return each image less its mean."""
    return plane.pixels - plane.pixels.mean((-2, -1), keepdim=True)


@once
def squared_error(plane: Plane, other: Plane) -> Tensor:
    """Return the mean squared difference, (B, C)."""
    return mean((plane.pixels - other.pixels).square())


def pearson(first: Tensor, second: Tensor) -> Tensor:
    """Return the correlation of images that are already centred; 0/0 where one is constant."""
    return total(first * second) / (total(first.square()) * total(second.square())).sqrt()


# ---- SD

sd = partial(
    metric,
    label="SD",
    source="Rao, Meas. Sci. Technol. 8, 1997",
    range=(0, 127.5),
)


@sd("sd:gray", about="standard deviation of the grey levels", plain=True)
@sd("sd:vifb", about="sd:gray on each channel, called variance there", colour=True)
def standard_deviation(fused: Plane) -> Tensor:
    """Return the standard deviation (SD) in grey levels, population form."""
    return mean(centred(fused).square()).sqrt()


@sd("sd:rfnnest", about="sd:gray / 255 times the root of the number of pixels", range=(0, math.inf))
def standard_deviation_undivided(fused: Plane) -> Tensor:
    """Return SD without the division by the number of pixels: it grows with the image."""
    return total(centred(fused).square()).sqrt() / 255


# ---- CC and SCD

cc = partial(metric, label="CC", source="Deshmukh and Bhosale, Int. J. Image Process. 4, 2010")


@cc("cc:mean", about="mean correlation with the two sources", range=(-1, 1), plain=True)
@cc("cc:linfeng", about="cc:mean; the toolbox's slip in it cancels", range=(-1, 1))
def correlation(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return the mean of the two Pearson correlations (CC)."""
    a, b = (pearson(centred(source), centred(fused)) for source in (ir, vis))
    return (a + b) / 2


@metric(
    "scd:sum",
    label="SCD",
    about="correlation of each source with what the fused image adds to the other, added",
    source="Aslantas and Bendes, AEU Int. J. Electron. Commun. 69, 2015",
    range=(-2, 2),
)
def correlation_of_differences(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return r(F - B, A) + r(F - A, B); 0/0 where the fused image is one of the sources."""

    def term(source: Plane, other: Plane) -> Tensor:
        added = Plane(fused.pixels - other.pixels)
        return pearson(centred(added), centred(source))

    return term(ir, vis) + term(vis, ir)


# ---- MSE, RMSE, PSNR

mse = partial(metric, label="MSE", source="Wang and Bovik, IEEE Signal Process. Mag. 26, 2009",
              direction="lower")  # fmt: skip
rmse = partial(metric, label="RMSE", source="Jagalingam and Hegde, Aquat. Procedia 4, 2015",
               direction="lower")  # fmt: skip
psnr = partial(metric, label="PSNR", source="Jagalingam and Hegde, Aquat. Procedia 4, 2015")


@mse("mse:gray", about="mean squared error to the two sources", range=(0, 65025), plain=True)
def mean_squared_error(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return the mean of both squared errors (MSE), in squared grey levels."""
    return (squared_error(fused, ir) + squared_error(fused, vis)) / 2


@mse("mse:unit", about="mse:gray on the scale 0..1", range=(0, 1))
def mean_squared_error_unit(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return MSE of values divided by 255."""
    return mean_squared_error(ir, vis, fused) / 255**2


@rmse("rmse:sqrt_mse", about="root of mse:gray", range=(0, 255), plain=True)
def root_mean_squared_error(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return the root of MSE (RMSE), in grey levels."""
    return mean_squared_error(ir, vis, fused).sqrt()


@rmse("rmse:mean", about="mean of the two root mean squared errors", range=(0, 255))
def mean_of_roots(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return the mean of both root mean squared errors, in grey levels."""
    return (squared_error(fused, ir).sqrt() + squared_error(fused, vis).sqrt()) / 2


@rmse("rmse:vifb_gray", about="rmse:mean over the root of the number of pixels", range=(0, 255))
@rmse("rmse:vifb", about="rmse:vifb_gray on each channel", range=(0, 255), colour=True)
def root_mean_squared_error_vifb(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return RMSE as VIFB has it: the root of the *sum* of squares, over the number of pixels."""
    return mean_of_roots(ir, vis, fused) / math.sqrt(math.prod(fused.size))


@psnr("psnr:std", about="10 log10(255^2 / mse:gray), dB", range=(0, math.inf), plain=True)
def peak_signal_to_noise(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return PSNR in dB with peak 255; infinite where all three images are equal."""
    return 10 * (255**2 / mean_squared_error(ir, vis, fused)).log10()


@psnr("psnr:maxf", about="psnr:std with the largest fused value as peak (CDDFuse, SMFNet)")
def peak_signal_to_noise_own_peak(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return PSNR in dB whose peak is the largest value of the fused image."""
    peak = fused.pixels.amax((-2, -1))
    return 10 * (peak.square() / mean_squared_error(ir, vis, fused)).log10()


@psnr("psnr:linfeng", about="psnr:std plus 48.13 dB: peak 255 with errors on 0..1")
def peak_signal_to_noise_mixed(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return PSNR in dB with the peak on 0..255 and the errors on 0..1."""
    return 20 * (255 / mean_squared_error_unit(ir, vis, fused).sqrt()).log10()


@psnr("psnr:vifb_gray", about="20 log10(255 / root of rmse:vifb_gray), dB")
@psnr("psnr:vifb", about="psnr:vifb_gray on each channel, dB", colour=True)
def peak_signal_to_noise_vifb(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return PSNR as VIFB has it, which takes its RMSE for the mean squared error."""
    return 20 * (255 / root_mean_squared_error_vifb(ir, vis, fused).sqrt()).log10()


# ---- of the sources alone: is the pair aligned?

ncc = partial(metric, label="NCC(A,B)")


@ncc(
    "ncc:global",
    about="correlation of the two sources",
    source="Lewis, Vision Interface 1995",
    range=(-1, 1),
    plain=True,
)
def correlation_of_sources(ir: Plane, vis: Plane) -> Tensor:
    """Return the Pearson correlation of the sources."""
    return pearson(centred(ir), centred(vis))


@ncc(
    "ncc:local",
    about="mean squared correlation of the two sources in 9 x 9 windows",
    source="Balakrishnan et al. (VoxelMorph), IEEE Trans. Med. Imaging 38, 2019",
    range=(0, 1),
    min_size=9,
)
def local_correlation_of_sources(ir: Plane, vis: Plane) -> Tensor:
    """Return the mean of the squared correlations in windows that lie inside the image.

    On the scale 0..1, with 1e-5 added below the fraction, so that flat windows count as 0.
    """
    a, b = ir.pixels / 255, vis.pixels / 255
    window = box(9)
    m_a, m_b = correlate(a, window), correlate(b, window)
    count = 81  # the method's sums over a window, not means
    var_a = count * (correlate(a * a, window) - m_a.square()).clamp_(min=0)
    var_b = count * (correlate(b * b, window) - m_b.square()).clamp_(min=0)
    covariance = count * (correlate(a * b, window) - m_a * m_b)
    return mean(covariance.square() / (var_a * var_b + 1e-5))


# ---- against ground truth

truth = partial(metric, source="Wang and Bovik, IEEE Signal Process. Mag. 26, 2009")


@truth(
    "mse:reference", label="MSE", about="mean squared error to the ground truth",
    direction="lower", range=(0, 65025),
)  # fmt: skip
def error_to_reference(reference: Plane, fused: Plane) -> Tensor:
    """Return the mean squared error to the ground truth, in squared grey levels."""
    return squared_error(fused, reference)


@truth(
    "psnr:reference", label="PSNR", about="peak signal to noise against the ground truth, dB",
    range=(0, math.inf),
)  # fmt: skip
def peak_signal_to_noise_of_reference(reference: Plane, fused: Plane) -> Tensor:
    """Return PSNR against the ground truth in dB; infinite where they are equal."""
    return 10 * (255**2 / squared_error(fused, reference)).log10()


@truth(
    "cc:reference", label="CC", about="correlation with the ground truth", range=(-1, 1)
)  # fmt: skip
def correlation_with_reference(reference: Plane, fused: Plane) -> Tensor:
    """Return the Pearson correlation with the ground truth."""
    return pearson(centred(fused), centred(reference))
