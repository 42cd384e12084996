"""Command lines that are wrong, with the code and exit status of each, and what prepares them.

The first table is `fusecli fuse`, the second the other commands, the third what happens to single
items. They run in a folder with three pairs in `ir` and `vis`.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from pictures import scene, set_tag, tiff_bytes
from runs import draw

from fusecli import checkpoint, images, models


def write(name: str, text: str) -> Callable[[], object]:
    def prepare() -> None:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)

    return prepare


def nothing() -> None:
    pass


IN, OUT = ["ir", "vis"], ["-o", "out"]
ONE = ["ir/000.png", "vis/000.png"]

# code, exit status, arguments, what is prepared
FUSE = [
    ("usage.arguments", 2, [*IN, *OUT, "--modle", "x"], nothing),
    ("usage.arguments", 2, [*IN], nothing),
    ("usage.arguments", 2, ["ir", *OUT], nothing),
    ("usage.arguments", 2, [*IN, *OUT, "--tone", "loud"], nothing),
    ("usage.pairs", 2, [*IN, *OUT, "--pairs", "list.csv"], nothing),
    ("usage.pairs", 2, ["--pairs", "list.csv", *OUT, "--ir-suffix", "_ir"], nothing),
    ("usage.stdout", 2, [*IN, *OUT, "--print"], nothing),
    ("usage.resume", 2, [*IN, *OUT, "--resume", "--overwrite"], nothing),
    ("usage.resume", 2, [*IN, *OUT, "--resume", "--manifest", "none"], nothing),
    ("usage.shard", 2, [*IN, *OUT, "--shard", "3/2"], nothing),
    ("usage.shard", 2, [*IN, *OUT, "--shard", "slurm"], nothing),
    ("usage.align", 2, [*IN, *OUT, "--align", "auto", "--fit", "ir-to-vis"], nothing),
    ("usage.backend", 2, [*IN, *OUT, "--backend", "dusk"], nothing),
    ("usage.jobs", 2, [*IN, *OUT, "--jobs", "many"], nothing),
    ("usage.tile", 2, [*IN, *OUT, "--tile", "3"], nothing),
    ("usage.name", 2, [*IN, *OUT, "--name", "{key.real}"], nothing),
    ("usage.compare", 2, [*ONE, "-o", "o.png", "--compare", "side"], nothing),
    ("model.unknown", 2, [*IN, *OUT, "-m", "recnet"], nothing),
    ("config.missing", 2, [*IN, *OUT, "--config", "no.toml"], nothing),
    ("config.syntax", 2, [*IN, *OUT], write("fusecli.toml", "[fuse")),
    ("config.unknown", 2, [*IN, *OUT], write("fusecli.toml", "[fuse]\nmodle='x'")),
    ("config.value", 2, [*IN, *OUT], write("fusecli.toml", "[fuse]\nresume='x'")),
    ("pair.unmatched", 2, [*IN, *OUT], lambda: Path("ir/002.png").rename("ir/9.png")),
    ("pair.none", 2, [*IN, *OUT, "--ir-suffix", "0"],
     lambda: [p.rename(f"ir/{p.stem}_ir.png") for p in Path("ir").iterdir()]),
    ("pair.empty", 2, ["empty", "vis", *OUT], lambda: Path("empty").mkdir()),
    ("pair.duplicate", 2, [*IN, *OUT], write("ir/000.bmp", "")),
    ("pair.same", 2, ["ir", "ir", *OUT], nothing),
    ("pair.regex", 2, [*IN, *OUT, "--pair-regex", "0+"], nothing),
    ("pair.list", 2, ["--pairs", "list.csv", *OUT], write("list.csv", "a,b\n1,2\n")),
    ("pair.key", 2, ["--pairs", "list.csv", *OUT],
     write("list.csv", "ir,vis,name\nir/000.png,vis/000.png,../../etc/passwd\n")),
    ("pair.count", 2, [*IN, *OUT, "--pair-by", "order"],
     lambda: Path("ir/002.png").unlink()),
    ("out.exists", 2, [*IN, *OUT], write("out/001.png", "mine")),
    ("out.foreign", 2, [*IN, *OUT, "--resume"], write("out/001.png", "mine")),
    ("out.inside", 2, ["ir", "vis", "-o", "ir/out", "-r"], nothing),
    ("out.collision", 2, [*IN, *OUT, "--name", "same"], nothing),
    ("out.file", 2, [*IN, "-o", "one.png"], nothing),
    ("out.format", 2, [*ONE, "-o", "o.png", "--format", "tiff"], nothing),
    ("out.format", 2, [*IN, *OUT, "--format", "jpeg", "--out-dtype", "uint16"], nothing),
    ("out.not-a-folder", 2, [*IN, "-o", "notes.txt"], write("notes.txt", "mine")),
    ("read.missing", 2, ["irr", "vis", *OUT], nothing),
    ("range.syntax", 2, [*IN, *OUT, "--ir-range", "warm"], nothing),
    ("range.empty", 2, [*IN, *OUT, "--ir-range", "9:3"], nothing),
    ("write.failed", 2, [*IN, "-o", "notes.txt/out"], write("notes.txt", "mine")),
    ("device.syntax", 2, [*IN, *OUT, "--device", "toaster"], nothing),
    ("device.twice", 2, [*IN, *OUT, "--device", "cpu,cpu"], nothing),
    ("device.precision", 2, [*IN, *OUT, "--device", "cpu", "--precision", "fp16"], nothing),
    ("device.missing", 5, [*IN, *OUT, "--device", "cuda:63"], nothing),
    ("weights.missing", 5, [*IN, *OUT, "--weights", "nameless"], nothing),
    ("weights.layout", 5, [*IN, *OUT, "--weights", "w.safetensors"],
     write("w.safetensors", "not tensors")),
    ("pair.options", 2, [*IN, *OUT, "--pair-regex", "(0+)", "--ir-suffix", "_ir"], nothing),
    ("out.outside", 2, [*IN, *OUT, "--name", "../{key}"], nothing),
    ("read.failed", 2, ["--pairs", "ir", *OUT], nothing),
    ("range.mixed", 2, [*IN, *OUT, "--range-scope", "all", "--ir-range", "p1:p99"],
     lambda: draw_deep("ir/001.png")),
    ("weights.manifest", 5, [*IN, *OUT, "--weights", "b"], write("shelf/manifest.json", "{")),
    ("weights.checksum", 5, [*IN, *OUT, "-m", "reconet", "--weights", "a"], lambda: shelve()),
    ("weights.nonfinite", 5, [*IN, *OUT, "-m", "reconet", "--weights", "nan.safetensors"],
     lambda: store_nan()),
]  # fmt: skip


def store_nan() -> None:
    spec = models.find("reconet")
    network = checkpoint.untrained(spec, {})
    with torch.no_grad():
        next(network.parameters()).fill_(torch.nan)
    checkpoint.save("nan.safetensors", network, model="reconet", options={})


def shelve() -> None:
    """Put a weights file, and a manifest that describes another one, where FUSECLI_WEIGHTS is."""
    write("shelf/a.safetensors", "not what is listed")()
    listed = {"name": "a", "model": "reconet", "file": "a.safetensors", "sha256": "0" * 64}
    write("shelf/manifest.json", json.dumps({"weights": [listed]}))()


def draw_deep(name: str) -> None:
    Path(name).write_bytes(images.encode(scene("uint16", size=(24, 32)), format="png"))


TRAIN = ["train", *IN, "-o", "run", "--steps", "1"]
EVAL = ["eval", *IN, "vis"]
LABELS = "stem,x,y,w,h,class\n"
EXPORT = ["export", "reconet", "--weights", "random", "-o", "net.safetensors"]
REGISTER = ["register", *IN, *OUT]
WARP = ["warp", *IN, *OUT]
CONVERT = ["models", "convert", "old.pt", "new.safetensors", "-m", "mfeif"]

OTHERS = [
    ("train.stage", 2, [*TRAIN, "--stage", "fusin"], nothing),
    ("train.loss", 2, [*TRAIN, "--loss", "ssmi=1"], nothing),
    ("train.number", 2, [*TRAIN, "--lr", "0"], nothing),
    ("train.misalign", 2, [*TRAIN, "--misalign", "shift:0"], nothing),
    ("train.schedule", 2, [*TRAIN, "--schedule", "steps"], nothing),
    ("train.time", 2, [*TRAIN, "--max-time", "8 hours"], nothing),
    ("train.pairs", 2, [*TRAIN, "--limit", "1"], nothing),
    ("train.crop", 2, [*TRAIN, "--crop", "64", "--val-fraction", "0"], nothing),
    ("usage.exclusive", 2, [*TRAIN, "--resume", "--overwrite"], nothing),
    ("usage.log", 2, [*TRAIN, "--log", "paper"], nothing),
    ("usage.set", 2, [*TRAIN, "-m", "reconet", "--set", "lops=2"], nothing),
    ("usage.assignment", 2, [*TRAIN, "--set", "loops"], nothing),
    ("out.exists", 2, TRAIN, write("run/config.toml", "")),
    ("usage.methods", 2, [*EVAL, "elsewhere/vis"], lambda: shutil.copytree("vis", "elsewhere/vis")),
    ("usage.metrics", 2, [*EVAL, "--metrics", "ssmi"], nothing),
    ("usage.plots", 2, [*EVAL, "--plots", "bax"], nothing),
    ("usage.roi", 2, [*EVAL, "--roi", "1,2,3"], nothing),
    ("usage.table", 2, [*EVAL, "--table", "papyrus"], nothing),
    ("usage.truth", 2, [*EVAL, "--truth", "t", "--compute", "rgb"], nothing),
    ("targets.read", 2, [*EVAL, "--targets", "t.csv"], write("t.csv", "stem,x\n0,1\n")),
    ("targets.empty", 2, [*EVAL, "--targets", "t.csv"], write("t.csv", LABELS)),
    ("targets.class", 2, [*EVAL, "--targets", "t.csv"],
     write("t.csv", LABELS + "000,1,1,9,9,boat")),
    ("targets.none", 2, [*EVAL, "--targets", "t.csv"],
     write("t.csv", LABELS + "9,1,1,9,9,person")),
    ("targets.ambiguous", 2, [*EVAL, "--targets", "t.csv"],
     write("t.csv", f"set,{LABELS}a,000,1,1,9,9,person\nb,000,1,1,9,9,person")),
    ("usage.fail_under", 2, [*EVAL, "--fail-under", "vif=good"], nothing),
    ("export.format", 2, ["export", "reconet", "-o", "net.tflite"], nothing),
    ("export.format", 2, [*EXPORT, "--format", "onnx"], nothing),
    ("export.size", 2, [*EXPORT, "--dynamic", "none"], nothing),
    ("model.size", 2, ["export", "rfn-nest", *EXPORT[2:], "--dynamic", "none", "--size", "3x3"],
     nothing),
    ("out.exists", 2, EXPORT, write("net.safetensors", "mine")),
    ("register.method", 2, [*REGISTER, "--method", "fase"], nothing),
    ("register.transform", 2, [*REGISTER, "--method", "phase", "--transform", "dense"], nothing),
    ("register.missing", 2, [*REGISTER, "--init", "none.json"], nothing),
    ("register.weights", 2, [*REGISTER, "--method", "ecc", "--weights", "w.safetensors"], nothing),
    ("register.schema", 2, [*REGISTER, "--init", "t.json"], write("t.json", "{}")),
    ("usage.register", 2, [*REGISTER, "--apply", "ir", "--min-gain", "1"], nothing),
    ("usage.preset", 2, [*WARP, "--preset", "wild"], nothing),
    ("usage.kind", 2, [*WARP, "--preset", "reconet-easy", "--kind", "shift"], nothing),
    ("usage.magnitude", 2, [*WARP, "--kind", "shift", "--rotate", "3"], nothing),
    ("usage.warp", 2, [*WARP, "--crop-valid", "--link", "hard"], nothing),
    ("weights.missing", 2, CONVERT, nothing),
    ("weights.pickle", 2, CONVERT, write("old.pt", "cos\nsystem\n")),
    ("weights.verify", 6, ["models", "verify"], shelve),
    ("weights.layout", 5, CONVERT, lambda: torch.save({"a": torch.ones(1)}, "old.pt")),
]  # fmt: skip

ROWS = [(code, status, ["fuse", *line], prepare) for code, status, line, prepare in FUSE] + OTHERS


def damage(path: str) -> None:
    """Write an NPY file with a header that is no Python, which planning looks into too."""
    np.save(path, np.zeros((24, 32), np.float32))
    Path(path).write_bytes(Path(path).read_bytes().replace(b"{", b"(", 1))


def bomb(path: str) -> None:
    """Write a small TIFF that claims 4 gigapixels."""
    Path(path).write_bytes(set_tag(set_tag(tiff_bytes(scene()), 256, 65535), 257, 65535))


ITEMS = [
    ("read.decode", lambda: [Path("vis/001.png").unlink(), damage("vis/001.npy")], []),
    ("read.decode", lambda: Path("vis/001.png").write_bytes(b"not a picture"), []),
    ("read.decode", lambda: Path("vis/001.png").write_bytes(b""), []),
    ("read.bomb", lambda: bomb("vis/001.png"), []),
    ("size.differ", lambda: draw(Path("vis/001.png"), (25, 31, 3)), []),
    ("model.size", lambda: [draw(Path(s, "001.png"), (9, 9)) for s in ("ir", "vis")],
     ["-m", "rfn-nest"]),
    ("read.colour", lambda: draw(Path("ir/001.png"), (24, 32, 3)), []),
]  # fmt: skip
