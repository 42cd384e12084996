"""Sheets that show a fused image beside its sources."""

from __future__ import annotations

import cv2
import numpy as np

GAP = 4  # white pixels between panels
SQUARES = 8  # of the checkerboard, along the shorter side
ZOOM = 3


def _colour(image: np.ndarray) -> np.ndarray:
    three = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    return np.clip(three, 0, 1).astype(np.float32)


def _beside(panels: list[np.ndarray]) -> np.ndarray:
    gap = np.ones((panels[0].shape[0], GAP, 3), np.float32)
    row = [panels[0]]
    for panel in panels[1:]:
        row += [gap, panel]
    return np.concatenate(row, axis=1)


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


def compare(ir: np.ndarray, vis: np.ndarray, fused: np.ndarray, kind: str) -> np.ndarray:
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
        edge = max(1, min(height, width) // SQUARES)
        rows, columns = np.indices((height, width)) // edge
        odd = ((rows + columns) % 2 == 1)[..., None]
        return _beside([np.where(odd, panels[1], panels[0]), panels[2]])
    part = max(1, height // ZOOM), max(1, width // ZOOM)
    top, left = busiest(ir, vis, *part)
    crops = [panel[top : top + part[0], left : left + part[1]] for panel in panels]
    size = (part[1] * ZOOM, part[0] * ZOOM)
    return _beside([cv2.resize(crop, size, interpolation=cv2.INTER_NEAREST) for crop in crops])
