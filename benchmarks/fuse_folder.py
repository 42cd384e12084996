"""Measure `fusecli fuse` on a folder against a plain loop over the same network, in one run.

    python benchmarks/fuse_folder.py [-m reconet -m mfeif] [--pairs 20] [--options "--jobs 2"]

The plain loop is what an authors' script does: float32, NCHW, batch norm as trained, one pair at a
time, decoding and encoding in between; `fuse` takes `--precision auto`. Both sides read and write
the same PNG files and are timed from after the imports to the last file written; peak memory is
the whole process's.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

SIZE = (480, 640)


def draw_pairs(folder: Path, count: int, size: tuple[int, int] = SIZE) -> None:
    """Write `count` pairs with textures of several scales and sensor noise.

    Args:
        folder: Gets `ir/` and `vis/`.
        count: Of pairs.
        size: Height and width.
    """
    for side, channels in (("ir", 1), ("vis", 3)):
        (folder / side).mkdir(parents=True)
        for number in range(count):
            rng = np.random.default_rng([number, channels])
            image = np.zeros((*size, channels), np.float32)
            for scale in (2, 6, 20, 60):
                noise = rng.normal(0, 1, image.shape).astype(np.float32)
                image += scale * cv2.GaussianBlur(noise, (0, 0), scale).reshape(image.shape)
            image = 128 + 45 * image / image.std() + rng.normal(0, 2, image.shape)
            data = cv2.imencode(".png", np.clip(image, 0, 255).astype(np.uint8))[1]
            (folder / side / f"{number:03d}.png").write_bytes(data.tobytes())


def plain_loop(model: str, source: Path, out: Path) -> None:
    """Fuse a folder the plain way and print seconds and the network's share as JSON."""
    import torch

    from fusecli import checkpoint

    loaded = checkpoint.load(model)
    network, (low, high) = loaded.network, loaded.spec.input_range
    out.mkdir()
    start, inside = time.perf_counter(), 0.0
    for path in sorted((source / "ir").iterdir()):
        ir = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        vis = cv2.imread(str(source / "vis" / path.name), cv2.IMREAD_COLOR)
        ycc = cv2.cvtColor(vis, cv2.COLOR_BGR2YCrCb)
        tensors = [torch.from_numpy(low + (high - low) * a.astype(np.float32) / 255)[None, None]
                   for a in (ir, ycc[..., 0])]  # fmt: skip
        before = time.perf_counter()
        with torch.no_grad():
            fused = network(*tensors)
        inside += time.perf_counter() - before
        luma = 255 * (fused[0, 0].numpy() - low) / (high - low)
        ycc[..., 0] = np.clip(np.rint(luma), 0, 255).astype(np.uint8)
        cv2.imwrite(str(out / path.name), cv2.cvtColor(ycc, cv2.COLOR_YCrCb2BGR))
    print(json.dumps({"seconds": time.perf_counter() - start, "network": inside}))


def measured(command: list[str]) -> tuple[dict, float, float]:
    """Run a command that prints one JSON document; return it, the peak in MiB, and CPU seconds."""
    # both sides wait alike, or a busy machine would count the plain loop's spinning threads
    environment = {"OMP_WAIT_POLICY": "passive"} | os.environ
    environment["PYTHONPATH"] = str(Path(__file__).parents[1])
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed:\n{process.stderr.read().decode()}")
    return json.loads(output), usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime


def compare(model: str, pairs: int, options: list[str]) -> dict[str, float | str]:
    """Return one row: both rates, their ratio, the split of fusecli's time, peak memories."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw_pairs(folder, pairs)
        here = [sys.executable, __file__, "--plain", model, str(folder), str(folder / "plain")]
        plain, plain_peak, _ = measured(here)
        ours, peak, _ = measured(
            [sys.executable, "-m", "fusecli", "fuse", str(folder / "ir"), str(folder / "vis"),
             "-o", str(folder / "out"), "-m", model, "--tone", "clip",
             "--precision", "auto", "--json", *options]
        )  # fmt: skip
        largest = max(
            int(np.abs(cv2.imread(str(p)).astype(int)
                       - cv2.imread(str(folder / "plain" / p.name)).astype(int)).max())
            for p in (folder / "out").glob("*.png")
        )  # fmt: skip
    rate = ours["rate"]
    return {
        "model": model,
        "plain pairs/s": pairs / plain["seconds"],
        "fusecli pairs/s": pairs / ours["elapsed_s"],
        "ratio": plain["seconds"] / ours["elapsed_s"],
        "network in plain s": plain["network"],
        "read s": rate["read_s"],
        "run s": rate["run_s"],
        "write s": rate["write_s"],
        "plain MiB": plain_peak,
        "fusecli MiB": peak,
        "largest difference": largest,
    }


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--model", action="append")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--options", default="", help="further options for fusecli fuse")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--plain", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.plain:
        model, source, out = arguments.plain
        plain_loop(model, Path(source), Path(out))
        return
    rows = [compare(model, arguments.pairs, arguments.options.split())
            for model in arguments.model or ["reconet", "mfeif"]]  # fmt: skip
    if arguments.json:
        print(json.dumps(rows))
        return
    print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for row in rows:
        cells = (f"{v:.2f}" if isinstance(v, float) else str(v) for v in row.values())
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
