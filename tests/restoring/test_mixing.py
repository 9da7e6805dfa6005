import numpy as np
import pytest
import torch

from kgt_lightning.restoring.mixing import Mixing, fine_detail
from kgt_lightning.restoring.noise import OF_COLOURS, noise_level


def test_texture_brings_detail_back_but_no_noise(photo):
    noise = 0.1
    noisy = photo + noise * torch.randn(photo.shape, generator=torch.Generator().manual_seed(0))
    brightness = OF_COLOURS * noise
    # Of nothing but noise nearly nothing comes back, of strong detail nearly all.
    assert fine_detail(noisy - photo, noise=brightness).std() < 0.15 * brightness
    lines = torch.zeros_like(photo)
    lines[..., ::4] = 0.8
    back = fine_detail(lines, noise=brightness)
    assert back[..., 8:-8, 8:-8].std() > 0.5 * lines.std()


def test_all_detail_comes_back_where_there_is_no_noise(photo):
    flat = torch.full_like(photo, 0.5)
    mixed = Mixing(texture=1)(photo, flat)
    detail = fine_detail(photo - flat, noise=0)
    torch.testing.assert_close(mixed, flat + detail)


@pytest.mark.parametrize("fields", [{"strength": 1.5}, {"strength": -0.1}, {"texture": 2}, {"noise": -1}])
def test_values_outside_their_range_are_refused(fields):
    with pytest.raises(ValueError, match="must"):
        Mixing(**fields)


@pytest.mark.parametrize("sigma", [5, 15, 25, 50])
def test_the_noise_level_of_a_photograph_is_found(photo, sigma):
    clean = (photo[0].permute(1, 2, 0) * 255).numpy()
    noisy = clean + np.random.default_rng(0).normal(0, sigma, clean.shape)
    found = noise_level(noisy.clip(0, 255).round().astype(np.uint8)) * 255 / OF_COLOURS
    assert found == pytest.approx(sigma, rel=0.2)


def test_images_too_small_for_an_estimate_hold_no_noise():
    assert noise_level(np.zeros((5, 5, 3), np.uint8)) == 0
