"""Image files to arrays and back, always through bytes in memory.

`cv2.imread` and `cv2.imwrite` cannot take every Unicode path, hide why a file is refused, and
rotate or convert as they like. Here the content decides the format, pixels keep their type, and
whatever is wrong with a file is one `InputError` with a reason.
"""

import io
import os
import shlex
import stat
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from fusecli.errors import InputError
from fusecli.images import containers, palettes, tiff
from fusecli.images.containers import Container
from fusecli.images.encoding import HOLDS, check_format, encode
from fusecli.images.metadata import ICC_SPACE, Metadata, orientation, turn, upright, upright_xmp
from fusecli.images.values import (
    bytes_swapped,
    from_unit,
    invalid_pixels,
    limits,
    luma,
    parse_range,
    stray_value,
    to_unit,
)
from fusecli.pairs.files import pixel_limit
from fusecli.writing import write_atomic

__all__ = [
    "HOLDS", "Metadata", "Picture", "as_grey", "check_format", "decode", "encode",
    "from_array", "from_unit", "limits", "luma", "notes_of", "parse_range", "read", "to_unit",
    "write_atomic",
]  # fmt: skip

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # reasons travel in our errors

MAX_BYTES_PER_PIXEL = 64  # a file larger than this times the pixel bound is not read at all

# Channels that differ by at most this share of the full range, on average, are still grey. Over
# the 154 infrared files of our sets that store three channels: equal ones have 0, a coloured
# logo burnt into grey 0.0001, a camera's own YUV conversion 0.0075, false colour 0.34 and more.
GREY_TOLERANCE = 0.01


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded image file.

    Args:
        pixels: (H, W) or (H, W, 3) RGB; uint8, uint16 or float32; upright. Palettes, CMYK and
            bitmaps are expanded; three equal channels are one.
        alpha: Opacity, (H, W) of the same type, or None.
        metadata: What the file says beside the pixels; orientation is 1.
        format: `png`, `jpeg`, `tiff`, `webp`, `bmp`, `pnm`, `pfm` or `npy`, by content.
        nonfinite: How many pixels have no measurement: NaN, infinite, the file's no-data value,
            outside its mask, or fully transparent.
        invalid: (H, W) bool, those pixels, or None where there are none.
        more_pages: True when a TIFF has pages beyond this one.
        path: Where it came from, for messages.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None
    metadata: Metadata
    format: str
    nonfinite: int = 0
    invalid: np.ndarray | None = None
    more_pages: bool = False
    path: str = ""


def read(path: str, max_pixels: int | None = None) -> Picture:
    """Return the picture in a file.

    Args:
        path: The file.
        max_pixels: A picture that claims more is refused; None is `pixel_limit()`.

    Raises:
        InputError: `read.missing`, `read.permission`, `read.failed`, `read.decode`, `read.bomb`.
    """
    return decode(file_bytes(path, max_pixels), path, max_pixels)


def file_bytes(path: str, max_pixels: int | None = None) -> bytes:
    """Return what is in a file that may hold a picture of at most so many pixels.

    Raises:
        InputError: `read.missing`, `read.permission`, `read.failed`, `read.decode` where it is no
            regular file, `read.bomb`.
    """
    max_pixels = max_pixels or pixel_limit()
    try:
        status = os.stat(path)  # before opening: a pipe without writer would block for ever
        if not stat.S_ISREG(status.st_mode):
            raise _undecodable(path, "it is not a regular file")
        if status.st_size > max_pixels * MAX_BYTES_PER_PIXEL:
            raise _bomb(path, f"the file has {status.st_size} bytes", max_pixels)
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"{path} does not exist",
            code="read.missing",
            hint="relative paths start at the working directory; pwd shows it",
            details={"path": path},
        ) from None
    except PermissionError:
        raise InputError(
            f"{path} may not be read: permission denied",
            code="read.permission",
            hint=f"chmod u+r {shlex.quote(str(path))}",
            details={"path": path},
        ) from None
    except OSError as error:
        raise InputError(
            f"cannot read {path}: {error.strerror or error}",
            code="read.failed",
            details={"path": path},
        ) from None


