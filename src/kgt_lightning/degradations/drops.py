"""Drops of water on the lens or on a window before it."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Interval
from torch import Tensor

from kgt_lightning.config.types import NotNegative, Share
from kgt_lightning.degradations.degradation import quantize_8bit

SMALLEST = 1 / 3
"""Radius of the smallest drops, in radii of the largest."""
UNEVEN = 0.12
"""How much the radius of a drop changes around it, at most, in two and in three waves."""


@dataclass(frozen=True, kw_only=True)
class Drops:
    """degraded = (1 - M) J + M R, clipped and rounded to 8 bits: clean image J, soft mask M, light R through a drop.

    The model of Qian, Tan, Yang, Su and Liu, "Attentive Generative Adversarial Network for Raindrop Removal" (CVPR
    2018, arXiv 1711.10098). A drop is a strong lens: R(p) = J(c - m(r) (p - c)) with the centre c, upside down,
    ``shrink`` times smaller, still smaller towards the edge, where it also gets dark since the light is reflected
    away. The camera is focused beyond the drop: R is blurred, and the edge of M soft. Outside the picture it is
    mirrored, and its part that is within a drop's reach is all that the drop shows.
    """

    strength: NotNegative
    """Multiplies the number of drops; 0 leaves an 8-bit image as it is."""
    coverage: Share
    """Part of the picture that drops cover, about, at most 1."""
    radius: Annotated[float, Ge(3)]
    """Of the largest drops in pixels; the smallest have a third of it, and there are more of them."""
    shrink: Annotated[float, Ge(1)]
    """How many times smaller the scene is in the middle of a drop."""
    softness: Annotated[float, Interval(gt=0, lt=1)]
    """Width of the edge, in radii of the drop."""

    def __call__(self, clean: Tensor, rng: np.random.Generator) -> Tensor:
        """Image [C, H, W] of a clean one in [0, 1], seen through a lens with drops on it."""
        height, width = clean.shape[1:]
        cells = [max(1, round(side / self.shrink)) for side in (height, width)]
        scene = F.interpolate(clean[None], size=cells, mode="area")
        light = clean.numpy().copy()
        margin = self.radius * (1 + 2 * UNEVEN)
        # 1 / radius is spread evenly, so that the mean of radius^2 is SMALLEST of the largest.
        area = np.pi * self.radius**2 * SMALLEST
        number = self.strength * self.coverage * (height + 2 * margin) * (width + 2 * margin) / area
        for _ in range(rng.poisson(number)):
            radius = self.radius / rng.uniform(1, 1 / SMALLEST)
            y, x = (rng.uniform(-margin, side + margin) for side in (height, width))
            self._lay(light, scene, y, x, radius, rng)
        return quantize_8bit(light)

    def _lay(
        self, light: np.ndarray, scene: Tensor, y: float, x: float, radius: float, rng: np.random.Generator
    ) -> None:
        """Lay one drop over the light."""
        shape = rng.uniform(-UNEVEN, UNEVEN, 2) * np.exp(2j * np.pi * rng.random(2))
        height, width = light.shape[1:]
        reach = radius * (1 + 2 * UNEVEN)
        top, left = max(int(y - reach), 0), max(int(x - reach), 0)
        bottom, right = min(int(y + reach) + 2, height), min(int(x + reach) + 2, width)
        if top >= bottom or left >= right:
            return
        down = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(y)
        across = np.arange(left, right, dtype=np.float32) - np.float32(x)
        distance = np.sqrt(down**2 + across**2) + np.float32(1e-3)
        turn = (across + 1j * down) / distance
        outline = radius * (1 + (turn**2 * shape[0] + turn**3 * shape[1]).real)
        relative = (distance / outline).astype(np.float32)
        edge = np.clip((1 - relative) / np.float32(self.softness), 0, 1)
        mask = edge * edge * (3 - 2 * edge)
        shrink = np.float32(self.shrink) * (1 + relative**2)
        source_y = (np.float32(y) - shrink * down + 0.5) * (2 / height) - 1
        source_x = (np.float32(x) - shrink * across + 0.5) * (2 / width) - 1
        grid = torch.from_numpy(np.stack([source_x, source_y], axis=-1).astype(np.float32))
        refracted = F.grid_sample(scene, grid[None], padding_mode="reflection", align_corners=False)[0].numpy()
        seen = refracted * (1 - np.float32(0.5) * np.minimum(relative, 1) ** 4)
        part = light[:, top:bottom, left:right]
        part += mask * (seen - part)
