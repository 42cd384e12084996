"""Measure `fusecli fuse` on a pair too large to be held: 16-bit grey tiled TIFFs.

    python -m benchmarks.large [-m duet] [--size 12000x9000] [--precision auto] [--json]

The pair is drawn row by row, and read, fused and written in rows of tiles. The exit status is 1 if
a run took more than 2048 MiB.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from benchmarks.fuse_folder import measured
from benchmarks.timing import table
from fusecli.images import Metadata, tiff, tiff_rows

LIMIT_MIB = 2048


def bands(height: int, width: int, seed: int) -> Iterator[np.ndarray]:
    """Yield a textured image from top to bottom, `tiff.TILE` rows of uint16 at a time."""
    generator = np.random.default_rng(seed)
    for top in range(0, height, tiff.TILE):
        rows = min(tiff.TILE, height - top)
        coarse = generator.random((rows // 16 + 1, width // 16 + 1), np.float32)
        texture = cv2.resize(coarse, (width, rows), interpolation=cv2.INTER_LINEAR)
        yield (20000 + 20000 * texture).astype(np.uint16)


def run(model: str, size: tuple[int, int], precision: str) -> dict[str, object]:
    """Return one row: what a network took."""
    height, width = size
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for seed, side in enumerate(("ir", "vis")):
            with (folder / f"{side}.tif").open("w+b") as file:
                picture = bands(height, width, seed)
                tiff_rows.write(file, size, np.dtype(np.uint16), Metadata(), picture)
        report, peak, spent = measured(
            [sys.executable, "-m", "fusecli", "fuse", str(folder / "ir.tif"),
             str(folder / "vis.tif"), "-o", str(folder / "out.tif"), "-m", model,
             "--precision", precision, "--json"]
        )  # fmt: skip
    return {
        "model": model,
        "pixels": f"{width}x{height}",
        "precision": report["runtime"]["precision"],
        "CPU s": spent,
        "in the network s": report["rate"]["run_s"],
        "peak MiB": round(peak),
        "verdict": "within" if peak <= LIMIT_MIB else f"**beyond** {LIMIT_MIB} MiB",
    }


def main() -> None:
    """Print a Markdown table, or a JSON list of its rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--model", action="append")
    parser.add_argument("--size", default="12000x9000", help="width x height")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    width, height = map(int, given.size.split("x"))
    rows = [run(name, (height, width), given.precision) for name in given.model or ["duet"]]
    print(json.dumps(rows) if given.json else table(rows))
    sys.exit(any(row["verdict"] != "within" for row in rows))


if __name__ == "__main__":
    main()
