"""Pairs too large to be held in memory: read in rows, fused in tiles, written in rows.

The result is the file that would have been written had everything been held at once, given the
same tiles.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial

import numpy as np
import torch

from fusecli import images
from fusecli.fusion import Choices
from fusecli.fusion.network import stretch_from
from fusecli.fusion.pair import fill_gaps, range_notes, recolour, result_type
from fusecli.fusion.tiles import Window, gathered
from fusecli.fusion.workers import FuseArrays, FuseHere
from fusecli.images import tiff
from fusecli.images.encoding import mark, nodata_of
from fusecli.images.tiff_rows import TiffRows
from fusecli.images.values import histogram_percentiles, resolve_range


class Side:
    """One image of a pair, still in its file.

    Args:
        rows: The open file; all of it is read once.
        rule: Of its range.

    Attributes:
        limits: The stored values that become 0 and 1.
        grey: Whether it has one channel, or three that are equal.
        counts: How often each value occurs.
        nonfinite: Pixels without a measurement.

    Raises:
        InputError: `read.decode`.
    """

    def __init__(self, rows: TiffRows, rule: str) -> None:
        self.rows, self.grey, self.nonfinite = rows, True, 0
        self.counts = np.zeros(1 << 8 * rows.dtype.itemsize, np.int64)
        for pixels in rows.bands():
            self.grey = self.grey and (pixels.ndim == 2 or _channels_are_equal(pixels))
            invalid = rows.invalid(pixels)
            if invalid is not None:
                self.nonfinite += int(np.count_nonzero(invalid))
                pixels = pixels[~invalid]
            self.counts += np.bincount(pixels.ravel(), minlength=self.counts.size)
        if self.grey and len(rows.shape) == 3:
            self.counts //= 3
        known, low, high = resolve_range(rule, rows.dtype)
        self.limits = (low, high) if known else histogram_percentiles(self.counts, low, high)

    def share_from(self, value: float) -> float:
        """Return the share of pixels at or above a stored value."""
        return float(self.counts[int(np.ceil(value)) :].sum() / max(1, self.counts.sum()))

    def stored(self, top: int, bottom: int) -> np.ndarray:
        """Return some rows as stored, (rows, W) or (rows, W, 3)."""
        pixels = self.rows.read(top, bottom)
        return pixels[..., 0] if self.grey and pixels.ndim == 3 else pixels

    def scaled(self, pixels: np.ndarray) -> np.ndarray:
        """Return stored pixels in 0..1."""
        return images.to_unit(pixels, self.limits, self.rows.invalid(pixels))


def _channels_are_equal(pixels: np.ndarray) -> bool:
    return all(np.array_equal(pixels[..., 0], pixels[..., other]) for other in (1, 2))


class LargePair:
    """A pair on one grid whose result is made in tiles, by the steps of `fuse_pictures`.

    Args:
        ir: Infrared, open.
        vis: Visible, open, of the same size.
        choices: How values become network input and back.
        network: Infrared and visible luma, (H, W) float32 in 0..1, to fused luma.
        key: Name of the pair.

    Attributes:
        limits: Stored values of the infrared and the visible image that become 0 and 1.
        notes: Code to message of warnings.
        shape: Of the result, (H, W) or (H, W, 3).
        dtype: Of the result.
        nodata: What its pixels without a measurement hold, where there are any.
        ms: Time in the network so far.

    Raises:
        InputError: `read.decode`.
    """

    def __init__(
        self, ir: TiffRows, vis: TiffRows, choices: Choices, network: FuseArrays, key: str
    ) -> None:
        self.ir, self.vis = Side(ir, choices.ir_range), Side(vis, choices.vis_range)
        self.choices, self.network, self.ms = choices, network, 0.0
        self.limits = self.ir.limits, self.vis.limits
        self.notes = range_notes(key, self.ir.limits, ir.dtype, self.ir.share_from)
        self.dtype = result_type(choices, vis.dtype)
        self.reference = self.vis if choices.grid == "vis" else self.ir
        self.nodata = nodata_of(self.dtype) if self.reference.nonfinite else None
        coloured = choices.chroma == "keep" or (choices.chroma == "auto" and not self.vis.grey)
        self.shape = (*vis.shape[:2], 3) if coloured else vis.shape[:2]

    def bands(self, folder: str) -> Iterator[np.ndarray]:
        """Yield the result from top to bottom, `tiff.TILE` rows at a time.

        Args:
            folder: For a temporary file, where the tone has to see the whole image first.
        """
        top = 0
        for fused in self._toned(folder):
            bottom = top + len(fused)
            vis = self.vis.scaled(self.vis.stored(top, bottom))
            luma = images.luma(vis)
            if self.ir.nonfinite:
                fill_gaps(fused, luma, self.ir.rows.invalid(self.ir.stored(top, bottom)))
            result = recolour(fused, vis, luma, self.choices.chroma)
            pixels = images.from_unit(result, self.dtype)
            if self.nodata is not None:
                gaps = self.reference.rows.invalid(self.reference.stored(top, bottom))
                pixels = pixels if gaps is None else mark(pixels, gaps)
            yield pixels
            top = bottom

    def _toned(self, folder: str) -> Iterator[np.ndarray]:
        """Yield the fused luma, (rows, W) float32, toned."""
        if self.network.fuser.tone != "stretch":
            for rows in self._fused(toned=True):
                yield from _bands(rows)
            return
        low, high = np.inf, -np.inf
        with tempfile.TemporaryFile(dir=folder) as store:
            for rows in self._fused(toned=False):
                low, high = min(low, float(rows.min())), max(high, float(rows.max()))
                rows.tofile(store)
            store.seek(0)
            width = self.vis.rows.shape[1]
            while (stored := np.fromfile(store, np.float32, tiff.TILE * width)).size:
                raw = torch.from_numpy(stored).view(1, 1, -1, width)
                extremes = (torch.full((1, 1, 1, 1), value) for value in (low, high))
                yield stretch_from(raw, *extremes)[0, 0].numpy()

    def _fused(self, toned: bool) -> Iterator[np.ndarray]:
        """Yield the fused luma, a row of tiles at a time."""
        fuser, width = self.network.fuser, self.vis.rows.shape[1]
        network, known = self.network, None
        if fuser.spec.tiling == "passes":  # what is known of the whole is known to one network
            network = FuseHere(fuser)
            known = gathered(partial(self._tiles, network, toned), fuser.spec.stride)
        row = np.empty((0, width), np.float32)
        for tile, run in self._tiles(network, toned):
            top, bottom, left, right = tile.inner
            if left == 0:
                row = np.empty((bottom - top, width), np.float32)
            with nullcontext() if known is None else known.knowing(tile.core(fuser.spec.stride)):
                row[:, left:right] = run()[tile.kept]
            if right == width:
                yield row

    def _tiles(
        self, network: FuseArrays, toned: bool
    ) -> Iterator[tuple[Window, Callable[[], np.ndarray]]]:
        """Yield every tile, row by row, with what fuses it."""
        height, width = self.vis.rows.shape[:2]
        for row in network.fuser.large_tiles(height, width, tiff.TILE):
            top, bottom = row[0].outer[:2]
            stored = [(side, side.stored(top, bottom)) for side in (self.ir, self.vis)]
            for tile in row:
                yield tile, partial(self._fuse, network, stored, tile, toned)

    def _fuse(
        self,
        network: FuseArrays,
        stored: list[tuple[Side, np.ndarray]],
        tile: Window,
        toned: bool,
    ) -> np.ndarray:
        """Return what becomes of one tile of a row of tiles."""
        left, right = tile.outer[2:]
        ir, vis = (images.luma(side.scaled(pixels[:, left:right])) for side, pixels in stored)
        answer = network(ir, vis, toned)
        self.ms += answer.ms
        return answer.image


def _bands(rows: np.ndarray) -> Iterator[np.ndarray]:
    for top in range(0, len(rows), tiff.TILE):
        yield rows[top : top + tiff.TILE]
