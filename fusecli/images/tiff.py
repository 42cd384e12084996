"""TIFF: the tags by tifffile, the pixels by `tiff_segments`; writing.

What has to be expanded (palettes, CMYK, fax, a few bits a pixel) OpenCV's libtiff does, and is
believed only where type and channels are those that the page declares.
"""

import importlib.util
import io
import logging
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

import numpy as np
import tifffile

from fusecli.images import exif
from fusecli.images import tiff_segments as segments
from fusecli.images.metadata import GEO_TAGS, ICC_SPACE, Metadata

# It reports damaged files through logging as well as by raising.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)

NODATA_TAG = 42113  # GDAL_NODATA
TILE = 512
TILED_ABOVE = 4096  # pixels on a side
BIG_ABOVE = 2 << 30  # bytes of pixels; classic TIFF ends at 4 GiB

# 640x480 colour with the horizontal predictor: level 1 takes 10 ms for 383 kB, 3 takes 18 ms for
# 361 kB, 6 takes 55 ms for 340 kB; 16 bit 14/489, 25/444, 72/408; float32 89/3193, 112/3187.
DEFLATE_LEVEL = 1

_FROM_EXIF = (*exif.TEXTS, exif.EXIF, exif.GPS)  # the rest of a file's first directory is its own

Decode = Callable[[bytes], np.ndarray | None]


@dataclass(frozen=True, slots=True)
class Page:
    """The first page of a TIFF file.

    Args:
        pixels: (H, W) or (H, W, C) as stored, C in RGB order; black is zero.
        colours: How many of the C channels are colours: 1 or 3.
        alpha: Which of the C channels is the opacity, if any.
        orientation: 1 to 8, as in EXIF.
        metadata: EXIF, XMP, ICC, GeoTIFF tags and resolution.
        nodata: Value of pixels without a measurement, if the file names one.
        more_pages: True when further pages are not overviews or masks of the first.
        valid: (H, W) bool of an internal mask, or None.
    """

    pixels: np.ndarray
    colours: int
    alpha: int | None
    orientation: int
    metadata: Metadata
    nodata: float | None
    more_pages: bool
    valid: np.ndarray | None


def read(data: bytes, check_size: Callable[[int, int], None], fallback: Decode) -> Page:
    """Return the first page of a TIFF file.

    Args:
        data: The file.
        check_size: Called with width and height before memory is taken for them; may raise.
        fallback: Decodes what tifffile cannot, to RGB order.

    Raises:
        ValueError: The reason why it cannot be read.
    """
    try:
        file = tifffile.TiffFile(io.BytesIO(data))
        page = file.pages.first
        width, height = int(page.imagewidth), int(page.imagelength)
    except Exception as error:  # damaged tags raise nearly anything in there
        raise ValueError(f"damaged or truncated TIFF: {error}") from None
    check_size(width, height)
    try:
        return _read_page(data, file, page, fallback)
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"damaged TIFF: {error}") from None


def _read_page(data: bytes, file: tifffile.TiffFile, page: Any, fallback: Decode) -> Page:
    if page.imagedepth != 1:
        raise ValueError(f"a TIFF volume with {page.imagedepth} slices is not a picture")
    if not page.imagewidth or not page.imagelength:
        raise ValueError(f"a TIFF of {page.imagewidth}x{page.imagelength} pixels")
    _check_segments(page, data)
    if segments.reads(page):
        pixels = segments.whole(page, data)
    elif _expands(page):
        pixels = _by_libtiff(data, file.byteorder, page, fallback)
    else:
        pixels = _by_imagecodecs(page)
    # OpenCV inverts what it expands.
    if int(page.photometric) == 0 and pixels.dtype.kind == "u" and not _expands(page):
        pixels = np.array((1 << page.bitspersample) - 1, pixels.dtype) - pixels
    colours, alpha = _roles(page, pixels.shape[2])
    height, width = pixels.shape[:2]
    about = describe(page)
    return Page(
        pixels,
        colours,
        alpha,
        about.orientation,
        about.metadata,
        about.nodata,
        more_pages(file),
        _mask(file, data, (height, width)),
    )


