"""Weather: rain with its veil, falling snow, or drops on the lens."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
from annotated_types import MinLen
from torch import Tensor

from kgt_lightning.config.types import NotNegative
from kgt_lightning.degradations.degradation import Degradation, seeded_by_name
from kgt_lightning.degradations.drops import Drops
from kgt_lightning.degradations.rain import Rain
from kgt_lightning.degradations.snow import Snow

Kind = Literal["rain", "snow", "drops"]


@dataclass(frozen=True, kw_only=True)
class Weather(Degradation):
    """degraded = the clean image in one kind of weather, which each training sample draws evenly from ``kinds``."""

    kinds: Annotated[Sequence[Kind], MinLen(1)]
    strength: NotNegative
    """Multiplies that of every kind; 0 is fine weather."""
    rain: Rain
    snow: Snow
    drops: Drops

    def __post_init__(self) -> None:
        if len(set(self.kinds)) < len(self.kinds):
            raise ValueError(f"degradation.kinds={list(self.kinds)} must name each kind once")

    def __call__(self, clean: Tensor, rng: np.random.Generator) -> Tensor:
        """Degraded image [C, H, W] of a clean one in [0, 1]."""
        return self._weather(self.kinds[int(rng.integers(len(self.kinds)))])(clean, rng)

    def test_settings(self) -> Mapping[str, Callable[[Tensor, str], Tensor]]:
        """The kinds, by their names; all chance is drawn from the listed name of the image."""
        return {kind: seeded_by_name(self._weather(kind)) for kind in self.kinds}

    def _weather(self, kind: Kind) -> Rain | Snow | Drops:
        by_kind: dict[Kind, Rain | Snow | Drops] = {"rain": self.rain, "snow": self.snow, "drops": self.drops}
        chosen = by_kind[kind]
        return replace(chosen, strength=self.strength * chosen.strength)
