"""The optimiser and how its learning rate changes over the steps of a run."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from torch import nn, optim
from torch.optim.lr_scheduler import LambdaLR


class Schedule(Protocol):
    """Learning rate over a run, relative to its largest value."""

    def factor(self, step: int, max_steps: int) -> float:
        """Factor in [0, 1] that step 0..max_steps-1 is taken with."""
        ...


@dataclass(frozen=True, kw_only=True)
class Cosine:
    """Linear warm-up, then half a cosine down to ``final`` (arXiv 1608.03983, without restarts)."""

    warmup: float
    """Share of all steps."""
    final: float
    """Factor at the last step."""

    def factor(self, step: int, max_steps: int) -> float:
        """Factor in (0, 1] of this step."""
        warmup_steps = round(self.warmup * max_steps)
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        progress = (step - warmup_steps) / max(max_steps - 1 - warmup_steps, 1)
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * min(progress, 1))) / 2


@dataclass(frozen=True, kw_only=True)
class MultiStep:
    """Linear warm-up, then a factor ``gamma`` less at every milestone (as SwinIR and GRL train)."""

    warmup: float
    """Share of all steps."""
    milestones: Sequence[float]
    """Shares of all steps, ascending."""
    gamma: float

    def factor(self, step: int, max_steps: int) -> float:
        """Factor in (0, 1] of this step."""
        warmup_steps = round(self.warmup * max_steps)
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        return self.gamma ** sum(step >= round(milestone * max_steps) for milestone in self.milestones)


@dataclass(frozen=True, kw_only=True)
class AdamW:
    """AdamW (arXiv 1711.05101) under a schedule."""

    lr: float
    """Largest learning rate."""
    betas: Sequence[float]
    weight_decay: float
    schedule: Schedule

    def __call__(self, parameters: Iterable[nn.Parameter], max_steps: int) -> tuple[optim.Optimizer, LambdaLR]:
        """Optimiser and scheduler; the scheduler is to be advanced after every step."""
        first, second = self.betas
        optimizer = optim.AdamW(
            parameters, lr=self.lr, betas=(first, second), weight_decay=self.weight_decay, fused=True
        )
        # A fused optimiser offers to unscale gradients by itself; mixed precision would then refuse to clip them.
        optimizer._step_supports_amp_scaling = False
        factor: Callable[[int], float] = partial(self.schedule.factor, max_steps=max_steps)
        return optimizer, LambdaLR(optimizer, factor)
