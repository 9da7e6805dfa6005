import numpy as np
import pytest

from kgt_lightning.degradations.levels import Levels


def levels(training, *, test=None, whole=False, least=0, most=100):
    return Levels(
        name="level",
        what="a level of 0 or more",
        training=training,
        test=test,
        usual=(10, 20, 30),
        least=least,
        most=most,
        whole=whole,
    )


def drawn(training, *, number=300, **options):
    rng = np.random.default_rng(0)
    return [levels(training, **options).draw(rng) for _ in range(number)]


def test_what_is_drawn():
    assert set(drawn(25)) == {25}
    assert set(drawn([15, 25.5])) == {15, 25.5}
    values = drawn({"low": 5, "high": 7})
    assert 5 <= min(values) < 5.1
    assert 6.9 < max(values) <= 7
    assert set(drawn({"low": 5, "high": 7}, whole=True)) == {5, 6, 7}


@pytest.mark.parametrize(
    ("training", "test", "expected"),
    [
        (25, None, [25]),
        ([15, 50], None, [15, 50]),
        ({"low": 5, "high": 20}, None, [10, 20]),
        ({"low": 31, "high": 40}, None, [40]),
        (25, 50, [50]),
        ({"low": 5, "high": 50}, [1, 2], [1, 2]),
    ],
)
def test_what_is_tested(training, test, expected):
    assert levels(training, test=test).to_test() == expected


def test_the_largest():
    assert levels(25).largest() == 25
    assert levels([3, 7, 5]).largest() == 7
    assert levels({"low": 3, "high": 9}).largest() == 9


@pytest.mark.parametrize(
    "training",
    [-1, 101, float("inf"), float("nan"), [], [5, -1], {"low": 5}, {"low": 5, "high": 1}, {"low": -1, "high": 1}],
)
def test_levels_that_make_no_sense_are_named(training):
    with pytest.raises(ValueError, match=r"degradation\.level=.* must be .*a level of 0 or more"):
        levels(training)
    if not isinstance(training, dict):
        with pytest.raises(ValueError, match=r"degradation\.test_level=.* must be a level of 0 or more such as 10"):
            levels(5, test=training)


def test_whole_numbers():
    with pytest.raises(ValueError, match=r"degradation\.level=5\.5"):
        levels(5.5, whole=True)