def decode(data: bytes, name: str, max_pixels: int | None = None) -> Picture:
    """Return the picture in the bytes of a file; `name` is for messages.

    Raises:
        InputError: `read.decode` or `read.bomb`.
    """
    most = max_pixels or pixel_limit()

    def check_size(width: int, height: int) -> None:
        if width * height > most:
            raise _bomb(name, f"it claims {width}x{height} pixels", most)

    try:
        container = containers.inspect(data)
        width, height = container.width, container.height
        check_size(width, height)
        if container.format == "tiff":
            return _from_tiff(data, name, check_size)
        if container.format == "npy":
            pixels, alpha = _canonical(_decode_npy(data, check_size))
            return _finish(pixels, alpha, Metadata(), "npy", None, name)
        if not width or not height:
            raise ValueError(f"a picture of {width}x{height} pixels")
        return _from_container(data, container, name)
    except ValueError as error:
        raise _undecodable(name, str(error)) from None
    except MemoryError:
        raise _undecodable(name, "there is not enough memory for its pixels") from None


def from_array(values: np.ndarray, name: str = "the array") -> Picture:
    """Return the picture in an array, as if it had been read from an NPY file.

    Args:
        values: (H, W) or (H, W, C) with C up to 4; of two or four channels the last is opacity.
        name: For messages.

    Raises:
        InputError: `read.array`: another shape or type.
    """
    try:
        if values.dtype.kind not in "buif" or values.ndim not in (2, 3):
            raise ValueError(f"type {values.dtype} and shape {values.shape} are no picture")
        pixels, alpha = _canonical(values)
        return _finish(pixels, alpha, Metadata(), "npy", None, name)
    except ValueError as error:
        raise InputError(
            f"cannot use {name}: {error}",
            code="read.array",
            hint="an image is (height, width) or (height, width, channels) numbers",
        ) from None


def as_grey(picture: Picture, luma_ok: bool = False) -> np.ndarray:
    """Return a picture as one channel, (H, W) in its own type.

    Channels that differ by hardly anything (`GREY_TOLERANCE`) count as grey.

    Args:
        picture: Usually infrared.
        luma_ok: Take false colours too: by their place on the palette where that is recognised,
            by their luma otherwise.

    Raises:
        InputError: `read.colour`: false colours, and `luma_ok` is off.
    """
    pixels = picture.pixels
    if pixels.ndim == 2:
        return pixels
    spread = _spread(pixels, picture.invalid)
    if spread > GREY_TOLERANCE:
        if not luma_ok:
            raise InputError(
                f"{picture.path or 'the infrared image'} is in colour: its channels differ by "
                f"{spread:.0%} of their range on average",
                code="read.colour",
                hint="accept false colours with --ir-luma: usual palettes are read as a scale; if "
                "this is the visible image, IR and VIS are swapped: infrared comes first",
                details={"path": picture.path, "spread": round(spread, 4)},
            )
        palette = palettes.recognised(pixels, picture.invalid)
        if palette is not None:
            return palettes.scale(pixels, palette)
    grey = luma(pixels)
    if pixels.dtype.kind == "u":
        return np.rint(grey).astype(pixels.dtype)
    return grey


