"""Exported files do what torch does, at every size, or are not kept."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fusecli import models
from fusecli.checkpoint import Loaded, untrained
from fusecli.errors import CheckError
from fusecli.exporting import EXAMPLE, Deployable, ExportOptions, export
from fusecli.models import ModelSpec

pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

# Following one of these through the exporter takes most of a minute.
HEAVY = ("reconet-plus", "rfvif", "smfnet", "reconet-m-register")


def live(name: str) -> Loaded:
    """Return a network with random weights and batch norms that do something."""
    spec = models.find(name)
    network = untrained(spec, spec.defaults(), seed=3)
    generator = torch.Generator().manual_seed(5)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0.2, 0.1, generator=generator)
    for weight in network.parameters():  # the last layer of a register starts at nearly nothing
        if weight.ndim > 1 and float(weight.detach().std()) < 1e-3:
            weight.data.normal_(0, 0.005, generator=generator)
    return Loaded(network, spec, name, spec.defaults(), "random")


def of(network: nn.Module, **facts) -> Loaded:
    spec = ModelSpec(**({"title": "Test", "paper": "-", "build": type(network)} | facts))
    return Loaded(network.eval(), spec, "test", {}, "random")


def run(path: Path, *images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feeds = {i.name: image for i, image in zip(session.get_inputs(), images, strict=True)}
    return session.run(None, feeds)[0]


class Mean(nn.Module):
    """As small as a network can be, on 0..255 and with a multiple."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 3, padding=1)

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        return self.conv(torch.cat([ir, vis], 1))


