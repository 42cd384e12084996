"""Networks that measure the whole image: gathered from tiles, that is what the whole gives."""

import pytest
import torch
from torch import Tensor, nn

from fusecli import checkpoint
from fusecli.fusion import Tiling
from fusecli.fusion.network import Fuser
from fusecli.models import ModelSpec
from fusecli.ops.whole_image import image_max, image_mean, whole_image

CPU = torch.device("cpu")


class Chained(nn.Module):
    """A mean of half the size, a maximum that needs it, and a sum that needs both; used twice."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.last = nn.Conv2d(4, 1, 3, padding=1)
        self.sizes: list[tuple[int, ...]] = []
        self.finished = 0

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        self.sizes.append(tuple(ir.shape))
        both = self.features(ir) + self.features(vis)
        (power,) = whole_image(self.last, lambda f: (f.square().sum((2, 3), keepdim=True),), both)
        self.finished += 1
        fused: Tensor = self.last(both * (1 + power).rsqrt())
        return fused

    def features(self, image: Tensor) -> Tensor:
        found = self.first(image)
        mean = image_mean(self.first, nn.functional.avg_pool2d(found, 2))
        mixed = self.second((found - mean).relu())
        return mixed / (1 + image_max(self.second, mixed))


def spec(**changes: object) -> ModelSpec:
    facts = {"title": "Chained", "paper": "-", "build": Chained, "tiling": "passes"}
    facts |= {"halo": lambda options: 3, "multiple_of": 4, "stride": 4}
    return ModelSpec(**(facts | changes))


def run(tile: int | None, *shape: int, tiling: str = "passes") -> tuple[Chained, Tensor]:
    network = Chained().eval()
    fuser = Fuser(network, spec(tiling=tiling), {}, device=CPU, tiling=Tiling(tile))
    ir, vis = torch.rand((2, *shape), generator=torch.Generator().manual_seed(2))
    return fuser.network, fuser(ir, vis, toned=False)


@pytest.mark.parametrize("shape", [(1, 1, 38, 33), (2, 1, 17, 50), (1, 1, 40, 40)], ids=str)
def test_tiles_equal_the_whole(shape: tuple[int, ...]) -> None:
    """Sides that are no multiples are padded, and what pads them counts as in the whole."""
    (_, whole), (network, tiled) = run(0, *shape), run(16, *shape)
    torch.testing.assert_close(tiled, whole, atol=1e-6, rtol=0)
    assert max(size[-1] for size in network.sizes) <= 16 + 2 * 4 + 4  # halo, on the grid of corners
    (_, unaware) = run(16, *shape, tiling="exact")
    assert (unaware - whole).abs().max() > 1e-3


def test_a_pass_runs_no_further_than_it_must() -> None:
    """But for the first tile of each, which tells how far that is."""
    network, _ = run(16, 1, 1, 48, 48)
    tiles = 3 * 3
    assert len(network.sizes) == 3 * tiles + 1 + tiles
    # a fourth look at the first tile found nothing more
    assert network.finished == 3 + 1 + tiles


def test_without_tiles_nothing_is_gathered() -> None:
    network, _ = run(None, 1, 1, 48, 48)
    assert len(network.sizes) == 1


@pytest.mark.parametrize(
    ("name", "size", "tile"),
    [
        ("duet", (70, 400), 64),
        ("smfnet", (9, 110), 24),
        ("rfvif", (93, 61), 48),
        ("rfvif", (9, 700), 160),
    ],
)
def test_trained_networks_in_tiles_equal_the_whole(
    name: str, size: tuple[int, int], tile: int
) -> None:
    loaded = checkpoint.load(name)
    coarse = torch.rand(2, 1, 1, 3, size[1] // 4, generator=torch.manual_seed(0))
    ir, vis = (nn.functional.interpolate(image, size, mode="bilinear") for image in coarse)
    whole, tiled = (
        Fuser(loaded.network, loaded.spec, loaded.options, device=CPU, tiling=Tiling(edge))(ir, vis)
        for edge in (0, tile)
    )
    assert whole.std() > 0.1
    assert 255 * (tiled - whole).abs().max() < 0.1
