"""Weights files: find, verify, load and save.

Weights are safetensors files whose metadata names the network and its options, so that a file
explains itself. `manifest.json` beside the shipped ones holds what the file cannot: its checksum,
licence and model card. Nothing here ever runs code found in a file.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as encode_tensors
from torch import Tensor, nn

from fusecli.errors import MissingError
from fusecli.images import write_atomic
from fusecli.models import ModelSpec, find, parse_options
from fusecli.version import __version__

MANIFEST = "manifest.json"
PICKLES = (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".model")


@dataclass(frozen=True)
class Entry:
    """One weights file as the manifest describes it.

    Args:
        name: What `--weights` and the JSON document call it.
        model: The network, as on the command line.
        file: File name beside the manifest.
        sha256: Checksum of the file; None for a file that no manifest knows.
        bytes: Its size.
        licence: Terms of use.
        options: Options of the network.
        card: File name of the model card.
        folder: Where the manifest lies.
    """

    name: str
    model: str
    file: str
    sha256: str | None = None
    bytes: int = 0
    licence: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    card: str | None = None
    folder: Path = Path()

    @property
    def path(self) -> Path:
        """The file itself."""
        return self.folder / self.file


@dataclass(frozen=True)
class Loaded:
    """A network ready to run.

    Args:
        network: In eval mode, on the CPU, float32.
        spec: Its description, with the tone that the weights were made for.
        model: Its name on the command line.
        options: All its options, resolved.
        label: Name of the weights for reports.
        sha256: Checksum of the file; None for random weights.
        licence: Terms of the weights, where they are known.
        shipped: Whether a manifest lists them.
    """

    network: nn.Module
    spec: ModelSpec
    model: str
    options: dict[str, Any]
    label: str
    sha256: str | None = None
    licence: str | None = None
    shipped: bool = False


# --- finding ---------------------------------------------------------------------------------


def folders() -> Iterator[Path]:
    """Yield the folders that may hold weights, in the order in which they are asked."""
    chosen = os.environ.get("FUSECLI_WEIGHTS")
    if chosen:
        yield Path(chosen)
    package = Path(__file__).parent
    # an editable install or a source checkout has the folder beside the package, a wheel inside
    for folder in (package / "weights", package.parent / "weights", cache() / "weights"):
        if os.path.isdir(folder):  # noqa: PTH112 - False too where a home is out of reach
            yield folder


def cache() -> Path:
    """Return the user's cache folder of fusecli."""
    if chosen := os.environ.get("FUSECLI_CACHE"):
        return Path(chosen)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "fusecli"


def read_manifest(folder: Path) -> list[Entry]:
    """Return the entries of a folder's manifest; none where there is no manifest.

    Raises:
        MissingError: A manifest that cannot be read.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return []
    try:
        listed = json.loads(path.read_text("utf-8"))["weights"]
        found = [Entry(**entry, folder=folder) for entry in listed]
        if not all(isinstance(text, str) for e in found for text in (e.name, e.model, e.file)):
            raise TypeError("name, model and file must be text")
        return found
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise MissingError(
            f"cannot read the list of weights {path}: {error}", code="weights.manifest",
            hint="install fusecli again, or restore that file",
        ) from None  # fmt: skip


def entries() -> list[Entry]:
    """Return every known weights file; of two with one name the first found counts."""
    found: dict[str, Entry] = {}
    for folder in folders():
        for entry in read_manifest(folder):
            found.setdefault(entry.name, entry)
    return list(found.values())


def locate(model: str | None, weights: str | None = None) -> Entry:
    """Return the weights that a user means.

    Args:
        model: Name of the network; with a file it may be None.
        weights: A file, a name in a manifest, or None for the network's own.

    Raises:
        MissingError: `weights.missing`, or `weights.layout` for a file that is no safetensors.
    """
    if weights is not None and (Path(weights).is_file() or Path(weights).suffix in PICKLES):
        return _of_file(Path(weights), model)
    name = weights or model
    for entry in entries():
        if entry.name == name:
            return entry
    asked = [*folders()]
    for folder in asked:
        if name and (folder / f"{name}.safetensors").is_file():
            return _of_file(folder / f"{name}.safetensors", model)
    known = [entry.name for entry in entries()]
    near = difflib.get_close_matches(weights or "", known, n=1)
    train = f"fusecli train IR VIS -o RUN -m {model or 'duet'}, then --weights RUN/best.safetensors"
    raise MissingError(
        f"there are no weights '{name}'",
        code="weights.missing",
        facts=[f"known: {', '.join(known) or 'none'}", *(f"looked in {place}" for place in asked)],
        hint=f"did you mean --weights {near[0]}?" if near else train,
    )


def _of_file(path: Path, model: str | None) -> Entry:
    if not path.is_file():
        raise MissingError(
            f"there is no weights file {path}",
            code="weights.missing",
            hint="fusecli models list says which weights are here",
        )
    if path.suffix != ".safetensors":
        raise MissingError(
            f"{path} is not a safetensors file, and no other kind is loaded",
            code="weights.layout",
            hint=f"fusecli models convert {path} {path.with_suffix('.safetensors').name}"
            f" -m {model or 'MODEL'}",
        )
    stored = read_metadata(path)
    return Entry(
        name=path.stem if path.stem not in ("best", "last") else f"{path.parent.name}/{path.stem}",
        model=stored.get("model") or model or "",
        file=path.name,
        licence=stored.get("licence"),
        options=stored.get("options", {}),
        folder=path.parent,
    )


def read_metadata(path: Path) -> dict[str, Any]:
    """Return what fusecli wrote into a file about its network; empty for a foreign file.

    Raises:
        MissingError: Not a readable safetensors file.
    """
    return _open(path)[0]


def _describes_weights(about: Any) -> bool:
    return (
        isinstance(about, dict)
        and isinstance(about.get("model", ""), str)
        and isinstance(about.get("options", {}), dict)
    )


def _open(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("fusecli", "{}"))
            if not _describes_weights(about):
                raise ValueError("what it says about its network cannot be understood")
            return about, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise MissingError(
            f"cannot read weights {path}: {error}",
            code="weights.layout",
            hint="the file may be incomplete: copy, convert or train it again",
        ) from None


# --- loading ---------------------------------------------------------------------------------


def load(
    model: str | None,
    weights: str | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
) -> Loaded:
    """Return a network with its weights, in eval mode.

    Args:
        model: Name of the network; None takes the name from the weights.
        weights: A safetensors file, a name in a manifest, `random` (untrained) or None: the
            network's own.
        options: Options that the user set, as text or value. They replace those stored with the
            weights.
        seed: Of random weights.

    Raises:
        MissingError: No such weights, a wrong checksum, keys or shapes that do not fit, NaN.
        UsageError: Unknown network or option.
    """
    chosen = {name: str(value) for name, value in (options or {}).items()}
    if weights == "random":
        spec = find(model or "")
        resolved = parse_options(spec, chosen)
        network = untrained(spec, resolved, seed)
        return Loaded(network, spec.toned(resolved), model or "", resolved, "random")
    entry = locate(model, weights)
    if model and entry.model and entry.model != model:
        raise MissingError(
            f"{entry.path} holds weights of {entry.model}, not of {model}",
            code="weights.layout",
            hint=f"use -m {entry.model}",
        )
    digest = verify(entry)
    spec = find(model or entry.model)
    stored, tensors = _open(entry.path)
    of_file = {name: str(v) for name, v in stored.get("options", entry.options).items()}
    resolved = parse_options(spec, of_file | chosen)
    network = untrained(spec, resolved)
    fill(network, tensors, source=str(entry.path), title=spec.title)
    licence = entry.licence or stored.get("licence")
    shipped = entry.sha256 is not None
    return Loaded(
        network,
        spec.toned(resolved),
        model or entry.model,
        resolved,
        entry.name,
        digest,
        licence,
        shipped,
    )


def untrained(spec: ModelSpec, options: Mapping[str, Any], seed: int = 0) -> nn.Module:
    """Return the network with random weights, in eval mode; global seeds stay as they are."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return spec.network(options).eval()


