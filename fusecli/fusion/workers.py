"""Who fuses arrays: the thread that asks, or threads of a device that gather batches."""

from __future__ import annotations

import copy
import queue
import threading
import time
from collections import deque
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from fusecli.errors import FusecliError
from fusecli.fusion.network import Fuser

LINGER = 0.02  # seconds a batch waits for company


def lanes(device: torch.device) -> int:
    """Return the batches a device works on at once: a GPU copies one while it computes another."""
    return 2 if device.type == "cuda" else 1


def _lane(device: torch.device) -> AbstractContextManager[object]:
    """Return a block whose work on a GPU does not wait for that of other threads."""
    if device.type != "cuda":
        return nullcontext()
    return torch.cuda.stream(torch.cuda.Stream(device))


@dataclass(frozen=True)
class Fused:
    """What a worker returns.

    Args:
        image: (H, W) float32 in 0..1.
        ms: Time in the network; of a batch, this pair's share.
    """

    image: np.ndarray
    ms: float


class FuseArrays(Protocol):
    """Whoever fuses arrays: a network here, or threads that share some."""

    @property
    def fuser(self) -> Fuser:
        """The network, for what it knows of tiles and tone."""
        ...

    def __call__(self, ir: np.ndarray, vis: np.ndarray, toned: bool = True) -> Fused:
        """Return the fused luma of one pair.

        Args:
            ir: (H, W) float32 in 0..1.
            vis: The same shape.
            toned: See `Fuser`.
        """
        ...


@dataclass(frozen=True)
class FuseHere:
    """A network that runs in the thread that asks."""

    fuser: Fuser

    def __call__(self, ir: np.ndarray, vis: np.ndarray, toned: bool = True) -> Fused:
        """Return the fused luma of one pair."""
        start = time.perf_counter()
        fused = self.fuser(
            torch.from_numpy(ir)[None, None], torch.from_numpy(vis)[None, None], toned
        )
        return Fused(fused[0, 0].numpy(), 1000 * (time.perf_counter() - start))


class InferenceWorker:
    """Threads that run batches of equal-sized pairs for any number of callers.

    Args:
        fusers: One per device.
        batch_size: Most pairs in one forward pass.
    """

    def __init__(self, fusers: list[Fuser], batch_size: int = 1) -> None:
        self.fuser = fusers[0]
        self.batch_size = batch_size
        self._requests: queue.Queue[_Request | None] = queue.Queue()
        self._threads = [
            threading.Thread(target=self._serve, args=(fuser,), daemon=True)
            for fuser in fusers
            for _ in range(lanes(fuser.device))
        ]
        for thread in self._threads:
            thread.start()

    def __call__(self, ir: np.ndarray, vis: np.ndarray, toned: bool = True) -> Fused:
        """Return the fused luma of one pair, blocking until its batch has run.

        Args:
            ir: (H, W) float32 in 0..1.
            vis: The same shape.
            toned: See `Fuser`.
        """
        request = _Request(torch.from_numpy(ir), torch.from_numpy(vis), toned, Future())
        self._requests.put(request)
        return request.result.result()

    def close(self) -> None:
        """Let the threads finish what was asked and end."""
        for _ in self._threads:
            self._requests.put(None)
        for thread in self._threads:
            thread.join()

    def _serve(self, fuser: Fuser) -> None:
        with _lane(fuser.device):
            self._answer(fuser)

    def _answer(self, fuser: Fuser) -> None:
        other_sizes: deque[_Request] = deque()  # taken from the queue, but not fitting the batch
        while True:
            first = other_sizes.popleft() if other_sizes else self._requests.get()
            if first is None:
                return
            batch = [first]
            for request in list(other_sizes):
                if len(batch) < self.batch_size and request.fits(first):
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
                fits = another.fits(first)
                (batch if fits else other_sizes).append(another)
            self._run(fuser, batch)

    @staticmethod
    def _run(fuser: Fuser, batch: list[_Request]) -> None:
        start = time.perf_counter()
        try:
            ir = torch.stack([request.ir for request in batch])[:, None]
            vis = torch.stack([request.vis for request in batch])[:, None]
            fused = fuser(ir, vis, batch[0].toned)
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
    toned: bool
    result: Future[Fused]

    def fits(self, other: _Request) -> bool:
        """Return whether both can run in one batch."""
        return (self.ir.shape, self.toned) == (other.ir.shape, other.toned)


def _each(error: Exception) -> Exception:
    """Return an error that several threads may raise: a copy each, for their own tracebacks."""
    return copy.copy(error) if isinstance(error, FusecliError) else error
