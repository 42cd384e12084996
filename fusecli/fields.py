"""Displacement fields and homographies: make, compose, invert, judge.

The one convention of the package is written in `fusecli.ops.resample`: a field is (B, 2, H, W) in
pixels, (dx, dy), on the grid of the output, and points to where the output is read from. A
homography is a 3x3 float64 array that says the same with fewer numbers: it maps a pixel (x, y, 1)
of the output grid to its place in the image that is read. Registering, the output grid is the fixed
image's and the image read is the moving one: a transform maps *fixed to moving*.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fusecli.errors import InputError
from fusecli.ops.resample import positions, resample

Matrix = NDArray[np.float64]

ESTIMATE = "estimate the transform again: fusecli register IR VIS -o OUT"


class Inverse(NamedTuple):
    """What `invert` finds.

    Args:
        field: (B, 2, H', W'), the inverse on the other grid.
        valid: (B, 1, H', W') bool, where the iteration converged and the place found lies on the
            grid of the original field.
        error: Largest distance in pixels, over the valid area, between a pixel and where it lands
            after there and back.
    """

    field: Tensor
    valid: Tensor
    error: float


def translation(dx: float, dy: float) -> Matrix:
    """Return the homography that adds (dx, dy)."""
    return np.array([[1.0, 0.0, dx], [0.0, 1.0, dy], [0.0, 0.0, 1.0]])


def linear(
    centre: tuple[float, float],
    *,
    shift: tuple[float, float] = (0.0, 0.0),
    rotate: float = 0.0,
    scale: float = 1.0,
    shear: float = 0.0,
) -> Matrix:
    """Return the affine map that shears, scales, rotates about `centre`, then shifts.

    Args:
        centre: Point (x, y) that only the shift moves.
        shift: Pixels (x, y).
        rotate: Degrees, from the x axis towards the y axis (clockwise on a screen).
        scale: Factor.
        shear: Degrees by which the y axis leans over.
    """
    angle = np.deg2rad(rotate)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    lean = np.array([[1.0, np.tan(np.deg2rad(shear))], [0.0, 1.0]])
    matrix = np.eye(3)
    matrix[:2, :2] = scale * turn @ lean
    matrix[:2, 2] = np.asarray(centre) + shift - matrix[:2, :2] @ np.asarray(centre)
    return matrix


def homography(origin: NDArray[np.float64], target: NDArray[np.float64]) -> Matrix:
    """Return the homography that takes four points to four others, both (4, 2).

    Raises:
        InputError: Three of the points lie on one line.
    """
    rows = []
    for (x, y), (u, v) in zip(origin, target, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y])
    try:
        solution = np.linalg.solve(np.array(rows, float), np.asarray(target, float).reshape(-1))
    except np.linalg.LinAlgError:
        raise InputError(
            "four corners do not span a plane", code="register.matrix", hint=ESTIMATE
        ) from None
    return np.append(solution, 1.0).reshape(3, 3)


def grid_scaling(fixed: Sequence[int], moving: Sequence[int]) -> Matrix:
    """Return the map that lays one grid over another: outer edges meet outer edges.

    Args:
        fixed: Height and width of the grid to map from.
        moving: Height and width of the grid to map to.
    """
    (height, width), (rows, columns) = fixed, moving
    x, y = columns / width, rows / height
    return np.array([[x, 0.0, (x - 1) / 2], [0.0, y, (y - 1) / 2], [0.0, 0.0, 1.0]])


def check_matrix(matrix: Matrix, size: Sequence[int]) -> Matrix:
    """Return the matrix, scaled to end in 1, when it maps every pixel of a grid to one place.

    Raises:
        InputError: Not 3x3 and finite, singular, or with a horizon that crosses the grid.
    """
    matrix = np.asarray(matrix, np.float64)
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all():
        raise InputError(
            "a transform matrix must be 3x3 and finite",
            code="register.matrix",
            facts=[f"shape {matrix.shape}"],
            hint=ESTIMATE,
        )
    largest = np.abs(matrix).max()
    if not matrix[2, 2] or abs(np.linalg.det(matrix / largest)) < 1e-12:
        raise InputError("the transform matrix is singular", code="register.matrix", hint=ESTIMATE)
    matrix = matrix / matrix[2, 2]
    depth = corners(size) @ matrix[2, :2] + 1
    if depth.min() <= 1e-6:
        raise InputError(
            f"the horizon of the transform crosses the {size[1]}x{size[0]} image",
            code="register.matrix",
            hint=ESTIMATE,
        )
    return matrix


def corners(size: Sequence[int]) -> NDArray[np.float64]:
    """Return the centres of the corner pixels of a (H, W) grid: (4, 2) points (x, y), clockwise."""
    bottom, right = size[0] - 1.0, size[1] - 1.0
    return np.array([[0.0, 0.0], [right, 0.0], [right, bottom], [0.0, bottom]])


def transform_points(matrix: Matrix, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the places of (N, 2) points (x, y) under a homography."""
    mapped = points @ matrix[:, :2].T + matrix[:, 2]
    return np.asarray(mapped[:, :2] / mapped[:, 2:])


