"""Pairs larger than memory: the rows read and written are the pixels that were there."""

import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from torch import Tensor, nn

from fusecli import images
from fusecli.errors import InputError
from fusecli.fusion import Choices, Tiling
from fusecli.fusion.item import FuseItem
from fusecli.fusion.network import Fuser
from fusecli.fusion.workers import FuseHere
from fusecli.images import tiff
from fusecli.images.tiff_rows import TiffRows
from fusecli.models import ModelSpec
from fusecli.ops.whole_image import image_mean
from fusecli.run.outputs import place
from fusecli.run.plan import Job

HEIGHT, WIDTH = 150, 117
TILE = 32


class Blur(nn.Module):
    """A network that sees 2 pixels far and exceeds its range here and there."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv = nn.Conv2d(2, 1, 5, padding=2)

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        blurred: Tensor = 3 * self.conv(torch.cat([ir, vis], 1)) + 0.5
        return blurred


class Levelled(Blur):
    """The same, brighter by what is missing in the mean of the whole image."""

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        return super().forward(ir, vis) + 0.5 - image_mean(self, ir)


def network(tone: str = "clip", tile: int | None = TILE, **changes: object) -> FuseHere:
    facts = {"title": "Blur", "paper": "-", "build": Blur, "tiling": "exact"}
    spec = ModelSpec(**(facts | {"halo": lambda options: 2, "tone": tone} | changes))
    fuser = Fuser(spec.build().eval(), spec, {}, device=torch.device("cpu"), tiling=Tiling(tile))
    return FuseHere(fuser)


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff, "TILE", TILE)
    monkeypatch.setattr(tiff, "TILED_ABOVE", 64)


def picture(seed: int, dtype: str = "uint16", channels: int = 1) -> np.ndarray:
    draw = np.random.default_rng(seed)
    values = draw.normal(0.5, 0.15, (HEIGHT, WIDTH, channels)).clip(0, 1)
    whole = np.rint(values * np.iinfo(dtype).max).astype(dtype)
    return whole[..., 0] if channels == 1 else whole


LAYOUTS = {
    "tiles": {"tile": (48, 32), "compression": "zlib", "predictor": True},
    "plain tiles": {"tile": (16, 16)},
    "strips": {"rowsperstrip": 7, "compression": "zlib"},
    "one strip": {"rowsperstrip": HEIGHT},
    "big-endian rows": {"rowsperstrip": 1, "byteorder": ">"},
    "big tiles": {"tile": (32, 160), "bigtiff": True},
}


def save(path: Path, pixels: np.ndarray, **layout: object) -> str:
    byteorder = layout.pop("byteorder", None)
    kind = "rgb" if pixels.ndim == 3 else "minisblack"
    tifffile.imwrite(path, pixels, photometric=kind, byteorder=byteorder, metadata=None, **layout)
    return str(path)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_rows_are_those_of_the_file(tmp_path: Path, layout: str, dtype: str, channels: int) -> None:
    pixels = picture(1, dtype, channels)
    rows = TiffRows.open(save(tmp_path / "a.tif", pixels, **LAYOUTS[layout]))
    assert rows is not None
    with rows:
        assert rows.shape == pixels.shape
        assert rows.dtype == pixels.dtype
        for top, bottom in ((0, 5), (3, 60), (58, 120), (10, 11), (0, HEIGHT)):
            assert np.array_equal(rows.read(top, bottom), pixels[top:bottom])
        assert np.array_equal(np.concatenate(list(rows.bands())), pixels)


@pytest.mark.parametrize(
    ("change", "layout"),
    [
        (lambda p: p.astype(np.float32), {}),
        (lambda p: np.dstack([p, p, p, p]), {"extrasamples": ["unassalpha"]}),
        (lambda p: p, {"extratags": [(274, 3, 1, 6, True)]}),
        (lambda p: np.dstack([p, p, p]).transpose(2, 0, 1), {"planarconfig": "separate"}),
    ],
    ids=["float", "opacity", "turned", "planes"],
)
def test_what_needs_more_is_left_to_those_who_read_it_whole(
    tmp_path: Path, change: object, layout: dict
) -> None:
    pixels = change(picture(1))
    path = tmp_path / "a.tif"
    kind = "rgb" if pixels.ndim == 3 else "minisblack"
    tifffile.imwrite(path, pixels, photometric=kind, metadata=None, **layout)
    assert TiffRows.open(str(path)) is None
    images.read(str(path))


def test_other_files_and_damaged_ones_are_left_too(tmp_path: Path) -> None:
    whole = Path(save(tmp_path / "a.tif", picture(1), tile=(32, 32), compression="zlib"))
    (tmp_path / "b.tif").write_bytes(whole.read_bytes()[:-100])
    (tmp_path / "c.tif").write_bytes(b"II*\0nothing")
    (tmp_path / "d.png").write_bytes(images.encode(picture(1), format="png"))
    tile = zlib.compress(bytes(1 << 20))
    wide = {"shape": (1024, 1 << 20), "dtype": np.uint8, "tile": (1024, 1024)}  # a line of 1 GiB
    tifffile.imwrite(tmp_path / "f.tif", iter([tile] * 1024), compression="zlib", **wide)
    for name in ("b.tif", "c.tif", "d.png", "e.tif", "f.tif"):
        assert TiffRows.open(str(tmp_path / name)) is None


def run(tmp_path: Path, fuse: FuseHere, rules: Choices, large: int) -> tuple[bytes, dict]:
    """Fuse `ir.tif` and `vis.tif` and return the file and what the manifest says of it."""
    out = tmp_path / f"out-{large}.tif"
    job = Job("k", str(tmp_path / "ir.tif"), str(tmp_path / "vis.tif"), str(out), "tiff")
    outcome = FuseItem(fuse, rules, large=large)(job)
    place(outcome.parts)
    return out.read_bytes(), outcome.record | {"notes": outcome.notes}


CASES = {
    "16 bit": ("uint16", 1, {}, Choices()),
    "8 bit colour": ("uint8", 3, {}, Choices()),
    "16 bit to float": ("uint16", 1, {}, Choices(out_dtype="float32", vis_range="p2:p90")),
    "three equal channels": ("uint16", 0, {}, Choices()),
    "colour from grey": ("uint8", 1, {}, Choices(chroma="keep", grid="ir")),
    "colour dropped": ("uint16", 3, {}, Choices(chroma="drop", metadata="drop")),
    "stretched": ("uint16", 3, {"tone": "stretch"}, Choices()),
    "passes": ("uint16", 1, {"tiling": "passes", "build": Levelled}, Choices()),
    "automatic tiles": ("uint16", 1, {"tile": None, "memory": 600_000}, Choices()),
}


@pytest.mark.parametrize("case", CASES)
def test_a_large_pair_gives_the_file_that_it_would_give_whole(tmp_path: Path, case: str) -> None:
    dtype, channels, options, rules = CASES[case]
    nodata = (42113, 2, 0, "513", True)
    resolution = {"resolution": (30.0, 40.0), "resolutionunit": 3}
    ir = picture(1, "uint16")
    ir[40:60, 30:50] = 513
    save(tmp_path / "ir.tif", ir, tile=(48, 32), extratags=[nodata], **resolution)
    vis = picture(2, dtype, channels or 3)
    if not channels:
        vis[...] = vis[..., :1]
    save(tmp_path / "vis.tif", vis, rowsperstrip=5, compression="zlib", **resolution)
    fuse = network(**options)
    whole, said = run(tmp_path, fuse, rules, large=1 << 40)
    if options.get("tile", TILE) is None:  # held whole it fits in one piece
        large, told = run(tmp_path, fuse, rules, large=0)
        differences = tifffile.imread(tmp_path / "out-0.tif").astype(int) - tifffile.imread(
            tmp_path / f"out-{1 << 40}.tif"
        )
        assert np.abs(differences).max() <= 1
    else:
        large, told = run(tmp_path, fuse, rules, large=0)
        assert large == whole
    assert told == said
    assert told["nonfinite"] == {"ir": 400, "vis": 0}
    assert tifffile.imread(tmp_path / "out-0.tif").std() > 0
    assert sorted(p.name for p in tmp_path.glob(".*")) == []


def test_a_large_pair_is_read_in_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ir.tif", "vis.tif"):
        save(tmp_path / name, picture(1), tile=(16, 16))

    def refuse(path: str) -> None:
        raise AssertionError(f"{path} was read whole")

    monkeypatch.setattr(images, "read", refuse)
    run(tmp_path, network(), Choices(), large=HEIGHT * WIDTH)
    for fuse, large in (
        (network(), HEIGHT * WIDTH + 1),
        (network(tile=0), 0),
        (network(tiling="approximate"), 0),
    ):
        with pytest.raises(AssertionError, match="read whole"):
            run(tmp_path, fuse, Choices(), large)


def test_damage_inside_a_large_file_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    save(tmp_path / "vis.tif", picture(2), tile=(32, 32))
    path = Path(save(tmp_path / "ir.tif", picture(1), tile=(32, 32), compression="zlib"))
    with tifffile.TiffFile(path) as file:
        offset = file.pages.first.dataoffsets[9]
    data = bytearray(path.read_bytes())
    data[offset : offset + 20] = bytes(20)
    path.write_bytes(data)
    with pytest.raises(InputError, match="damaged TIFF") as caught:
        run(tmp_path, network(), Choices(), large=0)
    assert caught.value.code == "read.decode"
    assert {p.name for p in tmp_path.iterdir()} == {"ir.tif", "vis.tif"}