@dataclass(frozen=True, slots=True)
class Description:
    """What a page says beside its pixels; fields as in `Page`."""

    orientation: int
    metadata: Metadata
    nodata: float | None


def describe(page: Any) -> Description:
    """Return what a page of tifffile says beside its pixels."""
    return Description(_number(page, 274, 1), _metadata(page), _nodata(page))


def _expands(page: Any) -> bool:
    """True for what OpenCV makes 8-bit grey or RGB of: palettes, CMYK, YCbCr, a few bits."""
    bits, photometric = page.bitspersample, int(page.photometric)
    if not isinstance(bits, int) or bits > 8 or segments.reads(page):
        return False
    few = photometric in (0, 1) and bits < 8 and page.samplesperpixel == 1
    return few or photometric in (3, 5, 6, 8)


def _by_imagecodecs(page: Any) -> np.ndarray:
    """Decode what needs the optional package, if it is there."""
    whole_bytes = page.bitspersample in (8, 16, 32, 64)
    if importlib.util.find_spec("imagecodecs") is None or not (
        whole_bytes and int(page.photometric) in segments.GREY_OR_RGB
    ):
        raise ValueError(segments.missing(page))
    planes, _, height, width, samples = page.shaped
    stored = np.asarray(page.asarray(maxworkers=1)).reshape(planes, height, width, samples)
    pixels: np.ndarray = stored[0] if planes == 1 else np.moveaxis(stored[..., 0], 0, -1)
    if pixels.dtype != segments.native(page):
        raise ValueError(segments.missing(page))
    return pixels


def _by_libtiff(data: bytes, order: str, page: Any, fallback: Decode) -> np.ndarray:
    """Expand with OpenCV, and see that it gives 8 bits and the channels that there must be."""
    patched = bytearray(data)
    # It would turn the picture, and multiply the colours with the opacity: so claim that the
    # picture is upright and that this has been done. Both tags keep their value in the entry.
    for code, told, claim in ((274, range(2, 9), 1), (338, (2,), 1)):
        tag = page.tags.get(code)
        if tag is not None and tag.count == 1 and _number(page, code, 0) in told:
            struct.pack_into(order + "H", patched, tag.valueoffset, claim)
    decoded = fallback(bytes(patched))
    if decoded is None:
        raise ValueError(segments.missing(page))
    pixels = decoded.reshape(*decoded.shape[:2], -1)
    # A palette may be one of greys.
    able = {0: (1,), 1: (1,), 3: (1, 3, 4)}.get(int(page.photometric), (3, 4))
    size = (page.imagelength, page.imagewidth)
    if pixels.dtype != np.uint8 or pixels.shape[:2] != size or pixels.shape[2] not in able:
        raise ValueError(segments.missing(page))
    return pixels


def _check_segments(page: Any, data: bytes) -> None:
    """Refuse strips and tiles outside the file, and too few of them."""
    offsets, counts = page.dataoffsets, page.databytecounts
    if not offsets or len(offsets) != len(counts):
        raise ValueError("damaged or truncated TIFF: its strips are not listed")
    if len(offsets) < math.prod(page.chunked):
        raise ValueError(
            f"damaged TIFF: {page.imagewidth}x{page.imagelength} pixels need "
            f"{math.prod(page.chunked)} strips or tiles, {len(offsets)} are listed"
        )
    for offset, count in zip(offsets, counts, strict=True):
        if offset + count > len(data):
            raise ValueError("truncated file: a TIFF strip lies beyond its end")


