"""Pictures of three methods, and `fusecli eval` of them."""

import csv
import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from fusecli.cli import run

SIZE = (48, 60)


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, pixels)
        return path
    stored = pixels[..., ::-1] if pixels.ndim == 3 else pixels
    path.write_bytes(cv2.imencode(path.suffix, stored)[1].tobytes())
    return path


def picture(seed: int, size: tuple[int, int] = SIZE, channels: int = 1) -> np.ndarray:
    draw = np.random.default_rng(seed)
    shades = cv2.resize(draw.uniform(30, 220, (4, 5, channels)), size[::-1], None, 0, 0, 2)
    noisy = shades.reshape(*size, channels) + draw.normal(0, 6, (*size, channels))
    return np.clip(noisy, 0, 255).astype(np.uint8).squeeze()


def draw_methods(folder: Path) -> Path:
    """Write `ir`, `vis` in colour, and the methods `a`, `b` and `c` with three images each."""
    for number in range(3):
        ir, vis = picture(number), picture(50 + number, channels=3)
        save(folder / "ir" / f"{number}.png", ir)
        save(folder / "vis" / f"{number}.png", vis)
        for method, share in (("a", 0.5), ("b", 0.2), ("c", 0.8)):
            mixed = share * ir[..., None] + (1 - share) * vis
            save(folder / method / f"{number}.png", mixed.astype(np.uint8))
    return folder


def evaluate(folder: Path, *arguments: object) -> int:
    """Score methods of a folder of `draw_methods`, in this process."""
    words = ["eval", str(folder / "ir"), str(folder / "vis")]
    return run([*words, *map(str, arguments), "--jobs", "1", "--progress", "none"])


def scored(folder: Path, capsys: pytest.CaptureFixture[str], *arguments: object) -> dict:
    """Score with `--json` and return the document; its exit code is checked."""
    code = evaluate(folder, *arguments, "--json")
    document = json.loads(capsys.readouterr().out)
    assert document["exit_code"] == code
    return document


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))
