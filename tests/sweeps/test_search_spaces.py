"""Spaces of a search are read from Hydra's grammar, and a wrong one is named."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from kgt_lightning.sweeps.spaces import corners, read_space, refuse_impossible


def parsed(text):
    return OverridesParser.create().parse_override(text)


@pytest.mark.parametrize(
    ("text", "space"),
    [
        ("optim.lr=tag(log, interval(1e-4, 3e-3))", FloatDistribution(1e-4, 3e-3, log=True)),
        ("optim.lr=interval(1, 2)", FloatDistribution(1, 2)),
        ("model.layout.heads=range(2,8,step=2)", IntDistribution(2, 6, step=2)),
        ("model.k=tag(log, range(4,257))", IntDistribution(4, 256, log=True)),
        ("optim.schedule.warmup=range(0,1,step=0.25)", FloatDistribution(0, 0.75, step=0.25)),
        ("model.k=choice(16,64,256)", CategoricalDistribution(["16", "64", "256"])),
        ("model=kgt_nano,kgt_small", CategoricalDistribution(["kgt_nano", "kgt_small"])),
        ("model.layout.depths=[4,4],[2,2,2,2]", CategoricalDistribution(["[4,4]", "[2,2,2,2]"])),
    ],
)
def test_spaces_are_written_in_hydras_grammar(text, space):
    assert read_space(parsed(text)) == space


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("optim.lr=interval(1,0.1)", "low"),
        ("optim.lr=tag(log,interval(0,1))", "low > 0"),
        ("model.k=int(interval(4,16))", r"whole numbers are range\(from,to\)"),
        ("model.k=range(4,4)", "no number lies in it"),
        ("model.k=tag(log,choice(4,16))", "a choice has no log"),
        ("optim.lr=tag(log,range(0.1,0.5,step=0.1))", r"write tag\(log,interval"),
        ("optim.lr=tag(lgo,interval(0.1,1))", "tag lgo is unknown, the only one is log"),
        ("model.k=shuffle(4,16)", "leave shuffle out"),
    ],
)
def test_a_wrong_space_is_named(text, reason):
    with pytest.raises(ValueError, match=reason) as caught:
        read_space(parsed(text))
    assert str(caught.value).startswith(f"{text}: ")


def test_corners_hold_every_end_and_every_choice():
    spaces = {"optim.lr": FloatDistribution(1e-5, 1e-1, log=True), "model.k": CategoricalDistribution(["4", "8", "16"])}
    assert corners(spaces) == [
        ["optim.lr=1e-05", "model.k=4"],
        ["optim.lr=0.1", "model.k=8"],
        ["optim.lr=1e-05", "model.k=16"],
    ]


def test_what_is_impossible_with_every_choice_of_the_others_is_refused():
    spaces = {
        "model.window": CategoricalDistribution(["4", "16"]),
        "model.k": CategoricalDistribution(["256", "8"]),
        "optim.lr": FloatDistribution(0.1, 0.5),
    }

    def problem(point):
        window, k, _ = (float(argument.partition("=")[2]) for argument in point)
        return f"model.k={k:.0f} is above {window**2:.0f}" if k > window**2 else None

    refuse_impossible(spaces, problem=problem)  # k=256 goes with window=16
    spaces["model.k"] = CategoricalDistribution(["256", "8", "999"])
    with pytest.raises(ValueError, match=r"^no trial is started, model.k=999 is impossible: model.k=999 is above 16$"):
        refuse_impossible(spaces, problem=problem)