def matrix_field(matrix: Matrix, size: Sequence[int], like: Tensor | None = None) -> Tensor:
    """Return the field of a homography, (1, 2, H, W).

    Args:
        matrix: 3x3, output grid to image that is read; `check_matrix` rules out a horizon.
        size: Height and width of the output grid.
        like: Tensor whose device and dtype the result takes; float32 on the CPU without it.
    """
    if like is None:
        like = torch.empty(0)
    # float64 first: x + dx is a difference of large numbers for a distant perspective
    wide = torch.empty(0, dtype=torch.float64, device="cpu")
    grid = positions(size, wide)[0]
    rows = torch.from_numpy(np.ascontiguousarray(matrix, np.float64))
    mapped = torch.einsum("ij,jhw->ihw", rows[:, :2], grid) + rows[:, 2].view(3, 1, 1)
    return (mapped[:2] / mapped[2:] - grid)[None].to(like)


def inside(field: Tensor, size: Sequence[int]) -> Tensor:
    """Return (B, 1, H, W), true where the field points into an image of the given size (H', W')."""
    height, width = size
    place = field + positions(field.shape[-2:], field)
    x, y = place[:, :1], place[:, 1:]
    slack = 1e-3  # rounding must not cost the border row of an identity
    across = (x >= -slack) & (x <= width - 1 + slack)
    return across & (y >= -slack) & (y <= height - 1 + slack)


