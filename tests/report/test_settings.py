"""Names of runs say in what they differ, and nothing else."""

import pytest

from kgt_lightning.report.runs import read_runs
from kgt_lightning.report.settings import differing, names, natural, shared, short, text


@pytest.fixture
def read(write_run, tmp_path):
    """Reads runs written with these configurations."""

    def write_and_read(*configurations, overrides=None):
        for number, each in enumerate(configurations):
            given = [] if overrides is None else overrides[number]
            write_run(tmp_path / f"r{number}", gains=None, configuration=each, overrides=given)
        return read_runs(tmp_path)[0]

    return write_and_read


def test_what_differs_is_found_once_however_often_it_is_copied(read, config):
    runs = read(config(k=16), config(k=64), config(k=64, seed=1))
    assert differing(runs) == {"seed": [0, 0, 1], "model.k": [16, 64, 64]}
    assert names(runs, differing(runs)) == ["seed=0 k=16", "seed=0 k=64", "seed=1 k=64"]


def test_where_a_run_is_kept_is_no_difference(read, config):
    runs = read(config(), config() | {"run": "b", "run_dir": "c", "data_root": "d", "logger": {"csv": {"folder": "e"}}})
    assert differing(runs) == {}
    assert names(runs, {}) == ["r0", "r1"]


def test_the_number_of_a_trial_is_no_difference(read, config):
    runs = read(*(config() | {"callbacks": {"pruning": {"trial": i}}, "retry": bool(i)} for i in range(2)))
    assert differing(runs) == {}


def test_equal_runs_are_told_apart_by_their_folders(read, config):
    runs = read(config(k=16), config(k=64), config(k=64))
    assert names(runs, differing(runs)) == ["k=16", "k=64 (r1)", "k=64 (r2)"]


def test_runs_that_differ_in_much_are_named_by_what_was_typed(read, config):
    small, large = config(), config(k=128, width=128, seed=3)
    large |= {"optim": {"lr": 1e-4}, "trainer": {"max_steps": 5}}
    runs = read(small, large, overrides=[["task=denoise"], ["task=denoise", "model=kgt_base", "run=mine"]])
    assert len(differing(runs)) > 4
    assert names(runs, differing(runs))[1] == "model=kgt_base"


def test_a_setting_that_some_runs_lack_is_a_difference(read, config):
    runs = read(config(), config() | {"scale": 2})
    assert differing(runs) == {"scale": [None, 2]}


def test_what_all_share_is_what_differs_in_none(read, config):
    runs = read(config(k=16), config(k=64))
    found = shared(runs)
    assert found["model.width"] == 64
    assert "model.k" not in found and "run_dir" not in found


def test_keys_that_end_the_same_are_told_apart():
    keys = dict.fromkeys(["model.k", "other.k", "model.layout._target_", "seed"])
    assert [short(key, keys) for key in keys] == ["model.k", "other.k", "layout", "seed"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "null"),
        (True, "true"),
        ([15, 25.0], "[15,25]"),
        (5e-4, "0.0005"),
        ("kgt_lightning.model.UShape", "UShape"),
        ("0.1.0", "0.1.0"),
    ],
)
def test_values_are_shown_as_they_are_typed(value, shown):
    assert text(value) == shown


def test_numbers_in_names_sort_by_size():
    assert sorted(["k=128", "k=64", "k=9 a", "a"], key=natural) == ["a", "k=9 a", "k=64", "k=128"]


def test_a_checkpoint_stands_for_what_it_was_trained_with(read, config):
    def tested(run, k, seed):
        return config(k=k, seed=seed) | {"checkpoint": f"outputs/{run}/checkpoints/best.ckpt"}

    runs = read(tested("small", 16, 0), tested("small", 64, 0), tested("large", 16, 1), tested("large", 64, 1))
    assert list(differing(runs)) == ["model.k", "checkpoint"]
    assert names(runs, differing(runs)) == ["small at k=16", "small at k=64", "large at k=16", "large at k=64"]
    unchanged = runs[1:3]
    assert names(unchanged, differing(unchanged)) == ["small", "large"]


def test_a_checkpoint_beside_runs_that_were_trained_keeps_their_settings(read, config):
    runs = read(config(seed=1), config(seed=2) | {"checkpoint": "best.ckpt"})
    assert list(differing(runs)) == ["seed", "checkpoint"]
    assert names(runs, differing(runs)) == ["seed=1", "best.ckpt at seed=2"]
