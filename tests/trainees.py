"""Networks, recipes and pairs small enough to train with in a test."""

import json

import cv2
import numpy as np
import torch
from torch import nn

from fusecli import losses
from fusecli.models import ModelSpec, Stage
from fusecli.pairs import Pair
from fusecli.report import Reporter
from fusecli.runtime import Runtime
from fusecli.training.loop import train
from fusecli.training.recipe import (
    TrainOptions,
    resolve_stages,
)

CPU = Runtime((torch.device("cpu"),), "fp32", 2)


class Toy(nn.Module):
    """A fuser small enough to train in a test; `encoder` has a batch norm and dropout."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(2, width, 3, padding=1), nn.BatchNorm2d(width), nn.Dropout(0.2), nn.ReLU()
        )
        self.decoder = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, ir, vis):
        return (ir + vis) / 2 + self.decoder(self.encoder(torch.cat([ir, vis], 1)))


class Plain(nn.Module):
    """The same without anything that depends on the batch or on chance."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 6, 3, padding=1)
        self.last = nn.Conv2d(6, 1, 3, padding=1)

    def forward(self, ir, vis):
        return self.last(torch.relu(self.first(torch.cat([ir, vis], 1))))


def toy_loss(network, sample):
    fused = network(sample.ir, sample.vis)
    return {
        "pixel": (fused - torch.maximum(sample.ir, sample.vis)).abs().mean(),
        "ssim": losses.ssim_loss(fused, sample.vis),
    }


STAGE = Stage("fuse", toy_loss, {"pixel": 1.0, "ssim": 0.0}, batch_size=4, crop=16, lr=5e-3)


def spec_of(*stages, build=Toy, options=()):
    return ModelSpec("Toy", "nobody", build, options=options, stages=stages or (STAGE,))


def options_of(spec, steps=6, **more):
    more.setdefault("stages", resolve_stages(spec))
    return TrainOptions("toy", spec, spec.defaults(), steps=steps, **more)


def write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())


def write_pairs(folder):
    """Return four pairs of 44x36: blobs only in the infrared, stripes only in the visible."""
    generator = np.random.default_rng(1)
    y, x = np.mgrid[:36, :44]
    found = []
    for index in range(4):
        cy, cx = generator.integers(8, 28, 2)
        ir = (
            40
            + 180 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 30)
            + generator.normal(0, 4, y.shape)
        )
        vis = 110 + 60 * np.sin(x / (2 + index)) + generator.normal(0, 4, y.shape)
        for kind, image in (("ir", ir), ("vis", vis)):
            write(folder / kind / f"{index}.png", image.clip(0, 255).astype(np.uint8))
        found.append(
            Pair(str(index), str(folder / f"ir/{index}.png"), str(folder / f"vis/{index}.png"))
        )
    return found


def run(pairs, out, options, runtime=CPU, **more):
    quiet = Reporter(quiet=True)
    return train(pairs[1:], pairs[:1], out, options, runtime, quiet, **more)


def metrics(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line.pop("seconds", None)
    return lines