def verify(entry: Entry) -> str:
    """Return the SHA-256 of a weights file.

    Raises:
        MissingError: `weights.missing`, or `weights.checksum` when it is not the listed one.
    """
    if not entry.path.is_file():
        raise MissingError(
            f"weights '{entry.name}' are listed in {entry.folder / MANIFEST}, but"
            f" {entry.file} is not there",
            code="weights.missing",
            hint="install fusecli again, or copy the file to that folder",
        )
    with entry.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if entry.sha256 is not None and digest != entry.sha256:
        raise MissingError(
            f"{entry.path} is not the file that the manifest describes",
            code="weights.checksum",
            facts=[f"expected SHA-256 {entry.sha256}", f"found            {digest}"],
            hint="the file is damaged or was replaced: install fusecli again, or load it by path"
            " outside that folder",
        )
    return digest


def fill(network: nn.Module, tensors: Mapping[str, Tensor], *, source: str, title: str) -> None:
    """Copy tensors into a network; every key and shape must fit, every value must be finite.

    Args:
        network: Changed in place, keeps its own dtypes.
        tensors: Under the network's own names; half precision is widened.
        source: The file, for errors.
        title: The network, for errors.

    Raises:
        MissingError: `weights.layout` or `weights.nonfinite`; the network is unchanged.
    """
    wanted = network.state_dict()
    wrong = [f"missing: {key}" for key in wanted if key not in tensors]
    wrong += [f"unknown: {key}" for key in tensors if key not in wanted]
    wrong += [
        f"{key}: {tuple(tensors[key].shape)} instead of {tuple(value.shape)}"
        for key, value in wanted.items()
        if key in tensors and tensors[key].shape != value.shape
    ]
    if wrong:
        raise MissingError(
            f"{source} does not fit {title}: {len(wrong)} of {len(wanted)} tensors differ",
            code="weights.layout",
            facts=wrong[:10],
            hint="was it trained with other options? give the same --set NAME=VALUE",
        )
    bad = [key for key, value in tensors.items() if not value.isfinite().all()]
    if bad:
        raise MissingError(
            f"{source} holds NaN or infinity in {len(bad)} of {len(wanted)} tensors",
            code="weights.nonfinite",
            facts=bad[:10],
            hint="its training diverged: use an earlier checkpoint",
        )
    network.load_state_dict(dict(tensors))


# --- saving ----------------------------------------------------------------------------------


def save(
    path: str | Path,
    network: nn.Module,
    *,
    model: str,
    options: Mapping[str, Any],
    extra: Mapping[str, Any] | None = None,
    half: bool = False,
) -> None:
    """Write a network as safetensors, atomically.

    Args:
        path: The file, ending in `.safetensors`.
        network: Any device.
        model: Its name on the command line, stored in the file.
        options: Its options, stored in the file.
        extra: Further JSON-ready metadata.
        half: Store as 16-bit floats, except tensors whose values would not fit.
    """
    tensors = {
        key: _halved(value) if half else value.detach().cpu().contiguous()
        for key, value in network.state_dict().items()
    }
    about = {"model": model, "options": dict(options), "version": __version__, **(extra or {})}
    write_atomic(str(path), encode_tensors(tensors, {"fusecli": json.dumps(about, sort_keys=True)}))


def _halved(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    if not tensor.is_floating_point():
        return tensor
    half = tensor.half()
    return half if half.isfinite().all() else tensor
