"""Haze: what a task of your own needs is this class and conf/task/dehaze.yaml."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kgt_lightning.degradations.degradation import Degradation, quantize_8bit, seeded_by_name
from kgt_lightning.degradations.levels import Level, Levels


@dataclass(frozen=True, kw_only=True)
class Haze(Degradation):
    """I = J t + A (1 - t), t = exp(-beta d), rounded to 8 bits: clean image J, airlight A, extinction beta, depth d.

    The law of Koschmieder (1924), as dehazing is posed (Narasimhan and Nayar, IJCV 2002). Photographs come without
    depth, so d is a smooth random field in [0, 1]. Depth and airlight are drawn for every image.
    """

    beta: Level
    """Extinction in training: fixed, drawn from a list, or drawn uniformly from {low, high}."""
    test_beta: float | Sequence[float] | None
    """Extinctions to test, see :class:`Levels`."""
    airlight: Mapping[str, float]
    """{low, high} in [0, 1]."""

    def __post_init__(self) -> None:
        _ = self.levels
        if not 0 <= self.airlight["low"] <= self.airlight["high"] <= 1:
            raise ValueError(f"degradation.airlight={dict(self.airlight)} must be a range {{low:0.7,high:1}} in 0..1")

    @cached_property
    def levels(self) -> Levels:
        """Extinctions."""
        return Levels(
            name="beta",
            what="an extinction of 0 or more",
            training=self.beta,
            test=self.test_beta,
            usual=(0.5, 1.0, 2.0),
            least=0,
        )

    def __call__(self, clean: Tensor, rng: np.random.Generator) -> Tensor:
        """Hazy image [C, H, W] of a clean one in [0, 1]."""
        return self.hazy(clean, rng, beta=self.levels.draw(rng))

    def test_settings(self) -> dict[str, Callable[[Tensor, str], Tensor]]:
        """The extinctions to test, such as ``beta=1``: depth and airlight are drawn from the listed name."""
        return {f"beta={beta:g}": seeded_by_name(partial(self.hazy, beta=beta)) for beta in self.levels.to_test()}

    def hazy(self, clean: Tensor, rng: np.random.Generator, *, beta: float) -> Tensor:
        """Hazy image [C, H, W] of a clean one in [0, 1], at this extinction."""
        airlight = rng.uniform(self.airlight["low"], self.airlight["high"])
        transmission = torch.exp(-beta * depth((clean.shape[1], clean.shape[2]), rng))
        return quantize_8bit((clean * transmission + airlight * (1 - transmission)).numpy())


def depth(size: tuple[int, int], rng: np.random.Generator) -> Tensor:
    """Smooth random depth of a scene, float32 [H, W] in [0, 1]: 4 x 4 uniform values, enlarged."""
    coarse = torch.from_numpy(rng.random((1, 1, 4, 4), dtype=np.float32))
    return F.interpolate(coarse, size=size, mode="bilinear", align_corners=True)[0, 0]
