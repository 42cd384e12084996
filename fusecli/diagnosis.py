"""What `fusecli doctor` looks at: packages, devices, codecs, weights, and one small fuse.

Each examination is a generator of findings and imports what it needs itself, so that a broken
package spoils its own lines and no others.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fusecli import packages
from fusecli.errors import FusecliError, MissingError
from fusecli.version import __version__

State = Literal["ok", "note", "warning", "missing", "broken"]
PYTHONS = ((3, 11), (3, 13))
PROBE_MODEL = "duet"
VARIABLES = (
    "FUSECLI_CONFIG", "FUSECLI_WEIGHTS", "FUSECLI_CACHE", "FUSECLI_DEVICE", "FUSECLI_JOBS",
    "FUSECLI_BACKEND", "FUSECLI_PROGRESS", "FUSECLI_MAX_PIXELS", "FUSECLI_OPS",
    "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS",
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Args:
        area: Which examination it belongs to.
        name: What was looked at.
        state: `ok`; `note` and `warning` change no exit code; `missing` is exit 5, `broken` 6.
        value: What was found.
        hint: What to do, where there is something to do.
        details: JSON-ready values.
    """

    area: str
    name: str
    state: State
    value: str
    hint: str | None = None
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Diagnosis:
    """All findings; also the `fusecli/doctor/1` document."""

    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        """5 when something needed is missing, else 6 when something is broken, else 0."""
        states = {finding.state for finding in self.findings}
        return 5 if "missing" in states else 6 if "broken" in states else 0

    def as_dict(self) -> dict[str, Any]:
        """Return the document that `--json` prints."""
        return {
            "schema": "fusecli/doctor/1",
            "version": __version__,
            "ok": self.exit_code == 0,
            "exit_code": self.exit_code,
            "findings": [vars(finding) for finding in self.findings],
        }


def diagnose() -> Diagnosis:
    """Examine everything; whatever goes wrong on the way is a finding, too."""
    return Diagnosis(tuple(finding for examine in EXAMINATIONS for finding in _safely(examine)))


def _safely(examine: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    area = examine.__name__
    try:
        yield from examine()
    except ImportError as error:
        reason = packages.explain(error)
        hint = reason.hint if reason else None
        yield Finding(
            area, "not examined", "missing", reason.message if reason else str(error), hint
        )
    except FusecliError as error:
        yield _of_error(area, "not examined", error)
    except Exception as error:  # a doctor who falls ill helps nobody
        yield Finding(area, "not examined", "broken", f"{type(error).__name__}: {error}")


def _of_error(area: str, name: str, error: FusecliError) -> Finding:
    lacks = isinstance(error, MissingError) and error.code != "weights.checksum"
    state: State = "missing" if lacks else "broken"
    return Finding(area, name, state, error.message, error.hint, {"code": error.code})


# --- the machine -------------------------------------------------------------------------------


def system() -> Iterator[Finding]:
    """Python, the operating system, and variables that change what fusecli does."""
    number = platform.python_version()
    fits = PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]
    span = " to ".join(".".join(map(str, pair)) for pair in PYTHONS)
    yield Finding(
        "system", "python", "ok" if fits else "warning", f"{number} ({sys.executable})",
        None if fits else f"fusecli is tried on Python {span}",
        {"version": number},
    )  # fmt: skip
    name = f"{platform.system()} {platform.release()}, {platform.machine()}"
    yield Finding("system", "platform", "ok", name)
    for variable in VARIABLES:
        if (value := os.environ.get(variable)) is not None:
            yield Finding("system", variable, "note", value)


def dependencies() -> Iterator[Finding]:
    """The packages that fusecli cannot do without: installed, and importable."""
    for distribution, module in packages.RUNTIME.items():
        number = packages.version(distribution)
        if module == "cv2":
            continue  # comes in several wheels: see opencv()
        try:
            importlib.import_module(module)
        except ImportError as error:
            yield Finding(
                "dependencies", distribution, "missing", str(error),
                f"pip install --force-reinstall {distribution}",
            )  # fmt: skip
        else:
            yield Finding("dependencies", distribution, "ok", number or "unknown version")


