"""Chunks of items on other processes and machines, through the backends that joblib knows.

The workers compute and leave finished files as parts; the process that started the run records
them and gives them their names, as it does for its own threads.
"""

from __future__ import annotations

import importlib
import itertools
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from joblib import Parallel, delayed, parallel_config
from joblib.parallel import BACKENDS, get_active_backend

from fusecli.errors import UsageError
from fusecli.outcome import Outcome
from fusecli.run.stream import Item, Pool, attempt
from fusecli.runtime import Runtime, usable_cores

Work = Callable[[Any], Outcome]

CLUSTERS = {"dask": "distributed", "ray": "ray"}  # backend to module


def work_through(work: Work, items: Sequence[Item]) -> list[tuple[Item, Outcome]]:
    """Return the outcome of every item of a chunk, in a worker."""
    if threading.current_thread() is threading.main_thread():
        # Ctrl-C reaches every process of a terminal; only the first one decides what stops.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return [attempt(work, item) for item in items]


def check(backend: str, runtime: Runtime) -> None:
    """Refuse a backend that cannot work.

    Raises:
        UsageError: Unknown (`usage.backend`), or processes that would share one CUDA device
            (`device.backend`).
        ImportError: Its package is not installed; `cli` names the extra (`extra.missing`).
    """
    known = sorted({*BACKENDS, *CLUSTERS})
    if backend not in known:
        raise UsageError(
            f"--backend {backend} is not known to joblib",
            code="usage.backend",
            hint=f"known: {', '.join(known)}",
        )
    if backend in CLUSTERS:
        importlib.import_module(CLUSTERS[backend])
    elif runtime.jobs > 1 and any(device.type == "cuda" for device in runtime.devices):
        raise UsageError(
            f"--backend {backend} would start {runtime.jobs} processes on one CUDA device",
            code="device.backend",
            hint="use --backend threading, which keeps the device busy, or --jobs 1",
        )


def pool(backend: str, *, jobs: int | None, chunk: int) -> Pool:
    """Return the way in which `stream.run` sends work and items to a backend.

    Args:
        backend: One that `check` accepts.
        jobs: Chunks in work at the same time; None is all that a cluster has.
        chunk: Items in one.
    """

    def run(work: Work, items: Iterator[Item]) -> Iterator[tuple[Item, Outcome]]:
        with _connected(backend) as slots, parallel_config(backend, n_jobs=jobs or -1):
            chunks = (delayed(work_through)(work, part) for part in _chunks(items, chunk))
            active, _ = get_active_backend()
            if active.supports_return_generator:
                parallel = Parallel(return_as="generator_unordered", batch_size=1)
                for outcomes in parallel(chunks):
                    yield from outcomes
                return
            # Without that, a round of chunks at a time keeps memory and progress bounded.
            count = min(jobs or slots, slots) or 1
            with Parallel(
                n_jobs=count, batch_size=1
            ) as parallel:  # its workers stay for all rounds
                while part := list(itertools.islice(chunks, count)):
                    for outcomes in parallel(part):
                        yield from outcomes

    return run


def _chunks(items: Iterator[Item], size: int) -> Iterator[list[Item]]:
    while part := list(itertools.islice(items, size)):
        yield part


@contextmanager
def _connected(backend: str) -> Iterator[int]:
    """Connect to the cluster that the environment names, or to one on this machine.

    Yields the chunks that can be in work at once.
    """
    if backend == "dask":
        from distributed import Client

        with Client(os.environ.get("DASK_SCHEDULER_ADDRESS")) as client:
            yield sum(client.nthreads().values())
    elif backend == "ray":
        import ray
        from ray.util.joblib import register_ray

        register_ray()
        started = not ray.is_initialized()
        if started:  # reads RAY_ADDRESS
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
        try:
            yield int(ray.cluster_resources().get("CPU", 1))
        finally:
            if started:
                ray.shutdown()
    else:
        yield usable_cores()
