"""The promises of the command line that no other file tests from end to end.

Resuming after a kill is in `test_faults.py`, shards in `test_shards.py`, exported graphs in
`test_export.py`, quick help in `test_cli.py`. Here: one bad file among many, sizes, levels, tiles,
metadata, one JSON document whatever happens, and every error with its code, exit status and hint.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from pictures import scene, set_tag, tiff_bytes
from runs import contents, draw, draw_pairs, fuse, lines
from test_metadata import GEO_TAGS, exif_block, profile

from fusecli import checkpoint, config, models
from fusecli.cli import run
from fusecli.io import images
from fusecli.io.metadata import Metadata
from fusecli.pipeline.manifest import Manifest, Record

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


@pytest.mark.parametrize("model", [m for m in models.fusers() if models.find(m).tiling != "never"])
def test_tiles_do_not_show(model: str, tmp_path: Path) -> None:
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


# --- errors ----------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a working directory with three pairs in `ir` and `vis`."""
    draw_pairs(tmp_path, 3)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config, "user_file", lambda: tmp_path / "no" / "config.toml")
    for name in [name for name in os.environ if name.startswith(("FUSECLI_", "SLURM_"))]:
        monkeypatch.delenv(name)
    return tmp_path


def write(name: str, text: str) -> Callable[[], object]:
    def prepare() -> None:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)

    return prepare


def nothing() -> None:
    pass


IN, OUT = ["ir", "vis"], ["-o", "out"]
ONE = ["ir/000.png", "vis/000.png"]

# code, exit status, whether a hint must come with it, arguments, what is prepared
BEFORE_WORK = [
    ("usage.arguments", 2, True, [*IN, *OUT, "--modle", "x"], nothing),
    ("usage.arguments", 2, True, [*IN], nothing),
    ("usage.arguments", 2, True, ["ir", *OUT], nothing),
    ("usage.arguments", 2, True, [*IN, *OUT, "--tone", "loud"], nothing),
    ("usage.pairs", 2, False, [*IN, *OUT, "--pairs", "list.csv"], nothing),
    ("usage.stdout", 2, False, [*IN, *OUT, "--print"], nothing),
    ("usage.resume", 2, False, [*IN, *OUT, "--resume", "--overwrite"], nothing),
    ("usage.resume", 2, True, [*IN, *OUT, "--resume", "--manifest", "none"], nothing),
    ("usage.shard", 2, True, [*IN, *OUT, "--shard", "3/2"], nothing),
    ("usage.shard", 2, True, [*IN, *OUT, "--shard", "slurm"], nothing),
    ("usage.backend", 2, True, [*IN, *OUT, "--backend", "dusk"], nothing),
    ("usage.jobs", 2, False, [*IN, *OUT, "--jobs", "many"], nothing),
    ("usage.tile", 2, False, [*IN, *OUT, "--tile", "3"], nothing),
    ("usage.name", 2, True, [*IN, *OUT, "--name", "{key.real}"], nothing),
    ("usage.compare", 2, False, [*ONE, "-o", "o.png", "--compare", "side"], nothing),
    ("model.unknown", 2, True, [*IN, *OUT, "-m", "recnet"], nothing),
    ("config.missing", 2, False, [*IN, *OUT, "--config", "no.toml"], nothing),
    ("config.syntax", 2, False, [*IN, *OUT], write("fusecli.toml", "[fuse")),
    ("config.unknown", 2, True, [*IN, *OUT], write("fusecli.toml", "[fuse]\nmodle='x'")),
    ("config.value", 2, False, [*IN, *OUT], write("fusecli.toml", "[fuse]\nresume='x'")),
    ("pair.unmatched", 2, True, [*IN, *OUT], lambda: Path("ir/002.png").rename("ir/9.png")),
    ("pair.none", 2, True, [*IN, *OUT, "--ir-suffix", "0"],
     lambda: [p.rename(f"ir/{p.stem}_ir.png") for p in Path("ir").iterdir()]),
    ("pair.empty", 2, True, ["empty", "vis", *OUT], lambda: Path("empty").mkdir()),
    ("pair.duplicate", 2, True, [*IN, *OUT], write("ir/000.bmp", "")),
    ("pair.same", 2, True, ["ir", "ir", *OUT], nothing),
    ("pair.regex", 2, True, [*IN, *OUT, "--pair-regex", "0+"], nothing),
    ("pair.list", 2, True, ["--pairs", "list.csv", *OUT], write("list.csv", "a,b\n1,2\n")),
    ("pair.key", 2, True, ["--pairs", "list.csv", *OUT],
     write("list.csv", "ir,vis,name\nir/000.png,vis/000.png,../../etc/passwd\n")),
    ("pair.count", 2, False, [*IN, *OUT, "--pair-by", "order"],
     lambda: Path("ir/002.png").unlink()),
    ("out.exists", 2, True, [*IN, *OUT], write("out/001.png", "mine")),
    ("out.foreign", 2, True, [*IN, *OUT, "--resume"], write("out/001.png", "mine")),
    ("out.inside", 2, True, ["ir", "vis", "-o", "ir/out", "-r"], nothing),
    ("out.collision", 2, True, [*IN, *OUT, "--name", "same"], nothing),
    ("out.file", 2, True, [*IN, "-o", "one.png"], nothing),
    ("out.format", 2, False, [*ONE, "-o", "o.png", "--format", "tiff"], nothing),
    ("out.format", 2, True, [*IN, *OUT, "--format", "jpeg", "--out-dtype", "uint16"], nothing),
    ("out.not-a-folder", 2, True, [*IN, "-o", "notes.txt"], write("notes.txt", "mine")),
    ("read.missing", 2, True, ["irr", "vis", *OUT], nothing),
    ("range.syntax", 2, True, [*IN, *OUT, "--ir-range", "warm"], nothing),
    ("range.empty", 2, False, [*IN, *OUT, "--ir-range", "9:3"], nothing),
    ("write.failed", 2, False, [*IN, "-o", "notes.txt/out"], write("notes.txt", "mine")),
    ("device.syntax", 2, True, [*IN, *OUT, "--device", "toaster"], nothing),
    ("device.twice", 2, False, [*IN, *OUT, "--device", "cpu,cpu"], nothing),
    ("device.precision", 2, True, [*IN, *OUT, "--device", "cpu", "--precision", "fp16"], nothing),
    ("device.missing", 5, True, [*IN, *OUT, "--device", "cuda:63"], nothing),
    ("weights.missing", 5, True, [*IN, *OUT, "--weights", "nameless"], nothing),
    ("weights.layout", 5, True, [*IN, *OUT, "--weights", "w.safetensors"],
     write("w.safetensors", "not tensors")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("code", "status", "with_hint", "arguments", "prepare"), BEFORE_WORK,
    ids=[f"{row[0]}-{number}" for number, row in enumerate(BEFORE_WORK)],
)  # fmt: skip
def test_errors_before_work(code, status, with_hint, arguments, prepare, place, capsys) -> None:
    prepare()
    before = contents(place)
    weights = [] if "--weights" in arguments else ["--weights", "random"]
    capsys.readouterr()
    assert run(["fuse", *arguments, *weights, "--json"]) == status
    streams = capsys.readouterr()
    document = json.loads(streams.out)
    assert document["schema"] == "fusecli/error/1"
    assert document["ok"] is False
    assert document["exit_code"] == status
    error = document["error"]
    assert error["code"] == code
    assert bool(error["hint"]) or not with_hint
    talk = streams.err.splitlines()
    first = next(line for line in talk if line.startswith("error: "))
    assert first == f"error: {error['message'].splitlines()[0]}"
    assert len(error["facts"]) <= 10
    assert "Traceback" not in streams.err
    assert contents(place) == before  # nothing was written, not even an output folder


def test_a_locked_folder_is_an_error_too(place: Path, capsys) -> None:
    record = Record(place / "out" / ".fusecli" / "manifest.jsonl", "out")
    with Manifest(record, "fuse", {}):
        assert fuse(*IN, *OUT, "--json") == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], "--shard" in error["hint"]) == ("out.locked", True)


