"""Arrays to the bytes of an image file: PNG, TIFF, JPEG, WebP and NPY."""

import io

import cv2
import numpy as np

from fusecli.errors import InputError, UsageError
from fusecli.images import tiff
from fusecli.images.metadata import Metadata, embed

HOLDS = {
    "png": ("uint8", "uint16"),
    "tiff": ("uint8", "uint16", "float32"),
    "jpeg": ("uint8",),
    "webp": ("uint8",),
    "npy": ("uint8", "uint16", "float32"),
}

# Measured on eight 640x480 colour photographs (MSRS), one core, milliseconds and kilobytes:
# OpenCV's default (level 1, RLE, sub) 9.4 / 426; level 1 8.4 / 424 with RLE and up, 11.6 / 356
# with RLE and paeth, 11.1 / 429 with the plain strategy and sub; level 2 12.6 / 420, level 3
# 20 / 406, level 4 19 / 404, level 6 57 / 385. Grey 2.9 / 124, 16-bit colour 19 / 1441.
PNG_PARAMETERS = (
    cv2.IMWRITE_PNG_COMPRESSION, 1,
    cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE,
    cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP,
)  # fmt: skip


def check_format(format: str, dtype: np.dtype | type | str, alpha: bool = False) -> None:
    """Refuse a pixel type, or an opacity, that a file format cannot hold.

    Raises:
        UsageError: `out.format`.
    """
    kind = np.dtype(dtype).name
    if format not in HOLDS:
        raise UsageError(
            f"'{format}' is not a format that fusecli writes",
            code="out.format",
            hint=f"choose --format {', '.join(HOLDS)}",
        )
    if kind not in HOLDS[format]:
        able = [name for name, kinds in HOLDS.items() if kind in kinds]
        raise UsageError(
            f"a {format.upper()} file cannot hold {kind}",
            code="out.format",
            hint=f"choose --format {' or '.join(able)}, or --out-dtype {HOLDS[format][0]}"
            if able
            else f"choose --out-dtype {' or '.join(HOLDS[format])}",
        )
    if alpha and format == "jpeg":
        raise UsageError(
            "a JPEG file cannot hold an alpha channel",
            code="out.format",
            hint="choose --format png, or --alpha drop",
        )


def encode(
    pixels: np.ndarray,
    *,
    format: str,
    alpha: np.ndarray | None = None,
    metadata: Metadata | None = None,
    quality: int = 95,
    invalid: np.ndarray | None = None,
) -> bytes:
    """Return an image file as bytes.

    Pixels without a measurement stay so where the format has a way to say it: NaN in float, the
    no-data tag in other TIFF files, full transparency in PNG and WebP. JPEG has none.

    Args:
        pixels: (H, W) or (H, W, 3) RGB; uint8, uint16 or float32 as the format allows.
        format: `png`, `tiff`, `jpeg`, `webp` or `npy`.
        alpha: Opacity, (H, W) of the same type. PNG stores grey with alpha as colour.
        metadata: Put into the file as far as the format has a place for it; None for none.
        quality: 1 to 100, of JPEG and WebP.
        invalid: (H, W) bool, pixels without a measurement, or None.

    Raises:
        UsageError: `out.format`.
        InputError: `write.encode`: the encoder refuses, for example a WebP above 16383 pixels.
    """
    check_format(format, pixels.dtype, alpha is not None)
    nodata = None
    if invalid is not None and invalid.any():
        pixels, alpha, nodata = _marked(pixels, alpha, invalid, format)
    if format == "tiff":
        return tiff.write(pixels, alpha, metadata or Metadata(), nodata)
    if format == "npy":
        target = io.BytesIO()
        whole = pixels if alpha is None else np.dstack((pixels, alpha))
        np.save(target, whole, allow_pickle=False)
        return target.getvalue()
    parameters: tuple[int, ...] = PNG_PARAMETERS
    if format == "jpeg":
        parameters = (cv2.IMWRITE_JPEG_QUALITY, quality)
    elif format == "webp":
        parameters = (cv2.IMWRITE_WEBP_QUALITY, quality)
    try:
        done, data = cv2.imencode(f".{format}", _bgr(pixels, alpha), parameters)
    except cv2.error:
        done = False
    if not done:
        size = f"{pixels.shape[1]}x{pixels.shape[0]}"
        raise InputError(
            f"cannot write {size} pixels as {format.upper()}",
            code="write.encode",
            hint="choose --format png or tiff",
        )
    encoded = data.tobytes()
    if metadata is None:
        return encoded
    return embed(encoded, format, metadata, 1 if pixels.ndim == 2 and format != "webp" else 3)


def _marked(
    pixels: np.ndarray, alpha: np.ndarray | None, invalid: np.ndarray, format: str
) -> tuple[np.ndarray, np.ndarray | None, str | None]:
    """Return pixels, opacity and no-data tag that say where there is no measurement."""
    if pixels.dtype.kind == "f" or (alpha is None and format == "tiff"):
        return mark(pixels.copy(), invalid), alpha, nodata_of(pixels.dtype)
    if format in ("png", "webp", "tiff"):
        full = np.full(invalid.shape, np.iinfo(pixels.dtype).max, pixels.dtype)
        alpha = np.where(invalid, 0, full if alpha is None else alpha).astype(pixels.dtype)
    return pixels, alpha, None


def nodata_of(dtype: np.dtype) -> str:
    """Return what pixels without a measurement hold, as the no-data tag of TIFF has it."""
    return "nan" if dtype.kind == "f" else "0"


def mark(pixels: np.ndarray, invalid: np.ndarray) -> np.ndarray:
    """Put the no-data value into pixels without a measurement; those pixels are returned.

    A measurement of 0 becomes 1 in integers, or it would count as none.
    """
    if pixels.dtype.kind == "u":
        np.maximum(pixels, 1, out=pixels)
    pixels[invalid] = float(nodata_of(pixels.dtype))
    return pixels


def _bgr(pixels: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
    if alpha is None:
        return pixels if pixels.ndim == 2 else np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    code = cv2.COLOR_GRAY2BGRA if pixels.ndim == 2 else cv2.COLOR_RGB2BGRA
    whole = np.asarray(cv2.cvtColor(pixels, code))
    whole[..., 3] = alpha
    return whole
