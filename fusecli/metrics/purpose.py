"""What fusion is for, on whole pictures: even surfaces, no halos, the edges of both sources.

The usual scores rank a near copy of the visible image first. These ask what a viewer asks: does a
hot surface stay even, and as bright as it is hot; does a rim of light appear that no source has;
are the edges of each source there? They look at the luma, and need no labels.
"""

import math
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np
from torch import Tensor

from fusecli.metrics import Samples, metric
from fusecli.metrics.scene import Plane, once

SOURCE = "fusecli, docs/metrics.md"
CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
CUT = 4  # standard deviations at which a Gaussian ends
STRONG = 12.0  # levels a pixel: an edge that casts a halo
NEAR, FAR = (3, 14), (22, 45)  # pixels from it: where a halo lies, and what it is compared with
AROUND = 15.0  # standard deviation of the two means, pixels
ALIKE = 6.0  # levels between near and far below which a source has no step of its own
SPARSE = 0.05  # share of a window below which its mean says nothing

Images = list[np.ndarray]
"""(H, W) float64 each."""


@once
def greys(plane: Plane) -> Images:
    """Return the luma of each image in whole grey levels."""
    pixels = plane.pixels.cpu().numpy()
    if pixels.shape[1] == 3:
        red, green, blue = np.moveaxis(pixels, 1, 0)
        pixels = np.rint((299 * red + 587 * green + 114 * blue) / 1000)[:, None]
    return list(pixels[:, 0])


def blur(image: np.ndarray, sigma: float, border: int = cv2.BORDER_REPLICATE) -> np.ndarray:
    """Return the image smoothed with a Gaussian, (H, W) float64."""
    size = 2 * math.ceil(CUT * sigma) + 1
    smooth: np.ndarray = cv2.GaussianBlur(image, (size, size), sigma, None, sigma, border)
    return smooth


def gradient(image: np.ndarray, sigma: float) -> np.ndarray:
    """Return the gradient of the smoothed image, (2, H, W): levels a pixel right and down."""
    reach = np.arange(-math.ceil(CUT * sigma), math.ceil(CUT * sigma) + 1.0)
    bell = np.exp(-(reach**2) / (2 * sigma**2))
    bell /= bell.sum()
    steep = bell * reach / sigma**2
    across = cv2.sepFilter2D(image, cv2.CV_64F, steep, bell, borderType=cv2.BORDER_REPLICATE)
    down = cv2.sepFilter2D(image, cv2.CV_64F, bell, steep, borderType=cv2.BORDER_REPLICATE)
    return np.stack([across, down])


@once
def edges(plane: Plane) -> Images:
    """Return the gradient of each image at sigma 1, (2, H, W)."""
    return [gradient(image, 1) for image in greys(plane)]


def per_image(plane: Plane, values: list[float]) -> Tensor:
    """Return one number per image as a metric's result, (B, 1)."""
    return plane.pixels.new_tensor(values)[:, None]


# ---- hot surfaces


class Surface(NamedTuple):
    """A flat hot region of the infrared image.

    Args:
        rows: Its rows.
        columns: Its columns.
        inside: (h, w) bool within those.
        weight: Root of the number of its pixels.
    """

    rows: slice
    columns: slice
    inside: np.ndarray
    weight: float

    def level(self, image: np.ndarray) -> float:
        """Return the mean grey level on it."""
        return float(image[self.rows, self.columns][self.inside].mean())

    def spread(self, image: np.ndarray) -> float:
        """Return the standard deviation of what is smoother than sigma 6, seen inside alone."""
        own = self.inside.astype(np.float64)
        seen = blur(image[self.rows, self.columns] * own, 6, cv2.BORDER_CONSTANT)
        smooth = seen[self.inside] / blur(own, 6, cv2.BORDER_CONSTANT)[self.inside]
        return float(smooth.std())


def _eroded(mask: np.ndarray, pixels: int) -> np.ndarray:
    """Return the mask without its rim, also at the border of the image."""
    inner = cv2.erode(np.pad(mask, 1), CROSS, iterations=pixels, borderType=cv2.BORDER_REPLICATE)
    return inner[1:-1, 1:-1]


def _filled(mask: np.ndarray) -> np.ndarray:
    """Return the mask with its holes filled; what reaches the border of the image is no hole."""
    _, parts = cv2.connectedComponents(np.pad(1 - mask, 1, constant_values=1), connectivity=4)
    return (parts[1:-1, 1:-1] != parts[0, 0]).astype(np.uint8)


@once
def surfaces(ir: Plane) -> list[list[Surface]]:
    """Return the flat hot surfaces of each infrared image."""
    found = []
    for image in greys(ir):
        flat = np.hypot(*gradient(image, 2)) < 2.5
        mask = (flat & (blur(image, 2) > np.median(image) + 30)).astype(np.uint8)
        mask = cv2.dilate(_eroded(mask, 2), CROSS, iterations=2)
        mask = _eroded(_filled(mask), 3)
        _, parts, boxes, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
        found.append(
            [
                Surface(
                    slice(top, top + height),
                    slice(left, left + width),
                    parts[top : top + height, left : left + width] == number,
                    math.sqrt(area),
                )
                for number, (left, top, width, height, area) in enumerate(boxes.tolist())
                if number > 0 and area >= 300
            ]
        )
    return found


