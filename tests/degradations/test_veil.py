import numpy as np
import pytest

from kgt_lightning.degradations.veil import SCENE, Veil


def rng(seed=0):
    return np.random.default_rng(seed)


def test_less_light_comes_from_the_top():
    veil = Veil(beta={"low": 0.5, "high": 0.5}, airlight={"low": 0.8, "high": 0.8})
    means = np.mean([veil.draw((400, 300), strength=1, rng=rng(i)).transmission.mean(1) for i in range(40)], axis=0)
    assert (np.diff(means[::40]) > 0).all()
    assert means[0] == pytest.approx(np.exp(-0.5), abs=0.04)


def test_values_lie_in_their_ranges():
    veil = Veil(beta={"low": 0.5, "high": 1}, airlight={"low": 0.7, "high": 0.9})
    drawn = [veil.draw((64, 64), strength=1, rng=rng(i)) for i in range(200)]
    airlight = [each.airlight for each in drawn]
    assert 0.7 <= min(airlight) < 0.72
    assert 0.88 < max(airlight) <= 0.9
    assert min(each.transmission.min() for each in drawn) > np.exp(-1 * 1.3)
    assert max(each.transmission.max() for each in drawn) < 1


def test_beta_is_multiplied_by_the_strength():
    veil = Veil(beta={"low": 0.5, "high": 1}, airlight={"low": 0.7, "high": 0.9})
    once, twice = (veil.draw((30, 40), strength=strength, rng=rng()).transmission for strength in (1, 2))
    np.testing.assert_allclose(twice, once**2, rtol=1e-5)


def test_a_patch_looks_as_a_part_of_a_whole_scene():
    """Or training patches would show other veils than test images."""
    veil = Veil(beta={"low": 1, "high": 1}, airlight={"low": 0.8, "high": 0.8})
    patches = [veil.draw((64, 64), strength=1, rng=rng(i)).transmission for i in range(300)]
    scenes = [veil.draw((SCENE, SCENE), strength=1, rng=rng(i)).transmission for i in range(60)]
    parts = [scene[y : y + 64, 128:192] for scene in scenes for y in range(0, SCENE, 64)]
    for measure in (np.mean, np.std):
        ours, theirs = ([measure(each) for each in some] for some in (patches, parts))
        assert np.mean(ours) == pytest.approx(np.mean(theirs), rel=0.1)
        assert np.std(ours) == pytest.approx(np.std(theirs), rel=0.25)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beta": {"low": -1, "high": 1}}, r"veil\.beta=.* within 0\.\.inf"),
        ({"beta": {"low": 1}}, r"veil\.beta="),
        ({"airlight": {"low": 0.5, "high": 1.5}}, r"veil\.airlight=.* within 0\.\.1"),
        ({"airlight": {"low": 0.9, "high": 0.5}}, r"veil\.airlight="),
    ],
)
def test_ranges_that_make_no_sense_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        Veil(**({"beta": {"low": 0, "high": 1}, "airlight": {"low": 0, "high": 1}} | changes))
