"""The veil that particles too far to be seen one by one lay over a scene: fog, and rain or snow far away."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

SCENE = 320
"""Height in pixels of the least scene: a lower picture, such as a training patch, is a random part of one so high."""
NEAR = 0.35
"""Distance at the bottom of a scene, in units of that at its top."""


class Drawn(NamedTuple):
    """One veil."""

    transmission: np.ndarray
    """Part of the light of each place that reaches the camera, float32 [H, W] in (0, 1]."""
    airlight: float
    """Light that the veil scatters into the camera, gray, in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class Veil:
    """Seen = J t + A (1 - t), t = exp(-beta d): light J of the scene, airlight A, extinction beta, distance d.

    The law of Koschmieder (1924), as in Outdoor-Rain (Li, Cheong and Tan, CVPR 2019, arXiv 1904.05050). Images
    come without distances, so d is made up: a plane that is nearest at the bottom of the picture and farthest, d = 1,
    at its top, times a smooth random field of mean 1. A and beta are drawn evenly from their ranges.
    """

    beta: Mapping[str, float]
    """{low, high} of the extinction per distance of the top of the scene, 0 or more: t there is exp(-beta)."""
    airlight: Mapping[str, float]
    """{low, high} in [0, 1]."""

    def __post_init__(self) -> None:
        for name, most in (("beta", float("inf")), ("airlight", 1.0)):
            given = getattr(self, name)
            if set(given) != {"low", "high"} or not 0 <= given["low"] <= given["high"] <= most:
                raise ValueError(f"veil.{name}={dict(given)} must be a range {{low:..,high:..}} within 0..{most:g}")

    def draw(self, size: tuple[int, int], *, strength: float, rng: np.random.Generator) -> Drawn:
        """A veil over a picture of height x width; beta is multiplied by the strength."""
        beta = strength * rng.uniform(self.beta["low"], self.beta["high"])
        airlight = rng.uniform(self.airlight["low"], self.airlight["high"])
        return Drawn(np.exp(-np.float32(beta) * _distances(size, rng)), airlight)


def _distances(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Distance d of every pixel, float32 [H, W]."""
    height, width = size
    scene = max(height, SCENE)
    y = np.arange(height, dtype=np.float32)[:, None] + np.float32(rng.uniform(0, scene - height))
    x = np.arange(width, dtype=np.float32)
    plane = 1 - (1 - NEAR) * y / scene
    # Two waves across the picture, as hills and the trees before them.
    field = np.ones(size, dtype=np.float32)
    for _ in range(2):
        wave = 2 * np.pi / (scene * rng.uniform(0.3, 1.0))
        angle, phase = rng.uniform(0, 2 * np.pi, 2)
        down, right = wave * np.sin(angle), wave * np.cos(angle)
        field += np.float32(0.15) * np.cos(np.float32(down) * y + (np.float32(right) * x + np.float32(phase)))
    return plane * field
