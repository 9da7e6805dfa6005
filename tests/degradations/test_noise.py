import json

import numpy as np
import pytest
import torch

from kgt_lightning.degradations.noise import GaussianNoise, noise_named, seeded_noise
from kgt_lightning.images.color import modcrop


def noise(sigma, *, test_sigma=None, protocol="swinir"):
    return GaussianNoise(sigma=sigma, test_sigma=test_sigma, protocol=protocol)


def rng(seed=0):
    return np.random.default_rng(seed)


def test_noise_of_test_sets_is_that_of_the_literature(reference, read_reference):
    cases = json.loads((reference / "noise" / "noise.json").read_text())["fixed_seed_cases"]
    assert len(cases) == 8
    for case in cases:
        clean = read_reference(case["input"])[0]
        noisy = seeded_noise(clean, sigma=case["sigma"], seed=case["seed"])
        torch.testing.assert_close(noisy, read_reference(case["output"])[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["color_b_odd", "gray_b_odd"])
def test_noise_of_the_grl_protocol_is_seeded_by_name(reference, read_reference, name):
    [case] = [
        each
        for each in json.loads((reference / "grl_val" / "grl_val.json").read_text())
        if each["task"] == "denoising" and each["input"] == f"inputs/{name}.png"
    ]
    degrade = noise(25, protocol="grl").test_settings()["sigma=25"]
    noisy = degrade(modcrop(read_reference(case["input"])[0], 8), case["list_name"])
    torch.testing.assert_close(noisy, torch.from_numpy(np.load(reference / case["lq"])), rtol=0, atol=2e-6)


def test_the_name_seeds_the_noise_up_to_its_first_underscore():
    clean = torch.zeros(1, 8, 8)
    first, second, other = (
        noise_named(clean, f"Urban100/{name}.png", sigma=25) for name in ("img_001", "img_002", "image")
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_noise_has_the_level_and_is_not_clipped():
    clean = torch.zeros(3, 200, 200)
    noisy = noise(25)(clean, rng())
    assert noisy.dtype == torch.float32
    assert noisy.mean().item() == pytest.approx(0, abs=2e-3)
    assert noisy.std().item() * 255 == pytest.approx(25, rel=0.02)
    assert noisy.min() < -0.2


def test_noise_is_that_of_its_generator():
    clean = torch.rand(1, 8, 8)
    assert torch.equal(noise(25)(clean, rng()), noise(25)(clean, rng()))
    assert not torch.equal(noise(25)(clean, rng(0)), noise(25)(clean, rng(1)))


def test_sigma_zero_changes_nothing():
    clean = torch.rand(3, 8, 8)
    assert torch.equal(noise(0)(clean, rng()), clean)
    assert torch.equal(seeded_noise(clean, sigma=0), clean)


def test_levels_are_drawn_from_a_list_or_a_range():
    clean, generator = torch.zeros(1, 64, 64), rng()
    drawn = [noise([15, 50])(clean, generator).std().item() * 255 for _ in range(40)]
    assert {min((15, 50), key=lambda level: abs(level - each)) for each in drawn} == {15, 50}
    assert all(min(abs(each - 15), abs(each - 50)) < 3 for each in drawn)
    drawn = [noise({"low": 5, "high": 50})(clean, generator).std().item() * 255 for _ in range(100)]
    assert min(drawn) < 12
    assert max(drawn) > 43
    assert np.mean(drawn) == pytest.approx(27.5, abs=5)


@pytest.mark.parametrize(
    ("sigma", "test_sigma", "names"),
    [
        (25, None, ["sigma=25"]),
        ([15, 25.5], None, ["sigma=15", "sigma=25.5"]),
        ({"low": 5, "high": 30}, None, ["sigma=15", "sigma=25"]),
        ({"low": 60, "high": 75}, None, ["sigma=75"]),
        (25, 50, ["sigma=50"]),
        ({"low": 5, "high": 50}, [10, 70], ["sigma=10", "sigma=70"]),
    ],
)
def test_levels_to_test(sigma, test_sigma, names):
    assert list(noise(sigma, test_sigma=test_sigma).test_settings()) == names


@pytest.mark.parametrize("sigma", [-1, [], [15, -1], {"low": 5}, {"low": 5, "high": 1}, {"low": -1, "high": 1}])
def test_levels_that_make_no_sense_are_named(sigma):
    with pytest.raises(ValueError, match=r"degradation\.sigma="):
        noise(sigma)
