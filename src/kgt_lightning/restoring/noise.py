"""How much noise an image holds, from the image alone, and what compression makes of noise."""

import numpy as np
import torch
from torch.nn import functional as F

from kgt_lightning.degradations.degradation import Degradation
from kgt_lightning.degradations.noise import GaussianNoise
from kgt_lightning.images.color import gray

OF_COLOURS = 0.669
"""Deviation of the brightness of three channels with noise of 1 each: the root of the sum of the weights squared."""

_BLOCK, _PARTS, _PART = 16, 16, 256
_MASK = ((1, -2, 1), (-2, 4, -2), (1, -2, 1))
_LOW = 0.25
_OF_LOW = 0.945
"""That quantile of the deviation in blocks of pure noise, for noise of 1: measured."""


def limit_of_compression(degradation: Degradation) -> str | None:
    """What a model for the degradation leaves in JPEG files, and which does not; None where there is nothing to say."""
    if not isinstance(degradation, GaussianNoise):
        return None
    return "this model removes white noise, little of what compression has made of it; the model camera knows both"


def noise_level(array: np.ndarray, *, low: float = 0, span: float = 1) -> float:
    """Standard deviation, in [0, 1], of the noise in the brightness of an image [H, W, C], C = 1 or 3.

    Floating point that lies elsewhere is taken from ``low``, as 0, to ``low + span``, as 1.

    A mask that no plane passes (Immerkaer 1996) leaves noise, edges and texture; of its deviations in blocks of
    16 x 16 a low one is taken, where there is little but noise. Of large images parts are looked at. Noise that
    neighbouring pixels share, as JPEG and cameras leave it, is underestimated.
    """
    height, width = array.shape[:2]
    levels = 1 if array.dtype == np.float32 else np.iinfo(array.dtype).max
    blocks = []
    for part in range(_PARTS):
        row, column = divmod(part, 4)
        top, left = max(height - _PART, 0) * row // 3, max(width - _PART, 0) * column // 3
        samples = array[top : top + _PART, left : left + _PART].astype(np.float32) / levels
        samples = (samples - np.float32(low)) / np.float32(span)
        planes = torch.from_numpy(np.moveaxis(samples, -1, 0).copy())[None]
        bright = gray(planes) if planes.shape[1] == 3 else planes
        if min(bright.shape[-2:]) < _BLOCK + 2:
            continue
        passed = F.conv2d(bright, torch.tensor(_MASK, dtype=torch.float32)[None, None]) / 6
        squares = F.avg_pool2d(passed.square(), _BLOCK).flatten()
        # Where values are clipped, noise is too.
        inside = F.avg_pool2d(((bright > 0) & (bright < 1)).float()[..., 1:-1, 1:-1], _BLOCK).flatten()
        blocks.append(squares[inside > 0.9].sqrt())
        if max(height, width) <= _PART:
            break
    found = torch.cat(blocks) if blocks else torch.empty(0)
    return float(found.quantile(_LOW)) / _OF_LOW if len(found) else 0.0
