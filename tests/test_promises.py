"""The promises of the command line that no other file tests from end to end.

Resuming after a kill is in `test_faults.py`, shards in `test_shards.py`, exported graphs in
`test_export.py`, quick help in `test_cli.py`, one JSON document whatever happens in
`test_errors.py`. Here: one bad file among many, sizes, levels, tiles, metadata.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from pictures import scene
from runs import contents, draw, draw_pairs, fuse
from test_metadata import GEO_TAGS, exif_block, profile

from fusecli import checkpoint, images, models
from fusecli.cli import run
from fusecli.images.metadata import Metadata

QUICK = ("--weights", "random", "--progress", "none")


def pixels(path: Path) -> np.ndarray:
    return images.read(str(path)).pixels


def save(path: Path, image: np.ndarray, metadata: Metadata | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    format = {".tiff": "tiff", ".png": "png"}[path.suffix]
    path.write_bytes(images.encode(image, format=format, metadata=metadata))
    return path


def fuse_with(model: str, *arguments: str | Path) -> int:
    return run(["fuse", *QUICK, "-m", model, *map(str, arguments)])


def test_one_truncated_file_among_a_hundred(tmp_path: Path, capsys) -> None:
    pairs = draw_pairs(tmp_path, 100)
    broken = Path(pairs[1], "041.png")
    broken.write_bytes(broken.read_bytes()[:-40])
    capsys.readouterr()
    assert fuse(*pairs, "-o", tmp_path / "out", "--json") == 3
    report = json.loads(capsys.readouterr().out)
    assert [(item["key"], item["code"]) for item in report["failures"]] == [("041", "read.decode")]
    assert report["counts"] == {"found": 100, "done": 99, "skipped": 0, "failed": 1}
    assert len(contents(tmp_path / "out")) == 99
    assert not list((tmp_path / "out").rglob("*.part"))


SIZES = [((17, 19), (32, 30), (31, 64), (101, 97)), ((513, 511),)]


@pytest.mark.parametrize(
    ("model", "sizes"),
    [
        pytest.param(model, sizes, marks=[pytest.mark.slow] if max(sizes) > (500, 0) and at else [])
        for at, model in enumerate(sorted(models.fusers(), key=lambda name: name != "reconet"))
        for sizes in SIZES
    ],
)
def test_output_size_is_reference_size(model: str, sizes, tmp_path: Path) -> None:
    """Odd, even and prime sizes, the smallest and the largest (-m slow, but for one)."""
    for number, size in enumerate(sizes):
        draw(tmp_path / "ir" / f"{number}.png", size, number)
        draw(tmp_path / "vis" / f"{number}.png", (*size, 3), number)
    assert fuse_with(model, tmp_path / "ir", tmp_path / "vis", "-o", tmp_path / "out") == 0
    for number, size in enumerate(sizes):
        assert pixels(tmp_path / "out" / f"{number}.png").shape == (*size, 3)


def test_16_bit_levels_survive(tmp_path: Path) -> None:
    levels = np.linspace(20000, 20599, 600).round().astype(np.uint16)
    ir = save(tmp_path / "ir.tiff", np.tile(levels, (40, 1)))
    vis = save(tmp_path / "vis.tiff", np.full((40, 600), 30000, np.uint16))
    out = tmp_path / "out.tiff"
    assert run(["fuse", str(ir), str(vis), "-o", str(out), "--out-dtype", "uint16", "-q"]) == 0
    assert pixels(out).dtype == np.uint16
    assert len(np.unique(pixels(out))) >= 200


@pytest.mark.parametrize("model", [m for m in models.fusers() if models.find(m).tiling == "exact"])
def test_tiles_do_not_show(model: str, tmp_path: Path) -> None:
    """Those of networks that measure the whole image are in `test_whole_image.py`."""
    ir = draw(tmp_path / "ir.png", (150, 170), 1)
    vis = draw(tmp_path / "vis.png", (150, 170), 2)
    if model not in {entry.model for entry in checkpoint.entries()}:
        pytest.skip(f"no weights of {model} are shipped, and random ones give one grey level")
    for tile in ("off", "64"):
        command = [ir, vis, "-o", tmp_path / f"{tile}.png", "--tile", tile, "--tone", "clip"]
        assert run(["fuse", "-q", "-m", model, *map(str, command)]) == 0
    whole, tiled = (pixels(tmp_path / f"{tile}.png").astype(int) for tile in ("off", "64"))
    assert len(np.unique(whole)) > 5
    assert np.abs(whole - tiled).max() <= 1


def test_exif_and_profile_of_the_reference_survive(tmp_path: Path) -> None:
    """The camera was turned: stored 24x32, seen 32x24; the result is upright and says so."""
    given = Metadata(exif=exif_block(orientation=6), icc=profile())
    vis = save(tmp_path / "vis.png", scene("uint8", 3, (24, 32)), given)
    ir = draw(tmp_path / "ir.png", (32, 24))
    assert fuse(ir, vis, "-o", tmp_path / "out.png") == 0
    found = images.read(str(tmp_path / "out.png"))
    assert found.pixels.shape == (32, 24, 3)
    assert found.metadata.exif == exif_block(orientation=1)
    assert found.metadata.icc == given.icc
    assert fuse(ir, vis, "-o", tmp_path / "bare.png", "--metadata", "drop") == 0
    assert images.read(str(tmp_path / "bare.png")).metadata == Metadata()


def test_geotiff_tags_survive_on_their_own_grid_only(tmp_path: Path, capsys) -> None:
    vis = tmp_path / "vis.tiff"
    extra = [(code, *value, True) for code, value in GEO_TAGS.items()]
    tifffile.imwrite(vis, scene("uint8", 3, (24, 32)), photometric="rgb", extratags=extra)
    ir = draw(tmp_path / "ir.png", (24, 32))
    small = draw(tmp_path / "small.png", (12, 16))
    assert fuse(ir, vis, "-o", tmp_path / "kept.tiff") == 0
    command = [small, vis, "-o", tmp_path / "moved.tiff", "--fit", "vis-to-ir", "--json"]
    capsys.readouterr()
    assert fuse(*command) == 0
    codes = [warning["code"] for warning in json.loads(capsys.readouterr().out)["warnings"]]
    assert "metadata.grid" in codes
    with tifffile.TiffFile(tmp_path / "kept.tiff") as kept:
        for code, (_, _, value) in GEO_TAGS.items():
            assert kept.pages[0].tags[code].value == value
    with tifffile.TiffFile(tmp_path / "moved.tiff") as moved:
        assert not set(GEO_TAGS) & set(moved.pages[0].tags.keys())


def test_further_pages_are_left_out_with_a_warning(tmp_path: Path, capsys) -> None:
    vis, ir = tmp_path / "vis.tiff", draw(tmp_path / "ir.png", (24, 32))
    with tifffile.TiffWriter(vis) as writer:
        for _ in range(2):
            writer.write(scene("uint8", 3, (24, 32)), photometric="rgb", metadata=None)
    for number, command in enumerate((["fuse", *QUICK], ["register", "--on-reject", "identity"])):
        capsys.readouterr()
        out = tmp_path / f"{number}.tiff"
        assert run([*command, str(ir), str(vis), "-o", str(out), "--json"]) == 0
        codes = [item["code"] for item in json.loads(capsys.readouterr().out)["warnings"]]
        assert "read.pages" in codes


def test_a_limit_of_pixels_from_the_environment(tmp_path: Path, monkeypatch) -> None:
    ir, vis = draw(tmp_path / "ir.png", (24, 32)), draw(tmp_path / "vis.png", (24, 32))
    for limit, status in ((24 * 32 - 1, 4), (24 * 32, 0)):
        monkeypatch.setenv("FUSECLI_MAX_PIXELS", str(limit))
        assert fuse(ir, vis, "-o", tmp_path / "out.png") == status


def test_what_does_not_fit_is_refused_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    """A network that looks at the whole image, on a machine with room for 30x40 pixels."""
    pixel = models.find("reconet-plus").memory
    monkeypatch.setattr("fusecli.fusion.network.total_memory", lambda device: pixel * 30 * 40)
    for name, size in (("large", (33, 40)), ("small", (24, 32))):
        draw(tmp_path / "ir" / f"{name}.png", size)
        draw(tmp_path / "vis" / f"{name}.png", size)
    sources = (tmp_path / "ir", tmp_path / "vis", "-o", tmp_path / "out")
    assert fuse_with("reconet-plus", *sources, "--json") == 3
    report = json.loads(capsys.readouterr().out)
    assert [(item["key"], item["code"]) for item in report["failures"]] == [
        ("large", "model.memory")
    ]
    assert "cannot fuse 40x33 pixels in the memory of cpu" in report["failures"][0]["message"]
    assert list(contents(tmp_path / "out")) == ["small.png"]
