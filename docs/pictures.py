"""Make the pictures of the documentation from the sample pairs: `python docs/pictures.py`.

Street scenes by day and by night: infrared, visible, and what `fusecli.fuse` makes of them.
"""

from pathlib import Path

import cv2
import numpy as np

import fusecli
from fusecli.io import images

ROOT = Path(__file__).parents[1]
DATA = ROOT / "tests" / "data"
SCENES = ("day_street", "night_street")
GAP = 6  # pixels of white between the pictures


def as_colour(pixels: np.ndarray) -> np.ndarray:
    """Return (H, W, 3) of any 8-bit picture."""
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)


def row(scene: str, model: str) -> np.ndarray:
    """Return infrared, visible and fused image of one scene side by side."""
    pair = [images.read(str(DATA / side / f"{scene}.png")).pixels for side in ("ir", "vis")]
    shown = [as_colour(pixels) for pixels in (*pair, fusecli.fuse(*pair, model))]
    gap = np.full((shown[0].shape[0], GAP, 3), 255, np.uint8)
    return np.concatenate([shown[0], gap, shown[1], gap, shown[2]], axis=1)


def sheet(model: str = "duet") -> np.ndarray:
    """Return the rows of all scenes below each other."""
    rows = [row(scene, model) for scene in SCENES]
    gap = np.full((GAP, rows[0].shape[1], 3), 255, np.uint8)
    return np.concatenate([rows[0], *(part for r in rows[1:] for part in (gap, r))])


def main() -> None:
    """Write `docs/images/streets.jpg`."""
    pixels = cv2.cvtColor(sheet(), cv2.COLOR_RGB2BGR)
    data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 88])[1]
    (ROOT / "docs" / "images" / "streets.jpg").write_bytes(data.tobytes())


if __name__ == "__main__":
    main()
