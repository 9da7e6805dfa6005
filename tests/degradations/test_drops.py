import numpy as np
import pytest
import torch


def rng(seed=0):
    return np.random.default_rng(seed)


def test_pixels_outside_the_drops_are_unchanged(drops, photo):
    clean = photo[0]
    changed = (drops()(clean, rng()) != clean).any(0).float().mean()
    assert 0.1 < changed < 0.35


@pytest.mark.parametrize("coverage", [0.05, 0.3])
def test_drops_cover_about_the_part_asked_for(drops, coverage):
    """A little less, since they overlap."""
    white = torch.ones(1, 300, 300)
    covered = np.mean([(drops(coverage=coverage)(white, rng(i)) < 1).float().mean() for i in range(5)])
    # Of an all white scene the dark rim alone is seen, and the middle darkens by less than one level.
    assert 0.6 * coverage < covered < 1.05 * coverage


@pytest.mark.parametrize("dim", [1, 2])
def test_a_drop_shows_the_scene_turned_round_and_shrunk(drops, dim):
    """The scene gets brighter to one side, what is seen in a drop to the other, and faster."""
    ramp = torch.linspace(0, 1, 256)
    scene = (ramp if dim == 2 else ramp[:, None]).expand(1, 256, 256)
    seen = drops(radius=15, shrink=4, coverage=0.3)(scene, rng())
    slopes = 256 / 2 * (seen.narrow(dim, 2, 254) - seen.narrow(dim, 0, 254))
    turned, upright = (((slopes > low) & (slopes < high)).sum() for low, high in ((-9, -3), (3, 9)))
    assert turned > 2000
    assert turned > 1.5 * upright
