"""Removal of white Gaussian noise, in colour or gray."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from kgt_lightning.data.restoration import RestorationData
from kgt_lightning.metrics import Protocol
from kgt_lightning.model import KGT, ResidualHead
from kgt_lightning.restoration import RestorationModule

Sigma = float | Sequence[float] | Mapping[str, float]
"""One level, a list of levels, or {low, high}; in units of 8-bit values."""

USUAL_LEVELS = (15, 25, 50)


@dataclass(frozen=True, kw_only=True)
class GaussianNoise:
    """degraded = clean + n, n ~ N(0, (sigma/255)^2), neither clipped nor rounded (as KAIR, SwinIR and Restormer do)."""

    sigma: Sigma
    """Level in training: fixed, drawn from a list, or drawn uniformly from {low, high}."""
    test_sigma: float | Sequence[float] | None
    """Levels to test; None takes those of ``sigma``, or for a range the usual 15, 25 and 50 that lie in it."""
    protocol: Protocol
    """Whose test noise is drawn, see :func:`seeded_noise` and :func:`noise_named`."""
    scale: ClassVar[int] = 1
    context: ClassVar[int] = 0

    def __post_init__(self) -> None:
        if isinstance(self.sigma, Mapping):
            if set(self.sigma) != {"low", "high"} or not 0 <= self.sigma["low"] <= self.sigma["high"]:
                raise ValueError(
                    f"data.sigma={dict(self.sigma)} must be a range {{low:5,high:50}} of levels of 0 or more"
                )
        elif min(_levels(self.sigma), default=-1) < 0:
            raise ValueError(f"data.sigma={self.sigma} must be a level of 0 or more such as 25, or a list of them")
        if min(self._test_levels(), default=-1) < 0:
            raise ValueError(
                f"data.test_sigma={self.test_sigma} must be a level of 0 or more such as 25, or a list of them"
            )

    def __call__(self, clean: Tensor, rng: np.random.Generator) -> Tensor:
        """Noisy image [C, H, W] of a clean one in [0, 1]."""
        if isinstance(self.sigma, Mapping):
            sigma = rng.uniform(self.sigma["low"], self.sigma["high"])
        else:
            sigma = float(rng.choice(_levels(self.sigma)))
        noise = rng.standard_normal(clean.shape, dtype=np.float32)
        return clean + torch.from_numpy(noise) * (sigma / 255)

    def test_settings(self) -> dict[str, Callable[[Tensor, str], Tensor]]:
        """The levels to test, with the noise of the literature's test sets."""
        draw = noise_named if self.protocol == "grl" else _noise_unnamed
        return {f"sigma={sigma:g}": partial(draw, sigma=sigma) for sigma in self._test_levels()}

    def _test_levels(self) -> list[float]:
        if self.test_sigma is not None:
            return _levels(self.test_sigma)
        if not isinstance(self.sigma, Mapping):
            return _levels(self.sigma)
        low, high = _levels(self.sigma)
        return [level for level in USUAL_LEVELS if low <= level <= high] or [high]


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


@dataclass(kw_only=True, eq=False)
class DenoiseData(RestorationData):
    """Pairs of a noisy and a clean image; fields as in :class:`GaussianNoise`."""

    sigma: Sigma
    test_sigma: float | Sequence[float] | None

    def make_degradation(self) -> GaussianNoise:
        """White Gaussian noise."""
        return GaussianNoise(sigma=self.sigma, test_sigma=self.test_sigma, protocol=self.protocol)

    @property
    def test_rules(self) -> str:
        """How the noise of test images is seeded."""
        seeds = {"swinir": "noise of NumPy's seed 0 for each image, drawn in RGB", "grl": "noise seeded by file name"}
        return ", ".join(filter(None, [super().test_rules, seeds[self.protocol] + ", not clipped"]))


class DenoiseModule(RestorationModule):
    """KGT with a residual head."""

    def make_head(self, backbone: KGT, scale: int) -> ResidualHead:
        """Restored = degraded + conv(features)."""
        return ResidualHead(width=backbone.width, stride=backbone.stride, channels=backbone.channels)


def _levels(sigma: Sigma) -> list[float]:
    if isinstance(sigma, Mapping):
        return [float(sigma["low"]), float(sigma["high"])]
    return [float(level) for level in sigma] if isinstance(sigma, Sequence) else [float(sigma)]
