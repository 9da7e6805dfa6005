"""Which of the package's models a task, a scale and the channels of an image ask for."""

from dataclasses import replace

import pytest

from kgt_lightning.models import FOLDER, NAMES, choose_model, model_info
from kgt_lightning.runs.card import ABOUT

DENOISE = model_info("denoise")


def model(name, *, task, scale=1, channels=3, degraded_channels=None):
    return replace(
        DENOISE, name=name, task=task, scale=scale, channels=channels, degraded_channels=degraded_channels or channels
    )


MODELS = (
    model("jpeg", task="jpeg"),
    model("jpeg-gray", task="jpeg", channels=1),
    model("sr-x2", task="sr", scale=2),
    model("sr-x3", task="sr", scale=3),
    model("demosaic", task="demosaic", degraded_channels=1),
)


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ({"task": "jpeg", "scale": None, "channels": 3}, "jpeg"),
        ({"task": "jpeg", "scale": None, "channels": 1}, "jpeg-gray"),
        ({"task": "jpeg", "scale": 1, "channels": 1}, "jpeg-gray"),
        ({"task": "sr", "scale": 2, "channels": 3}, "sr-x2"),
        ({"task": "sr", "scale": 3, "channels": 1}, "sr-x3"),
        ({"task": "demosaic", "scale": None, "channels": 1}, "demosaic"),
    ],
)
def test_the_model_for_a_task_and_an_image(asked, name):
    assert choose_model(MODELS, **asked).name == name


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"task": "deblur", "scale": None}, r"task=deblur: .* only for jpeg, sr, demosaic: add checkpoint="),
        ({"task": "sr", "scale": None}, r"task=sr: .* for degradation\.scale=2 or degradation\.scale=3"),
        ({"task": "sr", "scale": 4}, r"task=sr degradation\.scale=4: .* degradation\.scale=2 or"),
        ({"task": "jpeg", "scale": 2}, r"task=jpeg degradation\.scale=2: .* degradation\.scale=1"),
    ],
)
def test_a_choice_that_is_not_there_is_told(asked, message):
    with pytest.raises(ValueError, match=message):
        choose_model(MODELS, **asked, channels=3)


def test_what_lies_in_the_folder_is_what_the_package_brings():
    assert "denoise" in NAMES
    for name in NAMES:
        assert model_info(name).name == name
        assert f"\n{name}:\n" in ABOUT.read_text()
        assert (FOLDER / f"{name}.md").is_file()