class Pyramid(nn.Module):
    """Halved in two ways that agree only where the size is a multiple of 4."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, stride=2, padding=1)
        self.second = nn.Conv2d(4, 4, 3, stride=2, padding=1)
        self.last = nn.Conv2d(8, 1, 1)

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        half = self.first(torch.cat([ir, vis], 1))
        both = torch.cat([self.second(half), nn.functional.avg_pool2d(half, 2)], 1)
        return nn.functional.interpolate(self.last(both), scale_factor=4.0, mode="nearest")


class Frozen(Mean):
    """Fits the height it was shown and no other."""

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        return ir + vis * torch.linspace(0, 1, EXAMPLE[1]).view(1, 1, -1, 1)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow if n in HEAVY else ()) for n in models.names()],
)
def test_every_network_in_onnx_equals_torch(name: str, tmp_path: Path) -> None:
    loaded = live(name)
    path = tmp_path / f"{name}.onnx"
    result = export(loaded, path, ExportOptions("onnx"))
    assert len(result["check"]["shapes"]) >= 4
    assert result["inputs"][0]["shape"] == ["batch", 1, "height", "width"]
    rng = np.random.default_rng(1)
    ir, vis = rng.random((2, 3, 1, 41, 67), dtype=np.float32)
    found = run(path, ir, vis)
    with torch.no_grad():
        expected = Deployable(loaded)(torch.from_numpy(ir), torch.from_numpy(vis)).numpy()
    assert expected.std() > 1e-4  # a dead output would equal anything
    pixels = loaded.spec.role == "register"
    np.testing.assert_allclose(found, expected, atol=1e-2 if pixels else 1e-4, rtol=1e-3)
    about = json.loads(Path(f"{path}.json").read_text())
    assert about["model"] == name
    assert about["multiple_of"] == loaded.spec.multiple_of


def test_range_padding_and_cropping_are_inside(tmp_path: Path) -> None:
    loaded = of(Mean(), input_range=(0.0, 255.0), multiple_of=8, padding="replicate")
    path = tmp_path / "mean.onnx"
    export(loaded, path, ExportOptions("onnx"))
    rng = np.random.default_rng(2)
    ir, vis = rng.random((2, 1, 1, 21, 30), dtype=np.float32)
    padded = [np.pad(255 * a, [(0, 0), (0, 0), (0, 3), (0, 2)], "edge") for a in (ir, vis)]
    with torch.no_grad():
        expected = loaded.network(*map(torch.from_numpy, padded))[..., :21, :30].numpy() / 255
    np.testing.assert_allclose(run(path, ir, vis), expected, atol=1e-5)


def test_padding_to_a_multiple_leaves_sizes_free(tmp_path: Path) -> None:
    loaded = of(Pyramid(), multiple_of=4)
    path = tmp_path / "pyramid.onnx"
    assert len(export(loaded, path, ExportOptions("onnx"))["check"]["shapes"]) >= 4
    rng = np.random.default_rng(4)
    ir, vis = rng.random((2, 3, 1, 31, 52), dtype=np.float32)
    with torch.no_grad():
        expected = Deployable(loaded)(torch.from_numpy(ir), torch.from_numpy(vis)).numpy()
    np.testing.assert_allclose(run(path, ir, vis), expected, atol=1e-5)


@pytest.mark.parametrize("tone", ["clip", "stretch"])
def test_embedded_io_takes_and_gives_grey_levels(tmp_path: Path, tone: str) -> None:
    loaded = of(Mean(), multiple_of=8, padding="replicate", tone=tone)
    path = tmp_path / "io.onnx"
    export(loaded, path, ExportOptions("onnx", embed_io=True))
    rng = np.random.default_rng(3)
    ir, vis = rng.integers(0, 256, (2, 2, 1, 24, 32), dtype=np.uint8)
    with torch.no_grad():
        raw = loaded.network(*(torch.from_numpy(a).float() / 255 for a in (ir, vis)))
    if tone == "stretch":
        low, high = raw.amin((1, 2, 3), keepdim=True), raw.amax((1, 2, 3), keepdim=True)
        raw = (raw - low) / (high - low)
    expected = (255 * raw.clamp(0, 1)).round().numpy()
    found = run(path, ir, vis)
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("dynamic", "shape"),
    [
        ("all", ["batch", 1, "height", "width"]),
        ("batch", ["batch", 1, 40, 56]),
        ("hw", [1, 1, "height", "width"]),
        ("none", [1, 1, 40, 56]),
    ],
)
def test_dimensions_are_free_as_asked(tmp_path: Path, dynamic: str, shape: list) -> None:
    path = tmp_path / "mean.onnx"
    options = ExportOptions("onnx", dynamic=dynamic, size=(40, 56))
    export(of(Mean(), multiple_of=8, padding="replicate"), path, options)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == shape


@pytest.mark.parametrize("format", ["onnx", "pt2"])
def test_a_fixed_dimension_is_caught_and_nothing_kept(tmp_path: Path, format) -> None:
    with pytest.raises(CheckError) as caught:
        export(of(Frozen()), tmp_path / f"frozen.{format}", ExportOptions(format))
    assert caught.value.code == "export.specialised"
    assert caught.value.exit_code == 6
    assert not list(tmp_path.iterdir())


def test_a_difference_is_caught_and_nothing_kept(tmp_path: Path) -> None:
    loaded = live("reconet")
    with pytest.raises(CheckError) as caught:
        export(loaded, tmp_path / "r.onnx", ExportOptions("onnx", precision="fp16", atol=0, rtol=0))
    assert (caught.value.code, caught.value.exit_code) == ("export.parity", 6)
    assert caught.value.hint
    assert not list(tmp_path.iterdir())


def test_pt2_and_safetensors_come_back(tmp_path: Path) -> None:
    loaded = live("reconet")
    export(loaded, tmp_path / "r.pt2", ExportOptions("pt2"))
    ir, vis = torch.rand(2, 3, 1, 29, 31)
    module = torch.export.load(tmp_path / "r.pt2").module()
    torch.testing.assert_close(module(ir, vis), loaded.network(ir, vis), atol=1e-5, rtol=1e-4)
    from fusecli import checkpoint

    export(loaded, tmp_path / "r.safetensors", ExportOptions("safetensors"))
    again = checkpoint.load("reconet", str(tmp_path / "r.safetensors"))
    torch.testing.assert_close(again.network(ir, vis), loaded.network(ir, vis))
