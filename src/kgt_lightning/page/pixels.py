"""Samples [H, W, C] as pages hold them: those of a file as they are, what is restored as uint16."""

import io
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from kgt_lightning.images.files import to_samples

Pixels = NDArray[Any]

_WHITE = 65535


def to_pixels(image: Tensor) -> Pixels:
    """Pixels uint16 [H, W, C] of an image [C, H, W] in [0, 1]."""
    array = np.empty((*image.shape[1:], len(image)), dtype=np.uint16)
    for channel, plane in enumerate(image):  # one at a time: less memory
        array[..., channel] = plane.clamp(0, 1).mul(_WHITE).round_().numpy()
    return array


def to_image(pixels: Pixels) -> Tensor:
    """Image [C, H, W] in [0, 1] of pixels [H, W, C]: uint8, uint16, or float32 in [0, 1]."""
    image = torch.empty((pixels.shape[2], *pixels.shape[:2]))
    for channel in range(pixels.shape[2]):
        image[channel] = torch.from_numpy(pixels[..., channel].astype(np.float32))
    return image if pixels.dtype == np.float32 else image.div_(np.iinfo(pixels.dtype).max)


def to_png(pixels: Pixels, *, profile: bytes | None) -> bytes:
    """8-bit PNG of pixels [H, W, C], quickly written."""
    array = pixels if pixels.dtype == np.uint8 else to_samples(to_image(pixels), bits=8)
    buffer = io.BytesIO()
    image = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
    # A profile for colours does not fit gray.
    image.save(buffer, "PNG", compress_level=1, **({"icc_profile": profile} if profile and array.shape[2] == 3 else {}))
    return buffer.getvalue()
