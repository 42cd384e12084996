from types import SimpleNamespace
import os
from pathlib import Path
import cv2
import numpy as np
from fusecli.errors import InputError


def read(path):
    try:
        data = Path(path).read_bytes()
        px = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    except OSError:
        px = None
    if px is None:
        raise InputError(f"cannot decode {path}", code="read.decode")
    if px.ndim == 3:
        px = px[:, :, 2::-1]
    return SimpleNamespace(pixels=px)


def luma(p):
    return (
        p.astype(np.float32)
        if p.ndim == 2
        else (p.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32))
    )


def limits(p, rule):
    return (0.0, 255.0) if p.dtype == np.uint8 else (float(p.min()), float(p.max()))


def to_unit(p, lim):
    return ((p - lim[0]) / (lim[1] - lim[0])).clip(0, 1).astype(np.float32)


def from_unit(u, dtype):
    m = np.iinfo(dtype).max
    return np.rint(u.clip(0, 1) * m).astype(dtype)


def encode(pixels, *, format, alpha=None, metadata=None, quality=95):
    return cv2.imencode(".png", pixels)[1].tobytes()


def write_atomic(path, data):
    tmp = str(path) + ".part"
    Path(tmp).write_bytes(data)
    os.replace(tmp, path)
