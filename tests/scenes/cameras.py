"""From what the rays met to what the two cameras deliver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scenes.figures import Colour
from scenes.render import Array, Face, Hits, View, noise, openness, shoot, sunlit
from scenes.street import sky

SAMPLES = 3  # per pixel and axis
Place = tuple[float, float, float]


@dataclass(frozen=True)
class Bulb:
    """A lamp that lights its surroundings; `aim` and `beam` make it a headlight."""

    place: Place
    light: Colour
    aim: Place | None = None
    beam: float = 0.0


@dataclass(frozen=True)
class Weather:
    """Light, air and heat of a scene.

    Args:
        air: Temperature outside, degrees Celsius.
        sun: Direction to the sun.
        sunlight: Its light; zeros by night.
        skylight: Light from the whole sky.
        zenith: Colour of the sky above.
        horizon: Colour of the sky low down.
        clouds: Share covered.
        warming: Degrees that full sun adds to a surface.
        fog: Distance at which fog hides things, metres; 0 for clear air.
        smoke: Where a drifting cloud of smoke begins, metres ahead; 0 for none.
        bulbs: Lamps.
    """

    air: float = 15.0
    sun: Place = (-0.32, 0.62, -0.75)
    sunlight: Colour = (2.6, 2.4, 2.1)
    skylight: Colour = (0.75, 0.85, 1.0)
    zenith: Colour = (0.20, 0.40, 0.95)
    horizon: Colour = (0.95, 1.1, 1.3)
    clouds: float = 0.5
    warming: float = 6.0
    fog: float = 0.0
    smoke: float = 0.0
    bulbs: tuple[Bulb, ...] = ()


@dataclass(frozen=True)
class Shot:
    """A scene seen through both cameras: linear light (H, W, 3) and degrees (H, W)."""

    light: Array
    heat: Array


def look(view: View, faces: Sequence[Face], weather: Weather) -> Shot:
    """Render light and apparent temperature at the resolution of the pictures.

    Args:
        view: Camera with its size in pixels.
        faces: The scene.
        weather: Sun, air and lamps.
    """
    size = (view.size[0] * SAMPLES, view.size[1] * SAMPLES)
    fine = View(view.eye, view.ahead, size, view.scale * SAMPLES)
    hits = shoot(fine, faces)
    nothing = ~np.isfinite(hits.depth)
    sun = (
        sunlit(hits.place, faces, weather.sun)
        if any(weather.sunlight)
        else np.zeros_like(hits.depth)
    )
    open_sky = openness(hits.place, faces, SAMPLES)
    towards = np.asarray(weather.sun) / np.linalg.norm(weather.sun)
    sun *= np.clip(hits.normal @ towards, 0, 1)

    light = hits.colour * _arriving(hits, weather, sun, open_sky) + hits.glow
    heat = hits.heat + weather.warming * cv2.GaussianBlur(sun, (0, 0), 1.5 * SAMPLES)
    heat += (-18.0 - heat) * hits.gloss * (0.25 + 0.5 * open_sky)
    heat += 1.2 * (0.5 - open_sky)  # sheltered surfaces cool less
    above, cold = sky(fine, weather.zenith, weather.horizon, weather.clouds)
    light[nothing], heat[nothing] = above[nothing], weather.air + cold[nothing]

    depth = np.where(nothing, 400.0, hits.depth)
    through = np.exp(-depth / 900.0)
    if weather.fog:
        through = through * np.exp(-2.2 * depth / weather.fog)
    veil = np.mean(weather.horizon) * np.array((0.80, 0.83, 0.86)) * 0.8
    light = light * through[..., None] + veil * (1 - through[..., None])
    if weather.smoke:
        clear, tint = _smoke(fine, depth, weather.smoke)
        light = light * clear[..., None] + veil * (tint * (1 - clear))[..., None]
        heat += 0.5 * (1 - clear)
    haze = (
        np.exp(-depth / (260.0 if not weather.fog else 3.0 * weather.fog)) * ~nothing
        + nothing * 0.85
    )
    heat = weather.air + (heat - weather.air) * haze
    shrink = (view.size[1], view.size[0])
    return Shot(
        cv2.resize(light.astype(np.float32), shrink, interpolation=cv2.INTER_AREA),
        cv2.resize(heat.astype(np.float32), shrink, interpolation=cv2.INTER_AREA),
    )


def visible(shot: Shot, exposure: float, grain: float, seed: int) -> NDArray[np.uint8]:
    """Return an 8-bit RGB photograph: glare, sensor noise, film curve.

    Args:
        shot: What the lens sees.
        exposure: Gain before the curve.
        grain: Noise of a mid-grey pixel, in grey levels.
        seed: Of the noise.
    """
    light = shot.light * exposure
    dazzle = np.maximum(light - 1.5, 0)
    for sigma, share in ((1.2, 0.25), (5.0, 0.10), (22.0, 0.035)):
        light = light + share * cv2.GaussianBlur(dazzle, (0, 0), sigma)
    light = cv2.GaussianBlur(light, (0, 0), 0.45)
    curve = np.clip(1 - np.exp(-1.25 * light), 0, 1) ** (1 / 2.2)
    rng = np.random.default_rng(seed)
    speckle = rng.standard_normal(curve.shape).astype(np.float32)
    speckle = speckle - 0.35 * cv2.GaussianBlur(speckle, (0, 0), 0.8)
    shadows = 1.4 - 0.8 * curve.mean(axis=2, keepdims=True)
    return np.rint(np.clip(255 * curve + grain * shadows * speckle, 0, 255)).astype(np.uint8)


def infrared(shot: Shot, seed: int, netd: float = 0.12) -> Array:
    """Return the degrees that an uncooled camera measures.

    A soft lens, the dark halo of its filter around hot things, noise of each pixel and of each
    column.

    Args:
        shot: What the lens sees.
        seed: Of the noise.
        netd: Noise-equivalent temperature difference, degrees.
    """
    heat = cv2.GaussianBlur(shot.heat, (0, 0), 0.75)
    hot = np.maximum(heat - np.percentile(heat, 85), 0)
    heat = heat - 0.30 * np.maximum(cv2.GaussianBlur(hot, (0, 0), 6.0) - 0.5 * hot, 0)
    rng = np.random.default_rng(seed)
    columns = rng.standard_normal((1, heat.shape[1]))
    return (heat + netd * rng.standard_normal(heat.shape) + 0.6 * netd * columns).astype(np.float32)


def white_hot(degrees: Array, plateau: float = 0.012, share: float = 0.6) -> NDArray[np.uint8]:
    """Return 8 bits by plateau equalisation, the automatic gain of most thermal cameras.

    Args:
        degrees: (H, W).
        plateau: Largest part of the grey scale that one of 256 bins may claim.
        share: Weight of the equalised curve; the rest is linear.
    """
    low, high = np.percentile(degrees, (0.5, 99.9))
    counts, edges = np.histogram(degrees, 256, (low, high))
    claims = np.minimum(counts / degrees.size, plateau)
    curve = np.concatenate([[0], np.cumsum(claims)]) / claims.sum()
    equal, linear = np.interp(degrees, edges, curve), (degrees - low) / (high - low)
    return np.rint(255 * np.clip(share * equal + (1 - share) * linear, 0, 1)).astype(np.uint8)


def raw_counts(degrees: Array) -> NDArray[np.uint16]:
    """Return 16-bit counts of a radiometric camera, 30 counts a degree around 7,400 at zero."""
    return np.rint(7400 + 30.0 * degrees).clip(0, 65535).astype(np.uint16)


def _arriving(hits: Hits, weather: Weather, sun: Array, open_sky: Array) -> Array:
    upward = 0.65 + 0.35 * hits.normal[..., 1]
    total = sun[..., None] * np.asarray(weather.sunlight)
    total = total + (open_sky**1.2 * upward + 0.06)[..., None] * np.asarray(weather.skylight)
    for bulb in weather.bulbs:
        way = np.asarray(bulb.place) - hits.place
        distance = np.linalg.norm(way, axis=-1) + 1e-6
        facing = np.clip((way * hits.normal).sum(-1) / distance, 0, 1) * 0.85 + 0.15
        strength = facing / (0.6 + distance**2)
        if bulb.aim is not None:
            aim = np.asarray(bulb.aim) / np.linalg.norm(bulb.aim)
            cosine = -(way @ aim) / distance
            strength = strength * np.exp(-(1 - cosine) / bulb.beam)
        total = total + strength[..., None] * np.asarray(bulb.light)
    return total.astype(np.float32)


def _smoke(view: View, depth: Array, begins: float) -> tuple[Array, Array]:
    """Return how much light comes through a drifting cloud, and how bright its own light is."""
    _, ray = view.rays(slice(0, view.size[0]), slice(0, view.size[1]))
    clear = np.ones(depth.shape, np.float32)
    tint = np.full(depth.shape, 1.0, np.float32)
    for layer in range(16):  # slices through it; noise drifts slowly from one to the next
        z = begins + 0.35 * layer
        x, y = ray[..., 0] * z + view.eye[0], ray[..., 1] * z + view.eye[1]
        billow = noise(x * 0.5 + 0.11 * layer, y * 0.5 - 0.17 * layer, 40, 5)
        rise = 2.0 - 0.22 * (x + 0.9 - 0.25 * y) ** 2 - 0.24 * y
        ramp = min(1.0, 0.08 * (layer + 1))
        density = np.clip(rise + 5.0 * (billow - 0.52), 0, 1.6) * ramp
        veil = np.exp(-0.5 * density * (depth > z))
        tint += clear * (1 - veil) * 1.3 * (billow - 0.55)
        clear *= veil
    return clear, tint
