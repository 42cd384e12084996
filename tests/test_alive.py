"""The shipped weights need the parts their papers are about, or their cards name them as dead."""

import re
from pathlib import Path

import pytest
import torch

from benchmarks import alive
from fusecli import checkpoint, images, models

DATA = Path(__file__).parent / "data"
WEIGHTS = Path(__file__).parents[1] / "weights"
NAMES = sorted({entry.model for entry in checkpoint.entries()})
PARTED = [name for name in NAMES if models.find(name).parts]


@pytest.fixture(autouse=True)
def definitions_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSECLI_OPS", "eager")


@pytest.fixture(scope="module")
def pair() -> alive.Pair:
    """Return the middle of the drawn street by day, where the pedestrian is."""

    def luma(side: str) -> torch.Tensor:
        pixels = images.luma(images.read(str(DATA / side / "day_street.png")).pixels)
        unit = images.to_unit(pixels, images.limits(pixels, "auto"))
        return alive.middle(torch.from_numpy(unit)[None, None])

    return luma("ir"), luma("vis")


def named_dead(name: str) -> set[str]:
    """Return the parts that the first lines of a card call dead."""
    top = (WEIGHTS / f"{name}.md").read_text(encoding="utf-8").partition("\n## ")[0]
    said = re.search(r"^- Dead in these weights[^:]*: (.*?)\n(?=- )", top, re.M | re.S)
    text = " ".join(said[1].split()) if said else ""
    return {part for part in models.find(name).parts if f"{part} (" in text}


@torch.no_grad()
@pytest.mark.parametrize("name", PARTED)
def test_a_card_names_the_dead_parts_and_no_living_one(name: str, pair: alive.Pair) -> None:
    levels = alive.parts_alive(name, [pair])
    assert levels.keys() == models.find(name).parts.keys()
    assert {part for part, change in levels.items() if change < alive.DEAD} == named_dead(name)


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_the_infrared_image_is_used(name: str, pair: alive.Pair) -> None:
    network = alive.fuser(name)
    assert alive.without_infrared(network, [pair]) > 3
    contrast = alive.arrives(network, 16)
    assert contrast > (0.1 if name == "rfvif" else 0.5), "of a hot square of 16 px"


@torch.no_grad()
def test_the_controls_see_a_network_that_leaves_the_infrared_out(pair: alive.Pair) -> None:
    def visible_only(ir: torch.Tensor, vis: torch.Tensor) -> torch.Tensor:
        return vis

    other = (pair[0].flip(-1), pair[1].flip(-2))
    assert alive.without_infrared(visible_only, [pair]) == 0  # type: ignore[arg-type]
    assert abs(alive.arrives(visible_only, 16)) < 0.05  # type: ignore[arg-type]
    shares = alive.kept(visible_only, [pair, other])  # type: ignore[arg-type]
    assert set(shares.values()) == {1.0}
