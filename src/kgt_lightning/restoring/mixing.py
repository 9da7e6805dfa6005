"""How much of the original comes back: strength, and texture band by band."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from kgt_lightning.images.color import gray

_SPLINE = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
_NOISE_IN_BAND = (0.8907, 0.2007, 0.0856)
"""Standard deviation in each band of white noise of 1: measured, and Starck and Murtagh 2006, table 2.1."""
_THRESHOLD = 2
"""Noise levels below which fine detail is taken for noise."""


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """Restored image and original, mixed after the model has run: all values come from one pass.

    Raises:
        ValueError: if a value is outside its range.

    """

    strength: float = 1
    """0 is the original, enlarged where the model enlarges; 1 is what the model restores."""
    texture: float = 0
    """Share of the original's fine detail, 0..1, that stands out from its noise and is added to what is restored."""
    noise: float = 0
    """Standard deviation of the original's brightness, in [0, 1], that is noise."""

    def __post_init__(self) -> None:
        for name, value in (("strength", self.strength), ("texture", self.texture)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name}={value} must lie in 0..1")
        if self.noise < 0:
            raise ValueError(f"noise={self.noise} must be 0 or more")

    def __call__(self, original: Tensor, restored: Tensor) -> Tensor:
        """The mixture [B, C, H, W] of two images of that shape in [0, 1]."""
        if self.texture > 0:
            restored = restored + self.texture * fine_detail(original - restored, noise=self.noise)
        return original.lerp(restored, self.strength)


AS_RESTORED = Mixing()


def fine_detail(difference: Tensor, *, noise: float) -> Tensor:
    """What is finer than eight pixels of the brightness of a difference [B, C, H, W], above the noise: [B, 1, H, W].

    Three bands of the stationary wavelet transform by the B3 spline ("a trous", Starck and Murtagh 2006), each drawn
    towards zero by twice the noise that lies in it.
    """
    smooth = gray(difference) if difference.shape[1] == 3 else difference.mean(1, keepdim=True)
    detail = torch.zeros_like(smooth)
    for scale, share in enumerate(_NOISE_IN_BAND):
        smoother = _smoothed(smooth, spacing=2**scale)
        detail += F.softshrink(smooth - smoother, _THRESHOLD * noise * share)
        smooth = smoother
    return detail


def _smoothed(image: Tensor, *, spacing: int) -> Tensor:
    taps = image.new_tensor(_SPLINE)
    image = F.pad(image, (2 * spacing,) * 4, "replicate")
    image = F.conv2d(image, taps.view(1, 1, 1, 5), dilation=spacing)
    return F.conv2d(image, taps.view(1, 1, 5, 1), dilation=spacing)
