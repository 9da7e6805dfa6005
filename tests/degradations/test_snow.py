import numpy as np
import torch


def rng(seed=0):
    return np.random.default_rng(seed)


def test_flakes_only_brighten_what_is_darker_than_they_are(snow, image):
    snowy = snow()(image, rng())
    assert (snowy >= image).all()
    assert 0.05 < (snowy > image + 0.1).float().mean() < 0.5


def test_flakes_hide_what_is_behind_them(snow, image):
    """Where the snow is densest both images are of the same white."""
    black, white = (snow(opacity=30)(torch.full_like(image, value), rng()) for value in (0.0, 0.8))
    hidden = black > 0.98 * black.max()
    assert hidden.float().mean() > 0.1
    torch.testing.assert_close(black[hidden], white[hidden], rtol=0, atol=0.025)


def test_larger_flakes_cover_more(snow):
    large, small = (snow(radius=radius, length=0)(torch.zeros(1, 200, 200), rng()) for radius in (8, 2))
    assert large.mean() > 3 * small.mean()


def test_the_veil_lies_behind_the_flakes(snow, image, veil):
    plain, veiled = (snow(veil=each)(image, rng()) for each in (veil(), veil(0.5, 0.5)))
    hidden = plain > 0.88
    assert hidden.any()
    torch.testing.assert_close(plain[hidden], veiled[hidden], rtol=0, atol=0.05)
    assert (veiled - plain)[~hidden].mean() > 0.03
