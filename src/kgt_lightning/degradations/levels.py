"""How strong a degradation is: in training one level, one of a list, or any of a range; in tests a few fixed ones."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Level = float | Sequence[float] | Mapping[str, float]
"""One level, a list of levels, or {low, high}."""


@dataclass(frozen=True, kw_only=True)
class Levels:
    """Levels of a degradation, to draw from in training and to test.

    Raises:
        ValueError: naming the setting whose value makes no sense.

    """

    name: str
    """Of the setting, such as sigma: ``degradation.<name>`` and ``degradation.test_<name>`` are what errors name."""
    what: str
    """What a level is, for errors, such as "a level of 0 or more"."""
    training: Level
    test: float | Sequence[float] | None
    """None takes the levels of training, of a range the usual ones that lie in it, or else its upper end."""
    usual: Sequence[float]
    """What papers test."""
    least: float
    most: float = math.inf
    whole: bool = False
    """Whether levels are whole numbers; of a range both ends are drawn then."""

    def __post_init__(self) -> None:
        example = f"such as {self.usual[0]}"
        span = f"{{low:{self.usual[0]},high:{self.usual[-1]}}}"
        if isinstance(self.training, Mapping):
            ordered = set(self.training) == {"low", "high"} and self._fit(list(self.training.values()))
            if not ordered or self.training["low"] > self.training["high"]:
                raise ValueError(
                    f"degradation.{self.name}={dict(self.training)} must be a range {span}, each end {self.what}"
                )
        elif not self._fit(listed(self.training)):
            raise ValueError(
                f"degradation.{self.name}={self.training} must be {self.what} {example}, a list of them,"
                f" or a range {span}"
            )
        if not self._fit(self.to_test()):
            raise ValueError(
                f"degradation.test_{self.name}={self.test} must be {self.what} {example}, or a list of them"
            )

    def draw(self, rng: np.random.Generator) -> float:
        """Level of one training sample."""
        if not isinstance(self.training, Mapping):
            return rng.choice(listed(self.training)).item()
        low, high = self.training["low"], self.training["high"]
        return int(rng.integers(int(low), int(high), endpoint=True)) if self.whole else float(rng.uniform(low, high))

    def largest(self) -> float:
        """The largest level that training draws."""
        return max(self.training.values()) if isinstance(self.training, Mapping) else max(listed(self.training))

    def to_test(self) -> list[float]:
        """Levels to test."""
        if self.test is not None:
            return listed(self.test)
        if not isinstance(self.training, Mapping):
            return listed(self.training)
        low, high = self.training["low"], self.training["high"]
        return [level for level in self.usual if low <= level <= high] or [high]

    def _fit(self, levels: Sequence[float]) -> bool:
        return bool(levels) and all(
            self.least <= each <= self.most and math.isfinite(each) and (isinstance(each, int) or not self.whole)
            for each in levels
        )


def listed(level: float | Sequence[float]) -> list[float]:
    """Levels as a list."""
    return list(level) if isinstance(level, Sequence) else [level]
