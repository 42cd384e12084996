"""Measure what a run costs beside decoding, the network and encoding: CPU time and memory.

    python benchmarks/overhead.py [--pairs 5000] [--planned 100000 1000000] [--json]

The bare loop reads, runs the same prepared network and encodes with the same functions, one pair
after the other, without pairing, planning, threads, record, progress or report. Both fuse the same
tiny pairs in a process of their own; imports and the loading of weights are not counted. The
overhead is the difference of their CPU times; it is to stay below 3 ms a pair. Memory is the
largest resident size after a tenth of the pairs and at the end.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

SIZE = (32, 32)
TARGET_MS = 3.0


def draw_pairs(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    for side, channels in (("ir", 1), ("vis", 3)):
        (folder / side).mkdir(parents=True)
        image = rng.integers(0, 255, (*SIZE, channels)).astype(np.uint8)
        data = cv2.imencode(".png", image)[1].tobytes()
        for number in range(count):
            (folder / side / f"{number:06d}.png").write_bytes(data)


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def bare_loop(folder: Path, model: str, weights: str) -> None:
    """Fuse every pair with the same functions and nothing around them; print CPU ms per pair."""
    import torch

    from fusecli import checkpoint, images
    from fusecli.fusion.network import Fuser
    from fusecli.fusion.pair import recolour

    loaded = checkpoint.load(model, weights or None)
    fuser = Fuser(loaded.network, loaded.spec, loaded.options, device=torch.device("cpu"))
    (folder / "bare").mkdir()
    paths = sorted((folder / "ir").iterdir())
    start = time.process_time()
    for path in paths:
        ir, vis = (images.read(str(folder / side / path.name)).pixels for side in ("ir", "vis"))
        ir_unit, vis_unit = (images.to_unit(a, images.limits(a, "auto")) for a in (ir, vis))
        luma = images.luma(vis_unit)
        tensors = (torch.from_numpy(a)[None, None] for a in (ir_unit, luma))
        fused = fuser(*tensors)[0, 0].numpy()
        result = images.from_unit(recolour(fused, vis_unit, luma, "auto"), np.uint8)
        (folder / "bare" / path.name).write_bytes(images.encode(result, format="png"))
    spent = 1000 * (time.process_time() - start) / len(paths)
    print(json.dumps({"cpu_ms": spent, "peak": peak_mib()}))


def whole_run(folder: Path, model: str, weights: str) -> None:
    """Run the command, and print CPU ms per pair and memory on the way."""
    from fusecli import cli
    from fusecli.fusion import run as running
    from fusecli.outcome import RunReport

    marks: dict[str, float] = {}
    add, init = RunReport.add, running.FuseWork.__init__
    count = sum(1 for _ in (folder / "ir").iterdir())

    def adding(self: RunReport, outcome: object) -> None:
        add(self, outcome)  # type: ignore[arg-type]
        if self.done == max(1, count // 10):
            marks["early"] = peak_mib()

    def loading(self: running.FuseWork, *arguments: object, **options: object) -> None:
        before = time.process_time()
        init(self, *arguments, **options)  # type: ignore[arg-type]
        marks["loading"] = time.process_time() - before

    RunReport.add, running.FuseWork.__init__ = adding, loading  # type: ignore[method-assign,assignment]
    command = ["fuse", str(folder / "ir"), str(folder / "vis"), "-o", str(folder / "out")]
    command += ["-m", model, "-q", *(["--weights", weights] if weights else [])]
    start = time.process_time()
    code = cli.run(command)
    spent = time.process_time() - start - marks["loading"]
    marks |= {"cpu_ms": 1000 * spent / count, "peak": peak_mib(), "code": code}
    print(json.dumps(marks))


def dry_run(folder: Path, count: int) -> None:
    """Plan a list of pairs that need not exist, and print seconds and memory."""
    from fusecli import cli

    with (folder / "list.csv").open("w") as file:
        file.write("ir,vis,name\n")
        for n in range(count):
            file.write(f"ir/{n:07d}.png,vis/{n:07d}.png,seq/{n:07d}\n")
    keep = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    before, start = peak_mib(), time.process_time()
    code = cli.run(
        ["fuse", "--pairs", str(folder / "list.csv"), "-o", str(folder / "o"), "-n", "-q"]
    )
    sys.stdout.flush()
    os.dup2(keep, 1)
    found = {"seconds": time.process_time() - start, "early": before, "peak": peak_mib()}
    print(json.dumps(found | {"code": code}), flush=True)


def measured(*arguments: str) -> dict[str, float]:
    here = [sys.executable, __file__, *arguments]
    done = subprocess.run(here, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Print a short table, or JSON; exit 1 when the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5000)
    parser.add_argument("--planned", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("-m", "--model", default="reconet")
    parser.add_argument("--weights", default="")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part == "bare":
        return bare_loop(given.folder, given.model, given.weights)
    if given.part == "run":
        return whole_run(given.folder, given.model, given.weights)
    if given.part == "dry":
        return dry_run(given.folder, *given.planned)
    with tempfile.TemporaryDirectory() as name:
        draw_pairs(Path(name), given.pairs)
        common = ["--folder", name, "-m", given.model]
        common += ["--weights", given.weights] if given.weights else []
        bare = measured("--part", "bare", *common)
        run = measured("--part", "run", *common)
        dry = {
            count: measured("--part", "dry", "--folder", name, "--planned", str(count))
            for count in given.planned
        }
    overhead = run["cpu_ms"] - bare["cpu_ms"]
    if given.json:
        print(json.dumps({"bare": bare, "run": run, "dry": dry, "overhead_ms": overhead}))
    else:
        print(f"bare loop       {bare['cpu_ms']:6.2f} ms CPU per pair")
        print(f"fusecli fuse    {run['cpu_ms']:6.2f} ms CPU per pair")
        print(f"overhead        {overhead:6.2f} ms (target {TARGET_MS:.0f})")
        print(
            f"memory          {run['early']:6.0f} MiB after a tenth, {run['peak']:.0f} at the end"
        )
        for count, found in dry.items():
            print(f"dry run of {count:,} pairs: {found['seconds']:.1f} s CPU, "
                  f"{found['early']:.0f} MiB before, {found['peak']:.0f} after")  # fmt: skip
    sys.exit(overhead > TARGET_MS)


if __name__ == "__main__":
    main()
