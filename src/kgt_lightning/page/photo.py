"""A picture that a page holds: its file in a folder that goes with the page, and its pixels in memory."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from kgt_lightning.images.files import read_image, read_shape
from kgt_lightning.images.formats import FORMATS
from kgt_lightning.page.engine import Engine
from kgt_lightning.page.pixels import Pixels, to_pixels

_PILLOW_FORMATS = sorted({form.name for form in FORMATS.values()})
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class TooMuch(ValueError):  # noqa: N818  # what is wrong, as the page says it
    """More than the limits allow."""


@dataclass(kw_only=True, eq=False)
class Result:
    """What was restored of a photo so far."""

    engine: Engine
    k: int | None
    pixels: Pixels
    """uint16 [H * scale, W * scale, C]; zero where nothing is restored yet."""
    complete: bool = False

    def put(self, image: Tensor, *, top: int, left: int) -> Mapping[str, int]:
        """Take in a part of what is restored [C, H, W]; its place."""
        height, width = image.shape[1:]
        self.pixels[top : top + height, left : left + width] = to_pixels(image)
        return {"top": top, "left": left, "height": height, "width": width}


@dataclass(kw_only=True, eq=False)
class Photo:
    """A picture, upright."""

    number: int
    name: str
    """Of the file, without folders."""
    file: Path
    pixels: Pixels
    """uint16 [H, W, C], C = 1 or 3; white is 65535."""
    profile: bytes | None
    clean: Pixels | None = None
    """The same picture without what is to be restored, as large as the restored one."""
    result: Result | None = None
    """What was restored last."""

    @property
    def held(self) -> int:
        """Bytes in memory."""
        others = [self.clean, self.result.pixels if self.result else None]
        return self.pixels.nbytes + sum(pixels.nbytes for pixels in others if pixels is not None)

    def describe(self) -> Mapping[str, Any]:
        """What the page shows before anything is restored."""
        height, width, channels = self.pixels.shape
        return {"number": self.number, "name": self.name, "width": width, "height": height, "channels": channels}


def plain_name(name: str) -> str:
    """File name without folders and characters that mean something to a shell or a header.

    Raises:
        ValueError: if its suffix is none of a known image format.

    """
    last = re.split(r"[/\\]", name)[-1]
    stem, dot, suffix = last.rpartition(".")
    if f".{suffix.lower()}" not in FORMATS:
        raise ValueError(
            f"{last[:80] or 'a file without a name'} is no image of a known kind: use {', '.join(FORMATS)}"
        )
    stem = re.sub(r"[^\w .()+-]", "_", stem).strip(". ")[:100]
    return f"{stem or 'picture'}{dot}{suffix.lower()}"


def read_pixels(file: Path, *, name: str, megapixels: float) -> tuple[Pixels, bytes | None]:
    """Pixels uint16 [H, W, C] of the upright picture in the file, and the ICC profile they refer to.

    Raises:
        TooMuch: if it has more pixels; they are not decoded then.
        ValueError: if it is no image that can be read.

    """
    try:
        if file.stat().st_size == 0:
            raise ValueError(f"{name} is empty")
        with file.open("rb") as opened:
            if not opened.read(4).startswith(_TIFF_STARTS):
                # Pillow would start other programs for some formats, whatever the file is called.
                opened.seek(0)
                image = Image.open(opened, formats=_PILLOW_FORMATS)
                check_size(image.height, image.width, megapixels=megapixels)  # before anything can decode it
        _, height, width = read_shape(file)
        check_size(height, width, megapixels=megapixels)
        picture = read_image(file)
    except TooMuch as error:
        raise TooMuch(f"{name}: {error}") from None
    except Image.DecompressionBombError as error:
        raise TooMuch(f"{name}: more than {megapixels:g} megapixels, which are not taken") from error
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{name} cannot be read as an image: it is damaged, or of another kind") from error
    except ValueError as error:
        raise ValueError(str(error).replace(str(file), name)) from error
    return to_pixels(picture.pixels), picture.profile


def check_size(height: int, width: int, *, megapixels: float) -> None:
    """See to it that a picture is not too large.

    Raises:
        TooMuch: if it is.

    """
    if height * width > megapixels * 1e6:
        raise TooMuch(
            f"{width} x {height} are {height * width / 1e6:.0f} megapixels, at most {megapixels:g} are taken:"
            " make it smaller, or start kgt serve with a larger limits.megapixels"
        )
