"""White Gaussian noise, as the literature's test sets have it."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from kgt_lightning.config.types import MetricProtocol
from kgt_lightning.degradations.degradation import Degradation
from kgt_lightning.degradations.levels import Level, Levels


@dataclass(frozen=True, kw_only=True)
class GaussianNoise(Degradation):
    """degraded = clean + n, n ~ N(0, (sigma/255)^2), neither clipped nor rounded (as KAIR, SwinIR and Restormer do)."""

    sigma: Level
    """In training, in 8-bit values: fixed, drawn from a list, or drawn uniformly from {low, high}."""
    test_sigma: float | Sequence[float] | None
    """Levels to test, see :class:`Levels`."""
    protocol: MetricProtocol
    """Whose test noise is drawn, see :func:`seeded_noise` and :func:`noise_named`."""

    def __post_init__(self) -> None:
        _ = self.levels

    @cached_property
    def levels(self) -> Levels:
        """Standard deviations in 8-bit values."""
        return Levels(
            name="sigma",
            what="a level in 0..255",
            training=self.sigma,
            test=self.test_sigma,
            usual=(15, 25, 50),
            least=0,
            most=255,
        )

    @property
    def rules(self) -> str:
        """How the noise of test images is seeded."""
        seeds = {"swinir": "noise of NumPy's seed 0 for each image, drawn in RGB", "grl": "noise seeded by file name"}
        return seeds[self.protocol] + ", not clipped"

    def __call__(self, clean: Tensor, rng: np.random.Generator) -> Tensor:
        """Noisy image [C, H, W] of a clean one in [0, 1]."""
        sigma = self.levels.draw(rng)
        noise = rng.standard_normal(clean.shape, dtype=np.float32)
        return clean + torch.from_numpy(noise) * (sigma / 255)

    def test_settings(self) -> dict[str, Callable[[Tensor, str], Tensor]]:
        """The levels to test, with the noise of the literature's test sets."""
        draw = noise_named if self.protocol == "grl" else _noise_unnamed
        return {f"sigma={sigma:g}": partial(draw, sigma=sigma) for sigma in self.levels.to_test()}


def seeded_noise(clean: Tensor, *, sigma: float, seed: int = 0) -> Tensor:
    """Noisy image [C, H, W]: NumPy's legacy stream, drawn height x width x channel (RGB), as KAIR and Restormer do.

    Seeded anew for each image, so that images of one size get the same noise.
    """
    channels, height, width = clean.shape
    noise = np.random.RandomState(seed).normal(0, sigma / 255, (height, width, channels))
    # Added in double precision and rounded once, as NumPy does for an in-place sum.
    noisy = clean.permute(1, 2, 0).double().numpy() + noise
    return torch.from_numpy(noisy.astype(np.float32)).permute(2, 0, 1).contiguous()


def noise_named(clean: Tensor, name: str, *, sigma: float) -> Tensor:
    """Noisy image [C, H, W]: seeded by the listed name up to its first underscore, drawn channel by channel, as GRL's.

    The seed is SHA-256 of that part in eight words; names such as Urban100/img_001.png share one.
    """
    seed = np.frombuffer(hashlib.sha256(name.partition("_")[0].encode()).digest(), dtype=np.uint32)
    noise = np.random.RandomState(seed).normal(0, sigma / 255, tuple(clean.shape))
    return torch.from_numpy((clean.double().numpy() + noise).astype(np.float32))


def _noise_unnamed(clean: Tensor, name: str, *, sigma: float) -> Tensor:
    return seeded_noise(clean, sigma=sigma)
