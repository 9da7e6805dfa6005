"""Falling snow: opaque flakes, and the veil of those behind them."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from kgt_lightning.config.types import NotNegative, Positive, Share
from kgt_lightning.degradations.degradation import quantize_8bit
from kgt_lightning.degradations.particles import Particles, draw, scatter
from kgt_lightning.degradations.veil import Veil

SMALLEST = 0.7
"""Radius in pixels of the smallest flake; what is smaller is drawn so, but more transparent."""
LOBES = 3
"""Clumps of crystals that a flake is made of."""


@dataclass(frozen=True, kw_only=True)
class Snow:
    """degraded = z a + (1 - z) (t J + (1 - t) A), clipped and rounded to 8 bits: clean image J, veil t and A.

    z is the opacity of the flakes, a their white: the model of Snow100K (Liu, Jaw, Huang and Hwang, "DesnowNet", IEEE
    TIP 2018, arXiv 1708.04512), with a veil below. Flakes lie at all distances, the near ones large and smeared along
    their way. Where several lie before each other, each lets through a part of the light: z = 1 - exp(-sum).
    """

    strength: NotNegative
    """Multiplies density and beta; 0 leaves an 8-bit image as it is."""
    density: Share
    """Flakes per pixel."""
    radius: Positive
    """Of the nearest flakes, in pixels; the farthest have a quarter of it."""
    length: NotNegative
    """Way of the nearest flakes while the shutter is open, in pixels."""
    opacity: NotNegative
    """Optical thickness of the middle of a flake."""
    slant: NotNegative
    """Degrees from the vertical, at most."""
    veil: Veil

    def __call__(self, clean: Tensor, rng: np.random.Generator) -> Tensor:
        """Snowy image [C, H, W] of a clean one in [0, 1]."""
        size = (clean.shape[1], clean.shape[2])
        veil = self.veil.draw(size, strength=self.strength, rng=rng)
        behind = veil.transmission * clean.numpy() + (1 - veil.transmission) * np.float32(veil.airlight)
        through = np.exp(-self._thickness(size, rng))
        white = np.float32(rng.uniform(0.9, 1))
        return quantize_8bit(through * behind + (1 - through) * white)

    def _thickness(self, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        """Optical thickness of the flakes, [H, W]."""
        margin = self.length / 2 + 2 * self.radius
        flakes = scatter(size, density=self.strength * self.density, margin=margin, rng=rng)
        number = len(flakes)
        radius = self.radius * flakes.nearness * rng.uniform(0.5, 1, number)
        # Snow drifts: the direction differs from flake to flake.
        slant = np.radians(rng.uniform(-self.slant, self.slant) + 15 * rng.standard_normal(number))
        motion = self.length * flakes.nearness * rng.uniform(0.2, 1, number) * np.stack([np.cos(slant), np.sin(slant)])
        opacity = self.opacity * rng.uniform(0.4, 1, number) * np.minimum(radius / SMALLEST, 1) ** 2
        spread = (0.6 * radius * rng.standard_normal((2, LOBES, number))).astype(np.float32)
        lobes = Particles((flakes.y + spread[0]).ravel(), (flakes.x + spread[1]).ravel(), flakes.nearness)
        return draw(
            lobes,
            size=size,
            motion=np.tile(motion, LOBES).astype(np.float32),
            radius=np.tile(np.maximum(0.7 * radius, SMALLEST), LOBES).astype(np.float32),
            weight=np.tile(opacity / LOBES, LOBES).astype(np.float32),
        )
