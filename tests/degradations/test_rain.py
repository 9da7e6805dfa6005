import numpy as np
import torch

from kgt_lightning.degradations.veil import Veil


def rng(seed=0):
    return np.random.default_rng(seed)


def test_streaks_only_add_light(rain, image):
    rainy = rain()(image, rng())
    assert (rainy >= image).all()
    assert 0.05 < (rainy > image + 0.1).float().mean() < 0.5


def test_the_veil_moves_everything_towards_the_airlight(rain, image):
    air = Veil(beta={"low": 0.5, "high": 0.5}, airlight={"low": 0.6, "high": 0.6})
    veiled = rain(density=0, veil=air)(image, rng())
    moved = (veiled - image) / (0.6 - image)
    clear = (0.6 - image).abs() > 0.1
    assert moved[clear].min() > 0.05
    assert moved[clear].max() < 0.6


def test_a_thick_veil_hides_everything(rain, image, veil):
    veiled = rain(veil=veil(100, 100))(image, rng())
    assert veiled.max() - veiled.min() < 0.01
    assert 0.69 < veiled.mean() < 0.91


def test_streaks_are_upright_within_the_slant(rain):
    black = torch.zeros(1, 200, 200)
    across, down = (
        np.mean([rain(slant=0)(black, rng(i)).diff(dim=dim).abs().mean() for i in range(3)]) for dim in (2, 1)
    )
    assert across > 3 * down


def test_the_nearest_streaks_have_the_length(rain):
    lit = rain(density=0.0004, length=60, slant=0)(torch.zeros(1, 400, 400), rng())[0] > 0.03
    longest = run = torch.zeros(400)
    for row in lit:
        run = (run + 1) * row
        longest = torch.maximum(longest, run)
    assert 25 < longest.max() <= 60 + 2 * 2.4 * 1.4
