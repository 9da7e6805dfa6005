"""Learning rates over a run."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate

from kgt_lightning.training.optim import AdamW, ConstantThenCosine, Cosine, MultiStep

PUBLISHED = json.loads((Path(__file__).parents[1] / "data/reference/schedules/schedules.json").read_text())


def factors(schedule, max_steps):
    return [schedule.factor(step, max_steps) for step in range(max_steps)]


def multistep(**given):
    return MultiStep(**{"warmup": 0, "initial": None, "milestones": [], "total": 1, "gamma": 0.5, **given})


def of_case(case):
    """The schedule with the settings of a published implementation."""
    settings, total = case["settings"], case["total_steps"]
    if "periods" in settings:
        [constant, _], [_, least] = settings["periods"], settings["eta_mins"]
        return ConstantThenCosine(constant=constant, total=total, final=least / settings["base_lr"])
    return MultiStep(
        warmup=max(settings["warmup_iter"], 0),
        initial=settings["warmup_init_lr"] / settings["base_lr"],
        milestones=settings["milestones"],
        total=total,
        gamma=settings["gamma"],
    )


@pytest.mark.parametrize("case", PUBLISHED, ids=lambda case: case["name"])
def test_published_learning_rates(case):
    schedule, base = of_case(case), case["settings"]["base_lr"]
    for step, rate in case["lr_in_force_when_taking_step_index"].items():
        assert base * schedule.factor(int(step), case["total_steps"]) == pytest.approx(rate, rel=1e-9), step


@pytest.mark.parametrize(("recipe", "case"), [("demosaic", PUBLISHED[0]), ("deblur_1", PUBLISHED[2])])
def test_recipes_have_the_published_learning_rates(composed, recipe, case):
    config = composed("train", f"experiment=paper/{recipe}", "run_dir=unused")
    assert config.trainer.max_steps == case["total_steps"]
    schedule = instantiate(config.optim.schedule)
    for step, rate in case["lr_in_force_when_taking_step_index"].items():
        assert config.optim.lr * schedule.factor(int(step), config.trainer.max_steps) == pytest.approx(rate, rel=1e-9)


@pytest.mark.parametrize("case", PUBLISHED, ids=lambda case: case["name"])
def test_a_shortened_recipe_keeps_its_shape(case):
    schedule, total = of_case(case), case["total_steps"]
    short = factors(schedule, total // 1000)
    assert short == pytest.approx([schedule.factor(1000 * step, total) for step in range(total // 1000)], abs=0.02)
    assert max(short) == pytest.approx(1, abs=2e-5)


def test_constant_then_cosine():
    values = factors(ConstantThenCosine(constant=3, total=7, final=0.5), 7)
    assert values[:4] == [1, 1, 1, 1]  # the cosine begins at the fourth
    assert values[5] == pytest.approx(0.75)  # half-way from step 3 to where the eighth would be
    assert 0.5 < values[6] < values[5] < values[4] < 1


def test_cosine_rises_falls_and_ends():
    values = factors(Cosine(warmup=0.1, final=0.01), 101)
    assert values[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert values[10] == 1
    assert values[55] == pytest.approx(0.01 + 0.99 / 2)  # half-way between the steps 10 and 100
    assert values[100] == pytest.approx(0.01)
    assert all(before > after for before, after in pairwise(values[10:]))


def test_cosine_without_warm_up():
    assert factors(Cosine(warmup=0, final=0), 3) == pytest.approx([1, 0.5, 0])


@pytest.mark.parametrize("schedule", [Cosine(warmup=0.05, final=0.01), multistep()])
def test_a_run_of_one_step_has_the_full_rate(schedule):
    assert schedule.factor(0, 1) == 1


def test_milestones():
    values = factors(multistep(warmup=0.02, milestones=[0.5, 0.8]), 100)
    assert values[:2] == pytest.approx([1 / 3, 2 / 3])
    assert values[2:50] == [1.0] * 48
    assert values[50:80] == [0.5] * 30
    assert values[80:] == [0.25] * 20


@pytest.mark.parametrize("schedule", [Cosine(warmup=0.1, final=0.01), multistep(warmup=0.1, milestones=[0.5])])
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
