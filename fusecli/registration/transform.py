"""The file format `fusecli/transform/1`: how one image lies on another, in JSON and NPZ."""

from __future__ import annotations

import dataclasses
import io
import json
import struct
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fusecli.errors import InputError
from fusecli.fields import Matrix, check_matrix, folds, grid_scaling, matrix_field
from fusecli.text import as_json

SCHEMA = "fusecli/transform/1"
COORDINATES = "pixel centres, origin top-left, x right, y down"

Field = NDArray[np.float32]


@dataclass(frozen=True)
class Transform:
    """Where each pixel of a fixed image lies in a moving one.

    Args:
        key: Of the pair.
        kind: `translation` to `homography`, or `dense`; a warp's truth may have other names.
        matrix: 3x3, fixed to moving, or None where only the field says it.
        fixed_size: Height and width of the fixed image.
        moving_size: Height and width of the moving image.
        field: (H, W, 2) float32 on the fixed grid, (dx, dy), the whole displacement; None where
            the matrix says all.
        inverse: (H', W', 2) on the moving grid, from moving to fixed, where it is known exactly.
        accepted: False for a pair that was refused and passed on as it is.
        method: What found it.
        score: `name`, `before`, `after` and `confidence` of the independent measure.
        parameters: Further JSON values, of a warp's truth for one.
    """

    key: str
    kind: str
    matrix: Matrix | None
    fixed_size: tuple[int, int]
    moving_size: tuple[int, int]
    field: Field | None = None
    inverse: Field | None = None
    accepted: bool = True
    method: str = ""
    score: dict[str, Any] | None = None
    parameters: dict[str, Any] = dataclasses.field(default_factory=dict)

    def displacement(self) -> Tensor:
        """Return the field on the fixed grid, (1, 2, H, W) float32."""
        if self.field is not None:
            return torch.from_numpy(self.field).permute(2, 0, 1)[None].contiguous()
        assert self.matrix is not None
        return matrix_field(self.matrix, self.fixed_size)

    def mean_displacement(self) -> float:
        """Return how far pixels move on average, beyond what the sizes of the grids explain.

        In pixels of the moving image.
        """
        laid = matrix_field(grid_scaling(self.fixed_size, self.moving_size), self.fixed_size)
        return float((self.displacement() - laid).norm(dim=1).mean())

    def document(self, field_name: str | None) -> dict[str, Any]:
        """Return the JSON document; `field_name` is the file beside it that holds the field."""
        document: dict[str, Any] = {
            "schema": SCHEMA,
            "key": self.key,
            "type": self.kind,
            "maps": "fixed_to_moving",
            "coordinates": COORDINATES,
            "matrix": None if self.matrix is None else self.matrix.tolist(),
            "fixed_size": list(self.fixed_size),
            "moving_size": list(self.moving_size),
            "field": field_name,
            "score": self.score,
            "accepted": self.accepted,
            "method": self.method,
        }
        return document | ({"parameters": self.parameters} if self.parameters else {})

    def files(self, path: Path, save_field: str = "none") -> list[tuple[str, bytes]]:
        """Return the files that hold this transform, the JSON document last.

        Args:
            path: Of the JSON file.
            save_field: `none`, `npz`, `flo` or `tiff`; a dense transform always has its `.npz`.
        """
        files: list[tuple[str, bytes]] = []
        named = None
        if self.field is not None or save_field == "npz":
            named = path.with_name(path.stem + ".npz")
            files.append((str(named), self._npz()))
        if save_field == "flo":
            files.append((str(path.with_name(path.stem + ".flo")), flo(self._grid())))
        if save_field == "tiff":
            files.append((str(path.with_name(path.stem + ".tif")), tiff(self._grid())))
        name = named.name if named is not None and self.field is not None else None
        text = as_json(self.document(name), allow_nan=False) + "\n"
        return [*files, (str(path), text.encode())]

    def _grid(self) -> Field:
        if self.field is not None:
            return self.field
        return np.ascontiguousarray(self.displacement()[0].permute(1, 2, 0).numpy())

    def _npz(self) -> bytes:
        arrays = {"field": self._grid()}
        if self.inverse is not None:
            arrays["inverse"] = self.inverse
        target = io.BytesIO()
        np.savez_compressed(target, allow_pickle=False, **arrays)
        return target.getvalue()


def flo(grid: Field) -> bytes:
    """Return a field as a Middlebury flow file."""
    height, width = grid.shape[:2]
    return b"PIEH" + struct.pack("<ii", width, height) + grid.astype("<f4").tobytes()


def tiff(grid: Field) -> bytes:
    """Return a field as a float32 TIFF of two samples a pixel."""
    import tifffile

    target = io.BytesIO()
    tifffile.imwrite(
        target, grid, photometric="minisblack", planarconfig="contig", compression="zlib",
        metadata=None, software=False,
    )  # fmt: skip
    return target.getvalue()


