"""The seeded draw of a random misalignment and of its truth."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Generator, Tensor

from fusecli.errors import InputError, UsageError
from fusecli.fields import (
    Matrix,
    check_matrix,
    compose,
    corners,
    folds,
    homography,
    invert,
    linear,
    matrix_field,
)
from fusecli.warps import Recipe, preset_file, recipe

_REDRAWS = 50
_DAMPING = 0.8


class Warp(NamedTuple):
    """One drawn misalignment of an image of H x W pixels.

    Args:
        backward: (1, 2, H, W), where the warped image is read from in the clean one.
        forward: (1, 2, H, W), where each clean pixel went: the truth of a registration.
        matrix: `forward` as a homography, or None where no matrix can say it.
        valid: (1, 1, H, W) bool, where `forward` is known to the accuracy of `warping.invert`.
        parameters: What was drawn, for the record.
    """

    backward: Tensor
    forward: Tensor
    matrix: Matrix | None
    valid: Tensor
    parameters: dict[str, float]


def seeded(seed: int, key: str, variant: int = 0) -> Generator:
    """Return the generator of one item, which depends on these three alone."""
    digest = hashlib.sha256(f"{seed}\0{key}\0{variant}".encode("utf-8", "surrogatepass")).digest()
    return Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def draw_warp(what: Recipe, size: Sequence[int], generator: Generator, exact: bool = False) -> Warp:
    """Return a random warp for an image of (H, W) pixels; one that folds is drawn again.

    Args:
        what: Kind and magnitudes.
        size: Height and width.
        generator: Source of all randomness, on the CPU.
        exact: Take the magnitudes as they are instead of drawing up to them. The corners then
            make a keystone (the upper two come closer); the elastic shape stays random.

    Raises:
        UsageError: The magnitudes leave no warp without folds or horizon, in 50 draws.
    """
    backward, matrix, parameters = _draw_backward(what, size, generator, exact)
    if matrix is not None:
        everywhere = torch.ones(1, 1, *size, dtype=torch.bool)
        return Warp(backward, matrix_field(matrix, size), matrix, everywhere, parameters)
    inverse = invert(backward)
    return Warp(backward, inverse.field, None, inverse.valid, parameters)


def draw(name: str, shape: Sequence[int], generator: Generator) -> Tensor:
    """Return random backward fields for training crops, (B, 2, H, W) on the CPU.

    `resample(clean, field)` makes the moving crop and `warping.invert(field).field` leads back.

    Args:
        name: A preset, or `preset:kind`.
        shape: (B, H, W).
        generator: Source of all randomness, on the CPU.

    Raises:
        UsageError: Unknown preset or kind.
    """
    preset, _, kind = name.partition(":")
    what = recipe(preset, kind or None)
    draws = [_draw_backward(what, shape[1:], generator, False) for _ in range(shape[0])]
    return torch.cat([backward for backward, _, _ in draws])


def _draw_backward(
    what: Recipe, size: Sequence[int], generator: Generator, exact: bool
) -> tuple[Tensor, Matrix | None, dict[str, float]]:
    """Return where the warped image is read from, the homography of the scene, the parameters."""
    for attempt in range(_REDRAWS):
        matrix, parameters = _draw_matrix(what, size, generator, exact)
        try:
            matrix = check_matrix(matrix, size)
            back = check_matrix(np.linalg.inv(matrix).astype(float), size)
        except (InputError, np.linalg.LinAlgError):
            continue
        backward = matrix_field(back, size)
        if what.elastic_alpha == 0 and not what.bend:
            return backward, matrix, parameters
        if what.elastic_alpha != 0:
            elastic, alpha = _draw_elastic(what, size, generator, exact)
            if what.elastic_alpha is None and not exact:
                # made for crops of 256 px, the amplitude grows with the image but not its
                # smoothness: a large image would fold in every draw
                elastic, alpha = elastic * _DAMPING**attempt, alpha * _DAMPING**attempt
            backward = compose(backward, elastic)
            parameters |= {"elastic_alpha": alpha, "elastic_sigma": what.elastic_sigma}
        if what.bend:
            backward = compose(backward, preset_file(what.bend).bend(size, generator))
        if folds(backward).item() == 0:
            return backward, None, parameters
    raise UsageError(
        f"no {what.kind} warp without folds in {_REDRAWS} draws for {size[1]}x{size[0]} pixels",
        code="usage.magnitude",
        hint="reduce the magnitudes, or raise --elastic-sigma",
    )


def _draw_matrix(
    what: Recipe, size: Sequence[int], generator: Generator, exact: bool
) -> tuple[Matrix, dict[str, float]]:
    """Return the homography of the scene, clean to warped, and its parameters."""
    height, width = size
    # the same number of draws whatever the kind: a preset's shift does not change with its shear
    unit = 2 * torch.rand(13, generator=generator, dtype=torch.float64).numpy() - 1
    if exact:
        unit[:5] = 1
        unit[5:] = [1, 0, -1, 0, 0, 0, 0, 0]
    drawn = {
        "shift_x": what.shift * unit[0],
        "shift_y": what.shift * unit[1],
        "rotate": what.rotate * unit[2],
        "scale": what.scale * unit[3],
        "shear": what.shear * unit[4],
    }
    matrix = linear(
        ((width - 1) / 2, (height - 1) / 2),
        shift=(drawn["shift_x"], drawn["shift_y"]),
        rotate=drawn["rotate"],
        scale=1 + drawn["scale"] / 100,
        shear=drawn["shear"],
    )
    if what.perspective:
        moves = unit[5:].reshape(4, 2)
        if what.inward and not exact:
            moves = np.abs(moves) * [[1, 1], [-1, 1], [-1, -1], [1, -1]]
        moves = moves * what.perspective * [width, height]
        origin = corners(size)
        matrix = matrix @ homography(origin, origin + moves)
        for corner, (x, y) in zip(("tl", "tr", "br", "bl"), moves, strict=True):
            drawn |= {f"corner_{corner}_x": x, f"corner_{corner}_y": y}
    return matrix, {name: float(value) for name, value in drawn.items()}


def _draw_elastic(
    what: Recipe, size: Sequence[int], generator: Generator, exact: bool
) -> tuple[Tensor, float]:
    """Return smoothed noise, (1, 2, H, W) in pixels, and its largest displacement."""
    height, width = size
    noise = 2 * torch.rand(2, height, width, generator=generator).numpy() - 1
    share = 1.0 if exact else float(torch.rand((), generator=generator))
    taps = what.kernel or 2 * round(4 * what.elastic_sigma) + 1
    gaussian = cv2.getGaussianKernel(taps, what.elastic_sigma, cv2.CV_32F)
    channels = [
        cv2.sepFilter2D(n, -1, gaussian, gaussian, None, (-1, -1), 0, cv2.BORDER_REFLECT)
        for n in noise
    ]
    smooth = torch.from_numpy(np.stack(channels))
    if what.elastic_alpha is None:
        scale = torch.tensor([width / 2, height / 2]).view(2, 1, 1)
    else:
        scale = torch.tensor(share * what.elastic_alpha) / smooth.norm(dim=0).max().clamp_min(1e-12)
    elastic = (smooth * scale)[None]
    return elastic, float(elastic.norm(dim=1).max())