def opencv() -> Iterator[Finding]:
    """One wheel, and one that loads."""
    wheels = packages.opencv_wheels()
    listed = ", ".join(f"{name} {number}" for name, number in wheels.items())
    if len(wheels) > 1:
        yield Finding(
            "opencv", "wheels", "warning", f"{listed}: each overwrites the others' files",
            f"pip uninstall -y {' '.join(wheels)} && pip install opencv-python",
            {"wheels": wheels},
        )  # fmt: skip
    elif wheels:
        yield Finding("opencv", "wheel", "ok", listed, details={"wheels": wheels})
    try:
        cv2 = importlib.import_module("cv2")
    except ImportError as error:
        reason = packages.explain(error)
        hint = reason.hint if reason and wheels else "pip install opencv-python"
        yield Finding("opencv", "import", "missing", reason.message if reason else str(error), hint)
        return
    yield Finding("opencv", "import", "ok", cv2.__version__)


def devices() -> Iterator[Finding]:
    """What networks can run on, and in which precision the hardware computes."""
    import torch

    from fusecli.runtime import Runtime, usable_cores

    capability = torch.backends.cpu.get_cpu_capability()
    half = _bf16_instructions()
    known = f"bfloat16 by {', '.join(half)}" if half else "no bfloat16 instructions"
    yield Finding(
        "devices", "cpu", "ok",
        f"{usable_cores()} usable cores, {torch.get_num_threads()} torch threads, "
        f"{capability}, {known}",
        details={"cores": usable_cores(), "capability": capability, "bf16": half},
    )  # fmt: skip
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        card = torch.cuda.get_device_properties(index)
        yield Finding(
            "devices", f"cuda:{index}", "ok",
            f"{card.name}, {card.total_memory / 2**30:.1f} GiB, compute {card.major}.{card.minor}",
            details={"memory": card.total_memory, "bf16": torch.cuda.is_bf16_supported()},
        )  # fmt: skip
    if torch.backends.mps.is_available():
        yield Finding("devices", "mps", "ok", "Apple GPU")
    if Path("/proc/driver/nvidia").exists() and not torch.cuda.is_available():
        build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
        yield Finding(
            "devices", "cuda", "warning",
            f"there is an NVIDIA driver, but torch {torch.__version__} ({build}) cannot use it",
            "pip install --force-reinstall torch, choosing a CUDA build that fits the driver",
        )  # fmt: skip
    wanted = os.environ.get("FUSECLI_DEVICE", "auto")
    try:
        chosen = Runtime.resolve(wanted).as_dict()["device"]
        yield Finding("devices", f"--device {wanted}", "ok", chosen)
    except FusecliError as error:
        yield _of_error("devices", f"--device {wanted}", error)


def _bf16_instructions() -> list[str]:
    """Return the CPU's bfloat16 instruction sets as Linux lists them; empty elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return []
    words = {word for line in text.splitlines()[:60] for word in line.split()}
    return sorted(words & {"avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16", "svebf16"})


# --- files -------------------------------------------------------------------------------------


def codecs() -> Iterator[Finding]:
    """Every format and type, written and read back; formats that are only read, read."""
    import cv2
    import numpy as np

    from fusecli import images

    ramp = np.linspace(0.1, 0.9, 16 * 24, dtype=np.float32).reshape(16, 24)
    colours = np.dstack([ramp, np.full_like(ramp, 0.5), ramp[::-1]])

    def survives(format: str, dtype: str, unit: np.ndarray) -> bool:
        pixels = images.from_unit(unit, np.dtype(dtype))
        back = images.decode(images.encode(pixels, format=format), f"probe.{format}").pixels
        if (
            format == "webp" and back.ndim > pixels.ndim
        ):  # has no grey: three channels, nearly equal
            pixels = np.dstack([pixels] * 3)
        if back.shape != pixels.shape or back.dtype != pixels.dtype:
            return False
        change = float(np.abs(back.astype(np.float64) - pixels).mean())
        return change < 4 if format in ("jpeg", "webp") else change == 0

    for format, dtypes in images.HOLDS.items():
        lost = [
            t for t in dtypes if not (survives(format, t, ramp) and survives(format, t, colours))
        ]
        if lost:
            remedy = "pip install --force-reinstall opencv-python tifffile"
            text = f"{', '.join(lost)} comes back changed"
            yield Finding("codecs", format, "broken", text, remedy)
        else:
            yield Finding("codecs", format, "ok", f"writes and reads {', '.join(dtypes)}")
    grey = images.from_unit(ramp, np.dtype("uint8"))
    read_only = {
        "bmp": (cv2.imencode(".bmp", grey)[1].tobytes(), grey),
        "pgm": (b"P5 24 16 255\n" + grey.tobytes(), grey),
        "pfm": (b"Pf\n24 16\n-1.0\n" + ramp[::-1].astype("<f4").tobytes(), ramp),
    }
    for format, (data, expected) in read_only.items():
        same = np.array_equal(images.decode(data, f"probe.{format}").pixels, expected)
        text = "reads" if same else "is read with changed values"
        yield Finding("codecs", format, "ok" if same else "broken", text)


def weights() -> Iterator[Finding]:
    """The folders that are asked for weights, and the checksum of every file listed there."""
    from fusecli import checkpoint

    for folder in checkpoint.folders():
        there = folder.is_dir()
        yield Finding(
            "weights", "folder", "ok" if there else "warning",
            f"{folder}" if there else f"{folder} is not a folder",
            None if there else "correct FUSECLI_WEIGHTS or unset it",
        )  # fmt: skip
    entries = checkpoint.entries()
    for entry in entries:
        try:
            checkpoint.verify(entry)
            terms = (entry.licence or "no licence").partition(" (")[0]  # why is on the card
            yield Finding("weights", entry.name, "ok", f"{entry.bytes / 1000:,.0f} kB, {terms}")
        except MissingError as error:
            yield _of_error("weights", entry.name, error)
    if PROBE_MODEL not in {entry.name for entry in entries}:
        try:
            checkpoint.locate(PROBE_MODEL)
        except MissingError as error:
            yield _of_error("weights", PROBE_MODEL, error)


def cache() -> Iterator[Finding]:
    """The user's cache folder: may it be written?"""
    from fusecli import checkpoint

    folder = checkpoint.cache()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    writable = existing.is_dir() and os.access(existing, os.W_OK)
    yield Finding(
        "cache", "folder", "ok" if writable else "warning",
        f"{folder}{'' if folder.exists() else ' (made when needed)'}"
        if writable else f"{folder} may not be written",
        None if writable else "set FUSECLI_CACHE to a folder of yours",
    )  # fmt: skip


