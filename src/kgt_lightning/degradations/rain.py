"""Rain: streaks of falling drops, and the veil of the rain behind them."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from kgt_lightning.config.types import NotNegative, Positive, Share
from kgt_lightning.degradations.degradation import quantize_8bit
from kgt_lightning.degradations.particles import draw, scatter
from kgt_lightning.degradations.veil import Veil

THINNEST = 0.55
"""Radius in pixels of the thinnest streak; what is thinner is drawn so, but fainter."""


@dataclass(frozen=True, kw_only=True)
class Rain:
    """degraded = t (J + S) + (1 - t) A, clipped and rounded to 8 bits: clean image J, streaks S, veil t and A.

    Equation 2 of Li, Cheong and Tan, "Heavy Rain Image Restoration" (CVPR 2019, arXiv 1904.05050); its streak layers
    are here drops at all distances. A drop falls some way while the shutter is open; the streak it leaves is as long
    and as wide as the drop is near, and adds light, since a drop gathers that of the sky (Garg and Nayar,
    "Vision and Rain", IJCV 2007). All drops of a picture fall in one direction, but for a few degrees.
    """

    strength: NotNegative
    """Multiplies density and beta; 0 leaves an 8-bit image as it is."""
    density: Share
    """Drops per pixel."""
    length: NotNegative
    """Of the nearest streaks, in pixels; the farthest have a quarter of it."""
    radius: Positive
    """Of the nearest streaks, in pixels."""
    brightness: NotNegative
    """Light that the middle of a streak adds, of a white of 1."""
    slant: NotNegative
    """Degrees from the vertical, at most."""
    veil: Veil

    def __call__(self, clean: Tensor, rng: np.random.Generator) -> Tensor:
        """Rainy image [C, H, W] of a clean one in [0, 1]."""
        size = (clean.shape[1], clean.shape[2])
        veil = self.veil.draw(size, strength=self.strength, rng=rng)
        light = veil.transmission * (clean.numpy() + self._streaks(size, rng))
        return quantize_8bit(light + (1 - veil.transmission) * np.float32(veil.airlight))

    def _streaks(self, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        """Light S of the streaks, [H, W]."""
        drops = scatter(size, density=self.strength * self.density, margin=self.length / 2, rng=rng)
        slant = np.radians(rng.uniform(-self.slant, self.slant) + 2 * rng.standard_normal(len(drops)))
        length = self.length * drops.nearness * rng.uniform(0.7, 1, len(drops))
        radius = self.radius * drops.nearness * rng.uniform(0.5, 1, len(drops))
        brightness = self.brightness * rng.uniform(0.4, 1, len(drops)) * np.minimum(radius / THINNEST, 1)
        return draw(
            drops,
            size=size,
            motion=(length * np.stack([np.cos(slant), np.sin(slant)])).astype(np.float32),
            radius=np.maximum(radius, THINNEST).astype(np.float32),
            weight=brightness.astype(np.float32),
        )
