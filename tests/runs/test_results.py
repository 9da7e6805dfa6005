import csv
import json
from dataclasses import replace

import pytest

from kgt_lightning.data.datasets import TestSet
from kgt_lightning.metrics.scoring import Scoring
from kgt_lightning.runs.results import Results, Score

FIRST, SECOND = TestSet("A", "x2"), TestSet("B", "x2")


@pytest.fixture
def results():
    def score(test_set, image, psnr):
        restored = {"psnr": psnr, "ssim": 0.9, "psnr_crop10": psnr + 1}
        return Score(
            test_set=test_set, image=image, restored=restored, degraded=dict.fromkeys(restored, 20.0) | {"ssim": 0.5}
        )

    scores = (score(FIRST, "1", 30.0), score(FIRST, "2", 32.0), score(SECOND, "1", 40.0))
    versions = {FIRST: "2 images abc", SECOND: "1 images def"}
    scoring = Scoring(protocol="swinir", metrics=["psnr", "ssim"], colours=["y"], crops=[2])
    return Results(task="sr", channels=3, scoring=scoring, protocol="swinir: ...", versions=versions, scores=scores)


def test_means_are_over_the_images_of_a_set(results):
    means = results.means()
    assert list(means) == [FIRST, SECOND]
    assert means[FIRST] == {
        "psnr": 31.0,
        "ssim": pytest.approx(0.9),
        "psnr_crop10": 32.0,
        "degraded_psnr_crop10": 20.0,
        "degraded_psnr": 20.0,
        "degraded_ssim": 0.5,
        "images": 2,
    }


def test_files_hold_means_images_and_facts(results, tmp_path):
    results.write(tmp_path / "new", checkpoint="a.ckpt")
    content = json.loads((tmp_path / "new" / "results.json").read_text())
    assert content["checkpoint"] == "a.ckpt"
    assert content["means"]["B x2"]["psnr"] == 40.0
    assert content["versions"] == {"A x2": "2 images abc", "B x2": "1 images def"}
    with (tmp_path / "new" / "results.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["test_set"], row["image"], float(row["psnr"])) for row in rows] == [
        ("A x2", "1", 30.0),
        ("A x2", "2", 32.0),
        ("B x2", "1", 40.0),
    ]
    assert len(list((tmp_path / "new").iterdir())) == 2


def test_the_table_shows_the_gain_on_unbroken_lines(results, capsys):
    results.show()
    printed = capsys.readouterr().out
    [line] = [line for line in printed.splitlines() if "│ A x2" in line]
    assert "31.00" in line
    assert "+11.00" in line
    assert "PSNR crop10 degraded" in printed


def test_published_numbers_stand_beside_those_of_the_same_set(results, capsys):
    set5 = TestSet("Set5", "x2")
    scores = tuple(replace(score, test_set=set5) for score in results.scores)
    replace(results, versions={set5: "3 images abc"}, scores=scores).show()
    printed = capsys.readouterr().out.splitlines()
    [swinir] = [line for line in printed if "SwinIR" in line]
    assert "38.42" in swinir
    assert f"{34 - 38.42:+.2f}" in swinir
    [kgt] = [line for line in printed if "KGT-S" in line]
    assert "Y rounded" in kgt
    assert f"{34 - 38.57:+.2f}" not in kgt, "numbers of two protocols are not mixed"
