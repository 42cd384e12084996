"""Radiometric JPEG files of FLIR cameras: degrees, and the photograph taken with them.

Such a file shows a false-colour picture and carries the sensor's raw values with the constants that
turn them into temperatures, often also the photograph of a second lens. `flyr` (extra `thermal`)
takes them out; here they become pictures like any other, on fields of view that agree.
"""

from __future__ import annotations

import io
import re
import struct
from dataclasses import replace
from math import ceil, floor
from typing import Any

import numpy as np

from fusecli import images
from fusecli.errors import InputError
from fusecli.images import Picture, containers
from fusecli.images.metadata import Metadata, orientation, turn, upright, upright_xmp

Span = tuple[int, int]

# One part of a file's records (FLIR calls them FFF), a part in each segment of the JPEG.
PART = re.compile(rb"\xff\xe1(..)FLIR\0.(.).", re.DOTALL)
HEADER = struct.Struct("20s11I")  # mark and maker; version, where the directory is, its entries ...
ENTRY = struct.Struct("2H7I")  # kind, ..., offset and length of a record
PHOTOGRAPH = 14
# flyr goes through all entries that the header claims, and a damaged one claims four billion.
MAX_RECORDS = 1000

ROUNDED = 3  # levels that a colour may leave 0..255 by when Y, Cb and Cr were rounded
BEYOND = 0.02  # share of pixels that may leave RGB; sharpening in the camera makes a few do so


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
    if photograph.ndim == 3 and _has_png(data):
        photograph = _colours(photograph)
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
        return flyr.unpack(io.BytesIO(_big_endian(data)))
    except Exception as error:  # what is not there, or damaged, raises nearly anything in there
        raise _without_degrees(path, error) from None


def _parts(data: bytes) -> list[slice]:
    """Return where the parts of a file's records are, in their order."""
    found = {}
    for part in PART.finditer(data):
        found[part[2]] = slice(part.end(), part.start() + 2 + int.from_bytes(part[1], "big"))
    return [found[number] for number in sorted(found)]


def _directory(records: bytes | bytearray, order: str) -> list[tuple[int, ...]]:
    """Return the entries of a file's records, as numbers.

    Raises:
        ValueError: There are more than any camera writes.
        struct.error: They lie beyond the end.
    """
    head = struct.unpack_from(order + HEADER.format, records)
    if head[3] > MAX_RECORDS:
        raise ValueError(f"it claims {head[3]} records")
    layout = struct.Struct(order + ENTRY.format)
    return [layout.unpack_from(records, head[2] + i * layout.size) for i in range(head[3])]


def _order(records: bytes | bytearray) -> str:
    """Return `<` or `>`: versions are small numbers, read in the wrong order they are huge."""
    version = records[20:24]
    return "<" if int.from_bytes(version, "little") < int.from_bytes(version, "big") else ">"


def _big_endian(data: bytes) -> bytes:
    """Return a file whose directory of records is as flyr expects it.

    Drones (Zenmuse XT and XT2) write it with the lowest byte first; the records are the same.
    """
    parts = _parts(data)
    records = bytearray(b"".join(data[part] for part in parts))
    if len(records) < HEADER.size:
        return data  # flyr says what is missing
    order = _order(records)
    entries = _directory(records, order)
    if order == ">":
        return data
    head = struct.unpack_from("<" + HEADER.format, records)
    struct.pack_into(">" + HEADER.format, records, 0, *head)
    for number, entry in enumerate(entries):
        struct.pack_into(">" + ENTRY.format, records, head[2] + number * ENTRY.size, *entry)
    whole = bytearray(data)
    at = 0
    for part in parts:
        size = len(whole[part])
        whole[part] = records[at : at + size]
        at += size
    return bytes(whole)


def _has_png(data: bytes) -> bool:
    """True when the photograph is stored as PNG."""
    records = b"".join(data[part] for part in _parts(data))
    at = [entry[4] + 32 for entry in _directory(records, _order(records)) if entry[0] == PHOTOGRAPH]
    return any(records[start:].startswith(containers.PNG_SIGNATURE) for start in at)


def _degrees(found: Any, path: str) -> np.ndarray:
    try:
        with np.errstate(all="ignore"):  # raw values beyond the calibration become NaN, and count
            degrees = np.asarray(found.celsius, np.float32)
        if not degrees.size:
            raise ValueError("the thermal image has no pixels")
        return degrees
    except (ArithmeticError, ValueError) as error:
        raise _without_degrees(path, error) from None


def _colours(photograph: np.ndarray) -> np.ndarray:
    """Return a photograph stored as PNG in RGB: cameras keep Y, Cb and Cr in its channels.

    No word in the file says so, but other pictures leave RGB when they are converted: already a
    grey of 200 would be a red of 301.
    """
    stored = photograph[..., :3].astype(np.float32)
    luma, blue, red = stored[..., 0], stored[..., 1] - 128, stored[..., 2] - 128
    green = luma - 0.344136 * blue - 0.714136 * red
    colours = np.stack((luma + 1.402 * red, green, luma + 1.772 * blue), axis=-1)
    beyond = ((colours < -ROUNDED) | (colours > 255 + ROUNDED)).any(axis=-1)
    if np.mean(beyond) > BEYOND:
        return photograph
    return np.clip(np.rint(colours), 0, 255).astype(np.uint8)


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