def affine_part(field: Tensor) -> Tensor:
    """Return the least-squares affine displacement of a field, (B, 2, 3) in float64.

    (dx, dy) is about `part @ (x, y, 1)`. An axis of one pixel has no slope to fit: it gets 0.
    """
    step_y, step_x = (max(1, side // 64) for side in field.shape[-2:])
    sample = field[..., ::step_y, ::step_x].double()
    grid = positions(field.shape[-2:], sample)[0, :, ::step_y, ::step_x].flatten(1)
    sample = sample.flatten(2)
    middle = grid.mean(1, keepdim=True)  # centred, the slopes and the offset do not mix
    slopes = sample @ torch.linalg.pinv(grid - middle)
    offset = sample.mean(2, keepdim=True) - slopes @ middle
    return torch.cat((slopes, offset), 2)


def field_matrix(field: Tensor) -> Matrix:
    """Return the best affine approximation of a field (batch 1) as a 3x3 matrix."""
    matrix = np.eye(3)
    matrix[:2] += affine_part(field)[0].cpu().numpy()
    return matrix


def follow(field: Tensor, path: Tensor) -> Tensor:
    """Return a field read at displaced places: field(x + path(x)).

    Outside its grid the field goes on as its affine part does, plus the nearest border value of
    the rest, so that a rotation stays a rotation beyond the frame.
    """
    part = affine_part(field).to(field.dtype)
    rest = field - _affine_at(part, positions(field.shape[-2:], field))
    place = path + positions(path.shape[-2:], path)
    return resample(rest, path, border="replicate") + _affine_at(part, place)


def compose(first: Tensor, second: Tensor) -> Tensor:
    """Return the field that goes along `first`, and from there along `second`.

    Reading an image through the result equals reading it through `second`, and what comes out
    through `first`.

    Args:
        first: (B, 2, H, W) on the grid of the output.
        second: (B, 2, H', W') on the grid that `first` points into.
    """
    return first + follow(second, first)


def invert(
    field: Tensor,
    size: Sequence[int] | None = None,
    *,
    tolerance: float = 0.01,
    iterations: int = 100,
) -> Inverse:
    """Return the field that leads back: compose(field, inverse) is zero.

    Fixed-point iteration on what remains of the field after its affine part, which is inverted
    exactly, so that rotations and scalings of any size converge. The rest must not stretch by more
    than a factor of two (no folds); where it does, the pixel is marked invalid.

    Args:
        field: (B, 2, H, W).
        size: Height and width of the grid that the field points into; the field's own without it.
        tolerance: Pixels; a place is found when a further step moves it by less.
        iterations: Steps at most.

    Source:
        Chen et al., A simple fixed-point approach to invert a deformation field, Med. Phys. 35,
        2008.
    """
    with torch.no_grad():
        part = affine_part(field)
        slopes = part[:, :, :2] + torch.eye(2, device=field.device, dtype=torch.float64)
        back = torch.linalg.pinv(slopes).to(field.dtype)
        offset = part[:, :, 2:, None].to(field.dtype)
        rest = field - _affine_at(part.to(field.dtype), positions(field.shape[-2:], field))
        target = positions(size or field.shape[-2:], field)

        displacement = _linear_at(back, target - offset) - target
        for _ in range(iterations):
            remaining = resample(rest, displacement, border="replicate")
            previous = displacement
            displacement = _linear_at(back, target - offset - remaining) - target
            if (displacement - previous).norm(dim=1).max() < tolerance / 4:
                break
        round_trip = compose(displacement, field).norm(dim=1, keepdim=True)
        valid = inside(displacement, field.shape[-2:]) & (round_trip < tolerance)
        error = float(round_trip[valid].max()) if valid.any() else float("inf")
    return Inverse(displacement, valid, error)


def jacobian(field: Tensor) -> Tensor:
    """Return the determinant of the Jacobian of x -> x + field(x), (B, H-1, W-1).

    It is the factor by which areas grow; 1 for a shift, negative where the field folds.
    """
    across = field[..., :-1, 1:] - field[..., :-1, :-1]
    along = field[..., 1:, :-1] - field[..., :-1, :-1]
    straight = (1 + across[:, 0]) * (1 + along[:, 1])
    return straight - across[:, 1] * along[:, 0]


def folds(field: Tensor) -> Tensor:
    """Return (B,), the share of grid cells in which a field folds or tears, 0 when nowhere."""
    area = jacobian(field)
    if not area.numel():
        return field.new_zeros(field.shape[0])
    return (~(area > 0)).flatten(1).float().mean(1)


def _linear_at(slopes: Tensor, place: Tensor) -> Tensor:
    """Return slopes @ (x, y) for (B, 2, 2) and places (B, 2, H, W); either batch may be 1."""
    return (slopes @ place.flatten(2)).unflatten(2, place.shape[-2:])


def _affine_at(part: Tensor, place: Tensor) -> Tensor:
    """Return part @ (x, y, 1) for (B, 2, 3) and places (B, 2, H, W); either batch may be 1."""
    return _linear_at(part[:, :, :2], place) + part[:, :, 2:, None]
