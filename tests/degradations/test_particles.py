import numpy as np
import pytest

from kgt_lightning.degradations.particles import FARTHEST, Particles, draw, scatter


def one(y, x, *, motion=(0.0, 0.0), radius=2.0, weight=1.0, size=(40, 50)):
    particles = Particles(*(np.array([each], dtype=np.float32) for each in (y, x, 1)))
    values = (np.array(each, dtype=np.float32) for each in ([[motion[0]], [motion[1]]], [radius], [weight]))
    return draw(particles, size=size, **dict(zip(("motion", "radius", "weight"), values, strict=True)))


def test_a_particle_at_rest_is_a_gaussian_spot():
    y, x = np.mgrid[:40, :50]
    expected = 0.7 * np.exp(-((y - 20.3) ** 2 + (x - 10.6) ** 2) / 3.0**2)
    np.testing.assert_allclose(one(20.3, 10.6, radius=3, weight=0.7), expected, atol=1 / 255)


def test_a_moving_particle_is_a_spot_stretched_along_its_way():
    picture = one(20, 25, motion=(20, 0), radius=1.5)
    np.testing.assert_allclose(picture[10:31, 25], 1, atol=1e-6)
    np.testing.assert_allclose(picture[20, 20:31], np.exp(-(np.arange(-5.0, 6) ** 2) / 1.5**2), atol=1 / 255)
    assert max(picture[:5].max(), picture[36:].max()) < 1e-4


def test_what_lies_outside_reaches_in():
    inside = one(20, 25, motion=(9, 9), size=(41, 51))
    np.testing.assert_array_equal(one(0, 25, motion=(9, 9), size=(21, 51)), inside[20:])
    assert one(-30, 25).max() == 0


def test_particles_add_up_in_any_order():
    generator = np.random.default_rng(0)
    particles = scatter((40, 50), density=0.05, margin=5, rng=generator)
    number = len(particles)
    motion = generator.uniform(-9, 9, (2, number)).astype(np.float32)
    radius, weight = generator.uniform(0.5, 3, (2, number)).astype(np.float32)
    together = draw(particles, size=(40, 50), motion=motion, radius=radius, weight=weight)
    alone = sum(
        one(y, x, motion=motion[:, i], radius=radius[i], weight=weight[i])
        for i, (y, x) in enumerate(zip(particles.y, particles.x, strict=True))
    )
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_particles_are_as_dense_as_asked_for_and_more_of_them_far_away():
    particles = scatter((100, 200), density=0.1, margin=10, rng=np.random.default_rng(0))
    assert len(particles) == pytest.approx(0.1 * 120 * 220, rel=0.1)
    assert (particles.y.min(), particles.y.max()) == pytest.approx((-10, 110), abs=1)
    assert (particles.x.min(), particles.x.max()) == pytest.approx((-10, 210), abs=1)
    distance = 1 / particles.nearness
    assert distance.min() >= 1 - 1e-6
    assert distance.max() <= FARTHEST + 1e-5
    # Half of the volume of the view lies beyond this distance.
    assert np.median(distance) == pytest.approx(((1 + FARTHEST**3) / 2) ** (1 / 3), rel=0.05)


def test_no_particle_draws_nothing():
    assert len(scatter((9, 9), density=0, margin=5, rng=np.random.default_rng(0))) == 0
    nothing = Particles(*np.zeros((3, 0), dtype=np.float32))
    empty = np.zeros(0, dtype=np.float32)
    picture = draw(nothing, size=(4, 5), motion=np.zeros((2, 0), dtype=np.float32), radius=empty, weight=empty)
    assert picture.shape == (4, 5)
    assert not picture.any()
