"""What is remembered of a picture to recognise it again: its pixels as a digest, and two coarse views of it."""

import hashlib
import math
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from kgt_lightning.images.color import gray, to_uint8
from kgt_lightning.images.files import read_image

_FREQUENCIES = 12
"""Of the cosine transform, in each direction: fine enough to tell pictures apart, and not yet noise."""
_SMALL = 4 * _FREQUENCIES
_SQUARE = 4 * _SMALL
_LONG_SIDE = 64
_WINDOWS = (0.94, 0.875, 0.8)
"""Parts of both sides that are looked at as well, so that a copy whose border was cut off is found."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Fingerprint:
    """Of one picture."""

    file: Path
    digest: str
    windows: Tensor
    """Spectra of the whole picture, and of its corners and centre, [windows, frequencies]."""
    thumbnail: Tensor
    """Gray, uint8 [h, w] with a longer side of 64 pixels."""


def fingerprint(file: Path) -> Fingerprint:
    """Fingerprint of the picture in a file; a gray one has the same as its copy of three equal channels.

    Raises:
        ValueError: if it cannot be read.

    """
    pixels = read_image(file).pixels
    lightness = gray(pixels) if len(pixels) == 3 else pixels
    square = resized(lightness, _SQUARE, _SQUARE)
    parts = [square]
    for fraction in _WINDOWS:
        side = round(_SQUARE * fraction)
        rest = _SQUARE - side
        places = [*product((0, rest), repeat=2), (rest // 2, rest // 2)]
        parts += [square[:, top : top + side, left : left + side] for top, left in places]
    sides = lightness.shape[-2:]
    thumbnail = resized(lightness, *(max(1, round(side * _LONG_SIDE / max(sides))) for side in sides))
    windows = torch.stack([_spectrum(part) for part in parts])
    return Fingerprint(file=file, digest=pixel_digest(pixels), windows=windows, thumbnail=to_uint8(thumbnail)[0])


def pixel_digest(pixels: Tensor) -> str:
    """Equal for images [C, H, W] in [0, 1] of the same 8-bit pixels, whatever the file format and the channels."""
    levels = to_uint8(pixels)
    if bool((levels == levels[:1]).all()):
        levels = levels[:1]
    return hashlib.sha256(repr(tuple(levels.shape)).encode() + levels.numpy().tobytes()).hexdigest()


def mirrored(spectra: Tensor) -> Tensor:
    """Spectra [..., frequencies] of the pictures with left and right exchanged."""
    signs = torch.ones(_FREQUENCIES)
    signs[1::2] = -1  # odd cosines change their sign
    return (spectra.view(*spectra.shape[:-1], _FREQUENCIES, _FREQUENCIES) * signs).flatten(-2)


def _spectrum(part: Tensor) -> Tensor:
    """Lowest frequencies of the cosine transform of an image [1, H, W], of norm 1; zero for one without any contrast.

    Each is multiplied by its frequency: the spectrum of images falls with it, and otherwise every bright sky would
    look like any other.
    """
    small = resized(part, _SMALL, _SMALL)[0]
    frequencies = torch.arange(_FREQUENCIES)
    cosines = torch.cos(math.pi / _SMALL * frequencies[:, None] * (torch.arange(_SMALL) + 0.5))
    weights = torch.hypot(frequencies[:, None].float(), frequencies[None].float())
    spectrum = (cosines @ small @ cosines.T * weights).flatten()
    norm = spectrum.norm()
    # One level of 255 over the whole image gives a norm of this order: below it there is nothing but rounding.
    return spectrum / norm if norm > 1 else torch.zeros_like(spectrum)


def resized(image: Tensor, height: int, width: int) -> Tensor:
    """Image [C, height, width] without aliasing."""
    return F.interpolate(image[None], (height, width), mode="bilinear", antialias=True, align_corners=False)[0]
