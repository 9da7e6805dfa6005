"""The image formats, and the files of them in a folder; without an import that takes time."""

import logging
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

log = logging.getLogger(__name__)


class Format(NamedTuple):
    """What a file format can hold, and how it is written."""

    name: str
    deep: bool
    """Holds 16 bits per channel."""
    alpha: bool
    side: int
    """Pixels that height and width may have."""
    pixels: int
    """That it may have in all."""
    metadata: bool
    """Holds EXIF, XMP and ICC profile."""
    options: Mapping[str, Any]
    """Arguments of Pillow's `save`, where Pillow writes it."""

    def refusal(self, *, height: int, width: int, bits: int, alpha: bool) -> str | None:
        """Why the format cannot hold such an image, and which could; None if it can."""
        others = [suffix for suffix, form in FORMATS.items() if form.deep >= (bits > 8) and form.alpha >= alpha]
        others = [suffix for suffix in others if FORMATS[suffix].side >= max(height, width)]
        others = [suffix for suffix in others if FORMATS[suffix].pixels >= height * width]
        instead = "use " + ", ".join(others if bits <= 16 else (".tif", ".tiff"))
        if bits > 16 and self.name != "TIFF":
            return f"{self.name} cannot hold floating point: {instead}"
        if bits > 8 and not self.deep:
            return f"{self.name} cannot hold {bits} bits per channel: {instead}"
        if alpha and not self.alpha:
            return f"{self.name} cannot hold alpha: {instead}"
        if max(height, width) > self.side:
            return f"{self.name} cannot hold sides above {self.side} pixels, these are {width} x {height}: {instead}"
        if height * width > self.pixels:
            return f"{self.name} cannot hold more than {self.pixels} pixels, these are {width} x {height}: {instead}"
        return None


_ANY_SIDE = 2**31 - 1
_ANY_PIXELS = _ANY_SIDE**2
_TIFF = Format("TIFF", True, True, _ANY_SIDE, _ANY_PIXELS, True, {})
# Loss would undo the restoration: JPEG without chroma subsampling, WebP without any loss, AVIF with little.
_JPEG = Format("JPEG", False, False, 65500, _ANY_PIXELS, True, {"quality": 95, "subsampling": 0})
FORMATS = {
    # What libavif agrees to read, which writes more, and libpng to write.
    ".avif": Format("AVIF", False, True, 2**15, 2**28, True, {"quality": 95, "subsampling": "4:4:4"}),
    ".bmp": Format("BMP", False, False, _ANY_SIDE, _ANY_PIXELS, False, {}),
    ".jpeg": _JPEG,
    ".jpg": _JPEG,
    ".png": Format("PNG", True, True, 10**6, _ANY_PIXELS, True, {}),
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".webp": Format("WEBP", False, True, 16383, _ANY_PIXELS, True, {"lossless": True, "exact": True}),
}
EXTRAS = dict.fromkeys((".heic", ".heif"), ("heif", "pillow_heif"))
"""Formats that are read, not written, and that an extra brings: its name and its package."""
RAW = frozenset((".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".pef", ".raf", ".raw", ".rw2", ".srw"))
"""Raw files of cameras, which the extra ``raw`` reads and the model for demosaicking makes pictures of."""
OTHERS = RAW | {
    *EXTRAS,
    *(".3fr", ".apng", ".dcm", ".dds", ".erf", ".exr", ".fits", ".gif", ".hdr", ".hif", ".ico", ".iiq", ".j2k"),
    *(".jfif", ".jp2", ".jpe", ".jpx", ".jxl", ".jxr", ".kdc", ".mef", ".mos", ".mpo", ".mrw", ".nrw", ".pbm", ".pcx"),
    *(".pfm", ".pgm", ".pnm", ".ppm", ".psd", ".qoi", ".rwl", ".sgi", ".sr2", ".srf", ".svg", ".tga", ".x3f", ".xcf"),
}
"""Suffixes of pictures that no folder of images is searched for."""


def list_images(folder: str | Path, *, suffixes: Collection[str] = FORMATS) -> list[Path]:
    """Image files in the folder and below, in natural order (2 before 10); hidden files and folders are left out.

    Pictures in other formats are left out too, and the log counts them. Links that lead nowhere are among the images.

    Raises:
        ValueError: the folder is missing, is a file, or holds no image.
        OSError: a folder in it may not be read.

    """
    folder = Path(folder)
    if not folder.is_dir():
        problem = "is a file" if folder.exists() else "does not exist"
        raise ValueError(f"{folder} {problem}: name a folder of images ({', '.join(FORMATS)})")
    visible = [
        path
        for path in _files(folder)
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and (path.is_file() or not path.exists())  # a link that leads nowhere: who reads it names it
    ]
    found = [path for path in visible if path.suffix.lower() in suffixes]
    others = Counter(path.suffix.lower() for path in visible if path.suffix.lower() in OTHERS)
    left_out = ", ".join(f"{others[each]} {each}" for each in sorted(others) if each not in suffixes)
    if not found:
        also = f" (of pictures in other formats it holds {left_out})" if left_out else ""
        raise ValueError(
            f"{folder} holds no image{also}: put files with one of the suffixes {', '.join(FORMATS)} there"
        )
    if left_out:
        log.warning("%s: pictures in other formats are left out: %s", folder, left_out)
    return sorted(found, key=lambda path: ([_natural(part) for part in path.relative_to(folder).parts], str(path)))


def _files(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> NoReturn:
        raise error

    for below, _, names in os.walk(folder, onerror=refuse):
        yield from (Path(below, name) for name in names)


def _natural(name: str) -> list[str | int]:
    return [int(part) if index % 2 else part for index, part in enumerate(re.split(r"([0-9]+)", name.casefold()))]


def pillow_formats(path: Path) -> list[str]:
    """What Pillow may take the file for, whatever it is called: for some other formats it would start programs."""
    harmless = {form.name for form in FORMATS.values()} | {"GIF", "PPM"}
    return ["HEIF"] if path.suffix.lower() in EXTRAS else sorted(harmless)
