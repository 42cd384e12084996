"""The strips and tiles of a TIFF page to pixels, whatever they are compressed with.

tifffile decodes LZW, JPEG, packed bits and the floating-point predictor only with the optional
imagecodecs package, and OpenCV changes the type or the number of bands of files that it did not
expect. So each strip or tile is decoded here by itself: OpenCV's libtiff and libjpeg only undo the
compression, and type, bands and bits are those that the page declares.
"""

from __future__ import annotations

import importlib.util
import lzma
import math
import struct
import zlib
from typing import Any, NamedTuple

import cv2
import numpy as np
import tifffile

DEFLATE = frozenset((8, 32946))
LZW, JPEG, PACKBITS, LZMA = 5, 7, 32773, 34925
GREY_OR_RGB = (0, 1, 2)
YCBCR = 6
BYTES = frozenset((1, LZW, PACKBITS, LZMA)) | DEFLATE
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))  # FillOrder 2
ADOBE = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0"  # before the byte that says what three channels are


class Segment(NamedTuple):
    """A decoded strip or tile, (rows, columns, samples), and where it belongs in the page."""

    pixels: np.ndarray
    plane: int
    top: int
    left: int


def reads(page: Any) -> bool:
    """True when `decode` knows this page without imagecodecs."""
    compression, bits = int(page.compression), page.bitspersample
    if page.dtype is None or not isinstance(bits, int):
        return False
    if compression == JPEG:
        planes = page.samplesperpixel if page.planarconfig == 1 else 1
        return (
            bits == 8
            and planes in (1, 3)
            and int(page.photometric) in (GREY_OR_RGB if planes == 1 else (*GREY_OR_RGB, YCBCR))
        )
    if compression not in BYTES or int(page.photometric) not in GREY_OR_RGB:
        return False
    predictor, kind = int(page.predictor), page.dtype.kind
    if bits in (8, 16, 32, 64):
        return kind in "iuf" and (predictor in (1, 2) or (predictor == 3 and kind == "f"))
    return 8 < bits < 32 and kind == "u" and predictor == 1  # OpenCV expands fewer bits


def whole(page: Any, data: bytes) -> np.ndarray:
    """Return all pixels of a page, (H, W, C), in its own type and the machine's byte order.

    Raises:
        ValueError: A strip or tile is damaged.
    """
    planes, _, height, width, samples = page.shaped
    pixels = np.full((height, width, planes * samples), page.nodata, native(page))
    for index, (at, count) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=True)):
        if not count or index >= math.prod(page.chunked):
            continue  # a sparse tile is left as it is
        part = decode(page, data[at : at + count], index)
        area = pixels[part.top :, part.left :, part.plane * samples :][..., :samples]
        area = area[: part.pixels.shape[0], : part.pixels.shape[1]]
        area[...] = part.pixels[: area.shape[0], : area.shape[1]]
    return pixels


def native(page: Any) -> np.dtype:
    """Return the type of a page's pixels in the machine's byte order."""
    return np.dtype(page.dtype).newbyteorder("=")


