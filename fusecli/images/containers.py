"""What the bytes of an image file say before anything is decoded.

`inspect` recognises a file by its content, walks its container and returns the size, the metadata
blocks and whether the file is whole. That comes first because decoders allocate what a header
asks for, and because some of them fill the missing half of a truncated file with grey.
"""

import re
import struct
import zlib
from dataclasses import dataclass

import numpy as np

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_EXIF = b"Exif\0\0"
JPEG_XMP = b"http://ns.adobe.com/xap/1.0/\0"
JPEG_ICC = b"ICC_PROFILE\0"
PNG_XMP = b"XML:com.adobe.xmp\0"

MAX_BLOCK = 16 << 20  # bytes of one inflated metadata block; real ones stay far below
DEFLATE_RATIO = 1032  # no deflate stream expands further
JPEG_PIXELS_PER_BYTE = 512  # a Huffman code has at least one bit, a block 64 pixels

# Frame headers: 0xC0 to 0xCF without the tables DHT, JPG and DAC.
JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
JPEG_HUFFMAN = frozenset((0xC0, 0xC1, 0xC2))


@dataclass(frozen=True, slots=True)
class Container:
    """Size and metadata blocks of one file, before decoding.

    Args:
        format: `png`, `jpeg`, `webp`, `bmp`, `pnm`, `pfm`, `npy` or `tiff`.
        width: In pixels, as stored; 0 where only the reader itself can tell (TIFF, NPY).
        height: In pixels, as stored; 0 likewise.
        exif: TIFF-structured block without the `Exif` prefix.
        xmp: XML text as bytes.
        icc: Colour profile.
        maxval: White of a PNM file, otherwise 0.
        start: Where the pixels of a PNM or PFM file begin, otherwise 0.
        bits: Of one sample, at least 8; a decoder that gives another type has changed the pixels.
        channels: Numbers of channels that a decoder may give, opacity counted.
    """

    format: str
    width: int = 0
    height: int = 0
    exif: bytes | None = None
    xmp: bytes | None = None
    icc: bytes | None = None
    maxval: int = 0
    start: int = 0
    bits: int = 8
    channels: tuple[int, ...] = (1, 3, 4)

    def check(self, pixels: np.ndarray) -> None:
        """Refuse decoded pixels that are not what the file declares.

        Raises:
            ValueError: They have another type or number of channels.
        """
        declared = {8: "uint8", 16: "uint16", 32: "float32"}[self.bits]
        channels = 1 if pixels.ndim == 2 else pixels.shape[2]
        if pixels.dtype.newbyteorder("=") != declared or channels not in self.channels:
            raise ValueError(
                f"its {self.bits} bits in {' or '.join(map(str, self.channels))} channels were "
                f"decoded as {channels} of {pixels.dtype}; save it as TIFF or PNG without extras"
            )


def inspect(data: bytes) -> Container:
    """Return the format, size and metadata of an image file.

    Raises:
        ValueError: The reason why it cannot be an undamaged picture.
    """
    if not data:
        raise ValueError("the file is empty")
    if data.startswith(PNG_SIGNATURE):
        return _png(data)
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp(data)
    if data.startswith(b"BM"):
        return _bmp(data)
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return Container("tiff")
    if data.startswith(b"\x93NUMPY"):
        return Container("npy")
    if re.match(rb"P[1-6]\s", data):
        return _pnm(data)
    if re.match(rb"P[fF]\s", data):
        return _pfm(data)
    if len(data) < 4096 and all(byte >= 32 or byte in b"\t\r\n" for byte in data[:512]):
        raise ValueError("the content is text, not a picture")
    raise ValueError(_foreign(data) or "the content is not a picture of any kind that is read here")


