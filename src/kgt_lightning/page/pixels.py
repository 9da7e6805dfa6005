"""Pixels as pages hold them, uint16 [H, W, C]: half the memory of images, and a finer grain than any file."""

import io
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

Pixels = NDArray[Any]

_WHITE = 65535


def to_pixels(image: Tensor) -> Pixels:
    """Pixels uint16 [H, W, C] of an image [C, H, W] in [0, 1]."""
    array = np.empty((*image.shape[1:], len(image)), dtype=np.uint16)
    for channel, plane in enumerate(image):  # one at a time: less memory
        array[..., channel] = plane.clamp(0, 1).mul(_WHITE).round_().numpy()
    return array


def to_image(pixels: Pixels) -> Tensor:
    """Image [C, H, W] in [0, 1] of pixels uint16 [H, W, C]."""
    image = torch.empty((pixels.shape[2], *pixels.shape[:2]))
    for channel in range(pixels.shape[2]):
        image[channel] = torch.from_numpy(pixels[..., channel].astype(np.float32))
    return image.div_(_WHITE)


def to_png(pixels: Pixels, *, profile: bytes | None) -> bytes:
    """8-bit PNG of pixels uint16 [H, W, C], quickly written."""
    array = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    buffer = io.BytesIO()
    image = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
    # A profile for colours does not fit gray.
    image.save(buffer, "PNG", compress_level=1, **({"icc_profile": profile} if profile and array.shape[2] == 3 else {}))
    return buffer.getvalue()
