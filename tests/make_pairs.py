"""Draw the sample pairs of `tests/data`: `python tests/make_pairs.py [FOLDER]`.

Small street scenes, ray cast with numpy so that no picture of anybody's data set is needed. Both
cameras look at the same faces, which have a colour and, apart from it, a temperature: lettering
and stripes are seen by one of them only, people in the dark by the other.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scenes.cameras import Bulb, Weather, infrared, look, raw_counts, visible, white_hot
from scenes.figures import Car, lamp, person, tree
from scenes.render import View
from scenes.street import Ground, skyline, terrace


class Drawn(NamedTuple):
    """A pair: infrared (H, W) and visible (H, W, 3) RGB or (H, W)."""

    ir: NDArray
    vis: NDArray


def day_street() -> Drawn:
    """Return a sunny street: brick, lettering and colour against bodies, engines and cold sky."""
    air = 14.0
    faces = [
        *Ground(crossing=10.5, words="BUS", words_at=6.2, air=air, stored=3).faces(),
        *skyline(air),
        *terrace(-1, air, 0, 2.5, 1, ("", "BOOKS")),
        *terrace(1, air, 0, 2.5, 2, ("", "RADIO", "TEA")),
        *tree(-4.9, 21, 7.5, 5, air),
        *tree(5.0, 33, 8.5, 6, air),
        *tree(5.4, 23, 5.6, 7, air),
        *Car(-2.7, 19, (0.45, 0.04, 0.03)).faces(air),
        *Car(1.8, 16.5, (0.09, 0.20, 0.42), engine=16, plate="IR 814").faces(air),
        *person(-0.9, 11.6, (0.55, 0.42, 0.06), air=air),
        *person(0.35, 12.3, (0.05, 0.05, 0.06), (0.16, 0.15, 0.2), 0.3, -1, 1.68, air),
        *person(-4.5, 10.2, (0.06, 0.08, 0.06), stride=0.12, facing=0, air=air),
        *person(4.4, 19, (0.4, 0.1, 0.1), stride=0.15, facing=0, air=air),
    ]
    weather = Weather(air, warming=4.0)
    shot = look(View((0.5, 1.9, 0.0), (-0.02, 0.02, 1.0), (240, 320), 290), faces, weather)
    return Drawn(white_hot(infrared(shot, 101)), visible(shot, 0.62, 1.6, 102))


def night_street() -> Drawn:
    """Return the street by night: lamps, lit windows and glare against people in the dark."""
    air = 5.0
    faces = [
        *Ground(crossing=None, words="SLOW", words_at=6.5, air=air, stored=2.5).faces(),
        *skyline(air),
        *terrace(-1, air, 0.35, 4, 3, ("", "", "HOTEL")),
        *terrace(1, air, 0.4, 4, 4, ("", "PHARMACY")),
        *lamp(-4.1, 17, 1.6, lit=True, air=air),
        *lamp(4.1, 30, -1.6, lit=True, air=air),
        *tree(-5.0, 31, 7.0, 8, air),
        *Car(-1.8, 20, (0.25, 0.25, 0.27), towards=True, engine=24, lights=True).faces(air),
        *Car(2.75, 12.5, (0.03, 0.05, 0.04), engine=18, plate="NV 20").faces(air),
        *person(-3.95, 9.2, (0.03, 0.03, 0.04), stride=0.14, facing=0, air=air),
        *person(-6.0, 15.0, (0.05, 0.03, 0.03), stride=0.25, facing=1, height=1.6, air=air),
        *person(0.9, 15.5, (0.02, 0.03, 0.03), stride=0.45, facing=-1, air=air),
        *person(5.0, 18.0, (0.25, 0.22, 0.2), stride=0.1, facing=0, air=air),
    ]
    sodium, beam = (4.2, 2.9, 1.5), (42.0, 40.0, 34.0)
    bulbs = [Bulb((-2.6, 5.6, 17), sodium), Bulb((2.6, 5.6, 30), sodium)]
    bulbs += [Bulb((x, 0.65, 19.9), beam, aim=(-0.02, -0.06, -1), beam=0.012) for x in (-2.4, -1.2)]
    bulbs += [Bulb((6.0, 1.8, 16.5), (1.1, 0.95, 0.7)), Bulb((-6.0, 1.8, 27), (1.1, 0.95, 0.7))]
    weather = Weather(
        air, sunlight=(0, 0, 0), skylight=(0.004, 0.005, 0.009), zenith=(0.001, 0.002, 0.006),
        horizon=(0.006, 0.007, 0.010), clouds=0.4, bulbs=tuple(bulbs),
    )  # fmt: skip
    shot = look(View((0.4, 1.9, 0.0), (-0.01, 0.03, 1.0), (240, 320), 290), faces, weather)
    return Drawn(white_hot(infrared(shot, 201)), visible(shot, 2.2, 2.6, 202))


def smoke() -> Drawn:
    """Return a street with a cloud of smoke that only the infrared camera sees through."""
    air = 17.0
    faces = [
        *Ground(crossing=15.5, air=air, stored=3).faces(),
        *skyline(air),
        *terrace(-1, air, 0, 2.5, 5, ("", "GARAGE")),
        *terrace(1, air, 0, 2.5, 6, ("", "OPTICS")),
        *tree(5.1, 19, 6.5, 9, air),
        *lamp(-4.1, 16, 1.4, lit=False, air=air),
        *Car(-2.4, 16, (0.55, 0.55, 0.52), towards=True, engine=15).faces(air),
        *person(-0.6, 13.6, (0.10, 0.14, 0.08), stride=0.42, facing=1, air=air),
        *person(-3.6, 14.0, (0.35, 0.12, 0.05), stride=0.2, facing=-1, height=1.7, air=air),
        *person(1.2, 12.9, (0.05, 0.07, 0.16), stride=0.3, facing=-1, air=air),
        *person(3.0, 9.0, (0.5, 0.5, 0.52), stride=0.13, facing=0, air=air),
    ]
    weather = Weather(air, sunlight=(0.5, 0.5, 0.5), clouds=1.1, warming=1.5, fog=160, smoke=10.0)
    shot = look(View((0.2, 1.9, 0.0), (-0.02, 0.02, 1.0), (240, 320), 290), faces, weather)
    return Drawn(white_hot(infrared(shot, 301)), visible(shot, 0.7, 1.2, 302))


def thermal16() -> Drawn:
    """Return a view from a mast in the evening, the infrared in raw 16-bit counts."""
    air = 11.0
    faces = [
        *Ground(crossing=14.0, words="STOP", words_at=10.6, air=air, stored=4).faces(),
        *skyline(air),
        *terrace(-1, air, 0.1, 3, 7, ("", "", "MARKET")),
        *terrace(1, air, 0.1, 3, 8, ("", "CINEMA", "TEA")),
        *tree(-5.0, 19, 6.5, 11, air),
        *tree(5.0, 25, 7.5, 12, air),
        *Car(1.75, 23, (0.50, 0.40, 0.10), engine=26, lights=True, plate="CT 16").faces(air),
        *Car(-2.6, 11.0, (0.06, 0.16, 0.12), towards=True).faces(air),
        *Car(-1.7, 27.0, (0.4, 0.05, 0.05), towards=True, engine=22, lights=True).faces(air),
        *person(-1.2, 15.0, (0.50, 0.14, 0.22), stride=0.4, facing=1, air=air),
        *person(-0.1, 15.3, (0.12, 0.22, 0.5), stride=0.35, facing=1, height=1.25, air=air),
        *person(4.6, 12.5, (0.12, 0.10, 0.08), stride=0.15, facing=0, air=air),
        *person(5.4, 13.2, (0.44, 0.42, 0.36), stride=0.12, facing=0, height=1.66, air=air),
    ]
    weather = Weather(
        air, sun=(0.62, 0.42, -0.65), sunlight=(3.0, 2.2, 1.4), skylight=(0.6, 0.66, 0.85),
        zenith=(0.22, 0.34, 0.75), horizon=(1.3, 1.05, 0.85), clouds=0.6, warming=3.0,
    )  # fmt: skip
    shot = look(View((0.3, 4.6, 0.0), (-0.01, -0.14, 1.0), (256, 320), 300), faces, weather)
    return Drawn(raw_counts(infrared(shot, 401)), visible(shot, 0.62, 1.6, 402))


def odd_317x211() -> Drawn:
    """Return a dull evening seen from the pavement, both sides grey, in a size of two primes."""
    air = 9.0
    faces = [
        *Ground(crossing=12.0, air=air, stored=3).faces(),
        *skyline(air),
        *terrace(-1, air, 0.15, 4, 9, ("", "FLOWERS", "BANK")),
        *terrace(1, air, 0.15, 4, 10, ("", "POST")),
        *lamp(4.2, 19, -1.5, lit=True, air=air),
        *tree(-4.6, 16, 6.0, 13, air),
        *Car(1.8, 11.5, (0.3, 0.3, 0.31), engine=14, lights=True, plate="P 317").faces(air),
        *person(-4.9, 7.5, (0.10, 0.10, 0.10), stride=0.14, facing=0, air=air),
        *person(-4.1, 12.0, (0.3, 0.3, 0.3), stride=0.1, facing=0, height=1.62, air=air),
        *person(-1.6, 13.4, (0.04, 0.04, 0.04), stride=0.45, facing=1, air=air),
    ]
    weather = Weather(
        air, sunlight=(0, 0, 0), skylight=(0.16, 0.17, 0.2), zenith=(0.10, 0.12, 0.18),
        horizon=(0.22, 0.22, 0.24), clouds=1.0, fog=300,
        bulbs=(Bulb((2.7, 5.6, 19), (6.0, 5.0, 4.0)),),
    )  # fmt: skip
    shot = look(View((-3.0, 1.8, 0.0), (0.12, 0.0, 1.0), (211, 317), 270), faces, weather)
    colour = visible(shot, 2.4, 2.2, 502)
    return Drawn(white_hot(infrared(shot, 501)), cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY))


PAIRS: dict[str, tuple[Callable[[], Drawn], str, str]] = {
    "day_street": (day_street, ".png", ".png"),
    "night_street": (night_street, ".png", ".png"),
    "smoke": (smoke, ".png", ".jpg"),
    "thermal16": (thermal16, ".tiff", ".png"),
    "odd_317x211": (odd_317x211, ".png", ".jpg"),
}  # key: (how to draw it, suffix of the infrared file, suffix of the visible file)

WRITING = {
    ".png": [cv2.IMWRITE_PNG_COMPRESSION, 9],
    ".jpg": [cv2.IMWRITE_JPEG_QUALITY, 92],
    ".tiff": [cv2.IMWRITE_TIFF_COMPRESSION, 8],  # Deflate
}


def encode(pixels: NDArray, suffix: str) -> bytes:
    """Return the bytes of an image file."""
    bgr = pixels[..., ::-1] if pixels.ndim == 3 else pixels
    return cv2.imencode(suffix, np.ascontiguousarray(bgr), WRITING[suffix])[1].tobytes()


def main(folder: Path) -> None:
    """Write `ir/` and `vis/` below a folder."""
    for key, (draw, *suffixes) in PAIRS.items():
        for side, pixels, suffix in zip(("ir", "vis"), draw(), suffixes, strict=True):
            path = folder / side / f"{key}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode(pixels, suffix))
            print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "data")
