"""Phase congruency after Kovesi, and Zhao's metric Qp, which compares it.

Edges and corners are where the Fourier components of an image are in phase. Log-Gabor filters of
four scales and six orientations measure it, whatever the contrast.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from fusecli.metrics import metric
from fusecli.metrics.scene import Plane, once, total
from fusecli.ops.filters import correlate, gaussian

WAVELENGTHS = tuple(3 * 2.1**scale for scale in range(4))  # pixels
ORIENTATIONS = 6
BANDWIDTH = 0.55  # of each log-Gabor filter, as sigma over centre frequency
SPREAD = math.pi / ORIENTATIONS / 1.2  # of the angular window, radians
EPS = 1e-4


class Congruency(NamedTuple):
    """Phase congruency at every pixel, and the moments of its distribution over orientations.

    Args:
        strength: 0 where phases disagree, 1 where all agree.
        edge: Largest moment: an edge or a corner.
        corner: Smallest moment: a corner.
    """

    strength: Tensor
    edge: Tensor
    corner: Tensor


def _frequencies(count: int, like: Tensor) -> Tensor:
    """Return the frequencies of an FFT in cycles per pixel; odd counts divide by one less."""
    steps = torch.fft.fftfreq(count, 1 / count, dtype=like.dtype, device=like.device)
    return steps / (count - count % 2)


def _radial_filters(size: tuple[int, int], like: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log-Gabor responses of all scales, (4, H, W), and the angles, (H, W)."""
    height, width = size
    y, x = _frequencies(height, like)[:, None], _frequencies(width, like)
    radius, angle = torch.hypot(x, y), torch.atan2(-y, x)
    radius[0, 0] = 1  # no direction, and a logarithm that exists: its response is 0 anyway
    lowpass = torch.hypot(
        torch.fft.fftfreq(height, dtype=like.dtype, device=like.device)[:, None],
        torch.fft.fftfreq(width, dtype=like.dtype, device=like.device),
    )
    lowpass = 1 / (1 + (lowpass / 0.45) ** 30)
    narrow = 2 * math.log(BANDWIDTH) ** 2
    scales = [torch.exp(-((radius * length).log() ** 2) / narrow) for length in WAVELENGTHS]
    response = torch.stack(scales) * lowpass
    response[:, 0, 0] = 0
    return response, angle


def _median(values: Tensor) -> Tensor:
    """Return the median of the last axis, the mean of the middle two for even counts."""
    count = values.shape[-1]
    low = values.kthvalue((count + 1) // 2, dim=-1).values
    return low if count % 2 else (low + values.kthvalue(count // 2 + 1, dim=-1).values) / 2


def _noise_threshold(smallest: Tensor, filters: Tensor) -> Tensor:
    """Return the energy that noise alone reaches, (B, C, 1, 1).

    Args:
        smallest: (B, C, H, W) amplitudes of the finest scale, whose median measures the noise.
        filters: (4, H, W) responses of one orientation.
    """
    power = -_median(smallest.square().flatten(-2)) / math.log(0.5) / filters[0].square().sum()
    summed = filters.sum(0)
    mirrored = summed.flip(-2, -1).roll((1, 1), (-2, -1))  # the response at negative frequencies
    energy = power * (summed.square().sum() + (summed * mirrored).sum())
    rayleigh = (energy / 2).sqrt()
    above = rayleigh * math.sqrt(math.pi / 2) + 2 * rayleigh * math.sqrt(2 - math.pi / 2)
    return (above / 1.7)[..., None, None]  # Kovesi's factor for this measure


@once
def congruency(plane: Plane) -> Congruency:
    """Return the phase congruency of each image; 0/0 where it is constant."""
    spectrum = torch.fft.fft2(plane.pixels)
    radial, angle = _radial_filters(plane.size, plane.pixels)
    energies, amplitudes, xx, yy, xy = (torch.zeros_like(plane.pixels) for _ in range(5))
    for index in range(ORIENTATIONS):
        direction = index * math.pi / ORIENTATIONS
        away = (angle - direction + math.pi).remainder(2 * math.pi) - math.pi
        filters = radial * torch.exp(-(away**2) / (2 * SPREAD**2))
        responses = torch.fft.ifft2(spectrum[..., None, :, :] * filters)  # (B, C, 4, H, W)
        amplitude = responses.abs()
        summed = responses.sum(-3)
        mean_phase = (summed / (summed.abs() + EPS))[..., None, :, :]
        aligned = responses * mean_phase.conj()
        energy = (aligned.real - aligned.imag.abs()).sum(-3)
        energy = (energy - _noise_threshold(amplitude[..., 0, :, :], filters)).clamp_(min=0)
        whole = amplitude.sum(-3)
        # The fewer scales respond, the less the agreement of their phases means.
        width = whole / (amplitude.amax(-3) + EPS) / len(WAVELENGTHS)
        energy = energy * torch.sigmoid(10 * (width - 0.5))
        energies, amplitudes = energies + energy, amplitudes + whole
        across, up = (energy / whole) * math.cos(direction), (energy / whole) * math.sin(direction)
        xx, yy, xy = xx + across**2, yy + up**2, xy + across * up
    xx, yy, xy = xx / (ORIENTATIONS / 2), yy / (ORIENTATIONS / 2), xy / ORIENTATIONS
    spread = (xy**2 + (xx - yy) ** 2).sqrt() + EPS
    return Congruency(energies / (amplitudes + EPS), (yy + xx + spread) / 2, (yy + xx - spread) / 2)


# ---- Qp

WINDOW = gaussian(11, 1.5)
PRESENT = 0.1  # phase congruency above which a pixel counts as a feature


@once
def _masks(ir: Plane, vis: Plane) -> tuple[Tensor, Tensor, Tensor]:
    """Return where the infrared, the visible and the stronger of both have a feature."""
    a, b = congruency(ir).strength, congruency(vis).strength
    return a > PRESENT, b > PRESENT, torch.where(a > b, a, b) > PRESENT


@once
def _feature_maps(ir: Plane, vis: Plane) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return the masked maps of both sources and of the stronger one, per kind of map."""
    first, second = congruency(ir), congruency(vis)
    ir_wins = first.strength > second.strength
    masks = _masks(ir, vis)
    return [
        (a * masks[0], b * masks[1], torch.where(ir_wins, a, b) * masks[2])
        for a, b in zip(first, second, strict=True)
    ]


def _moments(values: Tensor) -> tuple[Tensor, Tensor]:
    mean = correlate(values, WINDOW, "zero")
    return mean, correlate(values**2, WINDOW, "zero") - mean**2


@metric(
    "qp:liu",
    label="Qp",
    about="local correlation of phase congruency and its moments with the nearest source",
    source="Zhao, Laganiere and Liu, Int. J. Innov. Comput. Inf. Control 3, 2007",
    min_size=11,
)
def phase_preservation(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return Qp; 0/0 where no source has a feature."""
    masks = _masks(ir, vis)
    count = total(masks[2])
    product = torch.ones_like(count, dtype=fused.pixels.dtype)
    for maps, values in zip(_feature_maps(ir, vis), congruency(fused), strict=True):
        m_fused, v_fused = _moments(values)
        best = torch.full_like(values, -torch.inf)
        for source, mask in zip(maps, masks, strict=True):
            m_source, v_source = _moments(source)
            covariance = correlate(source * values, WINDOW, "zero") - m_source * m_fused
            correlation = (covariance + EPS) / ((v_source * v_fused).abs().sqrt() + EPS)
            best = torch.maximum(best, torch.where(mask, correlation, 0.0))
        product = product * total(best) / count
    return product
