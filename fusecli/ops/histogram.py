"""Histograms of grey levels: of each image, and of two images together."""

import torch
from torch import Tensor


def histogram(levels: Tensor, bins: int = 256) -> Tensor:
    """Count the pixels of each level.

    Args:
        levels: (..., H, W) whole numbers in 0..bins-1, of any type.
        bins: Number of levels.

    Returns:
        (..., bins) float64 counts, each row summing to H times W.
    """
    *batch, height, width = levels.shape
    return _count(levels.long().reshape(-1, height * width), bins).reshape(*batch, bins)


def joint_histogram(first: Tensor, second: Tensor, bins: int = 256) -> Tensor:
    """Count the pixels of each pair of levels.

    Args:
        first: (..., H, W) whole numbers in 0..bins-1; the leading sizes may broadcast.
        second: The other image of each pair, likewise.
        bins: Number of levels of either.

    Returns:
        (..., bins, bins) float64 counts; rows are levels of `first`, columns of `second`.
    """
    pairs = first.long() * bins + second.long()
    *batch, height, width = pairs.shape
    counts = _count(pairs.reshape(-1, height * width), bins * bins)
    return counts.reshape(*batch, bins, bins)


def _count(codes: Tensor, bins: int) -> Tensor:
    """Count the codes of each row in one pass: row r uses the codes from r * bins on."""
    rows = codes.shape[0]
    shifts = torch.arange(rows, device=codes.device)[:, None] * bins
    counts = torch.bincount((codes + shifts).flatten(), minlength=rows * bins)
    return counts.reshape(rows, bins).double()
