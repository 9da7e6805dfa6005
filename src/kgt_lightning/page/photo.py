"""A picture that a page holds in memory: what its file told, and what was restored of it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from kgt_lightning.config.extras import missing, require
from kgt_lightning.images.codecs import TIFF_STARTS, opened
from kgt_lightning.images.files import check_unit_range, is_raw, read_raster, read_shape
from kgt_lightning.images.formats import EXTRAS, FORMATS, pillow_formats
from kgt_lightning.images.raster import Raster, alpha, colours
from kgt_lightning.page.engine import Engine
from kgt_lightning.page.pixels import Pixels, to_pixels
from kgt_lightning.restoring.noise import noise_level


class TooMuch(ValueError):  # noqa: N818  # what is wrong, as the page says it
    """More than the limits allow."""


@dataclass(kw_only=True, eq=False)
class Result:
    """What was restored of a photo so far."""

    engine: Engine
    k: int | None
    pixels: Pixels
    """uint16 [H * scale, W * scale, C]; zero where nothing is restored yet."""
    opacity: Pixels
    """The same of alpha [H * scale, W * scale, 0 or 1]; none where it stays as it is."""
    complete: bool = False

    def put(self, image: Tensor, *, top: int, left: int) -> Mapping[str, int]:
        """Take in a part of what is restored [C, H, W]; its place."""
        height, width = image.shape[1:]
        self.pixels[top : top + height, left : left + width] = to_pixels(image)
        return {"top": top, "left": left, "height": height, "width": width}

    def put_opacity(self, rows: Tensor, *, top: int) -> None:
        """Take in rows [1, H, W * scale] of what is restored of alpha."""
        self.opacity[top : top + rows.shape[1]] = to_pixels(rows)


@dataclass(kw_only=True, eq=False)
class Photo:
    """A picture, upright."""

    number: int
    name: str
    """Of the file, without folders."""
    raster: Raster
    """What the file held."""
    clean: Pixels | None = None
    """The same picture without what is to be restored, as large as the restored one."""
    result: Result | None = None
    """What was restored last."""

    @property
    def pixels(self) -> Pixels:
        """Samples [H, W, C] without alpha, C = 1 or 3."""
        return colours(self.raster)

    @property
    def opacity(self) -> Pixels:
        """Samples [H, W, 0 or 1] of alpha."""
        return alpha(self.raster)

    @cached_property
    def noise(self) -> float:
        """Standard deviation of the noise in the brightness, in [0, 1]."""
        return noise_level(self.pixels)

    @property
    def held(self) -> int:
        """Bytes in memory."""
        others = [self.clean, *([self.result.pixels, self.result.opacity] if self.result else [])]
        return self.raster.array.nbytes + sum(pixels.nbytes for pixels in others if pixels is not None)

    def describe(self) -> Mapping[str, Any]:
        """What the page shows before anything is restored."""
        height, width, channels = self.pixels.shape
        return {"number": self.number, "name": self.name, "width": width, "height": height, "channels": channels}


def suffixes() -> list[str]:
    """Of the files that can be read here, those of installed extras too."""
    return [*FORMATS, *(suffix for suffix, extra in EXTRAS.items() if missing(suffix, *extra) is None)]


def plain_name(name: str) -> str:
    """File name without folders and characters that mean something to a shell or a header.

    Raises:
        ValueError: if its suffix is none of a known image format, or of one whose extra is not installed.

    """
    last = re.split(r"[/\\]", name)[-1]
    stem, dot, suffix = last.rpartition(".")
    if extra := EXTRAS.get(f".{suffix.lower()}"):
        require(f"reading .{suffix.lower()}", *extra)
    elif is_raw(last):
        raise ValueError(f"{last[:80]} is a raw file: kgt restore task=demosaic makes a picture of it")
    elif f".{suffix.lower()}" not in FORMATS:
        raise ValueError(
            f"{last[:80] or 'a file without a name'} is no image of a known kind: use {', '.join(suffixes())}"
        )
    stem = re.sub(r"[^\w .()+-]", "_", stem).strip(". ")[:100]
    return f"{stem or 'picture'}{dot}{suffix.lower()}"


def read_photo(file: Path, *, name: str, megapixels: float) -> Raster:
    """What the file holds, upright.

    Raises:
        TooMuch: if it has more pixels; they are not decoded then.
        ValueError: if it is no image that can be read.

    """
    try:
        if file.stat().st_size == 0:
            raise ValueError(f"{name} is empty")
        with opened(file) as stream:
            if stream.read(4).startswith(TIFF_STARTS):
                _, height, width = read_shape(file)
            else:  # read_shape decodes PNG files whose metadata stand behind their pixels
                stream.seek(0)
                image = Image.open(stream, formats=pillow_formats(file))
                height, width = image.height, image.width
        check_size(height, width, megapixels=megapixels)
        raster = read_raster(file)
        check_unit_range(file, raster)
    except TooMuch as error:
        raise TooMuch(f"{name}: {error}") from None
    except Image.DecompressionBombError as error:
        raise TooMuch(f"{name}: more than {megapixels:g} megapixels, which are not taken") from error
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{name} cannot be read as an image: it is damaged, or of another kind") from error
    except ValueError as error:
        raise ValueError(str(error).replace(str(file), name)) from error
    return raster


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