def decode(page: Any, encoded: bytes, index: int) -> Segment:
    """Return one strip or tile of a page that it `reads`.

    Raises:
        ValueError: It is damaged.
    """
    _, _, height, width, samples = page.shaped
    rows, columns = (
        (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, width)
    )
    down, across = -(-height // rows), -(-width // columns)
    plane, within = divmod(index, down * across)
    top, left = within // across * rows, within % across * columns
    if not page.is_tiled:
        rows = min(rows, height - top)
    shape = (int(rows), int(columns), int(samples))
    if int(page.compression) == JPEG:
        return Segment(_jpeg(page, encoded, shape), plane, top, left)
    if page.fillorder == 2:
        encoded = encoded.translate(REVERSED)
    row = -(-columns * samples * page.bitspersample // 8)
    stored = _decompressed(int(page.compression), encoded, rows, row)
    if len(stored) < rows * row:
        raise ValueError(f"truncated file: a TIFF strip holds {len(stored)} of {rows * row} bytes")
    return Segment(_typed(page, stored, shape, row), plane, top, left)


def _decompressed(compression: int, encoded: bytes, rows: int, row: int) -> bytes | memoryview:
    """Return what a strip of so many rows of so many bytes was before it was compressed."""
    size = rows * row
    if compression == 1:
        return memoryview(encoded)[:size]
    try:
        if compression in DEFLATE:  # one byte more, so that the checksum is looked at
            return zlib.decompressobj().decompress(encoded, size + 1)
        if compression == LZMA:
            return lzma.LZMADecompressor().decompress(encoded, size)
        if compression == LZW:
            return _lzw(encoded, rows, row)
        return bytes(tifffile.TIFF.DECOMPRESSORS[PACKBITS](encoded, out=size))
    except Exception as error:  # each codec has errors of its own
        raise ValueError(f"damaged TIFF: {error or type(error).__name__}") from None


def _lzw(encoded: bytes, rows: int, row: int) -> bytes:
    """Undo LZW with libtiff: as one strip of a grey picture of 8 bits, whose pixels are the bytes.

    16 bits a pixel where they come out even: twice as fast. 16 MiB take 75 ms, with imagecodecs
    150 ms.
    """
    size, bits = rows * row, 8
    if row % 2 == 0:
        row, bits = row // 2, 16
    tags = (
        (256, row), (257, rows), (258, bits), (259, LZW), (262, 1),
        (273, 8 + 2 + 9 * 12 + 4), (277, 1), (278, rows), (279, len(encoded)),
    )  # fmt: skip
    entries = b"".join(struct.pack("<HHII", code, 4, 1, value) for code, value in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    source = np.frombuffer(head + encoded, np.uint8)
    try:
        found = cv2.imdecode(source, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        found = None
    if found is None or found.nbytes != size:
        raise ValueError("its LZW data is damaged")
    return bytes(found.tobytes())


def _typed(
    page: Any, stored: bytes | memoryview, shape: tuple[int, int, int], row: int
) -> np.ndarray:
    """Return bytes as numbers of the page's type, the predictor undone."""
    rows, columns, samples = shape
    bits, predictor = page.bitspersample, int(page.predictor)
    lines = np.frombuffer(stored, np.uint8, rows * row).reshape(rows, row)
    if bits not in (8, 16, 32, 64):
        return _unpacked(lines, columns * samples, bits).astype(native(page)).reshape(shape)
    if predictor == 3:
        return _from_planes(lines, samples, bits // 8).astype(native(page)).reshape(shape)
    order = page.parent.byteorder
    values = lines.view(np.dtype(page.dtype).newbyteorder(order)).astype(native(page), copy=False)
    values = values.reshape(shape)
    if predictor == 2:
        counts = values.view(f"u{bits // 8}")  # floats too are summed as integers
        values = np.cumsum(counts, axis=1, dtype=counts.dtype).view(values.dtype)
    return values


def _unpacked(lines: np.ndarray, count: int, bits: int) -> np.ndarray:
    """Return numbers of 9 to 31 bits that follow each other without a gap, highest bit first."""
    found = np.unpackbits(lines, axis=1, count=count * bits).reshape(-1, count, bits)
    values = np.zeros(found.shape[:2], np.uint32)
    for bit in range(bits):
        values <<= 1
        values |= found[..., bit]
    return values


def _from_planes(lines: np.ndarray, samples: int, width: int) -> np.ndarray:
    """Undo the floating-point predictor (Adobe's TIFF technical note 3)."""
    sums = np.cumsum(lines.reshape(len(lines), -1, samples), axis=1, dtype=np.uint8)
    planes = sums.reshape(len(lines), width, -1)  # all first bytes, then all second ones ...
    return np.ascontiguousarray(planes.transpose(0, 2, 1)).view(f">f{width}")[..., 0]


def _jpeg(page: Any, encoded: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """Decode a strip or tile that is a JPEG file without its tables."""
    tables = page.jpegtables or b"\xff\xd8\xff\xd9"
    transform = int(int(page.photometric) == YCBCR)  # without a word libjpeg takes all for YCbCr
    stream = b"".join((b"\xff\xd8", ADOBE, bytes((transform,)), tables[2:-2], encoded[2:]))
    try:
        found = cv2.imdecode(np.frombuffer(stream, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        found = None
    if found is None or found.dtype != np.uint8:
        raise ValueError("damaged TIFF: a JPEG strip cannot be decoded")
    found = found.reshape(*found.shape[:2], -1)[: shape[0], : shape[1], ::-1]
    if found.shape[2] != shape[2]:
        raise ValueError(f"damaged TIFF: a JPEG strip has {found.shape[2]} of {shape[2]} channels")
    return np.asarray(found)


def missing(page: Any) -> str:
    """Return why a page cannot be read, and what would help."""
    name = getattr(page.compression, "name", page.compression)
    kind = f"{name} compression, {page.bitspersample} bits"
    if importlib.util.find_spec("imagecodecs") is None:
        return (
            f"a TIFF kind that needs the extra 'codecs' of fusecli ({kind}): "
            "pip install 'fusecli[codecs]'"
        )
    return f"damaged TIFF, or a kind that is not read here ({kind})"