def extras() -> Iterator[Finding]:
    """Optional packages and the command that installs them."""
    for extra, wanted in packages.EXTRAS.items():
        found = {name: packages.version(name) for name in wanted}
        absent = [name for name, number in found.items() if number is None]
        if absent:
            text, hint = f"not installed: {', '.join(absent)}", packages.install_extra(extra)
            yield Finding("extras", extra, "note", text, hint)
        else:
            listed = ", ".join(f"{name} {number}" for name, number in found.items())
            yield Finding("extras", extra, "ok", listed)


# --- the whole thing ---------------------------------------------------------------------------


def fuse() -> Iterator[Finding]:
    """One small pair through `fusecli fuse` in a process of its own, whose crash is a finding."""
    import numpy as np

    from fusecli import checkpoint, images

    try:
        checkpoint.verify(checkpoint.locate(PROBE_MODEL))
        chosen, which = [], ""
    except MissingError:  # weights() says so; the rest can still be tried
        chosen, which = ["--weights", "random"], ", with random weights"
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(prefix="fusecli-doctor-") as folder:
        ir, vis, out = (str(Path(folder, f"{side}.png")) for side in ("ir", "vis", "out"))
        for path, shape in ((ir, (47, 61)), (vis, (47, 61, 3))):
            noise = images.from_unit(random.random(shape, np.float32), np.dtype("uint8"))
            images.write_atomic(path, images.encode(noise, format="png"))
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "fusecli", "fuse", ir, vis, "-o", out, "--json", *chosen],
            cwd=folder, env=os.environ | {"PYTHONPATH": _search_path()},
            capture_output=True, text=True,
        )  # fmt: skip
        seconds = time.perf_counter() - start
        if done.returncode == 0:
            shape = images.read(out).pixels.shape
            good = shape == (47, 61, 3)
            text = f"61x47 pixels in {seconds:.1f} s" if good else f"the result has shape {shape}"
            yield Finding("fuse", PROBE_MODEL, "ok" if good else "broken", text + which)
        else:
            text = f"exit code {done.returncode}: {_reason(done)}"
            yield Finding("fuse", PROBE_MODEL, "broken", text)


def _search_path() -> str:
    """Return PYTHONPATH with the folder of this package, which need not be installed."""
    return os.pathsep.join(
        filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")])
    )


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    try:
        document = json.loads(done.stdout)
    except ValueError:
        return (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
    failure = document.get("error") or document["failures"][0]
    return str(failure["message"])


EXAMINATIONS = (
    system, dependencies, opencv, devices, codecs, weights, cache, extras, fuse,
)  # fmt: skip