@once
def _limits(ir: Plane, vis: Plane) -> list[list[float]]:
    """Return the larger spread of the two sources on every surface."""
    return [
        [max(surface.spread(a), surface.spread(b)) for surface in found]
        for a, b, found in zip(greys(ir), greys(vis), surfaces(ir), strict=True)
    ]


purpose = partial(metric, source=SOURCE)


@purpose(
    "uneven",
    label="uneven",
    about="spread of flat hot surfaces beyond that of the sources, levels; mean over surfaces, "
    "weighted by the root of the area",
    direction="lower",
    range=(0, 128),
    over="surfaces",
)
def unevenness(ir: Plane, vis: Plane, fused: Plane) -> list[Samples]:
    """Return for each surface how much less even it is than in either source."""
    return [
        Samples.of(
            (max(surface.spread(image) - limit, 0), surface.weight)
            for surface, limit in zip(found, limits, strict=True)
        )
        for image, found, limits in zip(greys(fused), surfaces(ir), _limits(ir, vis), strict=True)
    ]


@purpose(
    "level",
    label="level",
    about="brightness of hot surfaces 30 levels over the visible image: 0 as there, 1 as in the "
    "infrared; mean over surfaces, weighted by the root of the area",
    direction="one",
    range=(-255 / 30, 255 / 30),
    over="surfaces",
)
def surface_level(ir: Plane, vis: Plane, fused: Plane) -> list[Samples]:
    """Return for each surface where it lies between both sources."""
    samples = []
    for a, b, image, found in zip(greys(ir), greys(vis), greys(fused), surfaces(ir), strict=True):
        steps = [(surface, surface.level(b), surface.level(a)) for surface in found]
        samples.append(
            Samples.of(
                ((surface.level(image) - low) / (high - low), surface.weight)
                for surface, low, high in steps
                if high - low >= 30
            )
        )
    return samples


# ---- halos


class Beside(NamedTuple):
    """Where an image may have halos.

    Args:
        near: (H, W) float64 of 0 and 1: pixels beside a strong edge.
        far: The same for those further away that they are compared with.
        judged: (H, W) bool: near pixels with enough of both around.
    """

    near: np.ndarray
    far: np.ndarray
    judged: np.ndarray

    def step(self, image: np.ndarray) -> np.ndarray:
        """Return by how many levels the judged places differ from what lies further away."""
        return self._mean(image, self.near) - self._mean(image, self.far)

    def _mean(self, image: np.ndarray, where: np.ndarray) -> np.ndarray:
        mean: np.ndarray = blur(image * where, AROUND)[self.judged]
        return mean / blur(where, AROUND)[self.judged]


@once
def beside_edges(ir: Plane) -> list[Beside]:
    """Return where each image may have halos: beside the strong edges of the infrared."""
    found = []
    for steps in edges(ir):
        strong = np.hypot(*steps) >= STRONG
        away = cv2.distanceTransform((~strong).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        near, far = (
            ((away >= low) & (away <= high) & strong.any()).astype(np.float64)
            for low, high in (NEAR, FAR)
        )
        enough = (blur(near, AROUND) > SPARSE) & (blur(far, AROUND) > SPARSE)
        found.append(Beside(near, far, (near > 0) & enough))
    return found


@once
def _own_steps(ir: Plane, vis: Plane) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the larger step of the sources at the judged places, and where both are alike."""
    found = []
    for a, b, beside in zip(greys(ir), greys(vis), beside_edges(ir), strict=True):
        steps = np.maximum(np.abs(beside.step(a)), np.abs(beside.step(b)))
        found.append((steps, steps < ALIKE))
    return found


@purpose(
    "halo",
    label="halo",
    about="what the fused image differs beside strong infrared edges from further away, beyond "
    "the sources, where these do not, levels",
    direction="lower",
    range=(0, 255),
)
def halo(ir: Plane, vis: Plane, fused: Plane) -> Tensor:
    """Return the mean over the places where neither source has a step; NaN without any."""
    values = []
    for image, beside, (steps, alike) in zip(
        greys(fused), beside_edges(ir), _own_steps(ir, vis), strict=True
    ):
        beyond = (np.abs(beside.step(image)) - steps)[alike].clip(min=0)
        values.append(float(beyond.mean()) if beyond.size else math.nan)
    return per_image(fused, values)


# ---- edges kept


def edges_kept(fused: Plane, source: Plane) -> Tensor:
    """Return the part of a source's gradient that the fused image has along it, (B, 1).

    At most all of it at each pixel, either sign, weighted by the square of its strength; 0/0 for a
    flat source.
    """
    values = []
    for own, seen in zip(edges(source), edges(fused), strict=True):
        square = (own**2).sum(0)
        along = np.abs((own * seen).sum(0))  # of both gradients: the part times the square
        whole = square.sum()
        values.append(float(np.minimum(along, square).sum() / whole) if whole > 0 else math.nan)
    return per_image(fused, values)


kept = partial(purpose, label="kept", range=(0, 1))


@kept("kept:ir", about="part of the infrared gradients that the fused image has", plain=True)
def infrared_edges_kept(ir: Plane, fused: Plane) -> Tensor:
    """Return (B, 1)."""
    return edges_kept(fused, ir)


@kept("kept:vis", about="part of the visible gradients that the fused image has")
def visible_edges_kept(vis: Plane, fused: Plane) -> Tensor:
    """Return (B, 1)."""
    return edges_kept(fused, vis)
