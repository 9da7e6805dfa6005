"""Only scores that may be compared are, and the front holds what nothing beats."""

import json
import random

from kgt_lightning.report.comparison import compare, front
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