def bomb(path: str) -> None:
    """Write a small TIFF that claims 4 gigapixels."""
    Path(path).write_bytes(set_tag(set_tag(tiff_bytes(scene()), 256, 65535), 257, 65535))


ITEMS = [
    ("read.decode", lambda: Path("vis/001.png").write_bytes(b"not a picture"), []),
    ("read.decode", lambda: Path("vis/001.png").write_bytes(b""), []),
    ("read.bomb", lambda: bomb("vis/001.png"), []),
    ("size.differ", lambda: draw(Path("vis/001.png"), (25, 31, 3)), []),
    ("model.size", lambda: [draw(Path(s, "001.png"), (9, 9)) for s in ("ir", "vis")],
     ["-m", "rfn-nest"]),
    ("read.colour", lambda: draw(Path("ir/001.png"), (24, 32, 3)), []),
]  # fmt: skip


@pytest.mark.parametrize(("code", "prepare", "options"), ITEMS)
def test_errors_of_one_item(code, prepare, options, place: Path, capsys) -> None:
    prepare()
    capsys.readouterr()
    assert run(["fuse", *QUICK, *IN, *OUT, *options, "--json"]) == 3
    report = json.loads(capsys.readouterr().out)
    assert report["schema"] == "fusecli/run/1"
    assert report["exit_code"] == 3
    assert [(item["key"], item["code"]) for item in report["failures"]] == [("001", code)]
    failed = [line for line in lines(place / "out") if line.get("status") == "failed"]
    assert [line["error"]["code"] for line in failed] == [code]
    assert sorted(contents(place / "out")) == ["000.png", "002.png"]


def test_a_bug_is_exit_1_and_one_document(place: Path, capsys, monkeypatch) -> None:
    from fusecli.pipeline import planning

    def broken(*arguments, **options) -> None:
        raise ZeroDivisionError("surprise")

    monkeypatch.setattr(planning, "plan", broken)
    assert run(["fuse", *IN, *OUT, "--json"]) == 1
    streams = capsys.readouterr()
    assert json.loads(streams.out)["error"]["code"] == "internal"
    assert "-vv" in streams.err
    assert "Traceback" not in streams.err