def notes_of(picture: Picture) -> dict[str, str]:
    """Return what is doubtful about the values of an infrared picture, by code: warnings.

    False colours of no known palette, 16-bit values whose bytes are swapped, and a value far from
    all others that looks as if it stood for no measurement.
    """
    name, pixels, notes = picture.path or "the infrared image", picture.pixels, {}
    if pixels.ndim == 3:
        coloured = _spread(pixels, picture.invalid) > GREY_TOLERANCE
        if coloured and palettes.recognised(pixels, picture.invalid) is None:
            notes["read.palette"] = (
                f"{name} is in false colours of no known palette: their brightness is taken, "
                "which may show hot as dark"
            )
        return notes
    if bytes_swapped(pixels):
        notes["read.swapped"] = (
            f"{name} is noise until its bytes are swapped: it was saved in the wrong byte order"
        )
    found = stray_value(pixels, picture.invalid)
    if found is not None:
        notes["range.stray"] = (
            f"{name}: {found.share:.1%} of the pixels are exactly {found.value:g}, far from all "
            f"others; if that is no measurement, use --ir-range={found.low:g}:{found.high:g}"
        )
    return notes


# --- decoding ----------------------------------------------------------------------------------


def _from_container(data: bytes, container: Container, name: str) -> Picture:
    stored = None
    if container.format in ("pnm", "pfm"):
        stored = containers.netpbm_pixels(data, container)
    if stored is None:
        png = container.format == "png"
        stored = _decode_cv(containers.png_for_decoder(data) if png else data)
    if stored is None:
        raise ValueError(f"damaged or unsupported {container.format.upper()} data")
    container.check(stored)
    pixels, alpha = _canonical(stored)
    metadata = Metadata(
        exif=upright(container.exif),
        xmp=upright_xmp(container.xmp),
        # A profile of CMYK or Lab does not describe the RGB that was made of it.
        icc=container.icc if container.icc and container.icc[16:20] in ICC_SPACE else None,
    )
    turned = orientation(container.exif)
    picture = _finish(pixels, alpha, metadata, container.format, None, name)
    return _turned(picture, turned)


def _from_tiff(data: bytes, name: str, check_size: Any) -> Picture:
    page = tiff.read(data, check_size, _decode_cv)
    alpha = None if page.alpha is None else page.pixels[..., page.alpha]
    pixels, _ = _canonical(page.pixels[..., : page.colours])
    if alpha is not None:
        alpha = _native(alpha)
    metadata = page.metadata
    metadata = replace(metadata, xmp=upright_xmp(metadata.xmp))
    if page.orientation != 1:  # tie points count pixels as stored
        metadata = replace(metadata, geo=())
    picture = _finish(pixels, alpha, metadata, "tiff", page.nodata, name, page.valid)
    return _turned(replace(picture, more_pages=page.more_pages), page.orientation)


def _turned(picture: Picture, orientation: int) -> Picture:
    if orientation == 1:
        return picture

    def upright_plane(plane: np.ndarray | None) -> np.ndarray | None:
        return None if plane is None else np.ascontiguousarray(turn(plane, orientation))

    return replace(
        picture,
        pixels=np.ascontiguousarray(turn(picture.pixels, orientation)),
        alpha=upright_plane(picture.alpha),
        invalid=upright_plane(picture.invalid),
    )


def _decode_cv(data: bytes) -> np.ndarray | None:
    """Return what OpenCV decodes, in RGB order and not turned; None where it cannot."""
    flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None
    if pixels is None or pixels.ndim == 2:
        return pixels
    codes = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}
    if pixels.shape[2] not in codes:
        return pixels
    if pixels.dtype in (np.uint8, np.uint16, np.float32):
        return np.asarray(cv2.cvtColor(pixels, codes[pixels.shape[2]]))
    return pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]


def _decode_npy(data: bytes, check_size: Any) -> np.ndarray:
    source = io.BytesIO(data)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        version = np.lib.format.read_magic(source)
        shape, fortran, dtype = readers[version](source)
    except Exception as error:  # the header is Python source: anything can be wrong with it
        raise ValueError(f"damaged NPY header: {error}") from None
    if dtype.hasobject or dtype.kind not in "buif":
        raise ValueError(f"an NPY file of type {dtype} is not a picture")
    if len(shape) not in (2, 3) or 0 in shape:
        raise ValueError(f"an NPY file of shape {shape} is not (H, W) or (H, W, C)")
    check_size(shape[1], shape[0])
    count = int(np.prod(shape, dtype=object))
    if source.tell() + count * dtype.itemsize > len(data):
        raise ValueError(f"truncated file: {len(data)} bytes cannot hold shape {shape}")
    values = np.frombuffer(data, dtype, count, source.tell())
    return values.reshape(shape, order="F" if fortran else "C")


