"""The image formats, and the files of them in a folder; without an import that takes time."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple


class Format(NamedTuple):
    """What a file format can hold, and how it is written."""

    name: str
    deep: bool
    """Holds 16 bits per channel."""
    alpha: bool
    options: Mapping[str, Any]
    """Arguments of Pillow's `save`."""


_TIFF = Format("TIFF", True, True, {"compression": "tiff_adobe_deflate"})
# Loss would undo the restoration: JPEG without chroma subsampling, WebP without any loss.
_JPEG = Format("JPEG", False, False, {"quality": 95, "subsampling": 0})
FORMATS = {
    ".bmp": Format("BMP", False, False, {}),
    ".jpeg": _JPEG,
    ".jpg": _JPEG,
    ".png": Format("PNG", True, True, {}),
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".webp": Format("WEBP", False, True, {"lossless": True, "exact": True}),
}


def list_images(folder: str | Path) -> list[Path]:
    """Image files in the folder and below, in natural order (2 before 10); hidden files and folders are left out.

    Raises:
        ValueError: the folder is missing, is a file, or holds no image.

    """
    folder = Path(folder)
    if not folder.is_dir():
        problem = "is a file" if folder.exists() else "does not exist"
        raise ValueError(f"{folder} {problem}: name a folder of images ({', '.join(FORMATS)})")
    found = [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in FORMATS
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    ]
    if not found:
        raise ValueError(f"{folder} holds no image: put files with one of the suffixes {', '.join(FORMATS)} there")
    return sorted(found, key=lambda path: ([_natural(part) for part in path.relative_to(folder).parts], str(path)))


def _natural(name: str) -> list[str | int]:
    return [int(part) if index % 2 else part for index, part in enumerate(re.split(r"([0-9]+)", name.casefold()))]