def _roles(page: Any, channels: int) -> tuple[int, int | None]:
    """Return how many channels are colours, and which one is the opacity."""
    if channels > 4:
        raise ValueError(f"a TIFF of {channels} bands is not a picture")
    colours = 3 if channels >= 3 else 1
    extras = tuple(int(kind) for kind in page.extrasamples)
    # Kinds 1 and 2 are opacity; 0 may be anything, often a near-infrared band.
    opaque = [i for i, kind in enumerate(extras) if kind in (1, 2)]
    if opaque:
        alpha = channels - len(extras) + opaque[0]
        return colours, alpha if colours <= alpha < channels else None
    return colours, None


def _metadata(page: Any) -> Metadata:
    geo = []
    for code in GEO_TAGS:
        tag = page.tags.get(code)
        if tag is not None:
            geo.append((code, int(tag.dtype), int(tag.count), tag.value))
    xmp, icc = page.tags.valueof(700), page.tags.valueof(34675)
    if isinstance(xmp, str):
        xmp = xmp.encode()
    return Metadata(
        exif=_exif(page),
        xmp=bytes(xmp) if isinstance(xmp, bytes) else None,
        icc=bytes(icc) if isinstance(icc, bytes) and icc[16:20] in ICC_SPACE else None,
        geo=tuple(geo),
        resolution=_resolution(page),
    )


def _exif(page: Any) -> bytes | None:
    """Return what the file says of camera, place and time as an EXIF block."""
    file = page.parent
    handle = file.filehandle

    def source(at: int, count: int) -> bytes:
        try:
            handle.seek(at)
            return bytes(handle.read(count))
        except (OSError, OverflowError, ValueError):  # an offset beyond all files
            return b""

    order, big = file.byteorder, file.is_bigtiff
    found = exif.read(source, page.offset, order, big=big, wanted=_FROM_EXIF)
    return exif.build(found) if found else None


def _resolution(page: Any) -> tuple[float, float, int] | None:
    x, y = page.tags.valueof(282), page.tags.valueof(283)
    if not (isinstance(x, tuple) and isinstance(y, tuple) and x[1] and y[1]):
        return None
    unit = _number(page, 296, 2)
    return (x[0] / x[1], y[0] / y[1], unit) if unit in (2, 3) else None


def _number(page: Any, code: int, default: int) -> int:
    value = page.tags.valueof(code)
    if isinstance(value, tuple) and len(value) == 1:
        (value,) = value
    return int(value) if isinstance(value, int) else default


def _nodata(page: Any) -> float | None:
    try:
        return float(str(page.tags.valueof(NODATA_TAG)).strip("\0 "))
    except ValueError:
        return None


def more_pages(file: tifffile.TiffFile) -> bool:
    """Return whether there are pages that are not overviews or masks of the first."""
    try:
        second = file.pages[1]
    except Exception:  # none, or too damaged to count
        return False
    return not int(getattr(second, "subfiletype", 0)) & 5  # 1 is an overview, 4 a mask


def mask_page(file: tifffile.TiffFile) -> Any | None:
    """Return the page that says which pixels of the first one hold a measurement, if any does."""
    try:
        second = file.pages[1].aspage()
    except Exception:  # none, or too damaged to look at
        return None
    return second if int(second.subfiletype) & 4 else None


def _mask(file: tifffile.TiffFile, data: bytes, size: tuple[int, int]) -> np.ndarray | None:
    page = mask_page(file)
    if page is None or (page.imagelength, page.imagewidth) != size:
        return None
    if int(page.compression) not in segments.BYTES or page.samplesperpixel != 1:
        raise ValueError("its mask is compressed in a way that is not read here")
    _check_segments(page, data)
    return np.asarray(segments.whole(page, data)[..., 0] != 0)


class Paged(Protocol):
    """A picture, or a file read row by row, that may have pages nobody looks at."""

    @property
    def more_pages(self) -> bool:
        """Whether it has."""
        ...

    @property
    def path(self) -> str:
        """Where it is."""
        ...


def page_notes(*sources: Paged) -> dict[str, str]:
    """Return the warning, by its code, about files of which only the first page is used."""
    paths = [source.path for source in sources if source.more_pages]
    return {"read.pages": f"only the first page of {paths[-1]} is used"} if paths else {}


