"""What an image file holds, in its own kind of numbers."""

from typing import NamedTuple

import numpy as np


class Raster(NamedTuple):
    """Pixels, upright, and what the file tells of them."""

    array: np.ndarray
    """uint8 or uint16, or float32 as it stands in the file, [H, W, C]: 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and
    alpha."""
    profile: bytes | None = None
    """ICC profile that the values refer to."""
    exif: bytes | None = None
    """EXIF as JPEG files hold it, from "Exif" on; without orientation, thumbnail, and how the file was laid out."""
    xmp: bytes | None = None
    """XMP packet, its orientation upright too."""
    quality: int | None = None
    """Quality, 1..100, that a JPEG file was written with, from its tables."""

    @property
    def bits(self) -> int:
        """Per channel: 8, 16 or 32, which are floating point."""
        return self.array.itemsize * 8


def colours(raster: Raster) -> np.ndarray:
    """Samples [H, W, C] of a raster without alpha, C = 1 or 3; a view."""
    return raster.array[..., : 3 if raster.array.shape[-1] >= 3 else 1]


def alpha(raster: Raster) -> np.ndarray:
    """Samples [H, W, 0 or 1] of the alpha of a raster; a view."""
    return raster.array[..., colours(raster).shape[-1] :]


class Header(NamedTuple):
    """What is known of an image without decoding it."""

    channels: int
    """1 gray, 3 colour."""
    height: int
    width: int
    """Of the upright image, in pixels."""
    bits: int
    """Per channel: 8, 16 or 32, which are floating point."""
    alpha: bool


def upright(array: np.ndarray, *, orientation: int) -> np.ndarray:
    """Undo an EXIF orientation, 1..8, of [H, W] or [H, W, C]."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)
