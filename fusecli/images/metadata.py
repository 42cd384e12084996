"""EXIF, XMP, ICC profile and GeoTIFF tags: taken over from the reference, put into the result.

Pixels are written upright, so the orientation in EXIF is set to 1. A colour profile goes along
only where it describes the channels that are written. GeoTIFF tags are a short list that says
where the pixels lie on the ground; tags that describe stored values would be wrong for a fusion.
"""

import re
import struct
import zlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fusecli.images.containers import (
    JPEG_EXIF,
    JPEG_ICC,
    JPEG_XMP,
    PNG_SIGNATURE,
    PNG_XMP,
)

ORIENTATION = 0x0112

# ModelPixelScale, ModelTiepoint, ModelTransformation, GeoKeyDirectory, GeoDoubleParams,
# GeoAsciiParams (GeoTIFF 1.1, OGC 19-008r4, section 7).
GEO_TAGS = (33550, 33922, 34264, 34735, 34736, 34737)

ICC_SPACE = {b"GRAY": 1, b"RGB ": 3}


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a file says about its picture beside the pixels.

    Args:
        exif: TIFF-structured EXIF block, orientation 1.
        xmp: XML text as bytes.
        icc: Colour profile.
        geo: GeoTIFF tags as (code, TIFF type, count, value).
        resolution: Horizontal, vertical, and unit as in TIFF (2 inch, 3 centimetre).
    """

    exif: bytes | None = None
    xmp: bytes | None = None
    icc: bytes | None = None
    geo: tuple[tuple[int, int, int, Any], ...] = ()
    resolution: tuple[float, float, int] | None = None

    @property
    def has_grid(self) -> bool:
        """True when it says where the pixels lie on the ground."""
        return bool(self.geo)

    def without_grid(self) -> "Metadata":
        """Return the rest, for a result on another grid."""
        return replace(self, geo=(), resolution=None)

    def icc_for(self, channels: int) -> bytes | None:
        """Return the colour profile when it describes 1 (grey) or 3 (RGB) channels."""
        if self.icc is None or ICC_SPACE.get(self.icc[16:20]) != channels:
            return None
        return self.icc


def orientation(exif: bytes | None) -> int:
    """Return the EXIF orientation, 1 to 8; 1 where there is none or it makes no sense."""
    place = _orientation_entry(exif or b"")
    if place is None or exif is None:
        return 1
    value = struct.unpack_from(_byte_order(exif) + "H", exif, place + 8)[0]
    return value if 1 <= value <= 8 else 1


def upright(exif: bytes | None) -> bytes | None:
    """Return the EXIF block with orientation 1."""
    place = _orientation_entry(exif or b"")
    if place is None or exif is None:
        return exif
    block = bytearray(exif)
    struct.pack_into(_byte_order(exif) + "HHIHH", block, place, ORIENTATION, 3, 1, 1, 0)
    return bytes(block)


def upright_xmp(xmp: bytes | None) -> bytes | None:
    """Return the XMP text with `tiff:Orientation` 1, as attribute or as element."""
    if xmp is None:
        return None
    return re.sub(rb"""(tiff:Orientation(?:\s*=\s*["']|>))[2-8]""", rb"\g<1>1", xmp)


def turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return the picture as it is meant to be seen, for an EXIF orientation of 1 to 8."""
    if orientation >= 5:  # 5 to 8 are 1, 4, 3, 2 reflected at the main diagonal
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def embed(data: bytes, format: str, metadata: Metadata, channels: int) -> bytes:
    """Return an encoded PNG, JPEG or WebP file with the metadata put into it.

    Args:
        data: As the encoder wrote it, without metadata.
        format: `png`, `jpeg` or `webp`; any other comes back unchanged.
        metadata: What to put in.
        channels: Colour channels of the picture, 1 or 3.
    """
    icc = metadata.icc_for(channels)
    if format == "png":
        return _embed_png(data, metadata, icc)
    if format == "jpeg":
        return _embed_jpeg(data, metadata, icc)
    if format == "webp":
        return _embed_webp(data, metadata, icc)
    return data


def _byte_order(exif: bytes) -> str:
    return "<" if exif[:2] == b"II" else ">"


def _orientation_entry(exif: bytes) -> int | None:
    """Return where the orientation entry of the first directory begins."""
    if exif[:4] not in (b"II*\0", b"MM\0*"):
        return None
    order = _byte_order(exif)
    try:
        (directory,) = struct.unpack_from(order + "I", exif, 4)
        (entries,) = struct.unpack_from(order + "H", exif, directory)
        for place in range(directory + 2, directory + 2 + 12 * entries, 12):
            tag, kind, count, _, _ = struct.unpack_from(order + "HHIHH", exif, place)
            if tag == ORIENTATION and kind == 3 and count == 1:
                return place
    except struct.error:  # a damaged block turns nothing
        return None
    return None


def _embed_png(data: bytes, metadata: Metadata, icc: bytes | None) -> bytes:
    chunks = b""
    if icc:
        chunks += _png_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(icc))
    if metadata.exif:
        chunks += _png_chunk(b"eXIf", metadata.exif)
    if metadata.xmp:
        chunks += _png_chunk(b"iTXt", PNG_XMP + b"\0\0\0\0" + metadata.xmp)
    after_header = len(PNG_SIGNATURE) + 25
    return data[:after_header] + chunks + data[after_header:]


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _embed_jpeg(data: bytes, metadata: Metadata, icc: bytes | None) -> bytes:
    segments = b""
    for prefix, block in ((JPEG_EXIF, metadata.exif), (JPEG_XMP, metadata.xmp)):
        # A segment's length has 16 bits; what is longer (an extended XMP) cannot go along.
        if block and len(prefix) + len(block) <= 65533:
            segments += _jpeg_segment(0xE1, prefix + block)
    room = 65533 - len(JPEG_ICC) - 2
    pieces = [icc[i : i + room] for i in range(0, len(icc), room)] if icc else []
    if len(pieces) <= 255:
        for number, piece in enumerate(pieces, 1):
            segments += _jpeg_segment(0xE2, JPEG_ICC + bytes((number, len(pieces))) + piece)
    start = 2
    if data[2:4] == b"\xff\xe0":  # JFIF wants to be the first segment
        start += 2 + int.from_bytes(data[4:6], "big")
    return data[:start] + segments + data[start:]


def _jpeg_segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def _embed_webp(data: bytes, metadata: Metadata, icc: bytes | None) -> bytes:
    if not (metadata.exif or metadata.xmp or icc):
        return data
    kind, chunks = data[12:16], data[12:]
    if kind == b"VP8X":  # already extended: reuse its flags and canvas
        header, chunks = bytearray(data[20:30]), data[30:]
    else:
        header = bytearray(10)
        if kind == b"VP8L":
            bits = int.from_bytes(data[21:25], "little")
            width, height = bits & 0x3FFF, bits >> 14 & 0x3FFF  # each less one
            header[0] |= 0x10 if bits >> 28 & 1 else 0  # alpha
        else:
            width = (int.from_bytes(data[26:28], "little") & 0x3FFF) - 1
            height = (int.from_bytes(data[28:30], "little") & 0x3FFF) - 1
        header[4:7], header[7:10] = width.to_bytes(3, "little"), height.to_bytes(3, "little")
    header[0] |= (0x20 if icc else 0) | (8 if metadata.exif else 0) | (4 if metadata.xmp else 0)
    body = b"WEBP" + _webp_chunk(b"VP8X", bytes(header))
    body += _webp_chunk(b"ICCP", icc) + chunks
    body += _webp_chunk(b"EXIF", metadata.exif) + _webp_chunk(b"XMP ", metadata.xmp)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _webp_chunk(kind: bytes, body: bytes | None) -> bytes:
    if not body:
        return b""
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