def write(
    pixels: np.ndarray, alpha: np.ndarray | None, metadata: Metadata, nodata: str | None = None
) -> bytes:
    """Return a Deflate-compressed TIFF file, tiled and BigTIFF where the size calls for it.

    Args:
        pixels: (H, W) or (H, W, 3), uint8, uint16 or float32.
        alpha: (H, W) of the same type, or None.
        metadata: All of it goes along, of EXIF the camera, place and time.
        nodata: What pixels without a measurement hold, for the tag that says so.
    """
    shape = pixels.shape
    if alpha is not None:
        pixels = np.concatenate((np.atleast_3d(pixels), alpha[..., None]), axis=2)
    target = io.BytesIO()
    chosen = options(shape, pixels.dtype, metadata, alpha is not None, nodata)
    tifffile.imwrite(target, pixels, **chosen)
    add_exif(target, metadata)
    return target.getvalue()


def add_exif(target: BinaryIO, metadata: Metadata) -> None:
    """Put EXIF into a file written with `options`, where there is any.

    tifffile writes no nested directories. So a directory with its entries and ours goes to the end
    of the file, and the header is told of it; the first stays behind, 200 bytes that nobody reads.

    Args:
        target: The whole file, open for reading and writing.
        metadata: As given to `options`.
    """
    known = exif.parse(metadata.exif or b"")
    ours = {tag: known[tag] for tag in _FROM_EXIF if tag in known}
    if not ours:
        return
    target.seek(0)
    head = target.read(16)
    big = head[2] == 43
    number, width, pointer, place = ("<Q", 20, "<Q", 8) if big else ("<H", 12, "<I", 4)
    target.seek(*struct.unpack_from(pointer, head, place))
    (count,) = struct.unpack(number, target.read(struct.calcsize(number)))
    rows = [target.read(width) for _ in range(count)]
    written = {int.from_bytes(row[:2], "little"): row for row in rows}
    at = target.seek(0, 2)
    at += target.write(bytes(at % 2))
    target.write(exif.lay_out(ours | written, at, big))
    target.seek(place)
    target.write(struct.pack(pointer, at))


def options(
    shape: tuple[int, ...],
    dtype: np.dtype,
    metadata: Metadata,
    alpha: bool = False,
    nodata: str | None = None,
) -> dict[str, Any]:
    """Return how tifffile is to write a picture.

    Args:
        shape: (H, W) or (H, W, 3), opacity not counted.
        dtype: uint8, uint16 or float32.
        metadata: See `write`.
        alpha: Whether there is an opacity.
        nodata: See `write`.
    """
    channels = 1 if len(shape) == 2 else 3
    samples = channels + alpha
    more: dict[str, Any] = {}
    if max(shape[:2]) > TILED_ABOVE:
        more["tile"] = (TILE, TILE)
    if metadata.resolution is not None:
        more["resolution"] = metadata.resolution[:2]
        more["resolutionunit"] = metadata.resolution[2]
    tags: list[tuple[int, int, int, Any, bool]]
    tags = [(code, kind, count, value, True) for code, kind, count, value in metadata.geo]
    if metadata.xmp:
        tags.append((700, 1, len(metadata.xmp), metadata.xmp, True))
    if nodata is not None:
        tags.append((NODATA_TAG, 2, 0, nodata, True))
    return {
        "byteorder": "<",
        "photometric": "rgb" if channels == 3 else "minisblack",
        "extrasamples": ["unassalpha"] if alpha else None,
        "planarconfig": "contig" if samples > 1 else None,
        "compression": "zlib",
        "compressionargs": {"level": DEFLATE_LEVEL},
        "maxworkers": 1,
        "predictor": dtype.kind == "u",
        "iccprofile": metadata.icc_for(channels),
        "bigtiff": math.prod(shape[:2]) * samples * dtype.itemsize > BIG_ABOVE,
        "extratags": tags,
        "metadata": None,
        "software": False,
        **more,
    }
