"""Time every metric and every group: milliseconds per pair of 640 x 480 pixels.

    python benchmarks/metrics.py                       # one thread of this machine
    python benchmarks/metrics.py --device cuda --batch 32
    python benchmarks/metrics.py --only standard vifb msssim:mef fmi:edge

`first` is the time for one method with nothing worked out before; `next` is that for each further
method that fused the same pairs, when what depends on the sources alone is there already. On the
CPU both are processor seconds, so other work on the machine hardly matters.
"""

import argparse
import time

import torch
from torch import Tensor

from fusecli.metrics import GROUPS, MetricSpec, find, keys, measure
from fusecli.metrics.scene import Plane, Scene


def street(batch: int, height: int, width: int, seed: int) -> Tensor:
    """Return smooth shades with sharp edges and sensor noise, (B, 3, H, W) whole grey levels."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3, 12, 16, generator=generator)
    shades = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    shapes = torch.nn.functional.interpolate(coarse, (height, width), mode="nearest")
    noise = torch.randn(batch, 3, height, width, generator=generator)
    return (255 * (0.5 * shades + 0.5 * shapes) + 3 * noise).round().clamp(0, 255).double()


def scenes(pictures: list[Tensor], known: tuple[Scene, Scene] | None) -> tuple[Scene, Scene]:
    """Return a grey and a colour scene; sources come from `known` where it is given."""
    ir, vis, fused = pictures
    if known:
        grey, colour = known
        return (
            Scene(grey.ir, grey.vis, Plane(fused[:, :1])),
            Scene(colour.ir, colour.vis, Plane(fused)),
        )
    infrared = Plane(ir[:, :1])
    return (
        Scene(infrared, Plane(vis[:, :1]), Plane(fused[:, :1])),
        Scene(infrared, Plane(vis), Plane(fused)),
    )


def seconds(specs: tuple[MetricSpec, ...], pictures: list[Tensor], repeat: int) -> list[float]:
    """Return the shortest time for the first and for a further method."""
    cuda = pictures[0].is_cuda
    clock = time.perf_counter if cuda else time.process_time
    best = [float("inf")] * 2
    for _ in range(repeat):
        known = None
        for turn in range(2):
            pair = scenes(pictures, known)
            start = clock()
            measure(specs, *pair)
            if cuda:
                torch.cuda.synchronize()
            best[turn] = min(best[turn], clock() - start)
            known = pair
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--size", default="640x480", help="width x height")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="groups and metrics; default all")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    width, height = map(int, options.size.split("x"))
    pictures = [street(options.batch, height, width, seed) for seed in range(3)]
    pictures = [picture.to(options.device) for picture in pictures]

    at_hand = {"ir", "vis", "fused"}
    every = [key for key in keys() if at_hand.issuperset(find(key).needs)]
    print(f"ms per pair, {options.size}, batch {options.batch}, {options.device}, "
          f"{options.threads} thread(s), torch {torch.__version__}")  # fmt: skip
    print(f"{'':22}{'first':>10}{'next':>10}")
    groups = [name for name, members in GROUPS.items() if set(members).issubset(every)]
    for name in options.only or [*groups, "all", *every]:
        chosen = every if name == "all" else GROUPS.get(name, (name,))
        times = seconds(tuple(find(key) for key in chosen), pictures, options.repeat)
        print(f"{name:22}" + "".join(f"{1000 * t / options.batch:10.1f}" for t in times))


if __name__ == "__main__":
    main()
