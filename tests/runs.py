"""Small folders of pairs, and `fusecli` run on them in this process or a child of it."""

import gc
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

from fusecli.cli import run

# Random weights are always the same ones, and these tests are about files, not about pictures.
FUSE = ("fuse", "--weights", "random", "--jobs", "2", "--progress", "none")


def draw(path: Path, shape: tuple[int, ...] = (24, 32), seed: int = 0) -> Path:
    """Write a smooth random 8-bit picture."""
    rng = np.random.default_rng([seed, len(shape)])
    image = cv2.GaussianBlur(rng.uniform(0, 255, shape).astype(np.float32), (0, 0), 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = cv2.imencode(path.suffix, np.clip(3 * image - 250, 0, 255).astype(np.uint8))[1]
    path.write_bytes(data.tobytes())
    return path


def draw_pairs(folder: Path, count: int, shape: tuple[int, int] = (24, 32)) -> tuple[str, str]:
    """Write pairs `000`, `001`, … and return the two folders."""
    for number in range(count):
        draw(folder / "ir" / f"{number:03d}.png", shape, number)
        draw(folder / "vis" / f"{number:03d}.png", (*shape, 3), 1000 + number)
    return str(folder / "ir"), str(folder / "vis")


def fuse(*arguments: str | Path) -> int:
    """Run `fusecli fuse` here and return its exit code."""
    return run([*FUSE, *map(str, arguments)])


def in_child(action: Callable[[], object]) -> int:
    """Fork, run an action, and return the process id: a new run without the price of imports.

    The child must never collect what earlier tests left behind: an onnxruntime session, for one,
    waits at its end for threads that a fork does not copy.
    """
    one_thread()
    gc.freeze()
    child = os.fork()
    if child:
        gc.unfreeze()
        return child
    code = 70
    try:
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123
        code = int(action() or 0)  # type: ignore[call-overload]
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


def one_thread() -> None:
    """Let torch and OpenCV start no threads, which would not survive a fork."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def contents(folder: Path) -> dict[str, bytes]:
    """Return every visible file below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".fusecli" not in path.parts
    }


def lines(out: Path, name: str = "manifest.jsonl") -> list[dict]:
    """Return the lines of a manifest."""
    return [json.loads(text) for text in (out / ".fusecli" / name).read_text().splitlines()]