def _canonical(stored: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Return pixels and opacity of (H, W) or (H, W, C) with C from 1 to 4."""
    if stored.ndim == 2:
        return _native(stored), None
    channels = stored.shape[2]
    if channels > 4:
        if len(stored) <= 4:
            raise ValueError(
                f"shape {stored.shape} has its bands first: save array.transpose(1, 2, 0), or "
                "array[0] of a single one"
            )
        raise ValueError(f"{channels} channels are not a picture")
    alpha = _native(stored[..., -1]) if channels in (2, 4) else None
    if channels <= 2:
        return _native(stored[..., 0]), alpha
    pixels = _native(stored[..., :3])
    return (pixels[..., 0].copy() if _is_grey(pixels) else pixels), alpha


def _native(values: np.ndarray) -> np.ndarray:
    """Return values as contiguous uint8, uint16 or float32, whichever loses least."""
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * 255
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        return np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    # Float64 beyond float32 becomes infinite; like NaN, it is counted later.
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ascontiguousarray(values, np.float32)


def _is_grey(pixels: np.ndarray) -> bool:
    # A few rows tell nearly every colour picture at a fraction of the cost.
    for part in (pixels[:: max(1, len(pixels) // 4)], pixels):
        for channel in (1, 2):
            if not np.array_equal(
                part[..., 0], part[..., channel], equal_nan=pixels.dtype.kind == "f"
            ):
                return False
    return True


def _spread(pixels: np.ndarray, invalid: np.ndarray | None) -> float:
    """Return the mean of largest less smallest channel, as a share of the full range."""
    values = pixels if invalid is None else pixels[~invalid]
    if not values.size:
        return 0.0
    red, green, blue = values[..., 0], values[..., 1], values[..., 2]
    highest = np.maximum(np.maximum(red, green), blue)
    lowest = np.minimum(np.minimum(red, green), blue)
    if pixels.dtype.kind == "u":
        full = float(np.iinfo(pixels.dtype).max)
    else:
        full = float(highest.max()) - float(lowest.min())
    return float(np.mean(highest - lowest, dtype=np.float64)) / full if full else 0.0


def _finish(
    pixels: np.ndarray,
    alpha: np.ndarray | None,
    metadata: Metadata,
    format: str,
    nodata: float | None,
    name: str,
    valid: np.ndarray | None = None,
) -> Picture:
    if not pixels.size:
        raise ValueError("the picture has no pixels")
    invalid = invalid_pixels(pixels, nodata)
    for shown in (valid, None if alpha is None else alpha != 0):
        if shown is not None and shown.any():  # some writers leave an opacity of 0 everywhere
            invalid = ~shown if invalid is None else invalid | ~shown
    count = 0 if invalid is None else int(np.count_nonzero(invalid))
    return Picture(pixels, alpha, metadata, format, count, invalid if count else None, path=name)


def _undecodable(name: str, reason: str) -> InputError:
    return InputError(
        f"cannot decode {name}: {reason}",
        code="read.decode",
        details={"path": name, "reason": reason},
    )


def _bomb(name: str, claim: str, max_pixels: int) -> InputError:
    return InputError(
        f"refused to decode {name}: {claim}, the limit is {max_pixels} pixels",
        code="read.bomb",
        hint="if the file is what it should be: export FUSECLI_MAX_PIXELS=1000000000",
        details={"path": name, "limit": max_pixels},
    )