MAGICK = "convert it: magick {} -depth 16 a.tiff"
# How files begin that are not read here, what they are, and what to do with them.
FOREIGN = (
    (rb".{4}ftyp(heic|heix|hevc|mif1|msf1)", "a HEIC picture", MAGICK.format("a.heic")),
    (rb".{4}ftyp(avif|avis)", "an AVIF picture", MAGICK.format("a.avif")),
    (rb".{4}ftyp", "a film", "take its frames: ffmpeg -i film.mp4 frames/%06d.png"),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", "a JPEG XL picture", "convert it: djxl a.jxl a.png"),
    (
        rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51",
        "a JPEG 2000 picture",
        "convert it: gdal_translate a.jp2 a.tif",
    ),
    (
        rb"FFF\0|AFF\0",
        "a thermal film or picture of FLIR (SEQ, FFF)",
        "export its frames as radiometric JPEG or as TIFF in degrees with FLIR's own program",
    ),
    (
        rb"PK\x03\x04",
        "an archive (NPZ, ZIP)",
        "unpack it; an NPZ with numpy.save('a.npy', numpy.load('a.npz')['NAME'])",
    ),
    (
        rb"\x89HDF|MATLAB 5",
        "a MAT or HDF5 file",
        "save its array as .npy: numpy.save('a.npy', array)",
    ),
    (rb"GIF8", "a GIF picture", "convert it: magick a.gif a.png"),
    (
        rb"RIFF.{4}AVI |\x1a\x45\xdf\xa3",
        "a film",
        "take its frames: ffmpeg -i film frames/%06d.png",
    ),
)


def _foreign(data: bytes) -> str | None:
    """Return what a file is that is not read here, and how it becomes one that is."""
    for start, name, remedy in FOREIGN:
        if re.match(start, data[:32], re.DOTALL):
            return f"{name} is not read here; {remedy}"
    return None


def _png(data: bytes) -> Container:
    view = memoryview(data)
    width = height = row_bits = compressed = 0
    bits = 8
    channels: tuple[int, ...] = (3,)
    exif = xmp = icc = None
    position, ended = len(PNG_SIGNATURE), False
    while not ended:
        if position + 12 > len(data):
            raise ValueError("truncated file: the end of the PNG is missing")
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            name = kind.decode("latin-1")
            raise ValueError(f"truncated file: it ends inside the PNG chunk {name!r}")
        body = view[position + 8 : end]
        whole = zlib.crc32(view[position + 4 : end]) == int.from_bytes(data[end : end + 4], "big")
        critical = not kind[0] & 0x20
        if critical and not whole:
            name = kind.decode("latin-1")
            raise ValueError(f"damaged file: wrong checksum in the PNG chunk {name!r}")
        if position == len(PNG_SIGNATURE):
            if kind != b"IHDR" or length != 13:
                raise ValueError("damaged file: the PNG header is not where it belongs")
            width, height, depth, colour = struct.unpack_from(">IIBB", body)
            row_bits = width * depth * {2: 3, 4: 2, 6: 4}.get(colour, 1)
            bits = max(8, depth)
            channels = {0: (1,), 4: (4,), 6: (4,)}.get(colour, (3,))  # OpenCV has no grey and alpha
        elif kind == b"tRNS":
            channels = (*channels, 4)
        elif kind == b"IDAT":
            compressed += length
        elif kind == b"eXIf" and whole:
            exif = bytes(body).removeprefix(JPEG_EXIF)
        elif kind == b"iCCP" and whole:
            icc = _inflate(bytes(body).partition(b"\0")[2][1:])
        elif kind == b"iTXt" and whole and bytes(body[: len(PNG_XMP)]) == PNG_XMP:
            xmp = _png_text(bytes(body[len(PNG_XMP) :]))
        ended = kind == b"IEND"
        position = end + 4
    if not compressed:
        raise ValueError("truncated file: there is no image data")
    if row_bits // 8 * height > compressed * DEFLATE_RATIO:
        raise ValueError(f"damaged file: {compressed} bytes cannot hold {width}x{height} pixels")
    return Container("png", width, height, exif, xmp, icc, bits=bits, channels=channels)


def png_for_decoder(data: bytes) -> bytes:
    """Return a PNG file that was inspected, with only the chunks that pixels are made of.

    libpng writes its opinion of common but imperfect profiles and text straight to stderr.
    """
    kept = [PNG_SIGNATURE]
    position = len(PNG_SIGNATURE)
    while position < len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if not kind[0] & 0x20 or kind == b"tRNS":
            kept.append(data[position:end])
        position = len(data) if kind == b"IEND" else end
    return b"".join(kept)


