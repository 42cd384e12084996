"""Register misaligned sets by every method and print what is left of the misalignment.

    python -m benchmarks.registration ../shared/data/misaligned-dev --fuse reconet
    fusecli warp ir/ vis/ -o set/ && python -m benchmarks.registration set/ -m auto -m flow

A set is what `fusecli warp` writes from pairs, or a folder in the manner of SuperFusion: `vi/`,
`ir/`, `ir_warp/`, and in `flow/KEY.npz` where each pixel of the warped image was read. The pairs of
most data sets are a few pixels off as they are published. So two errors are printed, in pixels,
each as the mean and the median over pairs of a pair's mean over pixels:

- *raw*: from the place found to the true place, as if the published pair were right;
- *consistency*: the same with the truth continued from where the method itself registers the
  published infrared image. It needs no belief in the pair, and a method that does nothing has its
  whole misalignment as error.

A pair is *worse than nothing* when its consistency error exceeds that of leaving it as it is.
Pixels within 5 % of the border and those whose true place lies outside the moving image do not
count. A refused pair stays as it is. The method `none` leaves every pair as it is; `truth` applies
the truth: what it does not keep of the fused pair is lost to reading pixels between pixels.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from statistics import fmean, median
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from benchmarks.quality import KEPT
from benchmarks.timing import table
from fusecli import checkpoint, images, metrics
from fusecli.fields import compose, inside, invert
from fusecli.fusion.network import Fuser
from fusecli.images.boxes import Box, crop, largest_box
from fusecli.metrics import Plane, Scene
from fusecli.ops.resample import resample
from fusecli.pairs import Pair, find_pairs
from fusecli.registration import METHODS
from fusecli.registration.align import align, as_transform, luma_of
from fusecli.registration.estimate import estimate
from fusecli.registration.learned import LearnedRegister
from fusecli.registration.transform import Transform, load

PIXELS = 512 * 384  # of the pair that times are scaled to


class Case(NamedTuple):
    """A pair, its infrared image as published and as warped, and the truth.

    Args:
        key: Of the pair.
        fixed: Visible luma, (H, W) in 0..1.
        warped: Infrared luma.
        clean: The same before it was warped.
        truth: (1, 2, H, W), from a pixel of the clean image to its place in the warped one.
        known: (1, 1, H, W), 1 where the truth is known.
    """

    key: str
    fixed: np.ndarray
    warped: np.ndarray
    clean: np.ndarray
    truth: Tensor
    known: Tensor


@dataclass
class Row:
    """What one method did with one pair; errors in pixels."""

    method: str
    key: str
    consistency: float
    undone: float  # the consistency error of leaving the pair as it is
    raw: float
    refused: bool
    cpu: float  # seconds for a pair of 512x384 pixels
    kept: dict[str, tuple[float, float]] | None = None  # score, and score of the published pair

    @property
    def worse(self) -> bool:
        """Return whether nothing would have been better."""
        return self.consistency > self.undone


def cases(folder: Path) -> Iterator[Case]:
    """Yield the pairs of a set, in the order of keys."""
    if (folder / "flow").is_dir():
        for pair in find_pairs(str(folder / "ir_warp"), str(folder / "vi")).pairs:
            with np.load(folder / "flow" / f"{pair.key}.npz") as arrays:
                flow = torch.from_numpy(arrays["flow"]).permute(2, 0, 1)[None]
            back = invert(flow)
            yield _case(pair, folder / "ir", back.field, back.valid.float())
        return
    for pair in find_pairs(str(folder / "ir"), str(folder / "vis")).pairs:
        truth = load(folder / "truth" / f"{pair.key}.json").displacement()
        yield _case(pair, folder / "clean", truth, torch.ones_like(truth[:, :1]))


def _case(pair: Pair, clean: Path, truth: Tensor, known: Tensor) -> Case:
    (source,) = clean.glob(f"{pair.key}.*")
    fixed, warped, before = (
        luma_of(images.read(str(path))) for path in (pair.vis, pair.ir, source)
    )
    return Case(pair.key, fixed, warped, before, truth, known)


def found(
    case: Case, moving: np.ndarray, method: str, shape: str, learned: LearnedRegister | None = None
) -> Transform:
    """Return what a method finds for one moving image; `learned` is for `auto` and `reconet`."""
    if method in ("none", "truth"):
        known = method == "truth" and moving is case.warped
        field = case.truth if known else torch.zeros_like(case.truth)
        grid = field[0].permute(1, 2, 0).contiguous().numpy()
        return Transform(case.key, "dense", None, case.fixed.shape, moving.shape, grid)
    learned = learned if method in ("auto", "reconet") else None
    result = estimate(case.fixed, moving, method=method, transform=shape, learned=learned)
    return as_transform(result, case.key, case.fixed.shape, moving.shape)


def errors(case: Case, to_warped: Tensor, to_clean: Tensor) -> tuple[float, float, float]:
    """Return consistency error, that of doing nothing, and raw error, in pixels.

    Args:
        case: With the truth.
        to_warped: (1, 2, H, W), found from the visible image to the warped infrared one.
        to_clean: The same to the published one.
    """
    size = case.fixed.shape
    inner = torch.zeros(1, 1, *size, dtype=torch.bool)
    down, across = (max(1, round(0.05 * side)) for side in size)
    inner[..., down:-down, across:-across] = True
    continued = compose(to_clean, case.truth)
    known = resample(case.known, to_clean) > 0.99
    counts = inner & known & inside(continued, size) & inside(to_clean, size)
    counts_raw = inner & (case.known > 0) & inside(case.truth, size)

    def mean(field: Tensor, where: Tensor) -> float:
        return float(field.norm(dim=1, keepdim=True)[where].mean())

    return (
        mean(to_warped - continued, counts),
        mean(continued, counts),
        mean(to_warped - case.truth, counts_raw),
    )


def kept(
    fuser: Fuser, case: Case, to_warped: Transform, to_clean: Transform
) -> dict[str, tuple[float, float]]:
    """Return each score of the registered and fused pair, and that of the reference.

    The reference is the published infrared image registered by the same method; `KEY, as published`
    compares with the published pair left as it is. All are scored over the largest box in which
    every image has data.
    """
    moved = [align(case.warped, to_warped), align(case.clean, to_clean)]
    box = largest_box((moved[0].weight == 1) & (moved[1].weight == 1))
    visible = case.fixed
    scores: dict[str, tuple[float, float]] = {}
    for name, reference in (("", moved[1].moved), (", as published", case.clean)):
        of_ours, of_reference = (
            _scores(fuser, image, visible, reference, box) for image in (moved[0].moved, reference)
        )
        scores |= {key + name: (of_ours[key], of_reference[key]) for key in KEPT}
    return scores


def _scores(
    fuser: Fuser, infrared: np.ndarray, visible: np.ndarray, reference: np.ndarray, box: Box
) -> dict[str, float]:
    """Return the scores of a fused pair against `reference` and `visible`, within a box."""
    fused = fuser(torch.from_numpy(infrared)[None, None], torch.from_numpy(visible)[None, None])
    planes = [
        Plane(torch.from_numpy(crop(image, box).astype(np.float64) * 255).round()[None, None])
        for image in (reference, visible, fused[0, 0].clamp(0, 1).numpy())
    ]
    values = metrics.measure(metrics.select(",".join(KEPT)), Scene(*planes))
    return {key: float(value) for key, value in values.items()}


def measure(
    case: Case,
    method: str,
    shape: str = "auto",
    fuser: Fuser | None = None,
    learned: LearnedRegister | None = None,
) -> Row:
    """Return what a method does with one pair; with a network, also what fusing keeps."""
    started = time.process_time()
    to_warped = found(case, case.warped, method, shape, learned)
    spent = time.process_time() - started
    to_clean = found(case, case.clean, method, shape, learned)
    off, undone, raw = errors(case, to_warped.displacement(), to_clean.displacement())
    return Row(
        method if shape == "auto" else f"{method} {shape}",
        case.key,
        off,
        undone,
        raw,
        not to_warped.accepted,
        spent * PIXELS / case.fixed.size,
        kept(fuser, case, to_warped, to_clean) if fuser else None,
    )


def report(rows: Sequence[Row]) -> str:
    """Return the tables and the failure list, in Markdown."""
    methods = {row.method: [r for r in rows if r.method == row.method] for row in rows}
    lines, failures, fused = [], [], list[dict[str, object]]()
    for method, own in methods.items():
        lines.append(_line(method, own))
        lines[-1]["CPU s"] = f"{median(row.cpu for row in own):.2f}"
        bad = [row for row in own if row.worse or row.refused]
        named = (f"{row.key} {row.consistency:.1f}{' refused' * row.refused}" for row in bad)
        failures.append(f"- {method}: {', '.join(named) or 'none'}")
        scores = [row.kept for row in own if row.kept]
        if scores:
            fused.append({"method": method, **{key: _share(scores, key) for key in scores[0]}})
    parts = [table(lines)]
    parts.append("Refused, or worse than nothing (consistency error):\n\n" + "\n".join(failures))
    if fused:
        parts.append("Scores kept of the fused pair:\n\n" + table(fused))
    return "\n\n".join(parts)


def _share(scores: Sequence[dict[str, tuple[float, float]]], key: str) -> str:
    ours, reference = (sum(score[key][side] for score in scores) for side in (0, 1))
    return f"{100 * ours / reference:.1f} %"


def _line(method: str, rows: Sequence[Row]) -> dict[str, object]:
    share = 100 * fmean(row.worse for row in rows)
    return {
        "method": method,
        "pairs": len(rows),
        "consistency mean": f"{fmean(row.consistency for row in rows):.2f}",
        "median": f"{median(row.consistency for row in rows):.2f}",
        "raw mean": f"{fmean(row.raw for row in rows):.2f}",
        "raw median": f"{median(row.raw for row in rows):.2f}",
        "worse than nothing": f"{share:.0f} %",
        "refused": sum(row.refused for row in rows),
    }


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("set", type=Path, help="folder of a misaligned set")
    parser.add_argument(
        "-m", "--method", action="append", metavar="NAME[:TRANSFORM]", help="may be repeated"
    )
    parser.add_argument("--fuse", metavar="MODEL", help="also score the fused pairs")
    parser.add_argument("--weights", help="of a trained register, for reconet and auto")
    parser.add_argument("--limit", type=int, help="pairs")
    parser.add_argument("--json", action="store_true", help="objects instead of tables")
    chosen = parser.parse_args()
    torch.set_num_threads(1)  # CPU seconds mean little otherwise
    cv2.setNumThreads(1)
    fuser = None
    if chosen.fuse:
        loaded = checkpoint.load(chosen.fuse, None)
        fuser = Fuser(
            loaded.network, loaded.spec, loaded.options,
            device=torch.device("cpu"), dtype=torch.float32,
        )  # fmt: skip
    learned = LearnedRegister.of(chosen.weights)
    if learned is None and "reconet" in (chosen.method or ()):
        parser.error("reconet needs --weights")
    usual = ["none", *(name for name in METHODS if learned or name != "reconet")]
    rows = []
    for case in islice(cases(chosen.set), chosen.limit):
        for word in chosen.method or usual:
            method, _, shape = word.partition(":")
            rows.append(measure(case, method, shape or "auto", fuser, learned))
            print(json.dumps(asdict(rows[-1])), file=sys.stderr)
    print(json.dumps([asdict(row) for row in rows], indent=1) if chosen.json else report(rows))


if __name__ == "__main__":
    main()
