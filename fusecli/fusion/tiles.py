"""Large images in pieces: exact where a halo suffices, blended where it does not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from fusecli.ops.whole_image import Core, Passes


@dataclass(frozen=True)
class Window:
    """Where a tile reads and which part of it is kept, in pixels of the whole image.

    Args:
        outer: (top, bottom, left, right) that the network sees.
        inner: (top, bottom, left, right) that is kept.
    """

    outer: tuple[int, int, int, int]
    inner: tuple[int, int, int, int]

    def of(self, image: Tensor) -> Tensor:
        """Return what the network sees of a (B, 1, H, W) image."""
        top, bottom, left, right = self.outer
        return image[..., top:bottom, left:right]

    @property
    def kept(self) -> tuple[slice, slice]:
        """The part of the network's result that is kept."""
        (top, _, left, _), (in_top, in_bottom, in_left, in_right) = self.outer, self.inner
        return slice(in_top - top, in_bottom - top), slice(in_left - left, in_right - left)

    def core(self, stride: int) -> Core:
        """Return the same, with the padding to a multiple of `stride` that ends the image."""

        def grown(length: int) -> int:
            return -(-length // stride) * stride

        (top, bottom, left, right), spans = self.outer, self.kept
        rows, columns = (slice(span.start, grown(span.stop)) for span in spans)
        return Core(rows, columns, grown(bottom - top), grown(right - left))


def _spans(length: int, tile: int, halo: int, stride: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (outer start, outer end, inner start, inner end) along one axis."""
    step = max(stride, tile // stride * stride)
    for start in range(0, length, step):
        end = min(start + step, length)
        # outer corners stay on the pooling grid, so that a tile pools the pixels the whole would
        outer_start = max(0, (start - halo) // stride * stride)
        outer_end = min(length, -(-(end + halo) // stride) * stride)
        yield outer_start, outer_end, start, end


def rows(
    height: int, width: int, tile: int, halo: int, stride: int = 1
) -> Iterator[tuple[Window, ...]]:
    """Yield the tiles of an image, a row at a time; their inner parts cover it exactly once."""
    for top, bottom, inner_top, inner_bottom in _spans(height, tile, halo, stride):
        yield tuple(
            Window((top, bottom, left, right), (inner_top, inner_bottom, inner_left, inner_right))
            for left, right, inner_left, inner_right in _spans(width, tile, halo, stride)
        )


def windows(height: int, width: int, tile: int, halo: int, stride: int = 1) -> Iterator[Window]:
    """Yield the tiles of an image in reading order."""
    for row in rows(height, width, tile, halo, stride):
        yield from row


def _ramp(length: int, before: int, after: int, halo: int) -> Tensor:
    """Return a 1-D weight that rises over the context before and falls over the context after."""
    weight = torch.ones(length)
    for size, at_start in ((before, True), (after, False)):
        if size:
            span = min(2 * size, length)
            rise = torch.sin(torch.linspace(0, torch.pi / 2, span + 2)[1:-1]).square()
            if at_start:
                weight[:span] *= rise
            else:
                weight[-span:] *= rise.flip(0)
    return weight


def gathered(
    tiles: Callable[[], Iterable[tuple[Window, Callable[[], object]]]], stride: int
) -> Passes:
    """Return what a network measures over the whole image.

    Args:
        tiles: Begins a pass: every tile with what runs the network on it.
        stride: Tile corners lie on multiples of this.
    """
    passes = Passes()
    while True:
        for window, network in tiles():
            with passes.gathering(window.core(stride)):
                network()
            if not passes.found:
                return passes
        passes.settle()


def run_tiled(
    network: Callable[[Tensor, Tensor], Tensor],
    ir: Tensor,
    vis: Tensor,
    *,
    tile: int,
    halo: int,
    stride: int = 1,
    blend: bool = False,
    passes: bool = False,
) -> Tensor:
    """Apply a network tile by tile.

    Args:
        network: (B, 1, h, w) twice in, (B, 1, h, w) out.
        ir: (B, 1, H, W).
        vis: The same shape.
        tile: Edge of the part that a tile contributes.
        halo: Context on each side. With `blend` neighbouring tiles overlap by twice this.
        stride: Tile corners lie on multiples of this.
        blend: Weight overlapping tiles with a smooth window instead of keeping the inner part.
        passes: Gather what the network measures over the whole image before the tiles are kept.

    Returns:
        (B, 1, H, W); with `blend` off, equal to the whole image where `halo` covers the receptive
        field.
    """
    height, width = ir.shape[-2:]
    tiles = list(windows(height, width, tile, halo, stride))

    def all_tiles() -> Iterator[tuple[Window, Callable[[], object]]]:
        for window in tiles:
            yield window, partial(network, window.of(ir), window.of(vis))

    known = gathered(all_tiles, stride) if passes else None
    fused = torch.zeros_like(ir)
    total = torch.zeros((height, width), device=ir.device) if blend else None
    for window in tiles:
        with nullcontext() if known is None else known.knowing(window.core(stride)):
            part = network(window.of(ir), window.of(vis))
        top, bottom, left, right = window.outer
        in_top, in_bottom, in_left, in_right = window.inner
        if total is None:
            fused[..., in_top:in_bottom, in_left:in_right] = part[(..., *window.kept)]
            continue
        rows = _ramp(bottom - top, in_top - top, bottom - in_bottom, halo)
        columns = _ramp(right - left, in_left - left, right - in_right, halo)
        weight = (rows[:, None] * columns[None, :]).to(ir.device)
        fused[..., top:bottom, left:right] += part * weight
        total[top:bottom, left:right] += weight
    return fused if total is None else fused / total
