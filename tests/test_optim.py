"""Learning rates over a run."""

from itertools import pairwise

import pytest
import torch

from kgt_lightning.optim import AdamW, Cosine, MultiStep


def factors(schedule, max_steps):
    return [schedule.factor(step, max_steps) for step in range(max_steps)]


def test_cosine_rises_falls_and_ends():
    values = factors(Cosine(warmup=0.1, final=0.01), 101)
    assert values[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert values[10] == 1
    assert values[55] == pytest.approx(0.01 + 0.99 / 2)  # half-way between the steps 10 and 100
    assert values[100] == pytest.approx(0.01)
    assert all(before > after for before, after in pairwise(values[10:]))


def test_cosine_without_warm_up():
    assert factors(Cosine(warmup=0, final=0), 3) == pytest.approx([1, 0.5, 0])


@pytest.mark.parametrize("schedule", [Cosine(warmup=0.05, final=0.01), MultiStep(warmup=0, milestones=[], gamma=0.5)])
def test_a_run_of_one_step_has_the_full_rate(schedule):
    assert schedule.factor(0, 1) == 1


def test_milestones():
    values = factors(MultiStep(warmup=0.02, milestones=[0.5, 0.8], gamma=0.5), 100)
    assert values[:2] == pytest.approx([1 / 3, 2 / 3])
    assert values[2:50] == [1.0] * 48
    assert values[50:80] == [0.5] * 30
    assert values[80:] == [0.25] * 20


@pytest.mark.parametrize(
    "schedule", [Cosine(warmup=0.1, final=0.01), MultiStep(warmup=0.1, milestones=[0.5], gamma=0.5)]
)
def test_shares_stretch_with_the_run(schedule):
    """What is said in shares of all steps has the same shape in a run ten times as long."""
    short, long = factors(schedule, 100), factors(schedule, 1000)
    assert long[::10] == pytest.approx(short, abs=0.1)
    assert sum(long) / 1000 == pytest.approx(sum(short) / 100, rel=0.02)


def test_optimiser_takes_each_step_with_its_rate():
    weight = torch.nn.Parameter(torch.ones(3))
    make = AdamW(lr=0.2, betas=[0.9, 0.99], weight_decay=0.1, schedule=Cosine(warmup=0, final=0))
    optimizer, scheduler = make([weight], 3)
    assert optimizer.defaults["betas"] == (0.9, 0.99)
    assert optimizer.defaults["weight_decay"] == 0.1
    rates = []
    for _ in range(3):
        rates.append(optimizer.param_groups[0]["lr"])
        weight.square().sum().backward()
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([0.2, 0.1, 0])