def load(path: Path) -> Transform:
    """Return the transform of a JSON file.

    Raises:
        InputError: `register.missing`, `register.schema` (not such a file, or a field that does
            not fit), `register.matrix` (singular, or with a horizon) or `register.folds`.
    """
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(
            f"there is no transform {path}: {error.strerror}", code="register.missing"
        ) from None
    except (ValueError, RecursionError) as error:
        raise _misfit(path, f"it is not JSON: {error}") from None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        found = document.get("schema") if isinstance(document, dict) else type(document).__name__
        raise _misfit(path, f"its schema is {found!r}, not '{SCHEMA}'")
    if document.get("maps", "fixed_to_moving") != "fixed_to_moving":
        raise _misfit(path, f"it maps {document['maps']!r}, not 'fixed_to_moving'")
    fixed, moving = (_size(path, document, name) for name in ("fixed_size", "moving_size"))
    grid = inverse = None
    if document.get("field") is not None:
        grid, inverse = _fields(path, document["field"], fixed, moving)
    matrix = document.get("matrix")
    if matrix is None and grid is None:
        raise _misfit(path, "it has neither a matrix nor a field")
    return Transform(
        key=str(document.get("key", path.stem)),
        kind=str(document.get("type", "")),
        matrix=None if matrix is None else _matrix(path, matrix, fixed),
        fixed_size=fixed,
        moving_size=moving,
        field=grid,
        inverse=inverse,
        accepted=bool(document.get("accepted", True)),
        method=str(document.get("method", "")),
        score=document.get("score"),
        parameters=document.get("parameters") or {},
    )


def load_start(path: Path) -> Transform | Matrix:
    """Return a transform file, or the bare matrix, fixed to moving, of a JSON or text file.

    Raises:
        InputError: As `load`.
    """
    try:
        text = path.read_text()
        rows = json.loads(text) if text.lstrip().startswith("[") else None
        if rows is None and not text.lstrip().startswith("{"):
            rows = [line.replace(",", " ").split() for line in text.splitlines() if line.strip()]
    except (OSError, ValueError, RecursionError):
        rows = None  # load says what is wrong
    if rows is None:
        return load(path)
    if isinstance(rows, list) and len(rows) == 2:
        rows = [*rows, [0, 0, 1]]
    return _matrix(path, rows, (2, 2))


def check_sizes(transform: Transform, fixed: Sequence[int], moving: Sequence[int]) -> None:
    """Refuse a transform that was made for images of another size.

    Raises:
        InputError: `register.size`.
    """
    for name, made, here in (
        ("fixed", transform.fixed_size, fixed), ("moving", transform.moving_size, moving),
    ):  # fmt: skip
        if tuple(made) != tuple(here):
            raise InputError(
                f"the transform of '{transform.key}' was made for a {name} image of "
                f"{made[1]}x{made[0]} pixels, this one has {here[1]}x{here[0]}",
                code="register.size",
                hint="register these images themselves, or resize them first",
            )


def _size(path: Path, document: dict[str, Any], name: str) -> tuple[int, int]:
    size = document.get(name)
    good = isinstance(size, list) and len(size) == 2
    if not good or not all(isinstance(side, int) and side > 0 for side in size or ()):
        raise _misfit(path, f"{name} is {size!r}, not [height, width]")
    height, width = size or (0, 0)
    return height, width


def _matrix(path: Path, rows: Any, size: tuple[int, int]) -> Matrix:
    try:
        matrix = np.array(rows, np.float64)
    except (TypeError, ValueError):
        raise _misfit(path, "its matrix is not made of numbers") from None
    try:
        return check_matrix(matrix, size)
    except InputError as error:
        error.facts = (str(path),)
        raise


def _fields(
    path: Path, name: Any, fixed: tuple[int, int], moving: tuple[int, int]
) -> tuple[Field, Field | None]:
    if not isinstance(name, str) or Path(name).name != name:
        raise _misfit(path, f"its field {name!r} is not the name of a file beside it")
    try:
        with np.load(path.with_name(name), allow_pickle=False) as arrays:
            _check_inflated(arrays.zip, (fixed, moving))
            grid = np.asarray(arrays["field"], np.float32)
            inverse = np.asarray(arrays["inverse"], np.float32) if "inverse" in arrays else None
    except OSError as error:
        raise _misfit(path, f"its field {name} cannot be read: {error.strerror}") from None
    except Exception as error:  # headers of arrays are Python source: anything can be wrong
        raise _misfit(path, f"its field {name} is no field: {error}") from None
    for array, size in ((grid, fixed), (inverse, moving)):
        if array is None:
            continue
        if array.shape != (*size, 2) or not np.isfinite(array).all():
            raise _misfit(path, f"its field {name} is not (H, W, 2) of finite numbers for {size}")
        folded = float(folds(torch.from_numpy(array).permute(2, 0, 1)[None])[0])
        if folded > 0.01:
            raise InputError(
                f"the field of {path} folds in {folded:.1%} of its pixels",
                code="register.folds",
                hint="a field that shows one place twice is no registration",
            )
    return grid, inverse


def _check_inflated(archive: zipfile.ZipFile, sizes: Sequence[tuple[int, int]]) -> None:
    """Refuse arrays that inflate to more than a field of these sizes takes as float64."""
    most = max(height * width for height, width in sizes) * 2 * 8 + 4096
    if any(entry.file_size > most for entry in archive.infolist()):
        raise ValueError("it is larger than the images")


def _misfit(path: Path, why: str) -> InputError:
    return InputError(
        f"{path} is not a transform: {why}",
        code="register.schema",
        hint="fusecli register and fusecli warp write such files",
    )
