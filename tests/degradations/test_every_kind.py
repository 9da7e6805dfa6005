"""What rain, snow and drops have in common."""

import pickle

import numpy as np
import pytest
import torch


def rng(seed=0):
    return np.random.default_rng(seed)


def test_weather_is_that_of_its_generator(weather, image):
    first = weather()(image, rng())
    assert torch.equal(weather()(image, rng()), first)
    assert not torch.equal(weather()(image, rng(1)), first)


@pytest.mark.parametrize("size", [(3, 64, 64), (1, 64, 64), (3, 1, 1), (3, 7, 200)])
def test_what_is_written_is_an_8_bit_image_of_the_same_size(weather, is_8_bit, size):
    clean = torch.rand(size, generator=torch.Generator().manual_seed(0))
    before = clean.clone()
    degraded = weather()(clean, rng())
    assert degraded.shape == size
    assert degraded.dtype == torch.float32
    assert is_8_bit(degraded)
    assert torch.equal(clean, before)


def test_strength_zero_changes_nothing(weather, image):
    assert torch.equal(weather(strength=0)(image, rng()), image)


def test_more_strength_changes_more(weather, photo):
    clean = photo[0]
    errors = [(weather(strength=strength)(clean, rng()) - clean).square().mean() for strength in (0.2, 0.6, 1.5)]
    assert errors == sorted(errors)


def test_gray_is_degraded_as_equal_channels_are(weather, image):
    gray = image[:1]
    assert torch.equal(weather()(gray.expand(3, -1, -1), rng()), weather()(gray, rng()).expand(3, -1, -1))


def test_weather_travels_to_workers(weather, image):
    made = weather()
    assert torch.equal(pickle.loads(pickle.dumps(made))(image, rng()), made(image, rng()))
