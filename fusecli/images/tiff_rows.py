"""Large TIFF files a few rows at a time, in and out, so that no image has to fit in memory.

What can be read so: grey or RGB, 8 or 16 bit, upright, in strips or tiles that are stored plainly
or with Deflate, LZW, PackBits or JPEG compression. Anything else is read whole, by
`fusecli.images`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
import tifffile

from fusecli.errors import InputError
from fusecli.images import tiff, tiff_segments
from fusecli.images.metadata import Metadata
from fusecli.images.values import invalid_pixels

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
SEGMENT = 64 << 20  # bytes that one strip or tile may decode to
LINE = 512 << 20  # bytes that one line of them may


class TiffRows:
    """The first page of an open TIFF file.

    Attributes:
        shape: (height, width), or (height, width, 3) for RGB.
        dtype: uint8 or uint16.
        nodata: Value of pixels without a measurement, if the file names one.
        metadata: See `tiff.Page`.
        more_pages: See `tiff.Page`.
    """

    def __init__(self, file: tifffile.TiffFile) -> None:
        page: Any = file.pages.first
        self._file, self._page = file, page
        self.path = str(file.filehandle.path)
        self.shape: tuple[int, ...] = (int(page.imagelength), int(page.imagewidth))
        if page.samplesperpixel == 3:
            self.shape = (*self.shape, 3)
        self.dtype = page.dtype.newbyteorder("=")
        about = tiff.describe(page)
        self.metadata: Metadata = about.metadata
        self.nodata = about.nodata
        self.more_pages = tiff.more_pages(file)
        self._bands: dict[int, np.ndarray] = {}
        self._contiguous = _is_contiguous(page)

    @classmethod
    def open(cls, path: str) -> Self | None:
        """Return the file, or None where it must be read whole (or cannot be read at all)."""
        try:
            with Path(path).open("rb") as stream:
                if stream.read(4) not in MAGIC:
                    return None
            file = tifffile.TiffFile(path)
            masked = tiff.mask_page(file) is not None
            if not masked and _is_simple(file.pages.first, os.path.getsize(path)):
                return cls(file)
            file.close()
        except Exception:  # whoever reads it whole will say what is wrong with it
            pass
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    @property
    def step(self) -> int:
        """Rows of one line of strips or tiles."""
        page = self._page
        return int(page.tilelength if page.is_tiled else min(page.rowsperstrip, self.shape[0]))

    def read(self, top: int, bottom: int) -> np.ndarray:
        """Return some rows, (bottom - top, width) or with 3 channels.

        Lines of strips or tiles that these rows touch are kept for the next call, others are
        forgotten: reading from top to bottom decodes each once.

        Raises:
            InputError: `read.decode`.
        """
        if self._contiguous:
            return self._stored(top, bottom)
        lines = range(top // self.step, -(-bottom // self.step))
        self._bands = {line: self._bands.get(line) for line in lines}  # type: ignore[misc]
        for line in lines:
            if self._bands[line] is None:
                self._bands[line] = self._decoded(line)
        first = lines.start * self.step
        whole = [self._bands[line] for line in lines]
        return np.concatenate(whole)[top - first : bottom - first]

    def bands(self) -> Iterator[np.ndarray]:
        """Yield the whole image from top to bottom, a moderate number of rows at a time."""
        height, width = self.shape[:2]
        rows = max(self.step if not self._contiguous else 1, (1 << 22) // width)
        for top in range(0, height, rows):
            yield self.read(top, min(top + rows, height))

    def invalid(self, pixels: np.ndarray) -> np.ndarray | None:
        """Return which of some pixels of this file are without a measurement, (H, W) bool."""
        return invalid_pixels(pixels, self.nodata)

    def _stored(self, top: int, bottom: int) -> np.ndarray:
        row = math.prod(self.shape[1:])
        offset = self._page.dataoffsets[0] + top * row * self.dtype.itemsize
        count = (bottom - top) * row
        stored = self._page.dtype.newbyteorder(self._file.byteorder)
        values = np.fromfile(self.path, stored, count=count, offset=offset)
        if values.size < count:
            raise self._damaged("truncated")
        return values.astype(self.dtype, copy=False).reshape(bottom - top, *self.shape[1:])

    def _decoded(self, line: int) -> np.ndarray:
        """Return the rows of one line of strips or tiles."""
        page = self._page
        height, width = self.shape[:2]
        rows = min(self.step, height - line * self.step)
        band = np.full((rows, width, page.samplesperpixel), page.nodata, self.dtype)
        across = -(-width // page.tilewidth) if page.is_tiled else 1
        source: Any = self._file.filehandle
        for index in range(line * across, (line + 1) * across):
            if not page.databytecounts[index]:
                continue  # a sparse tile is left as it is
            source.seek(page.dataoffsets[index])
            encoded = source.read(page.databytecounts[index])
            try:
                part = tiff_segments.decode(page, encoded, index)
            except ValueError as error:
                raise self._damaged(str(error)) from None
            segment = part.pixels[:rows, : width - part.left]
            band[: len(segment), part.left : part.left + segment.shape[1]] = segment
        return band if page.samplesperpixel > 1 else band[..., 0]

    def _damaged(self, reason: str) -> InputError:
        return InputError(
            f"cannot decode {self.path}: damaged TIFF ({reason})",
            code="read.decode",
            details={"path": self.path, "reason": reason},
        )


def _is_simple(page: Any, size: int) -> bool:
    """True when the page can be read in rows, and all of it is in a file of this size."""
    chunk = math.prod(page.chunks) * page.dtype.itemsize
    line = math.prod((page.chunks[0], page.imagewidth, page.samplesperpixel)) * page.dtype.itemsize
    needed = math.prod(page.chunked)
    about = tiff.describe(page)
    return (
        tiff_segments.reads(page)
        and page.imagedepth == 1
        and page.photometric in (1, 2, tiff_segments.YCBCR)
        and page.samplesperpixel in (1, 3)
        and page.planarconfig == 1
        and page.dtype in (np.uint8, np.uint16)
        and about.orientation == 1
        and ((chunk <= SEGMENT and line <= LINE) or _is_contiguous(page))
        and len(page.dataoffsets) == len(page.databytecounts) == needed
        and all(
            offset + count <= size
            for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)
        )
    )


def _is_contiguous(page: Any) -> bool:
    """True when rows follow each other in the file just as they are."""
    if page.compression != 1 or page.predictor != 1 or page.is_tiled:
        return False
    ends = np.add(page.dataoffsets, page.databytecounts)
    return bool((ends[:-1] == page.dataoffsets[1:]).all())


def write(
    target: BinaryIO,
    shape: tuple[int, ...],
    dtype: np.dtype,
    metadata: Metadata,
    bands: Iterable[np.ndarray],
    nodata: str | None = None,
) -> None:
    """Write a file such as `tiff.write` does, from bands of `tiff.TILE` rows (fewer at the end).

    Args:
        target: Empty, seekable, open for reading too.
        shape: (H, W) or (H, W, 3).
        dtype: uint8, uint16 or float32.
        metadata: See `tiff.write`.
        bands: From top to bottom, (rows, W) or (rows, W, 3).
        nodata: See `tiff.write`.
    """
    options = tiff.options(shape, dtype, metadata, nodata=nodata)
    tifffile.imwrite(
        target, _tiles(bands), shape=shape, dtype=dtype, **{**options, "tile": (tiff.TILE,) * 2}
    )
    tiff.add_exif(target, metadata)


def _tiles(bands: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the tiles of all bands, zeros where they reach beyond the image."""
    for band in bands:
        for left in range(0, band.shape[1], tiff.TILE):
            part = band[:, left : left + tiff.TILE]
            missing = [(0, tiff.TILE - part.shape[axis]) for axis in (0, 1)]
            yield np.pad(part, [*missing, *[(0, 0)] * (part.ndim - 2)])
