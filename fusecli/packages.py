"""Packages that fusecli needs or can use, and what to say when one of them is not there.

Importable everywhere and imports nothing heavy itself.
"""

from __future__ import annotations

import re
from importlib import metadata

from fusecli.errors import MissingError

# distribution -> module; a test compares both tables with pyproject.toml
RUNTIME = {
    "typer": "typer",
    "rich": "rich",
    "torch": "torch",
    "numpy": "numpy",
    "opencv-python": "cv2",
    "tifffile": "tifffile",
    "joblib": "joblib",
    "safetensors": "safetensors",
}
EXTRAS = {
    "onnx": {"onnx": "onnx", "onnxscript": "onnxscript", "onnxruntime": "onnxruntime"},
    "openvino": {"openvino": "openvino"},
    "report": {"matplotlib": "matplotlib"},
    "codecs": {"imagecodecs": "imagecodecs"},
    "dask": {"distributed": "distributed"},
    "ray": {"ray": "ray"},
    "tensorboard": {"tensorboard": "tensorboard"},
    "thermal": {"flyr": "flyr"},
}
# each of these installs its own copy of the module cv2, over that of the others
OPENCV_WHEELS = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
HEADLESS = "pip uninstall -y {} && pip install opencv-python-headless"


def version(distribution: str) -> str | None:
    """Return the installed version of a distribution, or None."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def opencv_wheels() -> dict[str, str]:
    """Return the installed OpenCV distributions with their versions; there should be one."""
    found = {name: version(name) for name in OPENCV_WHEELS}
    return {name: number for name, number in found.items() if number is not None}


def install_extra(extra: str) -> str:
    """Return the command that installs an extra."""
    return f"pip install 'fusecli[{extra}]'"


def explain(error: ImportError) -> MissingError | None:
    """Return what is missing behind a failed import; None when that is a bug of ours."""
    library = re.search(r"\b(lib[\w+-]+\.so[.\d]*|lib[\w+-]+\.dylib|[\w+-]+\.dll)\b", str(error))
    module = (error.name or "").split(".")[0]
    if library and ("libGL" in library[1] or module == "cv2"):
        wheels = " ".join(opencv_wheels()) or "opencv-python"
        return MissingError(
            f"OpenCV cannot be loaded: {library[1]} is not on this system",
            code="extra.missing",
            hint=f"apt-get install libgl1 libglib2.0-0  # or: {HEADLESS.format(wheels)}",
            details={"library": library[1]},
        )
    for distribution, provides in RUNTIME.items():
        if module == provides:
            return MissingError(
                f"the package {distribution} cannot be imported: {error}",
                code="extra.missing",
                hint=f"pip install --force-reinstall {distribution}",
                details={"package": distribution},
            )
    for extra, packages in EXTRAS.items():
        if module in packages.values():
            return MissingError(
                f"this needs the package {module}, which is not installed",
                code="extra.missing",
                hint=install_extra(extra),
                details={"package": module, "extra": extra},
            )
    return None
