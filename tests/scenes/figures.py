"""People, cars, trees and lamps as lists of faces, each with its looks and its warmth.

Paint and warmth are chosen apart: a dark coat hides its owner from the eye and not from the
infrared camera, lettering and stripes do the reverse.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scenes.lettering import lettering
from scenes.render import Array, Face, Paint, Skin, noise

Colour = tuple[float, float, float]
BLACK: Colour = (0.02, 0.02, 0.02)


def disc(s: Array, t: Array, at: tuple[float, float], radius: float) -> NDArray[np.bool_]:
    """Return the points within `radius` of a place."""
    return (s - at[0]) ** 2 + (t - at[1]) ** 2 < radius**2


def board(x: float, z: float, width: float, height: float, skin: Skin, foot: float = 0.0) -> Face:
    """Return an upright face across the street, `s` = 0 at its middle."""
    corners = [(x - width / 2, foot, z), (x + width / 2, foot, z),
               (x + width / 2, foot + height, z), (x - width / 2, foot + height, z)]  # fmt: skip
    return Face(corners, lambda s, t: skin(s - width / 2, t), (0, 0.35, -1), holes=True)


def person(
    x: float,
    z: float,
    coat: Colour,
    trousers: Colour = (0.05, 0.06, 0.1),
    stride: float = 0.4,
    facing: float = 1.0,
    height: float = 1.75,
    air: float = 15.0,
) -> list[Face]:
    """Return a walking person as jointed limbs.

    Args:
        x: Place across the street, metres.
        z: Place along it.
        coat: Reflectance of jacket and sleeves.
        trousers: Reflectance of the legs.
        stride: Half angle of the step, radians; about 0.1 seen from behind.
        facing: 1 walks to the right, -1 to the left, 0 is seen from behind.
        height: In metres.
        air: Temperature outside: clothes lie between it and the skin.
    """
    warm = air + 0.55 * (31.0 - air)
    sideways = 1.0 if facing == 0 else 0.35
    skin_tone, hair = (0.5, 0.33, 0.25), (0.07, 0.045, 0.03)

    def limb(start: tuple[float, float], lengths: tuple[float, float], angle: float, bend: float):
        joint = start[0] + np.sin(angle) * lengths[0], start[1] - np.cos(angle) * lengths[0]
        end = (
            joint[0] + np.sin(angle - bend) * lengths[1],
            joint[1] - np.cos(angle - bend) * lengths[1],
        )
        return joint, end

    parts = []  # (start, end, radius there, radius here, colour, heat), far ones first
    for side in (-1.0, 1.0):
        hip, shoulder = (side * 0.09 * sideways, 0.90), (side * 0.19 * sideways, 1.40)
        knee, ankle = limb(hip, (0.43, 0.43), side * stride, 0.35 if side < 0 else 0.05)
        elbow, hand = limb(shoulder, (0.29, 0.25), -side * stride * 0.9 + side * 0.06, -0.4)
        toe = ankle[0] + 0.12, ankle[1] - 0.01
        legs = [
            (hip, knee, 0.085, 0.06, trousers, warm - 1.5),
            (knee, ankle, 0.058, 0.045, trousers, warm - 3),
            (ankle, toe, 0.05, 0.04, BLACK, air + 4),
        ]
        arm = [
            (shoulder, elbow, 0.058, 0.05, coat, warm - 1),
            (elbow, hand, 0.047, 0.035, coat, warm - 1.5),
            (hand, hand, 0.045, 0.045, skin_tone, 31.0),
        ]
        if side < 0:
            parts += [*arm, *legs]
            parts += [((0, 0.93), (0, 1.38), 0.14, 0.15 + 0.04 * sideways, coat, warm)]
            parts += [((0, 1.45), (0.01, 1.55), 0.055, 0.055, skin_tone, 33.5)]
            parts += [((0.01, 1.60), (0.02, 1.65), 0.095, 0.1, skin_tone if facing else hair, 33.5)]
            parts += [((-0.02, 1.67), (0.0, 1.68), 0.1, 0.085, hair, 29.0)]
        else:
            parts += [*legs, *arm]

    def skin(s: Array, t: Array) -> Paint:
        s, t = s / (height / 1.75) * (facing or 1.0), t / (height / 1.75)
        colour, heat = np.zeros((*s.shape, 3), np.float32), np.zeros(s.shape, np.float32)
        solid = np.zeros(s.shape, bool)
        for (x0, y0), (x1, y1), r0, r1, tint, degrees in parts:
            dx, dy = x1 - x0, y1 - y0
            along = np.clip(((s - x0) * dx + (t - y0) * dy) / (dx * dx + dy * dy + 1e-9), 0, 1)
            away = np.hypot(s - x0 - along * dx, t - y0 - along * dy) / (r0 + along * (r1 - r0))
            hit = away < 1
            round_off = np.sqrt(np.maximum(1 - away**2, 0))
            folds = 0.75 + 0.5 * noise(s * 14, t * 9, seed=3)
            colour[hit] = np.asarray(tint) * ((0.45 + 0.55 * round_off) * folds)[hit][:, None]
            heat[hit] = (degrees - (1 - round_off) * 0.18 * (degrees - air))[hit]
            heat[hit] += 2.0 * (folds[hit] - 1)
            solid |= hit
        return Paint(colour, heat, solid=solid)

    return [board(x, z, 1.6, height * 1.06, skin)]


def tree(x: float, z: float, height: float, seed: int, air: float = 15.0) -> list[Face]:
    """Return a trunk with branches and a crown of leaves through which the sky shows."""
    rng = np.random.default_rng(seed)
    width, bole = height * 1.15, height * 0.36
    angles = rng.uniform(-2.6, 2.6, 22)
    reach = rng.uniform(0.1, 0.33, 22) * height
    middles = [(np.sin(a) * r * 1.1, height * 0.66 + np.cos(a) * r * 0.9)
               for a, r in zip(angles, reach, strict=True)]  # fmt: skip

    def crown(s: Array, t: Array) -> Paint:
        body = np.full(s.shape, -9.0, np.float32)
        light = np.zeros(s.shape, np.float32)
        for cx, cy in middles:
            radius = 0.13 * height
            lobe = 1 - np.hypot(s - cx, t - cy) / radius
            nearer = lobe > body
            light = np.where(nearer, (t - cy) / radius * 0.5 - (s - cx) / radius * 0.25, light)
            body = np.maximum(body, lobe)
        leaves = noise(s * 2.2, t * 2.2, seed, 4)
        fine = noise(s * 9, t * 9, seed + 1, 2)
        solid = body + 1.1 * (leaves - 0.5) + 0.7 * (fine - 0.5) > 0.08
        shade = np.clip(0.55 + 0.45 * light + 1.1 * (fine - 0.5) + 0.4 * (leaves - 0.5), 0.12, 1.4)
        green = np.stack([0.10 + 0.05 * leaves, 0.19 + 0.03 * fine, 0.035 + 0 * s], axis=-1)
        return Paint(green * shade[:, None], air - 0.8 + 1.6 * (shade - 0.6), solid=solid)

    def wood(s: Array, t: Array) -> Paint:
        solid = np.abs(s + 0.08 * np.sin(t)) < 0.17 * height / 7 * (1.25 - 0.5 * t / bole)
        for lean in (-0.5, 0.45):
            solid |= (t > bole * 0.8) & (np.abs(s - lean * (t - bole * 0.8)) < 0.07)
        bark = 0.6 + 0.8 * noise(s * 16, t * 3, seed)
        return Paint(np.array((0.10, 0.075, 0.05)) * bark[:, None], air + 1.5, solid=solid)

    return [board(x, z, width, height * 1.1, crown), board(x, z + 0.05, 2.4, bole * 1.9, wood)]


def lamp(x: float, z: float, reach: float, lit: bool, air: float = 15.0) -> list[Face]:
    """Return a street lamp whose arm reaches over the road by `reach` metres (negative: left)."""
    span = abs(reach)

    def skin(s: Array, t: Array) -> Paint:
        s = (s * np.sign(reach)).astype(np.float32)
        pole = (np.abs(s) < 0.075 - 0.006 * t) & (t < 5.6)
        arm = (
            (np.abs(t - 5.45 - 0.35 * np.sin(np.clip(s / span, 0, 1) * 1.57)) < 0.05)
            & (s > 0)
            & (s < span)
        )
        head = (np.abs(t - 5.74) < 0.10) & (s > span - 0.55) & (s < span + 0.15)
        bulb = head & (t < 5.72)
        glow = np.where(bulb[:, None], (30.0, 21.0, 11.0), (0.0, 0.0, 0.0)) if lit else 0.0
        heat = air - 0.5 + (22.0 if lit else 1.0) * head
        return Paint((0.13, 0.14, 0.14), heat, glow=glow, gloss=0.2, solid=pole | arm | head)

    return [board(x, z, 2 * span + 0.6, 6.0, skin)]


@dataclass(frozen=True)
class Car:
    """A saloon car that stands or drives along the street.

    Args:
        x: Middle of the car, metres from the middle of the street.
        z: The end nearer to the camera.
        colour: Reflectance of the paint.
        towards: True when it comes towards the camera.
        engine: Degrees that the running engine adds to the bonnet; 0 is parked and cold.
        lights: Lamps are on.
        plate: Lettering of the number plate.
    """

    x: float
    z: float
    colour: Colour
    towards: bool = False
    engine: float = 0.0
    lights: bool = False
    plate: str = "FU 512"

    def faces(self, air: float = 15.0) -> list[Face]:
        """Return body, windows and wheels."""
        # (metres from the tail, height, half width), tail to nose
        tail, lid, deck = (0.0, 0.32, 0.85), (0.05, 0.92, 0.85), (0.5, 0.97, 0.85)
        rear, roof, front = (0.5, 0.97, 0.76), (1.25, 1.42, 0.57), (2.3, 1.45, 0.57)
        screen, cowl = (3.1, 0.98, 0.77), (3.1, 0.98, 0.85)
        nose, bumper = (4.05, 0.78, 0.85), (4.2, 0.32, 0.85)
        hot = self.engine

        def at(point: tuple[float, float, float], side: float) -> tuple[float, float, float]:
            along = 4.2 - point[0] if self.towards else point[0]
            return (self.x + side * point[2], point[1], self.z + along)

        def across(low, high, skin: Skin) -> Face:
            corners = np.array([at(low, -1), at(low, 1), at(high, 1), at(high, -1)])
            middle = corners.mean(axis=0) - (self.x, 0.6, self.z + 2.1)
            return Face(corners, lambda s, t: skin(s - low[2], t), normal=middle / (0.9, 0.5, 2.1))

        def plain(heat: float) -> Skin:
            return lambda s, t: Paint(self._coat(s, t), air + heat - 2.0 * np.abs(s), gloss=0.25)

        def glass(s: Array, t: Array) -> Paint:
            pane = (np.abs(s) < 0.66) & (t > 0.05) & (t < 0.8)
            tint = np.where(pane[:, None], np.array((0.03, 0.04, 0.045)), self.colour)
            tint += 0.10 * (pane & (s + t * 0.8 > 0.25) & (s + t * 0.8 < 0.5))[:, None]
            return Paint(tint, air + 1.5 + 0.15 * hot, gloss=0.45)

        flanks = []
        for side in (-1.0, 1.0):
            normal = (side, 0.25, -0.2)
            body = [at(p, side) for p in (tail, bumper, nose, cowl, deck, lid)]
            house = [at(p, side) for p in (rear, screen, front, roof)]
            flanks += [
                Face(body, self._flank(air), normal),
                Face(house, self._windows(air), normal),
            ]
            flanks += [self._wheel(at((place, 0.31, 0.86), side), air) for place in (0.85, 3.3)]
        left, right, begin, end = self.x - 0.8, self.x + 0.8, self.z + 0.1, self.z + 4.1
        floor = [(left, 0.06, begin), (right, 0.06, begin), (right, 0.06, end), (left, 0.06, end)]
        return [
            across(tail, lid, self._tail(air)),
            across(lid, deck, plain(1 + 0.05 * hot)),
            across(rear, roof, glass),
            across(roof, front, plain(0)),
            across(front, screen, glass),
            across(cowl, nose, plain(0.75 * hot)),
            across(bumper, nose, self._nose(air)),
            *flanks,
            Face(floor, lambda s, t: Paint((0.012, 0.012, 0.013), air + 2 + 0.5 * hot), (0, -1, 0)),
        ]

    def _coat(self, s: Array, t: Array) -> Array:
        return np.asarray(self.colour) * (0.85 + 0.3 * noise(s * 2, t * 2, seed=5))[:, None]

    def _tail(self, air: float) -> Skin:
        def skin(s: Array, t: Array) -> Paint:
            colour, glow = self._coat(s, t), np.zeros((*s.shape, 3))
            heat = np.full(s.shape, air + 1 + 0.05 * self.engine)
            lamps = (np.abs(s) > 0.5) & (np.abs(s) < 0.8) & (t > 0.34) & (t < 0.5)
            colour[lamps] = (0.35, 0.02, 0.02)
            glow[lamps] = (2.5, 0.10, 0.06) if self.lights else (0, 0, 0)
            colour[t < 0.16] = (0.03, 0.03, 0.03)
            colour = self._plated(colour, s, t, 0.2)
            pipe = disc(s, t, (0.45, 0.03), 0.09)
            heat += 2.2 * self.engine * np.exp(-((s - 0.45) ** 2 + (t - 0.02) ** 2) / 0.012)
            heat += 0.5 * self.engine * np.exp(-(t**2) / 0.02)
            colour[pipe] = BLACK
            return Paint(colour, heat, glow, gloss=0.15)

        return skin

    def _nose(self, air: float) -> Skin:
        def skin(s: Array, t: Array) -> Paint:
            colour, glow = self._coat(s, t), np.zeros((*s.shape, 3))
            lamps = disc(np.abs(s), t, (0.62, 0.32), 0.11)
            grille = (np.abs(s) < 0.42) & (t > 0.22) & (t < 0.4)
            colour[grille] = (0.02, 0.02, 0.02)
            colour[grille & (np.mod(t, 0.06) < 0.02)] = (0.35, 0.35, 0.36)
            colour[lamps] = (0.6, 0.62, 0.65)
            glow[lamps] = (60, 58, 50) if self.lights else (0, 0, 0)
            colour[t < 0.09] = (0.03, 0.03, 0.03)
            colour = self._plated(colour, s, t, 0.1)
            heat = (
                air + 0.35 * self.engine + 1.1 * self.engine * grille + (0.5 * self.engine) * lamps
            )
            return Paint(colour, heat, glow, gloss=0.15)

        return skin

    def _plated(self, colour: Array, s: Array, t: Array, foot: float) -> Array:
        plate = (np.abs(s) < 0.28) & (t > foot) & (t < foot + 0.13)
        ink = lettering(self.plate, s + 0.26, t - foot, 0.52, 0.13)
        return np.where(plate[:, None], 0.75 - 0.7 * ink[:, None], colour)

    def _flank(self, air: float) -> Skin:
        def skin(s: Array, t: Array) -> Paint:
            colour = self._coat(s, t)
            seams = (
                (np.abs(s - 1.35) < 0.015) | (np.abs(s - 2.25) < 0.015) | (np.abs(s - 3.1) < 0.015)
            )
            arches = disc(s, t, (0.85, 0.0), 0.4) | disc(s, t, (3.3, 0.0), 0.4)
            colour[seams | arches | (t < 0.06)] = BLACK
            colour[
                (np.abs(t - 0.42) < 0.02) & ((np.abs(s - 1.5) < 0.08) | (np.abs(s - 2.4) < 0.08))
            ] = (0.3, 0.3, 0.3)
            near_engine = np.exp(-((s - 3.5) ** 2) / 0.5)
            heat = air + 0.5 + 0.5 * self.engine * near_engine + 0.35 * self.engine * arches
            return Paint(colour, heat, gloss=0.25)

        return skin

    def _windows(self, air: float) -> Skin:
        def skin(s: Array, t: Array) -> Paint:
            pillar = (np.abs(s - 1.2) < 0.05) | (t > 0.42) | (t < 0.03)
            colour = np.where(pillar[:, None], self.colour, np.array((0.03, 0.04, 0.045)))
            return Paint(colour, air + 1.0, gloss=0.4)

        return skin

    def _wheel(self, hub: tuple[float, float, float], air: float) -> Face:
        turn = np.arange(20) / 20 * 2 * np.pi
        rim = [(hub[0], hub[1] + 0.31 * np.sin(a), hub[2] + 0.31 * np.cos(a)) for a in turn]
        start = np.array(rim[0])
        axis = (np.array(rim[1]) - start) / np.linalg.norm(np.array(rim[1]) - start)
        centre = np.array(hub) - start
        s0 = centre @ axis
        t0 = np.linalg.norm(centre - s0 * axis)

        def skin(s: Array, t: Array) -> Paint:
            away = np.hypot(s - s0, t - t0)
            spokes = np.sin(5 * np.arctan2(t - t0, s - s0)) > -0.2
            metal = (away < 0.2) & spokes | (away < 0.06)
            colour = np.where(
                metal[:, None], np.array((0.42, 0.42, 0.44)), np.array((0.018, 0.018, 0.018))
            )
            heat = air + 1.0 + 0.42 * self.engine * (away > 0.2) + 0.7 * self.engine * (away < 0.1)
            return Paint(colour, heat, gloss=0.1 * metal)

        return Face(rim, skin, normal=(np.sign(hub[0] - self.x), 0.3, -0.2))
