"""The image formats, and the files of them in a folder; without an import that takes time."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Format:
    """What a file format can hold, and how it is written."""

    name: str
    deep: bool = False
    """Holds 16 bits per channel."""
    alpha: bool = False
    options: tuple[tuple[str, Any], ...] = ()
    """Arguments of Pillow's `save`."""


_PNG = Format(name="PNG", deep=True, alpha=True)
_TIFF = Format(name="TIFF", deep=True, alpha=True, options=(("compression", "tiff_adobe_deflate"),))
# Loss would undo the restoration: JPEG without chroma subsampling, WebP without any loss.
_JPEG = Format(name="JPEG", options=(("quality", 95), ("subsampling", 0)))
_WEBP = Format(name="WEBP", alpha=True, options=(("lossless", True), ("exact", True)))
FORMATS = {
    ".bmp": Format(name="BMP"),
    ".jpeg": _JPEG,
    ".jpg": _JPEG,
    ".png": _PNG,
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".webp": _WEBP,
}


def list_images(folder: str | Path) -> list[Path]:
    """Image files in the folder and below, in natural order (2 before 10); hidden files and folders are left out.

    Raises:
        ValueError: the folder is missing, is a file, or holds no image.

    """
    folder = Path(folder)
    if not folder.is_dir():
        problem = "is a file" if folder.exists() else "does not exist"
        raise ValueError(f"{folder} {problem}: name a folder of images ({suffixes(FORMATS)})")
    found = [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in FORMATS
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    ]
    if not found:
        raise ValueError(f"{folder} holds no image: put files with one of the suffixes {suffixes(FORMATS)} there")
    return sorted(found, key=lambda path: ([_natural(part) for part in path.relative_to(folder).parts], str(path)))


def suffixes(names: Iterable[str]) -> str:
    """The suffixes as a text."""
    return ", ".join(names)


def _natural(name: str) -> list[str | int]:
    return [int(part) if index % 2 else part for index, part in enumerate(re.split(r"([0-9]+)", name.casefold()))]
