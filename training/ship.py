"""Put the result of a training run among the weights that fusecli ships. For maintainers.

    python training/ship.py runs/reconet --name reconet

copies `best.safetensors` of the run into `weights/` under the name of its network, in half
precision where the fused image stays within half a grey level of what full precision gives, and
enters its checksum into `weights/manifest.json`. A model card is written from the run's own when
there is none yet: complete it by hand with data, licences, scores and limits. `docs/tables.py` then
brings the README up to date.

Weights under any other name than the network's are found with `--weights NAME` only.
"""

import argparse
import hashlib
import json
from pathlib import Path

import torch
from torch import Tensor

from fusecli import checkpoint
from fusecli.checkpoint import Loaded

WEIGHTS = Path(__file__).parents[1] / "weights"
LICENCE = "research use (trained on data sets with that term, or none stated)"
LIMIT = 45 << 20  # bytes of all weights together
PARITY = 0.5 / 255  # of the range


def scene(size: int = 128) -> tuple[Tensor, Tensor]:
    """Return an infrared and a visible image with edges, ramps and texture, (1, 1, H, W)."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(*[torch.linspace(0, 1, size)] * 2, indexing="ij")
    ir = 0.2 + 0.6 * ((y - 0.5) ** 2 + (x - 0.4) ** 2 < 0.04) + 0.1 * y
    vis = 0.5 + 0.3 * torch.sin(40 * x) * y + 0.1 * torch.rand(size, size, generator=generator)
    return ir[None, None], vis[None, None]


@torch.no_grad()
def output(loaded: Loaded) -> Tensor:
    """Return what a network makes of the scene, scaled to 0..1 of its range (fields: pixels)."""
    low, high = loaded.spec.input_range
    ir, vis = (low + (high - low) * image for image in scene())
    scale = high - low if loaded.spec.role == "fuser" else 1.0
    result: Tensor = loaded.network(ir, vis)
    return result / scale


def ship(source: Path, name: str | None, folder: Path = WEIGHTS) -> None:
    """Add one file of weights to the folder and its manifest."""
    full = checkpoint.load(None, str(source))
    name = name or full.model
    file = folder / f"{name}.safetensors"
    about = {"licence": LICENCE}
    for half in (True, False):
        checkpoint.save(
            file, full.network, model=full.model, options=full.options, extra=about, half=half
        )
        distance = float((output(checkpoint.load(None, str(file))) - output(full)).abs().max())
        if distance <= PARITY:
            break
    entry = {
        "name": name,
        "model": full.model,
        "file": file.name,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "bytes": file.stat().st_size,
        "licence": LICENCE,
        "options": full.options,
        "card": f"{name}.md",
    }
    manifest = folder / checkpoint.MANIFEST
    listed = json.loads(manifest.read_text("utf-8"))["weights"] if manifest.exists() else []
    listed = sorted([e for e in listed if e["name"] != name] + [entry], key=lambda e: e["name"])
    total = sum(e["bytes"] for e in listed)
    if total > LIMIT:
        raise SystemExit(f"the weights would take {total} bytes together, more than {LIMIT}")
    manifest.write_text(json.dumps({"weights": listed}, indent=2) + "\n", "utf-8")
    card, of_run = folder / f"{name}.md", source.parent / "card.md"
    if not card.exists() and of_run.exists():
        card.write_text(of_run.read_text("utf-8"), "utf-8")
    kind = "half" if half else "full"
    print(f"{file}: {entry['bytes']} bytes, {kind} precision, {255 * distance:.2g} levels apart")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="folder of a run, or a safetensors file")
    parser.add_argument("--name", help="name of the weights; the network's own without it")
    arguments = parser.parse_args()
    source = arguments.source
    ship(source / "best.safetensors" if source.is_dir() else source, arguments.name)


if __name__ == "__main__":
    main()
