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
        return _half_cosine((step - warmup_steps) / max(max_steps - 1 - warmup_steps, 1), final=self.final)


@dataclass(frozen=True, kw_only=True)
class ConstantThenCosine:
    """The full rate for a while, then half a cosine that would reach ``final`` one step after the last.

    As Restormer trains (arXiv 2111.09881, section 4; its two cycles of which the first does not fall).
    """

    constant: int
    """Steps at the full rate."""
    total: int
    """Steps of the run that ``constant`` is said for; a shorter or longer run keeps the share."""
    final: float
    """Factor at the end."""

    def factor(self, step: int, max_steps: int) -> float:
        """Factor in (0, 1] of this step."""
        constant = round(self.constant * max_steps / self.total)
        if step < constant:
            return 1
        return _half_cosine((step - constant) / (max_steps - constant), final=self.final)


@dataclass(frozen=True, kw_only=True)
class MultiStep:
    """Linear warm-up, then a factor ``gamma`` less at every milestone (as SwinIR and GRL train)."""

    warmup: float
    """Steps."""
    initial: float | None
    """Factor at the first step, as GRL warms up: the rate then stays one increment below the largest. None rises to the
    largest."""
    milestones: Sequence[float]
    """Steps, ascending."""
    total: int
    """Steps of the run that warm-up and milestones are said for; a shorter or longer run keeps their shares, and with
    1 they are shares."""
    gamma: float

    def factor(self, step: int, max_steps: int) -> float:
        """Factor in (0, 1] of this step."""
        warmup_steps = round(self.warmup * max_steps / self.total)
        passed = sum(step >= round(milestone * max_steps / self.total) for milestone in self.milestones)
        if self.initial is None:
            rise = min((step + 1) / (warmup_steps + 1), 1)
        elif warmup_steps:
            # one increment of the whole recipe is missing, also in a shorter run of few increments
            most = 1 - 1 / max(warmup_steps, self.warmup)
            rise = self.initial + (1 - self.initial) * min(step / warmup_steps, most)
        else:
            rise = 1
        return rise if step < warmup_steps else rise * self.gamma**passed


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


def _half_cosine(progress: float, *, final: float) -> float:
    """From 1 to ``final`` while progress goes from 0 to 1."""
    return final + (1 - final) * (1 + math.cos(math.pi * min(progress, 1))) / 2
