"""Radiometric JPEG files of FLIR cameras: degrees, and the photograph taken with them.

Such a file shows a false-colour picture and carries the sensor's raw values with the constants that
turn them into temperatures, often also the photograph of a second lens. `flyr` (extra `thermal`)
takes them out; here they become pictures like any other, on fields of view that agree.
"""

from __future__ import annotations

import io
import re
from dataclasses import replace
from math import ceil, floor
from typing import Any

import numpy as np

from fusecli import images
from fusecli.errors import InputError
from fusecli.images import Picture, containers
from fusecli.images.metadata import Metadata, orientation, turn, upright, upright_xmp

Span = tuple[int, int]

# The first part of a file's records, each of at most a dozen kinds; flyr goes through all that the
# header claims, and a damaged one claims four billion.
FIRST_PART = re.compile(rb"\xff\xe1..FLIR\0.\0.(?=.{28}(.{4}))", re.DOTALL)
MAX_RECORDS = 1000


def read(path: str) -> Picture:
    """Return the temperatures in a file, (H, W) float32 in degrees Celsius.

    Raises:
        InputError: As `images.read`; `read.thermal`: no temperatures in it.
        ImportError: flyr is not installed; `cli` names the extra (`extra.missing`).
    """
    data = images.file_bytes(path)
    return _picture(_degrees(_unpack(data, path), path), data, path)


def read_both(path: str) -> tuple[Picture, Picture]:
    """Return temperatures and photograph of one file, cut to the view that both have.

    The two lenses see different parts of the scene, in different numbers of pixels. The camera
    stores how much wider the photograph is and how far its centre is off; both are cut by that, so
    that only the numbers of pixels differ afterwards. That is exact for one distance only:
    parallax remains at others.

    Raises:
        InputError: As `read`; `read.photograph`: no photograph in it.
        ImportError: As `read`.
    """
    data = images.file_bytes(path)
    found = _unpack(data, path)
    degrees, photograph = _degrees(found, path), found.optical
    if photograph is None:
        raise InputError(
            f"{path} holds no photograph beside its temperatures",
            code="read.photograph",
            hint="name the visible images as VIS",
            details={"path": path},
        )
    if found.pip_info is not None:
        about = found.pip_info
        rows, columns, area = _common_view(
            degrees.shape,
            photograph.shape,
            about.real_to_ir,
            (about.offset_y, about.offset_x),
        )
        degrees, photograph = degrees[rows, columns], photograph[area]
    return _picture(degrees, data, path), _picture(photograph, data, path)


def _unpack(data: bytes, path: str) -> Any:
    import flyr

    try:
        for claimed in FIRST_PART.findall(data):
            if int.from_bytes(claimed, "big") > MAX_RECORDS:
                raise ValueError(f"it claims {int.from_bytes(claimed, 'big')} records")
        return flyr.unpack(io.BytesIO(data))
    except Exception as error:  # what is not there, or damaged, raises nearly anything in there
        raise _without_degrees(path, error) from None


def _degrees(found: Any, path: str) -> np.ndarray:
    try:
        with np.errstate(all="ignore"):  # raw values beyond the calibration become NaN, and count
            degrees = np.asarray(found.celsius, np.float32)
        if not degrees.size:
            raise ValueError("the thermal image has no pixels")
        return degrees
    except (ArithmeticError, ValueError) as error:
        raise _without_degrees(path, error) from None


def _without_degrees(path: str, error: Exception) -> InputError:
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    return InputError(
        f"{path} holds no temperatures that can be read",
        code="read.thermal",
        facts=[f"flyr says {reason}"],
        hint="--reader thermal is for radiometric JPEG files of FLIR; leave it out for others",
        details={"path": path, "reason": reason},
    )


def _picture(pixels: np.ndarray, data: bytes, path: str) -> Picture:
    """Return pixels as stored with what the JPEG around them says, upright."""
    try:
        about = containers.inspect(data)
    except ValueError as error:
        raise InputError(
            f"cannot decode {path}: {error}",
            code="read.decode",
            details={"path": path, "reason": str(error)},
        ) from None
    pixels = np.ascontiguousarray(turn(pixels, orientation(about.exif)))
    metadata = Metadata(exif=upright(about.exif), xmp=upright_xmp(about.xmp))
    return replace(images.from_array(pixels, path), metadata=metadata, format="jpeg")


def _common_view(
    thermal: tuple[int, ...], photograph: tuple[int, ...], wider: float, offset: tuple[int, int]
) -> tuple[slice, slice, tuple[slice, slice]]:
    """Return the rows and columns of the thermal image that the photograph shows too, and where.

    Args:
        thermal: Shape of the thermal image.
        photograph: Shape of the photograph.
        wider: How many times the view of the photograph is as wide.
        offset: From the centre of the photograph to that of the thermal view, down and to the
            right, in pixels of the photograph.
    """
    if not 0.01 < wider < 100:  # damaged; NaN is not between them either
        return slice(None), slice(None), (slice(None), slice(None))
    scale = photograph[1] / thermal[1] / wider  # pixels of the photograph in one of the thermal
    rows, columns = (
        _shared(thermal[axis], photograph[axis], scale, offset[axis]) for axis in (0, 1)
    )
    return slice(*rows[0]), slice(*columns[0]), (slice(*rows[1]), slice(*columns[1]))


def _shared(count: int, length: int, scale: float, offset: int) -> tuple[Span, Span]:
    """Return, on one axis, the thermal pixels inside the photograph, and where they lie there."""
    start = (length - count * scale) / 2 + offset
    first, last = max(0, ceil(-start / scale)), min(count, floor((length - start) / scale))
    if first >= last:  # the constants put the views beside each other: they cannot be right
        return (0, count), (0, length)
    return (first, last), (round(start + first * scale), round(start + last * scale))
