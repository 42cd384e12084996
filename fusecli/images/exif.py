"""EXIF directories: taken out of one file, and laid out anew for another.

JPEG, PNG and WebP carry EXIF as one block that can be copied as it is. In a TIFF file its
directories lie among the file's own, by offsets and in the byte order of that file (TIFF 6.0,
section 2; Exif 2.32, section 4.6). Here a directory is read into memory, whatever it lay in, and
written in little-endian order for where it will be. What is damaged is left out.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Container
from typing import Any

import numpy as np

EXIF, GPS, INTEROPERABILITY = 34665, 34853, 40965
NESTED = (EXIF, GPS, INTEROPERABILITY)
TEXTS = (271, 272, 306, 315, 33432)  # Make, Model, DateTime, Artist, Copyright

# type: bytes of a value, and of each number in it
SIZES = {1: (1, 1), 2: (1, 1), 3: (2, 2), 4: (4, 4), 5: (8, 4), 6: (1, 1), 7: (1, 1), 8: (2, 2),
         9: (4, 4), 10: (8, 4), 11: (4, 4), 12: (8, 8)}  # fmt: skip
MAX_ENTRIES = 512
MAX_BYTES = 1 << 20  # of one value; maker notes are the longest that there are
MAX_DEPTH = 2  # EXIF, and interoperability in it

Source = Callable[[int, int], bytes]  # offset and count to that many bytes, or fewer at the end
# tag to (type, little-endian bytes), to a nested directory, or to a whole little-endian entry
Directory = dict[int, Any]


def parse(block: bytes) -> Directory:
    """Return the first directory of an EXIF block with those nested in it; empty if damaged."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None or len(block) < 8:
        return {}
    (start,) = struct.unpack_from(order + "I", block, 4)
    return read(lambda at, count: block[at : at + count], start, order)


def read(
    source: Source,
    start: int,
    order: str,
    *,
    big: bool = False,
    wanted: Container[int] | None = None,
    depth: int = 0,
) -> Directory:
    """Return a directory of a TIFF-structured file with those nested in it.

    Args:
        source: Reads from the file.
        start: Offset of the directory.
        order: `<` or `>`.
        big: BigTIFF.
        wanted: Tags to read; None is all. Nested directories are read whole.
        depth: How deep this one is nested.
    """
    number, entry, place = ("Q", "HHQ8s", "Q") if big else ("H", "HHI4s", "I")
    head = source(start, struct.calcsize("=" + number))
    if len(head) < struct.calcsize("=" + number):
        return {}
    size = struct.calcsize("=" + entry)
    (count,) = struct.unpack(order + number, head)
    rows = source(start + len(head), size * min(count, MAX_ENTRIES))
    found: Directory = {}
    for at in range(0, len(rows) - size + 1, size):
        tag, kind, many, inline = struct.unpack_from(order + entry, rows, at)
        if wanted is not None and tag not in wanted:
            continue
        if tag in NESTED:
            long = big and kind in (16, 18)
            (offset,) = struct.unpack_from(order + ("Q" if long else "I"), inline)
            if depth < MAX_DEPTH and (
                inner := read(source, offset, order, big=big, depth=depth + 1)
            ):
                found[tag] = inner
            continue
        width, unit = SIZES.get(kind, (0, 0))
        length = many * width
        if not 0 < length <= MAX_BYTES:
            continue
        value = inline[:length]
        if length > len(inline):
            (offset,) = struct.unpack(order + place, inline)
            value = source(offset, length)
        if len(value) == length:
            found[tag] = (kind, _little(value, unit, order))
    return found


def build(directory: Directory) -> bytes:
    """Return a directory as an EXIF block."""
    return b"II*\0" + struct.pack("<I", 8) + lay_out(directory, 8)


def lay_out(directory: Directory, at: int, big: bool = False) -> bytes:
    """Return the bytes of a directory that will lie at an even offset, nested ones after it."""
    number, entry, place = ("Q", "HHQ8s", "Q") if big else ("H", "HHI4s", "I")
    room = struct.calcsize("=" + place)
    start = at + struct.calcsize("=" + number) + room
    start += len(directory) * struct.calcsize("=" + entry)
    rows, bodies = b"", b""
    for tag, content in sorted(directory.items()):
        bodies += bytes(len(bodies) % 2)
        offset = struct.pack("<" + place, start + len(bodies))
        if isinstance(content, bytes):
            rows += content
            continue
        if isinstance(content, dict):
            kind, many, value = (16 if big else 4), 1, offset
            bodies += lay_out(content, start + len(bodies), big)
        else:
            kind, value = content
            many = len(value) // SIZES[kind][0]
            if len(value) > room:
                bodies, value = bodies + value, offset
        rows += struct.pack("<" + entry, tag, kind, many, value)
    return struct.pack("<" + number, len(directory)) + rows + bytes(room) + bodies


def _little(value: bytes, unit: int, order: str) -> bytes:
    if order == "<" or unit == 1:
        return value
    return np.frombuffer(value, f">u{unit}").astype(f"<u{unit}").tobytes()
