"""What other tools offer, on the same terms: they begin at a start and are judged alike.

All but mutual information work on the locally normalised gradient magnitude, without which they
fail on most infrared/visible pairs.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from fusecli.fields import Matrix, corners, linear
from fusecli.registration.features import (
    Image,
    carry,
    fit_size,
    look,
    orientation,
    rescale,
    shrink,
)
from fusecli.registration.refine import fit

_BINS = 32


def ecc(fixed: Image, moving: Image, start: Matrix, shape: str) -> Matrix | None:
    """Return the matrix of greatest correlation coefficient, coarse to fine; None if it diverges.

    Source:
        Evangelidis and Psarakis, Parametric image alignment using enhanced correlation coefficient
        maximization, IEEE Trans. PAMI 30, 2008.
    """
    motion = {
        "translation": cv2.MOTION_TRANSLATION,
        "euclidean": cv2.MOTION_EUCLIDEAN,
        "homography": cv2.MOTION_HOMOGRAPHY,
    }.get(shape, cv2.MOTION_AFFINE)
    update = np.eye(3)
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 60, 1e-5)
    for side in (128, 256, 512):
        size = fit_size(fixed.shape, side)
        here = rescale(update, (fixed.shape, size), (fixed.shape, size)).astype(np.float32)
        view, covered = look(moving, rescale(start, (fixed.shape, size), (moving.shape,) * 2), size)
        still = _outlines(shrink(fixed, size))
        mask = (covered * 255).astype(np.uint8)
        warp = here if shape == "homography" else here[:2]
        try:
            _, found = cv2.findTransformECC(still, _outlines(view), warp, motion, stop, mask, 5)
        except cv2.error:
            return None
        update[: len(warp)] = found
        update = rescale(update, (size, fixed.shape), (size, fixed.shape))
    return _within(start @ update, start, shape, fixed.shape)


def mi(fixed: Image, moving: Image, start: Matrix, shape: str) -> Matrix | None:
    """Return the matrix of greatest normalised mutual information, by compass search.

    Source:
        Studholme, Hill and Hawkes, An overlap invariant entropy measure of 3D medical image
        alignment, Pattern Recognition 32, 1999.
    """
    count = {"translation": 2, "euclidean": 3, "similarity": 4, "affine": 6}.get(shape, 8)
    values = np.zeros(count)
    for side, first in ((96, 0.08), (224, 0.01)):
        size = fit_size(fixed.shape, side)
        still = _levels(shrink(fixed, size))
        to_full = rescale(start, (fixed.shape, size), (moving.shape,) * 2)

        def value(
            trial: NDArray[np.float64],
            still: NDArray[np.int64] = still,
            to_full: Matrix = to_full,
            size: tuple[int, int] = size,
        ) -> float:
            view, covered = look(moving, to_full @ _parameters(trial, size), size)
            return _nmi(still, _levels(view), covered > 0.99)

        step, best = first, value(values)
        while step > 0.001:
            trials = [values + sign * step * row for row in np.eye(count) for sign in (1, -1)]
            scores = [value(trial) for trial in trials]
            if max(scores) > best:
                values, best = trials[int(np.argmax(scores))], max(scores)
            else:
                step /= 2
    return start @ _parameters(values, fixed.shape)


def phase(fixed: Image, moving: Image, start: Matrix, shape: str) -> Matrix | None:
    """Return the translation of the phase correlation peak.

    Source:
        Kuglin and Hines, The phase correlation image alignment method, IEEE Conf. Cybernetics and
        Society, 1975.
    """
    view, covered = look(moving, start, fixed.shape)
    window = cv2.createHanningWindow(fixed.shape[::-1], cv2.CV_32F)
    (x, y), _ = cv2.phaseCorrelate(_outlines(fixed), _outlines(view) * covered, window)
    update = np.eye(3)
    update[:2, 2] = x, y
    return start @ update


def feature(fixed: Image, moving: Image, start: Matrix, shape: str) -> Matrix | None:
    """Return the matrix that most matched SIFT keypoints agree on; None without enough of them.

    Source:
        Lowe, Distinctive image features from scale-invariant keypoints, IJCV 60, 2004.
    """
    view, _ = look(moving, start, fixed.shape)
    detector = cv2.SIFT.create(2000, contrastThreshold=0.01)
    keys, words = [], []
    for image in (fixed, view):
        outlines = (255 * _outlines(image)).astype(np.uint8)
        points, descriptors = detector.detectAndCompute(outlines, None)
        keys.append(np.array([point.pt for point in points], np.float64).reshape(-1, 2))
        words.append(descriptors)
    if min(len(points) for points in keys) < 8:
        return None
    matches = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True).match(*words)
    if len(matches) < 8:
        return None
    origin = np.array([keys[0][match.queryIdx] for match in matches])
    target = np.array([keys[1][match.trainIdx] for match in matches])
    found, agreeing = cv2.findHomography(origin, target, cv2.USAC_MAGSAC, 3.0, maxIters=5000)
    if shape != "homography":
        found, agreeing = cv2.estimateAffine2D(origin, target, None, cv2.RANSAC, 3.0, 5000)
    if found is None or agreeing.sum() < 8:
        return None
    trust = agreeing.reshape(-1).astype(np.float64)
    return start @ fit(shape, origin, target - origin, trust)


def flow(fixed: Image, moving: Image, start: Matrix) -> Image:
    """Return the optical flow left after the start, (H, W, 2) in pixels of the fixed grid.

    Source:
        Farneback, Two-frame motion estimation based on polynomial expansion, SCIA 2003.
    """
    view, _ = look(moving, start, fixed.shape)
    one, other = ((255 * _outlines(image)).astype(np.uint8) for image in (fixed, view))
    field = cv2.calcOpticalFlowFarneback(one, other, None, 0.5, 5, 31, 5, 7, 1.5, 0)  # type: ignore[call-overload]
    return np.asarray(field, np.float32)


METHODS: dict[str, Callable[[Image, Image, Matrix, str], Matrix | None]] = {
    "feature": feature,
    "ecc": ecc,
    "mi": mi,
    "phase": phase,
}


def _outlines(image: Image) -> Image:
    """Return the locally normalised gradient magnitude, 0..1."""
    field = orientation(image)
    return np.asarray(np.sqrt(np.hypot(field[..., 0], field[..., 1])), np.float32)


def _within(matrix: Matrix, start: Matrix, shape: str, size: tuple[int, ...]) -> Matrix:
    """Return the matrix of the given shape that is nearest over the image."""
    points = corners(size)
    shifts = carry(np.linalg.inv(start) @ matrix, points) - points
    return start @ fit(shape, points, shifts, np.ones(4))


def _parameters(values: NDArray[np.float64], size: tuple[int, ...]) -> Matrix:
    """Return the matrix of shifts (of the size), rotation, scale, stretch, shear, perspective.

    The units are such that each value of 0.1 moves some corner by about a tenth of the half size.
    """
    x, y, turn, grow, stretch, shear, tilt_x, tilt_y = np.pad(values, (0, 8 - len(values)))
    height, width = size
    half = max(size) / 2
    middle = ((width - 1) / 2, (height - 1) / 2)
    matrix = linear(
        middle,
        shift=(x * half, y * half),
        rotate=np.rad2deg(turn),
        scale=np.exp(grow),
        shear=np.rad2deg(shear),
    )
    aspect = np.diag([np.exp(stretch), np.exp(-stretch), 1.0])
    aspect[2, :2] = tilt_x / half / 2, tilt_y / half / 2
    there = np.eye(3)
    there[:2, 2] = middle
    return matrix @ there @ aspect @ np.linalg.inv(there)


def _levels(image: Image) -> NDArray[np.int64]:
    """Return grey levels 0..31 between the 0.5 and 99.5 percentiles."""
    low, high = np.percentile(image, (0.5, 99.5))
    scaled = (image - low) / (high - low + 1e-12) * _BINS
    return np.clip(scaled, 0, _BINS - 1).astype(np.int64)


def _nmi(one: NDArray[np.int64], other: NDArray[np.int64], where: NDArray[np.bool_]) -> float:
    """Return (H(a) + H(b)) / H(a, b), 1..2, over a mask; 0 on less than a tenth of the image."""
    if where.mean() < 0.1:
        return 0.0
    pairs = np.bincount(_BINS * one[where] + other[where], minlength=_BINS**2)
    joint = pairs.reshape(_BINS, _BINS) / pairs.sum()

    def entropy(share: NDArray[np.float64]) -> float:
        positive = share[share > 0]
        return float(-(positive * np.log(positive)).sum())

    return (entropy(joint.sum(0)) + entropy(joint.sum(1))) / max(entropy(joint), 1e-12)
