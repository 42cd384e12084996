"""The street itself: ground, houses, signs and sky."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scenes.figures import Colour
from scenes.lettering import lettering
from scenes.render import Array, Face, Paint, Skin, View, noise

ROAD, PAVEMENT = 3.6, 6.6  # half widths, metres


@dataclass(frozen=True)
class Ground:
    """Road, kerbs and pavements.

    Args:
        crossing: Where a zebra crossing begins, metres ahead; None for no crossing.
        words: Painted in the right lane, readable for who drives away from the camera.
        words_at: Where they begin, metres ahead.
        air: Temperature outside.
        stored: Degrees that the asphalt keeps from the day.
    """

    crossing: float | None = 9.0
    words: str = ""
    words_at: float = 5.0
    air: float = 15.0
    stored: float = 4.0

    def faces(self) -> list[Face]:
        """Return one plane, large enough to reach the horizon."""
        corners = [(-40, 0, 0.3), (40, 0, 0.3), (40, 0, 130), (-40, 0, 130)]
        return [Face(corners, lambda s, t: self._paint(s - 40, t + 0.3), normal=(0, 1, 0))]

    def _paint(self, x: Array, z: Array) -> Paint:
        grain = noise(x * 9, z * 9, 11, 3)
        stains = noise(x * 0.7, z * 0.25, 12, 4)
        road = np.abs(x) < ROAD
        grey = np.where(road, 0.075 + 0.06 * (stains - 0.5) + 0.05 * (grain - 0.5), 0.0)
        slabs = (np.mod(x, 0.75) < 0.035) | (np.mod(z, 0.75) < 0.045)
        paving = 0.22 + 0.08 * (noise(np.floor(x / 0.75), np.floor(z / 0.75), 13, 1) - 0.5)
        paving = (paving + 0.05 * (grain - 0.5)) * np.where(slabs, 0.6, 1.0)
        kerb = np.abs(np.abs(x) - ROAD - 0.08) < 0.1
        grey = np.where(road, grey, np.where(kerb, 0.34, paving))
        worn = 0.7 + 0.3 * np.clip(4 * noise(x * 6, z * 6, 14) - 1, 0, 1)
        grey = np.where(self._marked(x, z), 0.62 * worn, grey)
        tracks = np.exp(-((np.abs(np.abs(x) - 1.75) - 0.7) ** 2) / 0.06)
        grey = np.where(road, grey * (1 - 0.15 * tracks), grey)
        heat = self.air + np.where(road, self.stored + 0.5 * tracks, 0.55 * self.stored)
        heat = heat + 1.2 * (stains - 0.5) + 0.5 * (grain - 0.5) + np.where(kerb, 0.8, 0)
        cover = (x + 1.2) ** 2 + (z - 7.2) ** 2 < 0.33**2
        grey = np.where(cover, 0.05 + 0.06 * (np.mod(x + z, 0.14) < 0.07), grey)
        heat = heat + 5.0 * cover  # sewers are warm
        colour = grey[:, None] * np.array((1.0, 0.99, 0.96))
        return Paint(colour, heat, gloss=np.where(road, 0.06, 0.03))

    def _marked(self, x: Array, z: Array) -> Array:
        dashes = (np.abs(x) < 0.07) & (np.mod(z + 1.0, 6.0) < 3.0)
        lines = np.abs(np.abs(x) - ROAD + 0.28) < 0.06
        if self.crossing is not None:
            clear = (z > self.crossing - 1.5) & (z < self.crossing + 4.0)
            stripes = (np.mod(x + 0.25, 1.0) < 0.5) & (np.abs(x) < ROAD - 0.2)
            zebra = stripes & (z > self.crossing) & (z < self.crossing + 2.6)
            stop = (
                (z > self.crossing - 1.3)
                & (z < self.crossing - 0.9)
                & (x > 0.15)
                & (x < ROAD - 0.3)
            )
            dashes, lines = (dashes & ~clear) | zebra | stop, lines & ~clear
        if self.words:
            text = lettering(self.words, x - 0.55, z - self.words_at, 2.5, 2.0) > 0.5
            lines = lines | text
        return dashes | lines


@dataclass(frozen=True)
class House:
    """A house with its front on the pavement.

    Args:
        side: -1 stands left of the street, 1 right.
        start: Where it begins, metres ahead.
        end: Where it ends.
        floors: Storeys of 3.1 m above the ground floor.
        wall: Reflectance of brick or plaster.
        bricks: Brickwork rather than plaster.
        sign: Letters over the shop window; empty for a dwelling.
        sign_colour: Of the sign board.
        lit: Share of windows with light in them.
        air: Temperature outside.
        leak: Degrees that window reveals and shop glass are warmer than the wall.
        seed: Which curtains are drawn.
    """

    side: int
    start: float
    end: float
    floors: int
    wall: Colour
    bricks: bool = True
    sign: str = ""
    sign_colour: Colour = (0.05, 0.12, 0.35)
    lit: float = 0.0
    air: float = 15.0
    leak: float = 3.0
    seed: int = 0

    def faces(self) -> list[Face]:
        """Return the front along the street and the gable that looks at the camera."""
        x, far, height = self.side * PAVEMENT, self.side * (PAVEMENT + 10), 3.6 + 3.1 * self.floors
        a, b = self.start, self.end
        front = [(x, 0, a), (x, 0, b), (x, height, b), (x, height, a)]
        gable = [(x, 0, a), (far, 0, a), (far, height, a), (x, height, a)]
        roof = [(x, height, a), (x, height, b), (far, height, b), (far, height, a)]
        return [
            Face(front, self._front, normal=(-self.side, 0, 0)),
            Face(gable, self._masonry, normal=(0, 0, -1)),
            Face(roof, lambda s, t: Paint((0.12, 0.06, 0.05), self.air), normal=(0, 1, 0)),
        ]

    def _masonry(self, s: Array, t: Array) -> Paint:
        mottle = noise(s * 0.6, t * 0.6, self.seed + 3, 4)
        shade = 0.8 + 0.4 * mottle
        if self.bricks:
            row = np.floor(t / 0.16)
            along = s / 0.46 + 0.5 * np.mod(row, 2)
            each = noise(np.floor(along) * 1.37, row * 1.91, self.seed, 1)
            mortar = (np.mod(along, 1) < 0.07) | (np.mod(t / 0.16, 1) < 0.16)
            shade = shade * np.where(mortar, 1.35, 0.65 + 0.7 * each)
        streaks = noise(s * 4, t * 0.25, self.seed + 4, 2)
        shade = shade * (0.85 + 0.3 * streaks)
        heat = self.air + 1.5 + 1.5 * (mottle - 0.5) - 0.06 * t
        return Paint(np.asarray(self.wall) * shade[:, None], heat)

    def _front(self, s: Array, t: Array) -> Paint:
        wall = self._masonry(s, t)
        top = 3.6 + 3.1 * self.floors
        colour, heat = np.array(wall.colour), np.array(wall.heat)
        glow, gloss = np.zeros((*s.shape, 3)), np.zeros(s.shape)
        bands = (np.abs(t - 3.45) < 0.12) | (t > top - 0.35)
        colour[bands] = 0.45
        heat[bands] -= 0.8
        self._upper_windows(s, t, top, colour, heat, glow, gloss)
        if self.sign:
            self._shop(s, t, colour, heat, glow, gloss)
        else:
            self._doorway(s, t, colour, heat, gloss)
        return Paint(colour, heat, glow, gloss)

    def _upper_windows(self, s, t, top, colour, heat, glow, gloss) -> None:
        count = max(int((self.end - self.start) / 2.3), 1)
        pitch = (self.end - self.start) / count
        column, floor = np.floor(s / pitch), np.floor((t - 3.6) / 3.1)
        x, y = s - (column + 0.5) * pitch, t - 3.6 - floor * 3.1 - 1.75
        storey = (t > 3.6) & (t < top - 0.3)
        frame = storey & (np.abs(x) < 0.66) & (np.abs(y) < 0.92)
        pane = storey & (np.abs(x) < 0.54) & (np.abs(y) < 0.80)
        bars = (np.abs(x) < 0.035) | (np.abs(y - 0.25) < 0.035)
        sill = storey & (np.abs(x) < 0.78) & (np.abs(y + 0.98) < 0.07)
        chance = np.random.default_rng(self.seed).random((64, 32, 3))
        luck = chance[column.astype(int) % 64, floor.astype(int) % 32]
        beside = np.maximum(np.abs(x) - 0.6, 0) ** 2 + np.maximum(np.abs(y) - 0.9, 0) ** 2
        heat += self.leak * 0.5 * storey * np.exp(-beside / 0.03)
        radiator = storey & (np.abs(x) < 0.5) & (y < -1.05) & (y > -1.5)
        heat += self.leak * 0.35 * radiator * (luck[:, 2] > 0.4)
        colour[frame | sill] = 0.55
        curtain = (np.abs(x) > 0.54 - 0.45 * luck[:, 1]) & (np.abs(x) < 0.54)
        pane &= ~bars
        colour[pane] = (0.035, 0.045, 0.06)
        colour[pane] += (0.10 * np.clip(y + 0.8, 0, 1.6))[pane][:, None] * (0.8, 0.95, 1.15)
        colour[pane & curtain] = (0.30, 0.28, 0.25)
        bright = pane & (luck[:, 0] < self.lit)
        warm = np.array((1.3, 0.85, 0.36)) * (0.4 + 0.9 * luck[:, 2:])
        glow[bright] = (warm * np.where(curtain, 0.5, 1.0)[:, None] * (0.75 + 0.3 * y[:, None]))[
            bright
        ]
        heat[pane] = self.air + 1.0 + self.leak * (0.3 + 0.4 * luck[:, 1][pane])
        gloss[pane] = 0.4

    def _shop(self, s, t, colour, heat, glow, gloss) -> None:
        length = self.end - self.start
        board = (t > 2.62) & (t < 3.3) & (s > 0.4) & (s < length - 0.4)
        wide = min(length - 1.6, 0.62 * len(self.sign))
        # letters run the way one reads them from the street
        along = (s if self.side < 0 else length - s) - (length - wide) / 2
        ink = lettering(self.sign, along, t - 2.68, wide, 0.56)
        colour[board] = self.sign_colour
        colour[board] += (np.array((0.85, 0.82, 0.7)) - self.sign_colour) * ink[board][:, None]
        if self.lit:
            glow[board] += np.array((0.9, 0.8, 0.6)) * ink[board][:, None]
        x = np.mod(s - 0.5, 3.0)
        pane = (t > 0.55) & (t < 2.5) & (x > 0.12) & (x < 2.4) & (s > 0.5) & (s < length - 0.5)
        door = (t < 2.5) & (x > 2.45) & (s < length - 0.5)
        colour[(t < 2.6) & (s > 0.4) & (s < length - 0.4)] = np.asarray(self.sign_colour) * 0.7
        goods = noise(s * 3.5, t * 3.5, self.seed + 7, 3)
        wares = np.stack([goods, noise(s * 3.1, t * 2.9, self.seed + 8), 1 - goods], axis=-1)
        low = np.clip((1.7 - t) * 3, 0, 1)
        colour[pane] = 0.05 + 0.16 * (wares * low[:, None])[pane]
        colour[door] = (0.10, 0.06, 0.04)
        if self.lit:
            glow[pane] += (
                (0.12 + 0.30 * (1 - low[:, None]) + 0.55 * wares**2 * low[:, None])
                * (1.3, 1.1, 0.75)
            )[pane]
        heat[pane] = self.air + 1 + 0.9 * self.leak * (0.7 + 0.3 * np.clip(t, 0, 2.5)[pane] / 2.5)
        heat[door] = self.air + 2.5 + 0.5 * self.leak
        gloss[pane] = 0.4

    def _doorway(self, s, t, colour, heat, gloss) -> None:
        x = np.mod(s, 4.6)
        door = (np.abs(x - 1.2) < 0.5) & (t < 2.3)
        frame = (np.abs(x - 1.2) < 0.66) & (t < 2.46)
        pane = (np.abs(x - 3.3) < 0.6) & (np.abs(t - 1.8) < 0.75)
        edge = (np.abs(x - 3.3) < 0.72) & (np.abs(t - 1.8) < 0.87)
        colour[frame | edge] = 0.5
        colour[door] = (0.05, 0.11, 0.07) if self.seed % 2 else (0.16, 0.03, 0.03)
        colour[door & (np.abs(np.mod(t, 1.1) - 0.55) < 0.03)] *= 0.5
        colour[pane] = (0.05, 0.06, 0.08)
        heat[edge | frame] += 0.4 * self.leak
        heat[door] = self.air + 2 + 0.5 * self.leak
        heat[pane] = self.air + 1 + 0.5 * self.leak
        gloss[pane] = 0.4


def terrace(
    side: int, air: float, lit: float, leak: float, seed: int, signs: tuple[str, ...]
) -> list[Face]:
    """Return a row of houses along one side of the street, shops first."""
    rng = np.random.default_rng(seed)
    walls = [((0.36, 0.13, 0.08), True), ((0.52, 0.44, 0.30), False), ((0.30, 0.20, 0.14), True),
             ((0.45, 0.46, 0.44), False), ((0.42, 0.24, 0.13), True)]  # fmt: skip
    boards = [(0.04, 0.16, 0.09), (0.30, 0.04, 0.04), (0.04, 0.08, 0.28)]
    faces, start = [], 2.0
    for number in range(9):
        end = start + rng.uniform(7.5, 11.5)
        wall, bricks = walls[(number + seed) % len(walls)]
        sign = signs[number] if number < len(signs) else ""
        house = House(side, start, end, int(rng.integers(1, 4)), wall, bricks, sign,
                      boards[(number + seed) % 3], lit, air, leak, seed * 16 + number)  # fmt: skip
        faces += house.faces()
        start = end + (2.5 if number == 3 else 0.0)
    return faces


def skyline(air: float, seed: int = 4) -> list[Face]:
    """Return wooded hills and a church tower where the street ends."""

    def hills(s: Array, t: Array) -> Paint:
        ridge = 7.5 + 5 * noise(s * 0.05, 0 * s, seed) + 1.6 * noise(s * 0.5, 0 * s, seed + 1)
        leaf = noise(s * 0.9, t * 0.9, seed + 2, 4)
        return Paint(
            np.array((0.07, 0.10, 0.06)) * (0.4 + 1.2 * leaf)[:, None],
            air - 1 + leaf,
            solid=t < ridge,
        )

    def tower(s: Array, t: Array) -> Paint:
        x = s - 3
        spire = np.abs(x) < np.clip((27 - t) * 0.28, 0, 2.4)
        belfry = (np.abs(np.abs(x) - 0.9) < 0.45) & (np.abs(t - 15.5) < 1.4)
        stone = 0.33 + 0.12 * noise(s, t, seed + 5)
        tint = np.where(t > 18.4, 0.10, np.where(belfry, 0.03, stone))
        return Paint(tint[:, None] * (1, 0.97, 0.9), air + 2 - 0.5 * (t > 18.4), solid=spire)

    def plane(x0: float, x1: float, z: float, height: float, skin: Skin) -> Face:
        corners = [(x0, 0, z), (x1, 0, z), (x1, height, z), (x0, height, z)]
        return Face(corners, skin, (0, 0.4, -1), holes=True)

    return [plane(-60, 60, 112, 16, hills), plane(-6.5, -0.5, 105, 28, tower)]


def sky(
    view: View, zenith: Colour, horizon: Colour, clouds: float, seed: int = 9
) -> tuple[Array, Array]:
    """Return the light of the sky, (h, w, 3), and its temperature, for every sample of a view.

    Args:
        view: The camera.
        zenith: Light from above.
        horizon: Light from the horizon.
        clouds: Share of the sky that is covered.
        seed: Which clouds.
    """
    _, ray = view.rays(slice(0, view.size[0]), slice(0, view.size[1]))
    height = ray[..., 1] / np.linalg.norm(ray, axis=-1)
    climb = np.clip(height, 0, 1)[..., None] ** 0.6
    light = np.asarray(horizon) * (1 - climb) + np.asarray(zenith) * climb
    above = np.maximum(height, 0.04)
    field = noise(2.4 * ray[..., 0] / above * 0.35, 1.0 / above * 0.45, seed, 5)
    cover = np.clip((field - 0.72 + 0.5 * clouds) * 5, 0, 1) * np.clip(height * 12, 0, 1)
    white = np.mean(horizon) * np.array((1.25, 1.23, 1.2)) * (0.75 + 0.5 * field[..., None])
    light = light * (1 - cover[..., None]) + white * cover[..., None]
    heat = -2.0 - 42 * np.clip(height, 0, 1) ** 0.5 + 16 * cover
    return light.astype(np.float32), heat.astype(np.float32)
