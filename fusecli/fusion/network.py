"""A network made ready to run on images of any size.

Everything true of all networks is here: value range, padding, tiles, cropping, tone. What is true
of one network is data in its `ModelSpec`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusecli.errors import InputError, UsageError
from fusecli.fusion import Tiling
from fusecli.fusion.preparation import prepare
from fusecli.fusion.tiles import Window, rows, run_tiled
from fusecli.models import ModelSpec
from fusecli.ops.whole_image import in_passes
from fusecli.runtime import total_memory

# Share of the memory that `--tile auto` gives the network. The whole and not the free memory
# counts, so that the tiles of an image do not depend on what else is running.
SHARE = {"cpu": 0.25, "mps": 0.25, "cuda": 0.3}
STATISTICS = 2  # times that share for a whole image whose tiles have to be run several times
LARGE_MEMORY = 1 << 30  # bytes for the tiles of an image that is read and written in rows
LARGE_TILE = 1024


def pad_to(image: Tensor, height: int, width: int, padding: str) -> Tensor:
    """Return (B, 1, height, width), grown to the right and bottom.

    Args:
        image: (B, 1, H, W), at most that size.
        height: Rows wanted.
        width: Columns wanted.
        padding: `reflect` as far as the image reaches and `replicate` beyond, or `replicate`.
    """
    while True:
        rows, columns = height - image.shape[-2], width - image.shape[-1]
        if not rows and not columns:
            return image
        if padding == "reflect" and min(image.shape[-2:]) > 1:
            reach = (0, min(columns, image.shape[-1] - 1), 0, min(rows, image.shape[-2] - 1))
            image = F.pad(image, reach, mode="reflect")
            padding = "replicate"
        else:
            return F.pad(image, (0, columns, 0, rows), mode="replicate")


def stretch(fused: Tensor) -> Tensor:
    """Return each image of (B, 1, H, W) mapped from its own minimum and maximum to 0..1.

    A constant image has no range and is clipped instead.
    """
    return stretch_from(
        fused, fused.amin((1, 2, 3), keepdim=True), fused.amax((1, 2, 3), keepdim=True)
    )


def stretch_from(fused: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return images, or parts of them, mapped from `low` to `high`, (B, 1, 1, 1), to 0..1."""
    span = high - low
    return torch.where(span > 0, (fused - low) / span.clamp_min(1e-12), fused.clamp(0, 1))


