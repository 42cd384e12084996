"""Pictures for the eye: of a registration or a warp, and sheets that show a fused image beside its
sources.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

SQUARES = 8  # of the checkerboard, along the shorter side
LINES = 16  # of the grid, along the shorter side
GAP = 4  # white pixels between the panels of a sheet
ZOOM = 3  # times, of its busiest part


def checker(fixed: np.ndarray, moved: np.ndarray, covered: np.ndarray) -> Pixels:
    """Return squares of the two images in turn: edges run on where they are registered.

    Args:
        fixed: (H, W) in 0..1.
        moved: (H, W) in 0..1, on the same grid.
        covered: (H, W) bool, where `moved` has data.
    """
    return _grey(np.where(_squares(*fixed.shape) & covered, moved, fixed))


def overlay(fixed: np.ndarray, moved: np.ndarray, covered: np.ndarray) -> Pixels:
    """Return the fixed image in cyan with the moved one in red: what fits is grey or one colour.

    Args:
        fixed: (H, W) in 0..1.
        moved: (H, W) in 0..1, on the same grid.
        covered: (H, W) bool, where `moved` has data.
    """
    red = np.where(covered, moved, fixed)
    return _bytes(np.dstack((red, fixed, fixed)))


def wheel(field: np.ndarray) -> Pixels:
    """Return a displacement field in colours, with the key and the largest length drawn in.

    The hue is the direction (red to the right, then clockwise through yellow down), the saturation
    the length as a share of the largest.

    Args:
        field: (H, W, 2) in pixels, (dx, dy).

    Source:
        Baker et al., A database and evaluation methodology for optical flow, IJCV 92, 2011, for
        the idea of the key.
    """
    height, width = field.shape[:2]
    largest = float(np.hypot(field[..., 0], field[..., 1]).max())
    picture = _hues(field / max(largest, 1e-9))
    radius = max(6, min(height, width) // 10)
    if min(height, width) > 4 * radius:
        y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1] / radius
        inner = np.hypot(x, y) <= 1
        corner = np.s_[4 : 4 + 2 * radius + 1, 4 : 4 + 2 * radius + 1]
        picture[corner][inner] = _hues(np.dstack((x, y)))[inner]
        cv2.circle(picture, (4 + radius, 4 + radius), radius, (0, 0, 0), 1, cv2.LINE_AA)
        _label(picture, f"{largest:.1f} px", (8, 2 * radius + 22))
    return picture


def grid(moved: np.ndarray, backward: np.ndarray) -> Pixels:
    """Return a warped image with the square grid of the clean image drawn as it came to lie.

    Args:
        moved: The warped image, (H, W) in 0..1.
        backward: (H, W, 2), where each of its pixels was read from, (dx, dy).
    """
    height, width = moved.shape
    spacing = max(4, min(height, width) // LINES)
    y, x = np.mgrid[0:height, 0:width]
    picture = _grey(0.15 + 0.6 * moved)
    for place, axis in ((x + backward[..., 0], 1), (y + backward[..., 1], 0)):
        # a line runs where the place read crosses a multiple of the spacing
        phase = place / spacing
        distance = np.abs(phase - np.rint(phase)) * spacing
        slope = np.abs(np.gradient(place, axis=axis))
        ink = np.clip(1.0 - distance / np.maximum(slope, 1e-3), 0, 1)[..., None]
        picture = _bytes((picture * (1 - ink) + np.array([255, 220, 0]) * ink) / 255)
    return picture


def sheet(ir: np.ndarray, vis: np.ndarray, fused: np.ndarray, kind: str) -> np.ndarray:
    """Return a sheet that compares a result with its sources.

    Args:
        ir: (H, W) in 0..1.
        vis: (H, W) or (H, W, 3) in 0..1.
        fused: (H, W) or (H, W, 3).
        kind: `side` (infrared, visible, fused in a row), `checker` (squares of infrared and visible
            beside the fused image) or `zoom` (the busiest part of all three, enlarged).

    Returns:
        (H', W', 3) in 0..1.
    """
    panels = [_colour(image) for image in (ir, vis, fused)]
    if kind == "side":
        return _beside(panels)
    height, width = ir.shape
    if kind == "checker":
        turn = _squares(height, width)[..., None]
        return _beside([np.where(turn, panels[1], panels[0]), panels[2]])
    part = max(1, height // ZOOM), max(1, width // ZOOM)
    top, left = busiest(ir, vis, *part)
    crops = [panel[top : top + part[0], left : left + part[1]] for panel in panels]
    size = (part[1] * ZOOM, part[0] * ZOOM)
    return _beside([cv2.resize(crop, size, interpolation=cv2.INTER_NEAREST) for crop in crops])


def busiest(ir: np.ndarray, vis: np.ndarray, height: int, width: int) -> tuple[int, int]:
    """Return (top, left) of the window where both images together vary most."""
    grey = vis if vis.ndim == 2 else vis.mean(axis=2)
    energy = np.zeros(ir.shape, np.float32)
    for image in (ir, grey):
        energy += np.abs(cv2.Laplacian(image.astype(np.float32), cv2.CV_32F))
    total = cv2.boxFilter(
        energy, -1, (width, height), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT
    )
    rows, columns = ir.shape[0] - height + 1, ir.shape[1] - width + 1
    top, left = np.unravel_index(int(total[:rows, :columns].argmax()), (rows, columns))
    return int(top), int(left)


def _squares(height: int, width: int) -> np.ndarray:
    """Return (H, W) bool, true on every other square of a checkerboard."""
    edge = max(1, min(height, width) // SQUARES)
    rows, columns = np.indices((height, width)) // edge
    return np.asarray((rows + columns) % 2 == 1)


def _hues(unit: np.ndarray) -> Pixels:
    """Return vectors of length 0..1 as colours: white for none, full colour at 1."""
    angle = np.rad2deg(np.arctan2(unit[..., 1], unit[..., 0])) % 360
    length = np.clip(np.hypot(unit[..., 0], unit[..., 1]), 0, 1)
    hsv = np.dstack((angle, length, np.ones_like(length))).astype(np.float32)
    return _bytes(np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)))


def _label(picture: Pixels, text: str, place: tuple[int, int]) -> None:
    """Write black text with a white rim, to be read on any colour."""
    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.5
    cv2.putText(picture, text, place, font, size, (255, 255, 255), 3, cv2.LINE_AA)
    cv2.putText(picture, text, place, font, size, (0, 0, 0), 1, cv2.LINE_AA)


def _grey(image: np.ndarray) -> Pixels:
    return _bytes(np.repeat(image[..., None], 3, axis=2))


def _bytes(unit: np.ndarray) -> Pixels:
    return np.asarray(np.rint(255 * np.clip(unit, 0, 1)), np.uint8)


def _colour(image: np.ndarray) -> np.ndarray:
    three = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    return np.clip(three, 0, 1).astype(np.float32)


def _beside(panels: list[np.ndarray]) -> np.ndarray:
    gap = np.ones((panels[0].shape[0], GAP, 3), np.float32)
    row = [panels[0]]
    for panel in panels[1:]:
        row += [gap, panel]
    return np.concatenate(row, axis=1)
