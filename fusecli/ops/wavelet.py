"""One level of the discrete Meyer wavelet transform."""

import torch
from torch import Tensor

from fusecli.ops.filters import outside

# Right half of the symmetric low-pass filter, from its middle outwards: the finite approximation of
# Meyer's wavelet that MATLAB and PyWavelets call `dmey`.
_HALF = (
    0.7445855923188063, 0.44459300275757724, -0.035087555656258346, -0.13284520043622938,
    0.030655091960824263, 0.0637390243228016, -0.024348745906078023, -0.03213079399021176,
    0.017423434103729693, 0.015270015130934803, -0.011061496392513451, -0.006387718318497156,
    0.006045814097323304, 0.002202534100911002, -0.002704672124643725, -0.0006011502343516092,
    6.554305930575149e-05, -1.6312699734552807e-05, 3.20544191334478e-06, 7.367572885903746e-07,
    -1.489549216497156e-06, 1.1307947017916706e-06, -5.506340565252278e-07, 1.1783004497663934e-07,
    8.200680650386481e-08, -1.0866516536735883e-07, 6.066975741351135e-08, -1.0798819539621958e-08,
    -1.111944952595278e-08, 8.519459636796214e-09, -1.009999956941423e-12,
)  # fmt: skip
_LOW = (0.0, *_HALF[:0:-1], *_HALF)
_HIGH = tuple(-tap if i % 2 == 0 else tap for i, tap in enumerate((*_LOW[1:], 0.0)))


def dmey(image: Tensor) -> Tensor:
    """Return one level of the transform, mirrored at the border with the edge pixel repeated.

    Args:
        image: (..., H, W).

    Returns:
        (..., 2 * ((H + 61) // 2), 2 * ((W + 61) // 2)): approximation and horizontal details above,
        vertical and diagonal details below, as MATLAB's `[cA cH; cV cD]`.
    """
    low, high = _decimated(image.mT, _LOW).mT, _decimated(image.mT, _HIGH).mT
    quarters = [_decimated(half, taps) for taps in (_LOW, _HIGH) for half in (low, high)]
    return torch.cat((torch.cat(quarters[:2], -1), torch.cat(quarters[2:], -1)), -2)


def _decimated(rows: Tensor, taps: tuple[float, ...]) -> Tensor:
    """Return every second term of the convolution with the mirrored rows, from the second on.

    Products are added in the order of PyWavelets' program, without fused multiply-add: FMI
    stretches 3 x 3 coefficients to 0..1, and where they hardly differ the last bits decide.
    """
    width, count = rows.shape[-1], len(taps)
    padded = rows[..., outside(width, count - 1, "symmetric", rows.device)]
    inside = width // 2  # terms that read nothing right of the image: its taps run from the first
    total = rows.new_zeros(*rows.shape[:-1], (width + count - 1) // 2)
    parts = padded[..., ::2].contiguous(), padded[..., 1::2].contiguous()
    for tap in range(count):
        first, odd = divmod(count - tap, 2)  # what this tap meets in the first term
        total[..., :inside] += taps[tap] * parts[odd][..., first : first + inside]
    # Beyond, the taps that meet the mirror image come first, from the last of them down.
    weights = torch.tensor(taps, dtype=rows.dtype, device=rows.device)
    last = torch.arange(2 * inside + 1, width + count - 1, 2, device=rows.device)
    mirrored = last - width + 1  # taps of each term that meet the mirror image
    for step in range(count):
        nth = torch.where(step < mirrored, mirrored - 1 - step, step)
        total[..., inside:] += weights[nth] * padded[..., last - nth + count - 1]
    return total