def _png_text(body: bytes) -> bytes | None:
    """Return the text of an iTXt chunk after its keyword."""
    compressed = body[:1] == b"\1"
    _, _, rest = body[2:].partition(b"\0")  # language
    _, _, text = rest.partition(b"\0")  # translated keyword
    return _inflate(text) if compressed else text


def _inflate(data: bytes) -> bytes | None:
    """Return inflated metadata, or None when it is damaged or absurdly large."""
    inflate = zlib.decompressobj()
    try:
        result = inflate.decompress(data, MAX_BLOCK)
    except zlib.error:
        return None
    return result if inflate.eof else None


def _jpeg(data: bytes) -> Container:
    width = height = frame = components = 0
    bits = 8
    exif = xmp = None
    profile: dict[int, bytes] = {}
    position = 2
    while True:
        if position + 4 > len(data):
            raise ValueError("truncated file: it ends inside the JPEG header")
        if data[position] != 0xFF:
            raise ValueError("damaged file: a JPEG marker is missing")
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if marker == 0xD9:
            raise ValueError("truncated file: there is no image data")
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # these have no length
            position += 2
            continue
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        body = data[position + 4 : position + 2 + length]
        if length < 2 or len(body) < length - 2:
            raise ValueError("truncated file: it ends inside the JPEG header")
        if marker in JPEG_FRAMES and len(body) >= 6:
            frame = marker
            bits, height, width, components = struct.unpack_from(">BHHB", body)
        elif marker == 0xE1 and body.startswith(JPEG_EXIF):
            exif = body[len(JPEG_EXIF) :]
        elif marker == 0xE1 and body.startswith(JPEG_XMP):
            xmp = body[len(JPEG_XMP) :]
        elif marker == 0xE2 and body.startswith(JPEG_ICC) and len(body) > 14:
            profile[body[12]] = body[14:]
        position += 2 + length
        if marker == 0xDA:  # start of scan: entropy-coded data follows
            break
    if data.rfind(b"\xff\xd9", position) < 0:
        raise ValueError("truncated file: the end marker of the JPEG is missing")
    if not frame:
        raise ValueError("damaged file: the JPEG has no frame header")
    if bits != 8:
        raise ValueError(f"a JPEG of {bits} bits is not read here: save it as TIFF or 16-bit PNG")
    if frame in JPEG_HUFFMAN and width * height > JPEG_PIXELS_PER_BYTE * len(data):
        raise ValueError(f"damaged file: {len(data)} bytes cannot hold {width}x{height} pixels")
    icc = b"".join(profile[number] for number in sorted(profile)) or None
    channels = (1,) if components == 1 else (3,)  # four inks become three colours
    return Container("jpeg", width, height, exif, xmp, icc, channels=channels)


def _webp(data: bytes) -> Container:
    if 8 + int.from_bytes(data[4:8], "little") > len(data):
        raise ValueError("truncated file: it is shorter than its WebP header says")
    width = height = 0
    blocks: dict[bytes, bytes] = {}
    position = 12
    while position + 8 <= len(data):
        kind = data[position : position + 4]
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        body = data[position + 8 : position + 8 + length]
        if len(body) < length:
            raise ValueError("truncated file: it ends inside a WebP chunk")
        if kind == b"VP8X" and length >= 10:
            width = 1 + int.from_bytes(body[4:7], "little")
            height = 1 + int.from_bytes(body[7:10], "little")
        elif kind == b"VP8 " and not width and length >= 10:
            width = int.from_bytes(body[6:8], "little") & 0x3FFF
            height = int.from_bytes(body[8:10], "little") & 0x3FFF
        elif kind == b"VP8L" and not width and length >= 5:
            bits = int.from_bytes(body[1:5], "little")
            width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        elif kind in (b"EXIF", b"XMP ", b"ICCP"):
            blocks[kind] = body
        position += 8 + length + length % 2
    exif = blocks.get(b"EXIF")
    if exif:
        exif = exif.removeprefix(JPEG_EXIF)  # some writers keep it
    return Container("webp", width, height, exif, blocks.get(b"XMP "), blocks.get(b"ICCP"))


