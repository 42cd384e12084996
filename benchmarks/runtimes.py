"""Compare exported networks with torch in ONNX Runtime and OpenVINO, at a size and batch of choice.

    python -m benchmarks.runtimes [-m rfvif] [--weights FILE] [--size 481x639] [--batch 3]
                                  [--runtime onnxruntime]

Each network is exported as `fusecli export NAME -o NAME.onnx` does it, which passes the checks of
small sizes; then this size, odd both ways unless asked otherwise, is run in all three. Differences
are of values in 0..1, of which 0.004 are a grey level: the largest, and the mean in parentheses.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import torch

from fusecli import checkpoint, models
from fusecli.errors import MissingError
from fusecli.exporting import Deployable, ExportOptions, export

DATA = Path(__file__).parents[1] / "tests" / "data"
Run = Callable[[np.ndarray, np.ndarray], np.ndarray]


def scenes(batch: int, height: int, width: int) -> list[np.ndarray]:
    """Return infrared and visible luma of a street, (batch, 1, height, width), all different."""
    sides = []
    for side in ("ir", "vis"):
        image = cv2.imread(str(DATA / side / "day_street.png"), cv2.IMREAD_GRAYSCALE)
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
        views = [np.roll(image, 31 * number, axis=1) for number in range(batch)]
        sides.append(np.stack(views)[:, None].astype(np.float32) / 255)
    return sides


def in_onnxruntime(path: Path) -> Run:
    """Return a function that runs the file on the CPU."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda ir, vis: np.asarray(session.run(None, {"ir": ir, "vis": vis})[0])


def in_openvino(path: Path) -> Run:
    """Return a function that runs the file on the CPU in float32, as torch does."""
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda ir, vis: np.asarray(compiled({"ir": ir, "vis": vis})[0])


def load(name: str, weights: str | None) -> checkpoint.Loaded:
    """Return a network with its weights, with random ones where it has none."""
    try:
        return checkpoint.load(name, weights)
    except MissingError:
        return checkpoint.load(name, "random")


RUNTIMES = {"onnxruntime": in_onnxruntime, "openvino": in_openvino}


def row(
    loaded: checkpoint.Loaded, pair: list[np.ndarray], folder: Path, runtimes: list[str]
) -> str:
    """Return one row: size of the file and differences from torch."""
    path = folder / f"{loaded.model}.onnx"
    export(loaded, path, ExportOptions("onnx"))
    with torch.inference_mode():
        expected = Deployable(loaded).eval()(*map(torch.from_numpy, pair)).numpy()
    columns = []
    for name in runtimes:  # in turn: each keeps what it allocated
        difference = np.abs(RUNTIMES[name](path)(*pair) - expected)
        columns.append(f"{difference.max():.0e} ({difference.mean():.0e})")
    weights = Path(loaded.label).stem
    size = f"{path.stat().st_size / 2**20:.1f}"
    return f"| `{loaded.model}` | {weights} | {size} | {' | '.join(columns)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--model", action="append", choices=models.fusers())
    parser.add_argument("--weights", help="for a single model; otherwise each model's own")
    parser.add_argument("--size", default="481x639", help="HEIGHTxWIDTH")
    parser.add_argument("--batch", type=int, default=3)
    parser.add_argument("--runtime", action="append", choices=RUNTIMES, help="all unless named")
    given = parser.parse_args()
    runtimes = given.runtime or [*RUNTIMES]
    pair = scenes(given.batch, *map(int, given.size.split("x")))
    print(f"| model | weights | MiB | {' | '.join(runtimes)} |\n{'|---' * (3 + len(runtimes))}|")
    with tempfile.TemporaryDirectory() as folder:
        for name in given.model or models.fusers():
            print(row(load(name, given.weights), pair, Path(folder), runtimes), flush=True)


if __name__ == "__main__":
    main()
