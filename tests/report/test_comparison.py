"""Only scores that may be compared are, the front holds what nothing beats, and names say in what runs differ."""

import json
import random

import pytest

from kgt_lightning.report.comparison import compare, differing, front, names, natural, shared, short, text
from kgt_lightning.report.runs import read_runs

SET = "CBSD68 sigma=25"


def compared(folder):
    return compare(read_runs(folder)[0])


def test_runs_are_in_the_order_of_their_values_and_the_best_is_found(sweep):
    [comparison] = compared(sweep)
    assert comparison.task == "denoise"
    ks = [run.k for run in comparison.runs]
    assert ks == [16, 64, 128, 256, 512, 1024, 64]
    assert comparison.names[0] == "seed=0 k=16"
    assert comparison.runs[comparison.best].k == 256
    assert [comparison.runs[index].k for index in comparison.ranking(SET, "psnr")] == [256, 64, 64, 16]
    assert comparison.metrics == {SET: ["psnr", "ssim"], "Kodak sigma=25": ["psnr", "ssim"]}


def test_other_protocols_and_tasks_stand_apart(sweep, write_run, config):
    write_run(sweep / "grl", gains={SET: [12.0, 12, 12]}, protocol="grl: all channels")
    write_run(sweep / "sr", gains={SET: [12.0, 12, 12]}, configuration=config() | {"task": "sr"})
    comparisons = compared(sweep)
    assert [(each.task, each.protocol[:5], len(each.runs)) for each in comparisons] == [
        ("denoise", "swini", 7),
        ("denoise", "grl: ", 1),
        ("sr", "swini", 1),
    ]


def test_a_failed_run_stands_with_those_scored_as_it_would_have_been(sweep, write_run, config):
    write_run(sweep / "cropped", gains={SET: [9.0]}, configuration=config(crop=4), protocol="swinir: crop 4")
    write_run(sweep / "failed", gains=None, configuration=config(crop=4, k=8), status="failed", error="no")
    other = {"gains": None, "status": "failed", "error": "no"}
    write_run(sweep / "other", configuration=config(crop=9), **other)
    members = {each.protocol: [run.path for run in each.runs] for each in compared(sweep)}
    assert members["swinir: crop 4"] == ["failed", "cropped"]
    assert members["nothing scored yet"] == ["other"]


def test_scores_of_fewer_images_are_not_ranked_but_named(sweep):
    file = sweep / "k256" / "results.json"
    content = json.loads(file.read_text())
    content["means"][SET]["images"] = 2
    file.write_text(json.dumps(content))
    [comparison] = compared(sweep)
    assert comparison.runs[comparison.best].k == 64
    assert comparison.odd() == [f"seed=0 k=256: {SET} over 2 images instead of 3 images"]


def test_scores_of_other_files_are_not_ranked(sweep):
    for name in ("k16", "k64", "again", "k256"):
        file = sweep / name / "results.json"
        version = "b" if name == "k256" else "a"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"versions": {SET: version}}))
    [comparison] = compared(sweep)
    assert comparison.odd() == [f"seed=0 k=256: {SET} over 3 images of version b instead of 3 images of version a"]


def test_a_score_that_is_no_number_is_never_the_best(sweep):
    file = sweep / "k256" / "results.json"
    content = json.loads(file.read_text())
    content["means"][SET]["psnr"] = float("nan")
    file.write_text(json.dumps(content))
    [comparison] = compared(sweep)
    assert comparison.runs[comparison.best].k == 64


def test_the_front_holds_exactly_what_nothing_beats():
    draw = random.Random(0)
    for _ in range(50):
        points = {index: (draw.randint(0, 9), draw.randint(0, 9)) for index in range(12)}
        unbeaten = {
            points[i]
            for i in points
            if not any(
                points[j] != points[i] and points[j][0] <= points[i][0] and points[j][1] >= points[i][1] for j in points
            )
        }
        found = front(points)
        assert {points[index] for index in found} == unbeaten
        assert len(found) == len(unbeaten), "of equal points one is enough"
        assert [points[index] for index in found] == sorted(unbeaten)
    assert front({}) == []


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
    assert names(runs, differing(runs))[0] == "r0", "nothing was typed, and five settings are no name"


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
        ("outputs/denoise/first/checkpoints/best.ckpt", "first"),
        ("/somewhere/kgt_lightning/models/denoise.safetensors", "denoise"),
        ("C:\\\\outputs\\\\second\\\\checkpoints\\\\last.ckpt", "second"),
        ("downloads/other.ckpt", "other"),
        ("exported/mine/model.safetensors", "mine"),
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
    assert names(runs, differing(runs)) == ["seed=1", "best at seed=2"]