class Fuser:
    """A network on one device: (B, 1, H, W) infrared and visible luma in 0..1, fused luma out.

    Args:
        network: In eval mode, with its weights.
        spec: Its description.
        options: Its options; they decide the halo.
        device: Where it runs.
        dtype: Of the activations; weights stay float32 and autocast narrows where it may.
        tone: `model`, `clip` or `stretch`.
        tiling: See `Tiling`.

    Raises:
        UsageError: Tiles of a network that cannot be tiled (`usage.tile`).
    """

    def __init__(
        self,
        network: nn.Module,
        spec: ModelSpec,
        options: Mapping[str, Any],
        *,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        tone: str = "model",
        tiling: Tiling | None = None,
    ) -> None:
        self.network = prepare(network, spec, device, dtype)
        self.spec, self.device, self.dtype = spec, device, dtype
        self.tone = spec.tone if tone == "model" else tone
        self.halo = spec.halo(options)
        self.tiling = tiling or Tiling()
        if self.tiling.tile and spec.tiling == "never":
            raise UsageError(
                f"{spec.title} cannot be tiled: it looks at the whole image",
                code="usage.tile",
                hint="leave --tile out",
            )
        self.memory = total_memory(device)

    @torch.inference_mode()
    def __call__(self, ir: Tensor, vis: Tensor, toned: bool = True) -> Tensor:
        """Return (B, 1, H, W) in 0..1 on the CPU.

        Args:
            ir: (B, 1, H, W) in 0..1.
            vis: The same shape.
            toned: Off leaves values beyond 0..1 as they are, for a tone that looks at all tiles.

        Raises:
            InputError: The network cannot take this size (`model.size`, `model.memory`).
        """
        with _own(self.device):
            return self._fused(ir, vis, toned)

    def _fused(self, ir: Tensor, vis: Tensor, toned: bool) -> Tensor:
        height, width = ir.shape[-2:]
        if min(height, width) < self.spec.min_size:
            raise InputError(
                f"{self.spec.title} needs at least {self.spec.min_size}x{self.spec.min_size} "
                f"pixels, this pair has {width}x{height}",
                code="model.size",
                hint="choose another model with -m; fusecli models list shows the smallest sizes",
            )
        low, high = self.spec.input_range
        ir, vis = (low + (high - low) * self._uploaded(image) for image in (ir, vis))
        fused = (self._pieces(ir, vis) - low) / (high - low)
        if toned:
            fused = stretch(fused) if self.tone == "stretch" else fused.clamp(0, 1)
        return fused.cpu()

    def _uploaded(self, image: Tensor) -> Tensor:
        if self.device.type == "cuda":  # only from pinned memory is a copy asynchronous
            image = image.pin_memory()
        return image.to(self.device, torch.float32, non_blocking=True)

    @property
    def tiles_exactly(self) -> bool:
        """Whether the tiles of an image make the same result as the whole, and are wanted."""
        return self.spec.tiling in ("exact", "passes") and self.tiling.tile != 0

    def large_tiles(self, height: int, width: int, multiple: int) -> Iterator[tuple[Window, ...]]:
        """Yield the tiles of an image that is read in rows, a row of tiles at a time.

        Args:
            height: Of the image.
            width: Of the image.
            multiple: What the height of a row of tiles is to be a multiple of.
        """
        step = math.lcm(multiple, self.spec.stride)
        edge = self.tiling.tile or min(LARGE_TILE, self._edge(LARGE_MEMORY, batch=1))
        return rows(height, width, max(step, edge // step * step), self._halo(), self.spec.stride)

    def _halo(self) -> int:
        overlap = self.tiling.overlap
        return self.halo if overlap is None else overlap // 2

    def _budget(self) -> float:
        """Return the bytes that `--tile auto` gives the network."""
        return SHARE.get(self.device.type, 0.25) * self.memory

    def _largest_whole(self) -> float:
        """Return the pixels up to which `--tile auto` leaves an image whole."""
        share = self._budget() * (STATISTICS if self.spec.tiling == "passes" else 1)
        return share / self.spec.memory

    def about_tiles(self) -> str:
        """Return when images are cut, and why, for people."""
        if self.spec.tiling == "never":
            return "images are never cut: the network looks at the whole"
        if self.tiling.tile is not None:
            edge = self.tiling.tile
            return f"images are cut into tiles of {edge} pixels" if edge else "images are never cut"
        limit, edge = self._largest_whole() / 1e6, self._edge(self._budget(), batch=1)
        return (
            f"images of more than {limit:.1f} megapixels are cut into tiles of {edge} pixels "
            f"(a share of the memory of {self.device})"
        )

    def _edge(self, memory: float, batch: int) -> int:
        """Return the edge of the tiles that fit in so many bytes."""
        outer = math.isqrt(int(memory / (self.spec.memory * batch)))
        return max(64, outer - 2 * self._halo())

    def _pieces(self, ir: Tensor, vis: Tensor) -> Tensor:
        tile = None if in_passes() else self._tile(len(ir), *ir.shape[-2:])
        if tile is None and ir.numel() * self.spec.memory > self.memory:
            raise self._too_large(ir)  # the system would kill the whole process
        while True:
            try:
                if tile is None:
                    return self._padded(ir, vis)
                return run_tiled(
                    self._padded,
                    ir,
                    vis,
                    tile=tile,
                    halo=self._halo(),
                    stride=self.spec.stride,
                    blend=self.spec.tiling == "approximate",
                    passes=self.spec.tiling == "passes",
                )
            except torch.cuda.OutOfMemoryError:
                torch.cuda.empty_cache()
                largest = tile or max(ir.shape[-2:])
                if self.spec.tiling == "never" or largest <= 64:
                    raise self._too_large(ir) from None
                tile = largest // 2

    def _tile(self, batch: int, height: int, width: int) -> int | None:
        tile = self.tiling.tile
        if tile is None:
            fits = batch * height * width <= self._largest_whole()
            whole = fits or self.spec.tiling == "never"
            return None if whole else self._edge(self._budget(), batch)
        return None if not tile or max(height, width) <= tile else tile

    def _padded(self, ir: Tensor, vis: Tensor) -> Tensor:
        height, width = ir.shape[-2:]
        multiple = self.spec.multiple_of
        size = (-(-height // multiple) * multiple, -(-width // multiple) * multiple)
        ir, vis = (
            pad_to(image, *size, self.spec.padding).contiguous(memory_format=torch.channels_last)
            for image in (ir, vis)
        )
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            fused: Tensor = self.network(ir, vis)
        return fused[..., :height, :width].float()

    def _too_large(self, ir: Tensor) -> InputError:
        height, width = ir.shape[-2:]
        return InputError(
            f"{self.spec.title} cannot fuse {width}x{height} pixels in the memory of {self.device}",
            code="model.memory",
            hint="use --device cpu or a model that can be tiled (fusecli models list)"
            if self.tiling.tile != 0 or self.spec.tiling == "never"
            else "leave --tile off out: tiles take a bounded part of the memory",
        )


def _own(device: torch.device) -> AbstractContextManager[object]:
    """Return a block in which kernels are launched on a device, and not on the first."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
