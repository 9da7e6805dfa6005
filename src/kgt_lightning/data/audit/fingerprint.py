"""What is remembered of a picture to recognise it again: its pixels as a digest, and two coarse views of it."""

import hashlib
import math
from dataclasses import dataclass
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
    whole: Tensor
    """Spectrum of the whole picture, [frequencies]."""
    windows: Tensor
    """Spectra of it and of its corners and centre, [windows, frequencies]."""
    thumbnail: Tensor
    """Gray, uint8 [h, w] with a longer side of 64 pixels."""


def fingerprint(file: Path) -> Fingerprint:
    """Fingerprint of the picture in a file; a gray one has the same as its copy of three equal channels.

    Raises:
        ValueError: if it cannot be read.

    """
    pixels = read_image(file).pixels
    lightness = gray(pixels) if len(pixels) == 3 else pixels
    square = _resized(lightness, _SQUARE, _SQUARE)
    parts = [square]
    for fraction in _WINDOWS:
        side = round(_SQUARE * fraction)
        rest = _SQUARE - side
        corners = [(top, left) for top in (0, rest) for left in (0, rest)]
        parts += [square[:, y : y + side, x : x + side] for y, x in [*corners, (rest // 2, rest // 2)]]
    windows = torch.stack([_spectrum(part) for part in parts])
    height, width = lightness.shape[-2:]
    longer = max(height, width)
    thumbnail = _resized(lightness, *(max(1, round(side * _LONG_SIDE / longer)) for side in (height, width)))
    return Fingerprint(
        file=file,
        digest=pixel_digest(pixels),
        whole=windows[0],
        windows=windows,
        thumbnail=to_uint8(thumbnail)[0],
    )


def pixel_digest(pixels: Tensor) -> str:
    """Equal for images [C, H, W] in [0, 1] of the same 8-bit pixels, whatever the file format and the channels."""
    levels = to_uint8(pixels)
    if len(levels) == 3 and bool((levels[0] == levels[1]).all() and (levels[0] == levels[2]).all()):
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
    small = _resized(part, _SMALL, _SMALL)[0]
    frequencies = torch.arange(_FREQUENCIES)
    cosines = torch.cos(math.pi / _SMALL * frequencies[:, None] * (torch.arange(_SMALL) + 0.5))
    weights = torch.hypot(frequencies[:, None].float(), frequencies[None].float())
    spectrum = (cosines @ small @ cosines.T * weights).flatten()
    norm = spectrum.norm()
    # One level of 255 over the whole image gives a norm of this order: below it there is nothing but rounding.
    return spectrum / norm if norm > 1 else torch.zeros_like(spectrum)


def _resized(image: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(image[None], (height, width), mode="bilinear", antialias=True, align_corners=False)[0]
