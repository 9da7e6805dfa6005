import itertools
import math

import numpy as np
import pytest
import torch

from kgt_lightning.degradations.camera_shake import (
    blur,
    kernel_size,
    shake_kernel,
    shake_path,
)
from kgt_lightning.images.color import to_linear, to_srgb


def path(length, *, seed=0, tremor=3.0, pull=6.0, jerks=1.5):
    return shake_path(length=length, tremor=tremor, pull=pull, jerks=jerks, rng=np.random.default_rng(seed))


def kernels(length, number=20):
    return [shake_kernel(path(length, seed=seed), kernel_size(length)) for seed in range(number)]


def travelled(points):
    return np.linalg.norm(np.diff(points, axis=0), axis=1).sum()


def test_a_path_is_that_of_its_generator():
    assert np.array_equal(path(8), path(8))
    assert not np.allclose(path(8), path(8, seed=1))


@pytest.mark.parametrize("length", [0, 0.5, 8, 40])
def test_a_path_has_the_length(length):
    for seed in range(5):
        assert travelled(path(length, seed=seed)) == pytest.approx(length)


def test_steps_are_short_enough_to_leave_no_gaps():
    for length in (1, 8, 100):
        assert np.linalg.norm(np.diff(path(length), axis=0), axis=1).max() <= 0.25 + 1e-9


def test_a_steady_hand_moves_straight_in_all_directions():
    ends = np.array([path(8, seed=seed, tremor=0, pull=0, jerks=0)[-1] for seed in range(200)])
    np.testing.assert_allclose(np.linalg.norm(ends, axis=1), 8)
    assert np.abs(ends.mean(axis=0)).max() < 1.5
    assert np.abs(ends).max(axis=0).min() > 7.9


@pytest.mark.parametrize("strength", ["tremor", "pull", "jerks"])
def test_tremor_pull_and_jerks_keep_the_camera_near(strength):
    # of a hand that hardly trembles: the pull bends no straight path
    others = {"tremor": 1.0, "pull": 0.0, "jerks": 0.0}
    reach = [
        np.mean([np.linalg.norm(path(8, seed=seed, **(others | {strength: each}))[-1]) for seed in range(60)])
        for each in (0, 30)
    ]
    assert reach[0] > reach[1] + 1


def test_the_character_of_a_path_does_not_depend_on_its_number_of_steps():
    # 32, the least, and 400
    reach = [
        np.mean([np.linalg.norm(path(length, seed=seed)[-1]) / length for seed in range(200)]) for length in (1, 100)
    ]
    assert reach[0] == pytest.approx(reach[1], abs=0.08)


@pytest.mark.parametrize("length", [0, 0.3, 4, 7.9, 12, 40])
def test_a_kernel_shares_the_exposure_around_its_centroid(length):
    for kernel in kernels(length):
        size = kernel_size(length)
        assert kernel.shape == (size, size)
        assert kernel.dtype == torch.float32
        assert kernel.min() >= 0
        assert kernel.sum().item() == pytest.approx(1, abs=1e-5)
        places = torch.arange(size) - size // 2
        assert (kernel.sum(dim=1) * places).sum().item() == pytest.approx(0, abs=1e-4)
        assert (kernel.sum(dim=0) * places).sum().item() == pytest.approx(0, abs=1e-4)


def test_longer_paths_make_wider_kernels():
    def spread(length):
        size = kernel_size(length)
        places = (torch.arange(size) - size // 2) ** 2
        return np.mean([(kernel * (places[:, None] + places)).sum().item() for kernel in kernels(length)])

    spreads = [spread(length) for length in (0, 4, 8, 16)]
    assert spreads[0] == 0
    assert all(wider > 2 * narrower for narrower, wider in itertools.pairwise(spreads))


def test_a_straight_path_just_fits_its_kernel():
    line = np.stack([np.linspace(0, 8, 33), np.zeros(33)], axis=1)
    kernel = shake_kernel(line, kernel_size(8))
    assert kernel_size(8) == 9
    assert torch.equal(kernel.nonzero()[:, 0], torch.arange(9))
    assert kernel[:, 4].sum().item() == pytest.approx(1)
    # inner pixels get the same share
    assert kernel[1:8, 4].std() < 1e-6


@pytest.mark.parametrize("size", [7, 8, 10])
def test_a_kernel_that_does_not_hold_its_path_is_refused(size):
    line = np.stack([np.linspace(0, 8, 33), np.zeros(33)], axis=1)
    with pytest.raises(ValueError, match=f"size={size} must be odd and at least 9"):
        shake_kernel(line, size)
    assert shake_kernel(line, 15)[3:-3, 3:-3].sum().item() == pytest.approx(1)


@pytest.mark.parametrize("shape", [(3, 40, 31), (1, 7, 50), (1, 2, 1)])
def test_blur_is_the_convolution_with_mirrored_edges(shape):
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    kernel = torch.rand(7, 7, generator=torch.Generator().manual_seed(1))
    around = np.pad(image.numpy(), ((0, 0), (3, 3), (3, 3)), mode="symmetric")
    expected = np.zeros(shape)
    for down in range(7):
        for right in range(7):
            shifted = around[:, 6 - down : 6 - down + shape[1], 6 - right : 6 - right + shape[2]]
            expected += kernel[down, right].item() * shifted
    np.testing.assert_allclose(blur(image, kernel).numpy(), expected, atol=1e-5)


def test_a_point_of_light_draws_the_path():
    point = torch.zeros(1, 21, 21)
    point[0, 10, 10] = 1
    kernel = kernels(12, number=1)[0]
    torch.testing.assert_close(blur(point, kernel)[0, 4:17, 4:17], kernel, atol=1e-6, rtol=0)


def test_a_constant_image_stays():
    image = torch.full((3, 20, 20), 0.7)
    torch.testing.assert_close(blur(image, kernels(12, number=1)[0]), image, atol=1e-6, rtol=0)


def test_linear_light_is_that_of_the_standard():
    values = torch.linspace(0, 1, 256)
    # IEC 61966-2-1: black, the last linear value, middle gray, white
    expected = torch.tensor([0, 10 / 255 / 12.92, ((128 / 255 + 0.055) / 1.055) ** 2.4, 1])
    torch.testing.assert_close(to_linear(values)[[0, 10, 128, 255]], expected)
    assert (to_linear(values).diff() > 0).all()
    torch.testing.assert_close(to_srgb(to_linear(values)), values, atol=1e-6, rtol=0)
    assert not math.isnan(to_srgb(torch.tensor([-0.01])).item())
