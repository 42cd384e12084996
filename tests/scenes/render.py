"""A small ray caster: flat faces in, what every pixel sees out, the same for both cameras.

The world is in metres: x to the right, y up, z ahead, the ground at y = 0. Each face brings a
`Skin` that answers, for points on it, how they look and how warm they are. `shoot` keeps the
nearest face of every pixel; lighting and sensors come afterwards and know nothing of faces.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float32]
NEAR = 0.2


class Paint(NamedTuple):
    """What a skin says of M points.

    Args:
        colour: (M, 3) or (3,) reflectance, linear RGB, 0..1.
        heat: (M,) or scalar temperature in degrees Celsius, before sun and sky act on it.
        glow: (M, 3) or (3,) light that the point itself gives off.
        gloss: (M,) or scalar share of the thermal sky that it mirrors (glass, car paint).
        solid: (M,) False where the face has a hole.
    """

    colour: ArrayLike
    heat: ArrayLike
    glow: ArrayLike = (0.0, 0.0, 0.0)
    gloss: ArrayLike = 0.0
    solid: ArrayLike = True


Skin = Callable[[Array, Array], Paint]


class Face:
    """A flat convex polygon. Its skin sees metres: s along the first edge, t across it.

    Args:
        corners: (N, 3) in order; both sides show.
        skin: What it looks like.
        normal: For lighting.
        holes: The skin says where the face is not solid.
    """

    def __init__(
        self, corners: ArrayLike, skin: Skin, normal: ArrayLike, holes: bool = False
    ) -> None:
        self.corners = np.asarray(corners, np.float64)
        self.skin = skin
        first, second = self.corners[1] - self.corners[0], self.corners[-1] - self.corners[0]
        self.s_axis = first / np.linalg.norm(first)
        self.plane = np.cross(first, second)
        self.plane /= np.linalg.norm(self.plane)
        across = second - (second @ self.s_axis) * self.s_axis
        self.t_axis = across / np.linalg.norm(across)
        self.normal = _unit(normal)
        self.holes = holes


@dataclass(frozen=True)
class View:
    """A pinhole camera, or parallel rays (the sun) when `parallel` is set.

    Args:
        eye: Where it is.
        ahead: Where it looks.
        size: (height, width) in samples.
        scale: Focal length in samples, or samples per metre for parallel rays.
        parallel: No vanishing point.
    """

    eye: tuple[float, float, float]
    ahead: tuple[float, float, float]
    size: tuple[int, int]
    scale: float
    parallel: bool = False

    def axes(self) -> NDArray[np.float64]:
        """Return right, down and ahead as rows."""
        ahead = _unit(self.ahead)
        world_up = (0.0, 1.0, 0.0) if abs(ahead[1]) < 0.95 else (0.0, 0.0, 1.0)
        right = _unit(np.cross(world_up, ahead))
        return np.stack([right, np.cross(right, ahead), ahead])

    def rays(self, rows: slice, columns: slice) -> tuple[Array, Array]:
        """Return origins and directions, (h, w, 3), of a window of samples."""
        height, width = self.size
        v, u = np.mgrid[rows, columns].astype(np.float32) + 0.5
        u, v = (u - width / 2) / self.scale, (v - height / 2) / self.scale
        right, down, ahead = self.axes().astype(np.float32)
        offset = u[..., None] * right + v[..., None] * down
        eye = np.asarray(self.eye, np.float32)
        if self.parallel:
            return eye + offset, np.broadcast_to(ahead, offset.shape)
        return np.broadcast_to(eye, offset.shape), offset + ahead

    def project(self, points: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        """Return sample coordinates u and v and the depth along the axis of (..., 3) points."""
        right, down, ahead = self.axes()
        q = points - np.asarray(self.eye)
        depth = q @ ahead
        shrink = 1.0 if self.parallel else 1.0 / np.maximum(depth, NEAR)
        height, width = self.size
        return (
            q @ right * shrink * self.scale + width / 2,
            q @ down * shrink * self.scale + height / 2,
            depth,
        )

    def window(self, corners: NDArray) -> tuple[slice, slice] | None:
        """Return rows and columns that a face can touch; None when it is out of sight."""
        height, width = self.size
        u, v, depth = self.project(corners)
        if depth.max() <= NEAR:
            return None
        if depth.min() <= NEAR:  # reaches behind the eye: no bounding box
            return slice(0, height), slice(0, width)
        top, bottom = max(int(v.min()), 0), min(int(v.max()) + 2, height)
        left, right = max(int(u.min()), 0), min(int(u.max()) + 2, width)
        return (slice(top, bottom), slice(left, right)) if top < bottom and left < right else None


class Hits:
    """What every sample of a view sees; `depth` is infinite where that is the sky."""

    def __init__(self, view: View) -> None:
        height, width = view.size
        self.depth = np.full(view.size, np.inf, np.float32)
        self.colour = np.zeros((height, width, 3), np.float32)
        self.glow = np.zeros((height, width, 3), np.float32)
        self.normal = np.zeros((height, width, 3), np.float32)
        self.place = np.zeros((height, width, 3), np.float32)
        self.heat = np.zeros((height, width), np.float32)
        self.gloss = np.zeros((height, width), np.float32)


def shoot(view: View, faces: Sequence[Face], painted: bool = True) -> Hits:
    """Return the nearest face of every sample, with its paint; only its depth if not `painted`."""
    hits = Hits(view)
    for face in faces:
        window = view.window(face.corners)
        if window is None:
            continue
        origin, direction = view.rays(*window)
        plane = face.plane.astype(np.float32)
        slope = direction @ plane
        slope[np.abs(slope) < 1e-6] = 1e-6
        depth = ((face.corners[0].astype(np.float32) - origin) @ plane) / slope
        near = (depth > NEAR) & (depth < hits.depth[window])
        place = origin[near] + depth[near][:, None] * direction[near]
        s, t = ((place - face.corners[0]) @ axis for axis in (face.s_axis, face.t_axis))
        inside = _inside(face, s, t)
        near[near] = inside
        if painted or face.holes:
            paint = face.skin(s[inside].astype(np.float32), t[inside].astype(np.float32))
            solid = np.broadcast_to(paint.solid, inside.sum())
            near[near] = solid
        hits.depth[window][near] = depth[near]
        if painted:
            for name in ("colour", "glow", "heat", "gloss"):
                target = getattr(hits, name)[window]
                value = np.broadcast_to(getattr(paint, name), solid.shape + target.shape[2:])
                target[near] = value[solid]
            hits.place[window][near] = place[inside][solid]
            hits.normal[window][near] = face.normal
    return hits


def sunlit(place: Array, faces: Sequence[Face], towards: ArrayLike, detail: float = 24.0) -> Array:
    """Return how much of a far light reaches each place, 0..1, by a shadow map.

    Args:
        place: (..., 3) points on faces.
        faces: What may stand in the way.
        towards: Direction to the light.
        detail: Shadow samples per metre.
    """
    towards = _unit(towards)
    span = int(56 * detail)
    eye = np.array([0.0, 0.0, 22.0]) + 150.0 * towards
    sun = View(tuple(eye), tuple(-towards), (span, span), detail, parallel=True)
    first = shoot(sun, faces, painted=False).depth
    u, v, depth = sun.project(place)
    lit = np.zeros(depth.shape, np.float32)
    for du, dv in ((-0.7, -0.3), (0.3, -0.7), (0.7, 0.3), (-0.3, 0.7)):
        column = np.clip(np.floor(u + du).astype(int), 0, span - 1)
        row = np.clip(np.floor(v + dv).astype(int), 0, span - 1)
        lit += 0.25 * (depth < first[row, column] + 0.12)
    return lit


def openness(place: Array, faces: Sequence[Face], step: int) -> Array:
    """Return the share of the sky that each place of (h, w, 3) sees, 0..1, at every `step`-th."""
    rings = [(0.5, angle / 6) for angle in range(6)] + [(1.6, angle / 4) for angle in range(4)]
    ways = [(np.cos(6.283 * a), up, np.sin(6.283 * a)) for up, a in rings] + [(0.01, 1, 0)]
    coarse = place[step // 2 :: step, step // 2 :: step]
    total = sum(sunlit(coarse, faces, towards, detail=9.0) for towards in ways) / len(ways)
    fine = cv2.resize(cv2.GaussianBlur(total, (0, 0), 0.7), place.shape[1::-1])
    return fine.astype(np.float32)


def noise(s: ArrayLike, t: ArrayLike, seed: int = 0, octaves: int = 3) -> Array:
    """Return smooth value noise at (s, t), mean about 0.5, one bump per unit and finer ones."""
    table = np.random.default_rng(seed).random((64, 64), np.float32)
    s, t = np.asarray(s, np.float32), np.asarray(t, np.float32)
    total = np.zeros(np.broadcast(s, t).shape, np.float32)
    for octave in range(octaves):
        x, y = s * 2**octave + 17 * octave, t * 2**octave + 31 * octave
        i, j = np.floor(x).astype(int), np.floor(y).astype(int)
        a, b = x - i, y - j
        a, b = a * a * (3 - 2 * a), b * b * (3 - 2 * b)
        top = table[j & 63, i & 63] * (1 - a) + table[j & 63, (i + 1) & 63] * a
        below = table[(j + 1) & 63, i & 63] * (1 - a) + table[(j + 1) & 63, (i + 1) & 63] * a
        total += (top * (1 - b) + below * b) * 0.5**octave
    return total / (2 - 0.5 ** (octaves - 1))


def _inside(face: Face, s: NDArray, t: NDArray) -> NDArray[np.bool_]:
    local = (face.corners - face.corners[0]) @ np.stack([face.s_axis, face.t_axis], axis=1)
    edges = np.roll(local, -1, axis=0) - local
    turn = np.stack([ds * (t - t0) - dt * (s - s0)
                     for (s0, t0), (ds, dt) in zip(local, edges, strict=True)])  # fmt: skip
    return (turn >= -1e-6).all(axis=0) | (turn <= 1e-6).all(axis=0)


def _unit(vector: ArrayLike) -> NDArray[np.float64]:
    vector = np.asarray(vector, np.float64)
    return vector / np.linalg.norm(vector)
