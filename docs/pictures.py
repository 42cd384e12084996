"""Make the pictures of the documentation from the sample pairs: `python docs/pictures.py`.

Street scenes by day and by night: infrared, visible, what the default network makes of them, and
in a second sheet what every network with shipped weights does.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

import fusecli
from fusecli import checkpoint, images, models

ROOT = Path(__file__).parents[1]
DATA = ROOT / "tests" / "data"
SCENES = ("day_street", "night_street")
DEFAULT = "duet"
COLUMNS = 4  # of the sheet of all networks
GAP = 6  # pixels of white between the pictures
TITLE = 20  # rows of white above a picture, for its name


def pair(scene: str) -> list[np.ndarray]:
    """Return the infrared and the visible pixels of a scene."""
    return [images.read(str(DATA / side / f"{scene}.png")).pixels for side in ("ir", "vis")]


def as_colour(pixels: np.ndarray) -> np.ndarray:
    """Return (H, W, 3) of any 8-bit picture."""
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)


def titled(pixels: np.ndarray, title: str) -> np.ndarray:
    """Return a picture below its name."""
    strip = np.full((TITLE, pixels.shape[1], 3), 255, np.uint8)
    cv2.putText(strip, title, (2, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (40, 40, 40), 1, cv2.LINE_AA)
    return np.concatenate([strip, as_colour(pixels)])


def joined(pictures: Sequence[np.ndarray], axis: int) -> np.ndarray:
    """Return pictures side by side (axis 1) or below each other (axis 0)."""
    shape = list(pictures[0].shape)
    shape[axis] = GAP
    gap = np.full(shape, 255, np.uint8)
    parts = [part for picture in pictures for part in (gap, picture)]
    return np.concatenate(parts[1:], axis=axis)


def default_sheet() -> np.ndarray:
    """Return a row per scene: infrared, visible, fused by the default network."""
    rows = []
    for scene in SCENES:
        ir, vis = pair(scene)
        shown = [ir, vis, fusecli.fuse(ir, vis, DEFAULT)]
        rows.append(joined([as_colour(pixels) for pixels in shown], axis=1))
    return joined(rows, axis=0)


def networks_sheet() -> np.ndarray:
    """Return the scenes fused by every network that has weights, beside their sources."""
    shipped = {entry.name for entry in checkpoint.entries()}
    names = [name for name in models.fusers() if name in shipped]
    rows = []
    for scene in SCENES:
        ir, vis = pair(scene)
        fused = {name: fusecli.fuse(ir, vis, name) for name in names}
        shown = {"infrared": ir, "visible": vis, **fused}
        blank = np.full_like(as_colour(ir), 255)
        cells = [titled(pixels, title) for title, pixels in shown.items()]
        cells += [titled(blank, "")] * (-len(cells) % COLUMNS)
        rows += [joined(cells[at : at + COLUMNS], axis=1) for at in range(0, len(cells), COLUMNS)]
    return joined(rows, axis=0)


def main() -> None:
    """Write `docs/images/streets.jpg` and `docs/images/networks.jpg`."""
    for name, sheet in (("streets", default_sheet()), ("networks", networks_sheet())):
        pixels = cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR)
        data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 88])[1]
        (ROOT / "docs" / "images" / f"{name}.jpg").write_bytes(data.tobytes())


if __name__ == "__main__":
    main()
