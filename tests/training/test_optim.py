"""Optimisers, and learning rates over a run."""

import json
from copy import deepcopy
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from lightning.pytorch.plugins import MixedPrecision
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR

from kgt_lightning.training.optim import ConstantThenCosine, Cosine, Group, MultiStep, Optim

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


def adamw(**settings):
    return partial(torch.optim.AdamW, betas=(0.9, 0.99), weight_decay=0.1, fused=True, **settings)


def group(optimizer, **changes):
    return Group(**{"ndim": None, "names": None, "lr_scale": 1, "optimizer": optimizer, **changes})


def optim(**changes):
    return Optim(**{"lr": 0.2, "optimizer": adamw(), "groups": {}, "schedule": Cosine(warmup=0, final=0), **changes})


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten(), torch.nn.Linear(8, 3))


def steps(model, optimizer, scheduler, number):
    generator = torch.Generator().manual_seed(1)
    for _ in range(number):
        optimizer.zero_grad()
        model(torch.rand(2, 1, 4, 4, generator=generator)).square().sum().backward()
        optimizer.step()
        scheduler.step()
    return [weights.detach().clone() for weights in model.parameters()]


def test_optimiser_takes_each_step_with_its_rate():
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer, scheduler = optim()([("weight", weight)], 3)
    assert optimizer.defaults["betas"] == (0.9, 0.99)
    assert optimizer.defaults["weight_decay"] == 0.1
    rates = []
    for _ in range(3):
        rates.append(optimizer.param_groups[0]["lr"])
        weight.square().sum().backward()
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([0.2, 0.1, 0])


def test_matrices_by_muon_the_rest_by_adamw():
    """Each optimiser does to its weights what it does alone."""
    muon = partial(torch.optim.Muon, weight_decay=0.0)
    ours, alone = network(), network()
    together = optim(groups={"matrices": group(muon, ndim=2, lr_scale=0.5)})
    found = steps(ours, *together(ours.named_parameters(), 4), 3)

    matrix = [alone[2].weight]
    rest = [weights for weights in alone.parameters() if weights is not matrix[0]]
    optimizers = [adamw()(rest, lr=0.2), muon(matrix, lr=0.1)]
    schedulers = [LambdaLR(each, lambda step: Cosine(warmup=0, final=0).factor(step, 4)) for each in optimizers]

    class Both:
        def __getattr__(self, name):
            return lambda: [getattr(each, name)() for each in optimizers]

    class Schedulers:
        def step(self):
            return [each.step() for each in schedulers]

    for one, other in zip(found, steps(alone, Both(), Schedulers(), 3), strict=True):
        assert torch.equal(one, other)


def test_the_first_group_that_takes_weights_has_them():
    model = network()
    sgd = partial(torch.optim.SGD, momentum=0.9)
    groups = {"first": group(sgd, names=r"^0\."), "vectors": group(sgd, ndim=1, lr_scale=10)}
    optimizer, _ = optim(groups=groups)(model.named_parameters(), 3)
    sizes = [[weights.numel() for weights in each["params"]] for each in optimizer.param_groups]
    assert sizes == [[24], [18, 2], [3]]
    assert [each["lr"] for each in optimizer.param_groups] == pytest.approx([0.2, 0.2, 2])


def test_a_group_that_takes_nothing_is_named():
    with pytest.raises(ValueError, match=r"optim\.groups\.volumes takes no weights: ndim=5 and names=None"):
        optim(groups={"volumes": group(adamw(), ndim=5)})(network().named_parameters(), 3)


@pytest.mark.parametrize("other", [partial(torch.optim.Muon), partial(torch.optim.Adagrad)], ids=["muon", "adagrad"])
def test_several_optimisers_go_on_where_they_were_saved(other):
    make = optim(groups={"matrices": group(other, ndim=2)})
    whole = network()
    expected = steps(whole, *make(whole.named_parameters(), 8), 3)

    begun = network()
    optimizer, scheduler = make(begun.named_parameters(), 8)
    steps(begun, optimizer, scheduler, 3)
    again = network()
    again.load_state_dict(begun.state_dict())
    optimizer_again, scheduler_again = make(again.named_parameters(), 8)
    optimizer_again.load_state_dict(deepcopy(optimizer.state_dict()))
    scheduler_again.load_state_dict(scheduler.state_dict())
    for one, other in zip(
        steps(begun, optimizer, scheduler, 3), steps(again, optimizer_again, scheduler_again, 3), strict=True
    ):
        assert torch.equal(one, other)
    assert not torch.equal(expected[0], one)


def test_the_state_of_a_single_optimiser_fits():
    """Checkpoints of earlier versions hold that of AdamW itself."""
    alone, ours = network(), network()
    before = adamw()(alone.parameters(), lr=0.2)
    scheduler = LambdaLR(before, partial(Cosine(warmup=0, final=0).factor, max_steps=8))
    steps(alone, before, scheduler, 3)
    ours.load_state_dict(alone.state_dict())
    optimizer, again = optim()(ours.named_parameters(), 8)
    optimizer.load_state_dict(deepcopy(before.state_dict()))
    again.load_state_dict(scheduler.state_dict())
    for one, other in zip(steps(alone, before, scheduler, 2), steps(ours, optimizer, again, 2), strict=True):
        assert torch.equal(one, other)


def test_a_scheduler_of_torch():
    cycle = partial(OneCycleLR, max_lr=0.2, total_steps=10)
    model = network()
    optimizer, scheduler = optim(schedule=cycle)(model.named_parameters(), 10)
    rates = []
    for _ in range(9):
        rates.append(scheduler.get_last_lr()[0])
        steps(model, optimizer, scheduler, 1)
    assert max(rates) == pytest.approx(0.2)
    assert rates[0] == pytest.approx(0.2 / 25)


def test_mixed_precision_clips_the_gradients_of_a_fused_optimiser():
    precision = MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu"))
    model = network()
    with pytest.raises(RuntimeError, match="does not allow for gradient clipping"):
        precision.clip_gradients(adamw()(model.parameters(), lr=0.1), 1.0)
    optimizer, _ = optim()(model.named_parameters(), 3)
    precision.clip_gradients(optimizer, 1.0)
