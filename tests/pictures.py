"""Small pictures in every type and container, for the tests of reading and writing."""

import io
import struct

import cv2
import numpy as np
import pytest
import tifffile

from fusecli import images
from fusecli.errors import InputError
from fusecli.images import Picture


def scene(dtype: str = "uint8", channels: int = 0, size: tuple[int, int] = (37, 45)) -> np.ndarray:
    """Return a smooth picture that uses the whole range of its type, with no two axes alike."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float64)
    planes = [0.5 + 0.5 * np.sin(x / 7 + i) * np.cos(y / (5 + i)) for i in range(max(channels, 1))]
    unit = np.stack(planes, axis=-1) if channels else planes[0]
    return images.from_unit(unit, dtype) if dtype != "float32" else unit.astype(np.float32)


def cv_bytes(suffix: str, pixels: np.ndarray, *parameters: int) -> bytes:
    if pixels.ndim == 3:
        pixels = np.ascontiguousarray(pixels[..., [2, 1, 0, 3][: pixels.shape[2]]])
    done, data = cv2.imencode(suffix, pixels, parameters)
    assert done
    return data.tobytes()


def tiff_bytes(pixels: np.ndarray, **options) -> bytes:
    target = io.BytesIO()
    tifffile.imwrite(target, pixels, metadata=None, **options)
    return target.getvalue()


def npy_bytes(values: np.ndarray) -> bytes:
    target = io.BytesIO()
    np.save(target, values)
    return target.getvalue()


def decode(data: bytes, **options) -> Picture:
    return images.decode(data, "picture", **options)


def refused(data: bytes, **options) -> InputError:
    with pytest.raises(InputError) as caught:
        decode(data, **options)
    return caught.value


def assert_same(actual: np.ndarray, expected: np.ndarray) -> None:
    assert actual.dtype == expected.dtype
    np.testing.assert_array_equal(actual, expected)


def set_tag(data: bytes, code: int, value: int) -> bytes:
    """Return a TIFF file with another value in a tag of one short."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        tag, order = file.pages.first.tags[code], file.byteorder
    changed = bytearray(data)
    struct.pack_into(order + "H", changed, tag.valueoffset, value)
    return bytes(changed)


def oriented(stored: np.ndarray, orientation: int) -> np.ndarray:
    """Return the picture by the table of the EXIF standard: where row 0 and column 0 belong."""
    row0, column0 = {
        1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left"),
        5: ("left", "top"), 6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom"),
    }[orientation]  # fmt: skip
    shown = stored
    if row0 in ("left", "right"):  # stored rows are shown as columns
        shown = np.stack(list(stored), axis=1)
        row0, column0 = column0, row0
    if row0 == "bottom":
        shown = shown[::-1]
    if column0 == "right":
        shown = shown[:, ::-1]
    return np.ascontiguousarray(shown)
