"""The models that the package brings: whole, described, and as good as their cards say."""

import hashlib
import json

import pytest
import torch

import kgt_lightning
from kgt_lightning.metrics import psnr
from kgt_lightning.models import NAMES, model_file

pytestmark = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def card(name):
    return json.loads(model_file(name).with_suffix(".json").read_text())


def test_the_file_is_the_one_of_its_card(name, card):
    content = model_file(name).read_bytes()
    assert len(content) == card["bytes"] <= 2_500_000
    assert hashlib.sha256(content).hexdigest() == card["sha256"]
    assert card["name"] == name
    assert card["sha256"] in model_file(name).with_suffix(".md").read_text()


def test_the_card_says_what_a_user_has_to_know(name, card):
    assert card["title"] and card["use"] and card["limits"] and card["not_for"]
    assert all(data_set["licence"] for data_set in card["training"]["data"])
    assert card["training"]["test images in the training data"] == "none"
    assert all(score["protocol"] for score in card["scores"])


@pytest.mark.parametrize("sigma", [15, 25, 50])
def test_noise_is_removed_from_a_photograph_it_has_not_seen(name, photo, sigma):
    if not name.startswith("denoise"):
        return
    model = kgt_lightning.pretrained(name)
    clean = photo[..., 60:188, 120:248]
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0)) * sigma / 255
    with torch.no_grad():
        restored = model(clean + noise)
    assert restored.shape == clean.shape
    assert restored.min() >= 0 and restored.max() <= 1
    assert psnr(restored, clean) > {15: 32.6, 25: 30.3, 50: 27.5}[sigma]


def test_a_clean_photograph_comes_back_nearly_unchanged(name, photo, card):
    if name == "demosaic" or name.startswith("sr"):
        return  # it takes mosaics, or enlarges
    with torch.no_grad():
        restored = kgt_lightning.pretrained(name)(photo)
    assert psnr(restored, photo) > {"denoise": 45}.get(name, 40)
    assert ((restored - photo).mean(dim=(0, 2, 3)).abs() * 255 < 0.1).all()
