"""What is put into an error is found in it, and nothing is found in noise."""

import pytest
import torch
from scipy.ndimage import gaussian_filter

from kgt_lightning.analysis.seams import border_step, grid_power, measure_seams, smooth_ramps


def gaussian_blur(image, sigma):
    return torch.from_numpy(gaussian_filter(image.numpy(), (0, 0, sigma, sigma), mode="wrap"))


@pytest.fixture
def noise():
    return torch.randn(4, 3, 128, 128, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("period", [2, 4])
def test_a_grid_is_found_at_its_period(noise, period):
    assert grid_power(noise, period) == pytest.approx(1, abs=0.15)
    columns = torch.arange(128) % period == 0
    assert grid_power(noise + columns, period) > 2
    assert grid_power(noise + columns[:, None].float(), period) > 2, "down as well as across"


def test_a_grid_that_changes_from_place_to_place_is_found(noise):
    """As left by pixels folded into nodes: every node its own pattern of 2 x 2 pixels."""
    smooth = gaussian_blur(noise, 1.0)
    assert grid_power(smooth, 2) < 1
    checks = (-1.0) ** torch.arange(128)
    assert grid_power(smooth + 0.3 * gaussian_blur(noise.flip(0), 5.0) * checks, 2) > 2


def test_a_finer_grid_is_no_coarser_one_but_shows_among_its_harmonics(noise):
    checks = 0.5 * (torch.arange(128) % 2 == 0)
    assert grid_power(noise + checks, 4) > 1.5
    assert grid_power(noise + 0.5 * (torch.arange(128) % 4 < 2), 2) == pytest.approx(1, abs=0.15)


def test_steps_at_the_borders_of_windows_are_found(noise):
    assert border_step(noise, 16) == pytest.approx(1, abs=0.03)
    blocks = (torch.arange(128) // 16 % 2).float()
    assert border_step(noise + blocks, 16) > 1.15
    assert border_step(noise + blocks[:, None], 16) > 1.15


def test_an_identity_leaves_the_noise_without_pattern():
    seams = measure_seams(torch.nn.Identity(), channels=3, sigma=25, size=128, images=2)
    assert set(seams.grid) == {2, 4}
    assert set(seams.border) == {16, 32}
    assert all(value == pytest.approx(1, abs=0.2) for value in [*seams.grid.values(), *seams.border.values()])


def test_ramps_are_smooth_and_in_range():
    ramps = smooth_ramps(4, channels=3, size=64)
    assert ramps.shape == (4, 3, 64, 64)
    assert 0 <= ramps.min() < ramps.max() <= 1
    assert ramps.diff(dim=-1).abs().max() < 0.01


def test_sizes_that_do_not_fit_are_refused(noise):
    with pytest.raises(ValueError, match="a side of 128 pixels must be a multiple of period=3"):
        grid_power(noise, 3)
    with pytest.raises(ValueError, match="no border of windows of 128 pixels"):
        border_step(noise, 128)
