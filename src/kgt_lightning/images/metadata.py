"""EXIF, XMP and ICC profile from one file to another, and the quality of a JPEG file."""

import logging
import os
import re
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageFile
from PIL.TiffImagePlugin import ImageFileDirectory_v2

_log = logging.getLogger(__name__)

ORIENTATION = 0x0112
_EXIF, _GPS, _WIDTH, _HEIGHT = 0x8769, 0x8825, 0xA002, 0xA003
_XMP = 700
_METADATA_CHUNKS = {b"eXIf", b"tEXt", b"zTXt", b"iTXt"}
_LAYOUT = {
    *(254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 274, 277, 278, 279, 280, 281, 284, 288, 289, 290),
    *(291, 292, 293, 297, 301, 317, 318, 319, *range(320, 348), *range(512, 533), 700, 32997, 33421, 33422, 33723),
    *(34377, 34675, 37724, 42112, 42113, 50255, *range(50706, 50709), *range(50710, 51200)),
}
"""Tags of TIFF and DNG that say how pixels lie in a file, and those that are kept elsewhere or of no use in another."""
# Rows of the luminance table of the JPEG standard (ITU T.81, table K.1), in the order of the file.
_LUMINANCE = np.array(
    [
        *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17),
        *(22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78),
        *(87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
    ]
)


def kept_exif(read: Callable[[], Image.Exif], path: Path) -> bytes | None:
    """EXIF of the path for a file that is laid out otherwise and upright; the thumbnail is left out."""
    try:
        exif = read()
        for tag in _LAYOUT & set(exif):
            del exif[tag]
        _keep_letters(exif)
        exif.bigtiff = False  # whatever file it came in: EXIF is laid out as in small ones
        return exif.tobytes() if len(exif) else None
    except Exception as error:  # of damaged metadata Pillow raises nearly anything; the picture is worth more
        _log.warning("%s: its EXIF data are damaged and left out (%s)", path, type(error).__name__)
        return None


def early_exif(image: ImageFile.ImageFile) -> Image.Exif:
    """EXIF of an opened image; its pixels are decoded only where metadata of a PNG file stand behind them.

    Pillow decodes every PNG file that has no EXIF chunk before its pixels in order to look behind them.
    """
    if image.format == "PNG" and image.fp is not None and not _has_late_metadata(image.fp):
        return Image.Image.getexif(image)
    return image.getexif()


def _has_late_metadata(file: IO[bytes]) -> bool:
    place = file.tell()
    try:
        file.seek(8)
        pixels = False
        while len(start := file.read(8)) == 8:
            size, name = struct.unpack(">I4s", start)
            if pixels and name in _METADATA_CHUNKS:
                return True
            pixels = pixels or name == b"IDAT"
            file.seek(size + 4, os.SEEK_CUR)
        return False
    finally:
        file.seek(place)


def kept_xmp(packet: bytes | str | None) -> bytes | None:
    """XMP packet of an upright image."""
    if not packet:
        return None
    packet = packet.encode() if isinstance(packet, str) else bytes(packet)
    return re.sub(rb"(tiff:Orientation(?:=[\"']|>)\s*)[1-8]", rb"\g<1>1", packet)


def sized(exif: bytes | None, array: np.ndarray) -> bytes | None:
    """EXIF that states the size of the pixels [H, W, C] where it states one."""
    if exif is None:
        return None
    loaded = Image.Exif()
    loaded.load(exif)
    details = loaded.get_ifd(_EXIF)
    for tag, side in ((_WIDTH, array.shape[1]), (_HEIGHT, array.shape[0])):
        if tag in details:
            details[tag] = side
    _keep_letters(loaded)
    return loaded.tobytes()


def _keep_letters(exif: Image.Exif) -> None:
    """See to it that Pillow writes text as it read it: letters beyond ASCII would become question marks."""
    for tags in (exif, exif.get_ifd(_EXIF), exif.get_ifd(_GPS)):
        for tag, value in list(tags.items()):
            if isinstance(value, str) and not value.isascii():
                tags[tag] = value.encode("latin-1", "replace")


def jpeg_quality(table: Sequence[int]) -> int:
    """Quality, 1..100, whose luminance table is the closest to one [64], as libjpeg scales them."""
    qualities = np.arange(1, 101)[:, None]
    scale = np.where(qualities < 50, 5000 // qualities, 200 - 2 * qualities)
    tables = ((_LUMINANCE * scale + 50) // 100).clip(1, 255)
    return int(np.abs(tables - np.asarray(table)).sum(1).argmin()) + 1


def with_chunks(png: bytes, *, profile: bytes | None, exif: bytes | None, xmp: bytes | None) -> bytes:
    """PNG with the metadata right after the header chunk (PNG specification, 11.3); imagecodecs takes none."""
    chunks = b""
    if profile is not None:
        chunks += _chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(profile))
    if exif is not None:
        chunks += _chunk(b"eXIf", exif.removeprefix(b"Exif\0\0"))
    if xmp is not None:
        chunks += _chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
    return png[:33] + chunks + png[33:]


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def with_tags(tiff: bytes, *, exif: bytes | None, xmp: bytes | None) -> bytes:
    """TIFF file, little-endian, with the metadata among the tags of its first image; tifffile writes few of them.

    Tags and EXIF's own directories are written behind the image, then a new directory of all tags.
    """
    added = ImageFileDirectory_v2(b"II*\0\0\0\0\0")
    loaded = Image.Exif()
    if exif is not None:
        loaded.load(exif)
        _keep_letters(loaded)
    for tag, value in loaded.items():
        added[tag] = dict(loaded.get_ifd(tag)) if tag in (_EXIF, _GPS) else value
    if xmp is not None:
        added[_XMP] = xmp
    if not len(added) or not tiff.startswith(b"II*\0"):  # above 4 GB the file is laid out otherwise
        return tiff
    tiff += b"\0" * (len(tiff) % 2)
    (first,) = struct.unpack_from("<I", tiff, 4)
    block = added.tobytes(len(tiff))
    block += b"\0" * (len(block) % 2)
    entries = {entry[:2]: entry for entry in (*_entries(tiff, first), *_entries(block, 0))}
    ordered = sorted(entries.values(), key=lambda entry: struct.unpack_from("<H", entry))
    directory = struct.pack("<H", len(ordered)) + b"".join(ordered) + b"\0\0\0\0"
    return tiff[:4] + struct.pack("<I", len(tiff) + len(block)) + tiff[8:] + block + directory


def _entries(content: bytes, offset: int) -> list[bytes]:
    """Of a TIFF directory, 12 bytes each."""
    (number,) = struct.unpack_from("<H", content, offset)
    return [content[offset + 2 + 12 * i : offset + 14 + 12 * i] for i in range(number)]
