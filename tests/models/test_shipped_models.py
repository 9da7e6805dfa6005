"""The models that the package brings: whole, described, and as good as their cards say."""

import hashlib
import json

import pytest
import torch

import kgt_lightning
from kgt_lightning.analysis.harmless import measure_harm
from kgt_lightning.images.color import gray
from kgt_lightning.metrics import psnr
from kgt_lightning.models import NAMES, model_file, model_info
from kgt_lightning.runs.card import as_markdown
from kgt_lightning.runs.checkpoint import load_checkpoint
from kgt_lightning.runs.measured import SHOWN, answer, fixed_picture

every_model = pytest.mark.parametrize("name", NAMES)
TAKES_CLEAN = [
    info.name for info in map(model_info, NAMES) if info.scale == 1 and info.channels == info.degraded_channels
]
every_that_takes_clean_pictures = pytest.mark.parametrize("name", TAKES_CLEAN)


@pytest.fixture
def card(name):
    return json.loads(model_file(name).with_suffix(".json").read_text())


@every_model
def test_the_file_is_the_one_of_its_card(name, card):
    content = model_file(name).read_bytes()
    assert len(content) == card["bytes"] <= 2_500_000
    assert hashlib.sha256(content).hexdigest() == card["sha256"]
    assert card["name"] == name
    assert model_file(name).with_suffix(".md").read_text() == as_markdown(card)


@every_model
def test_the_card_says_what_a_user_has_to_know(name, card):
    assert card["title"] and card["use"] and card["limits"] and card["not_for"]
    assert all(data_set["licence"] for data_set in card["training"]["data"])
    assert card["training"]["test images in the training data"] == "none"
    assert "=/" not in card["training"]["recipe"], "a folder of the machine it was trained on"
    assert all(score["protocol"] for score in card["scores"])


@every_model
def test_the_answer_to_the_fixed_picture_is_that_of_the_card(name, card):
    """Bit by bit on the machine and with the versions that wrote it; kgt publish --measure writes it anew."""
    found, expected = answer(load_checkpoint(name)), card["fixed_picture"]
    if found["machine"] == expected["machine"]:
        assert found["sha256"] == expected["sha256"]
    torch.testing.assert_close(torch.tensor(found["values"]), torch.tensor(expected["values"]), rtol=0, atol=1e-3)


@every_model
def test_the_model_as_it_is_used_gives_the_same(name, card):
    model = kgt_lightning.pretrained(name)
    with torch.no_grad():
        restored = model(fixed_picture(model.info.degraded_channels))[0, :, SHOWN, SHOWN].flatten(1)
    expected = torch.tensor(card["fixed_picture"]["values"]).clamp(*model.info.range)
    torch.testing.assert_close(restored, expected, rtol=0, atol=1e-3)


@pytest.mark.slow
@every_that_takes_clean_pictures
def test_even_colours_black_and_white_are_harmed_as_little_as_the_card_says(name, card):
    harm = measure_harm(kgt_lightning.pretrained(name), channels=card["channels"])
    said = {name.split(", ")[1]: value for name, value in card["measures"].items() if name.startswith("harm")}
    assert harm.flat == pytest.approx(said["flat"], abs=0.3)
    assert harm.black_and_white == pytest.approx(said["black and white"], abs=0.3)
    assert harm.black_and_white < 3


@pytest.mark.parametrize("sigma", [15, 25, 50])
def test_noise_is_removed_from_a_photograph_it_has_not_seen(photo, sigma):
    model = kgt_lightning.pretrained("denoise")
    clean = photo[..., 60:188, 120:248]
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0)) * sigma / 255
    with torch.no_grad():
        restored = model(clean + noise)
    assert restored.shape == clean.shape
    assert restored.min() >= 0 and restored.max() <= 1
    assert psnr(restored, clean) > {15: 32.6, 25: 30.3, 50: 27.5}[sigma]


@every_that_takes_clean_pictures
def test_a_clean_photograph_comes_back_nearly_unchanged(name, photo, card):
    clean = photo if card["channels"] == 3 else gray(photo)
    with torch.no_grad():
        restored = kgt_lightning.pretrained(name)(clean)
    assert psnr(restored, clean) > {"denoise": 45}.get(card["task"], 40) or card["experimental"]
    assert ((restored - clean).mean(dim=(0, 2, 3)).abs() * 255 < 0.1).all() or card["experimental"]


@pytest.mark.parametrize("name", [name for name in NAMES if model_info(name).task == "denoise"])
def test_a_denoiser_says_what_it_does_to_clean_pictures(card):
    [clean] = [score for score in card["scores"] if score["degraded_psnr"] is None]
    assert clean["set"].endswith("sigma=0")
    assert clean["psnr"] > 45
