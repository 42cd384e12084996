"""Drawn scenes seen by two cameras: the same outlines, other brightness, other texture."""

import cv2
import numpy as np
import torch

from fusecli.fields import corners, matrix_field, transform_points
from fusecli.ops.resample import resample

SIZE = (192, 256)


def scene(seed: int = 0, size: tuple[int, int] = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Return a visible and an infrared view, (H, W) float32 in about 0..255."""
    generator = np.random.default_rng(seed)
    visible = np.full(size, 120, np.float32)
    infrared = np.full(size, 80, np.float32)
    for _ in range(40):
        middle = generator.uniform(0, 1, 2) * size[::-1]
        points = middle + generator.uniform(-30, 30, (generator.integers(3, 6), 2))
        hull = cv2.convexHull(points.astype(np.float32)).astype(np.int32)
        cv2.fillPoly(visible, [hull], float(generator.uniform(20, 235)))
        cv2.fillPoly(infrared, [hull], float(generator.uniform(20, 235)))
    visible = cv2.GaussianBlur(visible, (0, 0), 0.8) + generator.normal(0, 3, size)
    infrared = cv2.GaussianBlur(infrared, (0, 0), 1.2) + generator.normal(0, 3, size)
    return visible.astype(np.float32), infrared.astype(np.float32)


def moved(image: np.ndarray, forward: np.ndarray) -> np.ndarray:
    """Return the image whose content has gone along `forward` (fixed to moving)."""
    back = matrix_field(np.linalg.inv(forward), image.shape)
    tensor = torch.from_numpy(image)[None, None]
    return resample(tensor, back, "cubic", "replicate")[0, 0].numpy()


def distance(one: np.ndarray, other: np.ndarray, size: tuple[int, int] = SIZE) -> float:
    """Return how far apart two matrices put the corners, on average, in pixels."""
    points = corners(size)
    gap = transform_points(one, points) - transform_points(other, points)
    return float(np.linalg.norm(gap, axis=1).mean())