def _bmp(data: bytes) -> Container:
    if len(data) < 26:
        raise ValueError("truncated file: it ends inside the BMP header")
    start, header = struct.unpack_from("<II", data, 10)
    if header == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        packed = 0
    else:
        if len(data) < 34:
            raise ValueError("truncated file: it ends inside the BMP header")
        width, height, _, bits, packed = struct.unpack_from("<iiHHI", data, 18)
    if width <= 0 or height == 0:
        raise ValueError(f"damaged file: a BMP of {width}x{height} pixels")
    row = (width * bits + 31) // 32 * 4
    if packed in (0, 3) and start + row * abs(height) > len(data):
        raise ValueError(f"truncated file: {len(data)} bytes cannot hold {width}x{height} pixels")
    return Container("bmp", width, abs(height))


_PNM_GAP = rb"(?:\s|#[^\n]*\n)+"


def _pnm(data: bytes) -> Container:
    kind = data[1:2]
    numbers = 2 if kind in b"14" else 3
    pattern = rb"P[1-6]" + (_PNM_GAP + rb"(\d{1,9})") * numbers
    match = re.match(pattern + rb"(?:\s|#[^\n]*\n)", data[:4096])
    if match is None:
        raise ValueError("damaged file: the PNM header is not complete")
    width, height, *rest = (int(number) for number in match.groups())
    maxval = rest[0] if rest else 1
    if not 0 < maxval < 65536:
        raise ValueError(f"damaged file: a PNM with white at {maxval}")
    row = width * (3 if kind in b"36" else 1) * (2 if maxval > 255 else 1)
    need = {b"4": (width + 7) // 8 * height}.get(kind, row * height)
    if kind in b"456" and match.end() + need > len(data):
        raise ValueError(f"truncated file: {len(data)} bytes cannot hold {width}x{height} pixels")
    if kind in b"123" and width * height > len(data):
        raise ValueError(f"truncated file: {len(data)} bytes cannot hold {width}x{height} pixels")
    bits, channels = 16 if maxval > 255 else 8, (3,) if kind in b"36" else (1,)
    return Container(
        "pnm", width, height, maxval=maxval, start=match.end(), bits=bits, channels=channels
    )


def _pfm(data: bytes) -> Container:
    match = re.match(rb"P([fF])\s+(\d{1,9})\s+(\d{1,9})\s+([-+.\deE]{1,32})\s", data[:256])
    if match is None:
        raise ValueError("damaged file: the PFM header is not complete")
    width, height = int(match[2]), int(match[3])
    if match.end() + 4 * width * height * (3 if match[1] == b"F" else 1) > len(data):
        raise ValueError(f"truncated file: {len(data)} bytes cannot hold {width}x{height} pixels")
    channels = (3,) if match[1] == b"F" else (1,)
    return Container("pfm", width, height, start=match.end(), bits=32, channels=channels)


def netpbm_pixels(data: bytes, container: Container) -> np.ndarray | None:
    """Return the pixels of a binary PGM, PPM or PFM file; None for the bitmap and text kinds.

    8-bit values are scaled so that white is 255; 16-bit values are counts and stay as they are.
    """
    channels = 3 if data[1:2] in b"6F" else 1
    shape = (container.height, container.width, channels)
    count = container.height * container.width * channels
    if container.format == "pfm":
        scale = float(data[: container.start].split()[-1])
        order = "<f4" if scale < 0 else ">f4"
        rows = np.frombuffer(data, order, count, container.start).reshape(shape)
        return rows[::-1]  # PFM stores the bottom row first
    if data[1:2] not in b"56":
        return None
    if container.maxval > 255:
        return np.frombuffer(data, ">u2", count, container.start).reshape(shape)
    pixels = np.frombuffer(data, np.uint8, count, container.start).reshape(shape)
    if container.maxval < 255:
        table = np.arange(256).clip(0, container.maxval) * 255 / container.maxval
        return np.rint(table).astype(np.uint8)[pixels]
    return pixels
