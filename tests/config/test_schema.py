from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, Literal, Protocol

import pytest
from omegaconf import OmegaConf

from kgt_lightning.config.schema import check_types
from kgt_lightning.config.types import FilePath


class Factory(Protocol):
    def __call__(self, *, number: float) -> Any: ...


class Part:
    def __init__(self, *, number: float) -> None: ...


class Whole:
    def __init__(
        self,
        *,
        count: int = 1,
        rate: float = 1.0,
        switch: bool = True,
        name: FilePath | None = None,
        kind: Literal["a", "b"] = "a",
        sizes: list[int] | int = 1,
        levels: dict[str, float] | None = None,
        choices: Mapping[Literal["a", "b"], dict[int, bool]] | None = None,
        part: Part | None = None,
        factory: Factory | None = None,
        anything: Any = None,
    ) -> None: ...


def section(**values):
    return OmegaConf.create({"whole": {"_target_": f"{__name__}.Whole", **values}})


@pytest.mark.parametrize(
    "values",
    [
        {"count": 3, "rate": 2, "switch": False, "name": None, "kind": "b", "sizes": [1, 2], "levels": {"low": 5}},
        {"sizes": 4, "name": "x", "anything": [1, "a"], "part": {"_target_": f"{__name__}.Part", "number": 2}},
        {"_partial_": True, "count": "???"},
    ],
)
def test_values_that_fit_pass(values):
    check_types(section(**values))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": "abc"}, "whole.count=abc must be a whole number"),
        ({"count": 2.5}, "whole.count=2.5 must be a whole number"),
        ({"count": True}, "whole.count=true must be a whole number"),
        ({"count": None}, "whole.count=null must be a whole number"),
        ({"rate": "fast"}, "whole.rate=fast must be a number"),
        ({"switch": 1}, "whole.switch=1 must be true or false"),
        ({"kind": "c"}, "whole.kind=c must be one of a, b"),
        ({"name": ""}, "whole.name= must be a path or null"),
        ({"sizes": ["x"]}, r"whole.sizes=\['x'\] must be a list \[...\], each a whole number or a whole number"),
        ({"levels": {"low": 1, "high": "x"}}, "whole.levels.high=x must be a number$"),
        ({"levels": 3}, "whole.levels=3 must be a mapping {...}, each a number or null"),
        ({"choices": {"a": {1: True}, "b": {2: 0}}}, "whole.choices.b.2=0 must be true or false"),
        ({"choices": {"a": {"x": True}}}, "whole.choices.a.x is no setting: .*choices.a must be a whole number"),
        ({"choices": {"c": {}}}, "whole.choices.c is no setting: a key of whole.choices must be one of a, b"),
        ({"part": 3}, "whole.part=3 must be a section with a _target_ or null"),
        ({"part": {"number": 2}}, "whole.part={'number': 2} must be a section with a _target_ or null"),
        ({"count": "???"}, "whole.count is not given: add whole.count=<value>"),
        ({"cuont": 3}, "whole.cuont is no setting of Whole: it has count, rate"),
        (
            {"factory": {"_target_": f"{__name__}.Part", "_partial_": True, "number": 2}},
            "whole.factory.number follows from other settings and is no setting: leave it out",
        ),
        ({"part": {"_target_": f"{__name__}.Part", "number": "x"}}, "whole.part.number=x must be a number"),
    ],
)
def test_a_value_that_does_not_fit_is_named_by_its_key(values, message):
    with pytest.raises(ValueError, match=message):
        check_types(section(**values))


def test_what_a_factory_lacks_cannot_be_typed_as_missing():
    with pytest.raises(ValueError, match=r"whole\.count is not given"):
        check_types(section(_partial_=True, count="???"), given=["whole.count=???"])


def test_an_interpolated_value_is_named_where_it_is_written():
    config = section(part="${part}")
    config.part = {"_target_": f"{__name__}.Part", "number": "x"}
    with pytest.raises(ValueError, match=r"^part\.number=x"):
        check_types(config)


@pytest.mark.parametrize("name", ["no_such_package.Thing", "torch.nn.NoSuchLoss", "torch.nn.L1Loss.weight.x"])
def test_a_class_that_cannot_be_imported_is_named(name):
    config = OmegaConf.create({"module": {"loss": {"_target_": name}}})
    with pytest.raises(ValueError, match=rf"^module\.loss\._target_={name} cannot be imported \(.*PYTHONPATH$"):
        check_types(config)


def test_a_task_whose_keys_went_astray_says_which_line_is_missing():
    with pytest.raises(ValueError, match=r"file of task=dehaze has to begin with the line '# @package _global_'"):
        check_types(OmegaConf.create({"task": {"task": "dehaze", "data": {"train": ["photos"]}}}))


NOISE = "kgt_lightning.degradations.noise.GaussianNoise"


@pytest.mark.parametrize(
    ("section", "given", "message"),
    [
        ("read", [], r"^read\.sigmas is no setting"),
        ("other", ["other.sigmas=3"], r"^other\.sigmas is no setting"),
        ("other", ["+other@other=noise"], r"^other\.sigmas is no setting"),
        ("other.part", ["other={}"], r"^other\.part\.sigmas is no setting"),
        ("other", ["others.sigmas=3"], None),
    ],
)
def test_sections_that_a_command_does_not_read_are_checked_where_an_argument_changes_them(section, given, message):
    config = OmegaConf.create()
    OmegaConf.update(config, section, {"_target_": NOISE, "sigmas": 3})
    with pytest.raises(ValueError, match=message) if message else nullcontext():
        check_types(config, reads=["read"], given=given)


def test_sections_of_classes_from_elsewhere_are_always_checked():
    config = OmegaConf.create({"other": {"_target_": f"{__name__}.Part", "number": "x"}})
    with pytest.raises(ValueError, match=r"^other\.number=x must be a number"):
        check_types(config, reads=[])
