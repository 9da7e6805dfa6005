"""The optimiser and how its learning rate changes over the steps of a run."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from kgt_lightning.config.types import Count, NotNegative, Positive, Share, Whole


class Schedule(Protocol):
    """Learning rate over a run, relative to its largest value."""

    def factor(self, step: int, max_steps: int) -> float:
        """Factor in [0, 1] that step 0..max_steps-1 is taken with."""
        ...


@dataclass(frozen=True, kw_only=True)
class Cosine:
    """Linear warm-up, then half a cosine down to ``final`` (arXiv 1608.03983, without restarts)."""

    warmup: Share
    """Share of all steps."""
    final: Share
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

    constant: Whole
    """Steps at the full rate."""
    total: Count
    """Steps of the run that ``constant`` is said for; a shorter or longer run keeps the share."""
    final: Share
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

    warmup: NotNegative
    """Steps."""
    initial: Share | None
    """Factor at the first step, as GRL warms up: the rate then stays one increment below the largest. None rises to the
    largest."""
    milestones: Sequence[NotNegative]
    """Steps, ascending."""
    total: Count
    """Steps of the run that warm-up and milestones are said for; a shorter or longer run keeps their shares, and with
    1 they are shares."""
    gamma: Share

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
class Group:
    """Weights that an optimiser of their own takes."""

    ndim: Whole | None
    """Number of their dimensions: 2 are the matrices, 4 the convolutions; None takes any."""
    names: str | None
    """Regular expression that is found in their names, such as ``stem``; None takes any."""
    lr_scale: Positive
    """Their learning rate, relative to ``optim.lr``."""
    optimizer: Callable[..., Optimizer]
    """From weights and learning rate; any class of torch.optim."""

    def takes(self, name: str, weights: nn.Parameter) -> bool:
        """Whether these weights are among them."""
        return self.ndim in (None, weights.ndim) and (self.names is None or re.search(self.names, name) is not None)


@dataclass(frozen=True, kw_only=True)
class Optim:
    """An optimiser, or several for different weights, under one schedule."""

    lr: Positive
    """Largest learning rate."""
    optimizer: Callable[..., Optimizer]
    """From weights and learning rate; any class of torch.optim."""
    groups: Mapping[str, Group]
    """Weights that are taken from it; the first that takes some weights has them."""
    schedule: Schedule | Callable[[Optimizer], LRScheduler]
    """A schedule, or one of torch.optim.lr_scheduler with all its arguments but the optimiser."""

    def __call__(
        self, named_parameters: Iterable[tuple[str, nn.Parameter]], max_steps: int
    ) -> tuple[Optimizer, LRScheduler]:
        """Optimiser and scheduler; the scheduler is to be advanced after every step.

        Raises:
            ValueError: if a group takes no weights.

        """
        taken: dict[str, list[nn.Parameter]] = {name: [] for name in self.groups}
        rest: list[nn.Parameter] = []
        for name, weights in named_parameters:
            first = next((key for key, group in self.groups.items() if group.takes(name, weights)), None)
            (rest if first is None else taken[first]).append(weights)
        optimizers = [self.optimizer(rest, lr=self.lr)] if rest else []
        for key, group in self.groups.items():
            if not taken[key]:
                raise ValueError(f"optim.groups.{key} takes no weights: ndim={group.ndim} and names={group.names}")
            optimizers.append(group.optimizer(taken[key], lr=self.lr * group.lr_scale))
        optimizer = Joined(optimizers)
        if not hasattr(self.schedule, "factor"):
            return optimizer, self.schedule(optimizer)
        factor: Callable[[int], float] = partial(self.schedule.factor, max_steps=max_steps)
        return optimizer, LambdaLR(optimizer, factor)


class Joined(Optimizer):
    """Several optimisers, or one, as one, whose state is saved and loaded as that of a single one with their groups.

    A fused optimiser in it does not offer to unscale gradients itself, for which mixed precision refuses to clip them.
    """

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self.optimizers = optimizers
        super().__init__([group for optimizer in optimizers for group in optimizer.param_groups], {})
        self.defaults = optimizers[0].defaults
        for optimizer in optimizers:
            self.state.update(optimizer.state)
        self._share()

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take the step of each, after the closure, whose loss it gives."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for optimizer in self.optimizers:
            optimizer.step()
        return loss

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._share()

    def _share(self) -> None:
        """Let each see its part of the state and the groups, which loading makes anew."""
        groups = iter(self.param_groups)
        for optimizer in self.optimizers:
            optimizer.state = self.state
            optimizer.param_groups = [next(groups) for _ in optimizer.param_groups]


def _half_cosine(progress: float, *, final: float) -> float:
    """From 1 to ``final`` while progress goes from 0 to 1."""
    return final + (1 - final) * (1 + math.cos(math.pi * min(progress, 1))) / 2
