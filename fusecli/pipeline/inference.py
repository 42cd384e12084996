"""A network made ready to run, and the one thread per device that runs it.

Everything true of all networks is here: value range, padding, tiles, cropping, tone. What is true
of one network is data in its `ModelSpec`.
"""

from __future__ import annotations

import copy
import queue
import threading
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fusecli.errors import FusecliError, InputError
from fusecli.models import ModelSpec
from fusecli.pipeline.tiles import run_tiled

AUTO_WHOLE = 2048 * 1536  # pixels that `--tile auto` runs in one piece
AUTO_TILE = 1024
LINGER = 0.02  # seconds a batch waits for company


@dataclass(frozen=True)
class Tiling:
    """How large images are cut.

    Args:
        tile: Edge in pixels; 0 is `off`, None is `auto`.
        overlap: Pixels shared by neighbours; None is what the network asks for.
    """

    tile: int | None = None
    overlap: int | None = None


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """Return a copy in eval mode whose batch norms are folded into the convolutions before them.

    Blocks are recognised by their attributes `conv` and `bn`, applied in that order.
    """
    network = copy.deepcopy(network).eval()
    for block in network.modules():
        convolution, norm = getattr(block, "conv", None), getattr(block, "bn", None)
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            block.conv = fuse_conv_bn_eval(convolution, norm)
            block.bn = nn.Identity()
    return network


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
    low, high = fused.amin((1, 2, 3), keepdim=True), fused.amax((1, 2, 3), keepdim=True)
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
        # Folded and channels-last: 1.3 to 2 times faster on a CPU for every convolutional network.
        prepared = fold_batch_norm(network).to(device)
        prepared = prepared.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network = prepared.requires_grad_(False)
        self.spec, self.device, self.dtype = spec, device, dtype
        self.tone = spec.tone if tone == "model" else tone
        self.halo = spec.halo(options)
        self.tiling = tiling or Tiling()

    @torch.inference_mode()
    def __call__(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Return (B, 1, H, W) in 0..1 on the CPU.

        Raises:
            InputError: The network cannot take this size (`model.size`).
        """
        height, width = ir.shape[-2:]
        if min(height, width) < self.spec.min_size:
            raise InputError(
                f"{self.spec.title} needs at least {self.spec.min_size}x{self.spec.min_size} "
                f"pixels, this pair has {width}x{height}",
                code="model.size",
                hint="choose another model with -m; fusecli models list shows the smallest sizes",
            )
        low, high = self.spec.input_range
        ir, vis = (
            (low + (high - low) * image.to(self.device, torch.float32)) for image in (ir, vis)
        )
        fused = (self._pieces(ir, vis) - low) / (high - low)
        fused = stretch(fused) if self.tone == "stretch" else fused.clamp(0, 1)
        return fused.cpu()

    def _pieces(self, ir: Tensor, vis: Tensor) -> Tensor:
        tile = self._tile(ir.shape[-2], ir.shape[-1])
        while True:
            try:
                if tile is None:
                    return self._padded(ir, vis)
                overlap = self.tiling.overlap
                return run_tiled(
                    self._padded,
                    ir,
                    vis,
                    tile=tile,
                    halo=self.halo if overlap is None else overlap // 2,
                    stride=self.spec.stride,
                    blend=self.spec.tiling == "approximate",
                )
            except torch.cuda.OutOfMemoryError:
                torch.cuda.empty_cache()
                largest = tile or max(ir.shape[-2:])
                if self.spec.tiling == "never" or largest <= 64:
                    raise self._too_large(ir) from None
                tile = largest // 2

    def _tile(self, height: int, width: int) -> int | None:
        tile = self.tiling.tile
        if tile is None:
            fits = height * width <= AUTO_WHOLE or self.spec.tiling == "never"
            return None if fits else AUTO_TILE
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
            hint="use --device cpu or a model that can be tiled (fusecli models list)",
        )


@dataclass(frozen=True)
class Fused:
    """What a worker returns.

    Args:
        image: (H, W) float32 in 0..1.
        ms: Time in the network; of a batch, this pair's share.
    """

    image: np.ndarray
    ms: float


def fuse_one(fuser: Fuser, ir: np.ndarray, vis: np.ndarray) -> Fused:
    """Return the fused luma of one pair, run in the thread that asks.

    Args:
        fuser: The network.
        ir: (H, W) float32 in 0..1.
        vis: The same shape.
    """
    start = time.perf_counter()
    fused = fuser(torch.from_numpy(ir)[None, None], torch.from_numpy(vis)[None, None])
    return Fused(fused[0, 0].numpy(), 1000 * (time.perf_counter() - start))


class InferenceWorker:
    """Threads, one per device, that run batches of equal-sized pairs for any number of callers.

    Args:
        fusers: One per device.
        batch_size: Most pairs in one forward pass.
    """

    def __init__(self, fusers: list[Fuser], batch_size: int = 1) -> None:
        self.batch_size = batch_size
        self._requests: queue.Queue[_Request | None] = queue.Queue()
        self._threads = [
            threading.Thread(target=self._serve, args=(fuser,), daemon=True) for fuser in fusers
        ]
        for thread in self._threads:
            thread.start()

    def __call__(self, ir: np.ndarray, vis: np.ndarray) -> Fused:
        """Return the fused luma of one pair, blocking until its batch has run.

        Args:
            ir: (H, W) float32 in 0..1.
            vis: The same shape.
        """
        request = _Request(torch.from_numpy(ir), torch.from_numpy(vis), Future())
        self._requests.put(request)
        return request.result.result()

    def close(self) -> None:
        """Let the threads finish what was asked and end."""
        for _ in self._threads:
            self._requests.put(None)
        for thread in self._threads:
            thread.join()

    def _serve(self, fuser: Fuser) -> None:
        other_sizes: deque[_Request] = deque()  # taken from the queue, but not fitting the batch
        while True:
            first = other_sizes.popleft() if other_sizes else self._requests.get()
            if first is None:
                return
            batch = [first]
            for request in list(other_sizes):
                if len(batch) < self.batch_size and request.ir.shape == first.ir.shape:
                    other_sizes.remove(request)
                    batch.append(request)
            while len(batch) < self.batch_size:
                try:
                    another = self._requests.get(timeout=LINGER)
                except queue.Empty:
                    break
                if another is None:
                    self._requests.put(None)  # ours again, once this batch has run
                    break
                fits = another.ir.shape == first.ir.shape
                (batch if fits else other_sizes).append(another)
            self._run(fuser, batch)

    @staticmethod
    def _run(fuser: Fuser, batch: list[_Request]) -> None:
        start = time.perf_counter()
        try:
            ir = torch.stack([request.ir for request in batch])[:, None]
            vis = torch.stack([request.vis for request in batch])[:, None]
            fused = fuser(ir, vis)
        except Exception as error:
            for request in batch:
                request.result.set_exception(_each(error))
            return
        ms = 1000 * (time.perf_counter() - start) / len(batch)
        for request, image in zip(batch, fused[:, 0], strict=True):
            request.result.set_result(Fused(image.numpy(), ms))


@dataclass(frozen=True, eq=False)
class _Request:
    ir: Tensor
    vis: Tensor
    result: Future[Fused]


def _each(error: Exception) -> Exception:
    """Return an error that several threads may raise: a copy each, for their own tracebacks."""
    return copy.copy(error) if isinstance(error, FusecliError) else error
