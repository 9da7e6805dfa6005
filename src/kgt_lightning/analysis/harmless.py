"""What a restorer does to pictures that need nothing: even colours, black and white, smooth ramps."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kgt_lightning.analysis.seams import smooth_ramps

LEVELS = (0.0, 0.1, 0.5, 0.9, 1.0)
"""Of the even colours, each in every channel: black and white are the first and the last of them."""


@dataclass(frozen=True, kw_only=True)
class Harm:
    """Errors in 8-bit values; 0 is none."""

    flat: float
    """Largest error in even colours."""
    black_and_white: float
    """Largest error in black and in white."""
    shift: float
    """Largest difference of a channel's mean over smooth ramps."""


def measure_harm(restore: Callable[[Tensor], Tensor], *, channels: int, size: int = 64) -> Harm:
    """What is changed in clean pictures whose size the restorer keeps, after it is clamped to [0, 1].

    Args:
        restore: restored images [B, channels, H, W] of clean ones.
        channels: of the images.
        size: side of the images in pixels.

    """
    combined = torch.cartesian_prod(*[torch.tensor(LEVELS)] * channels).reshape(-1, channels)
    flat = combined[:, :, None, None].expand(-1, -1, size, size)
    ramps = smooth_ramps(4, channels=channels, size=size)
    with torch.no_grad():
        changed = restore(flat).clamp(0, 1) - flat
        shift = (restore(ramps).clamp(0, 1) - ramps).mean((0, 2, 3))
    ends = (combined == 0).all(1) | (combined == 1).all(1)
    return Harm(
        flat=255 * float(changed.abs().max()),
        black_and_white=255 * float(changed[ends].abs().max()),
        shift=255 * float(shift.abs().max()),
    )
