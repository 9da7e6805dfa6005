import csv
import json

import pytest

from kgt_lightning.results import Results, Score


@pytest.fixture
def results():
    def score(test_set, image, psnr):
        return Score(test_set=test_set, image=image, psnr=psnr, ssim=0.9, degraded_psnr=20.0, degraded_ssim=0.5)

    scores = (score("A", "1", 30.0), score("A", "2", 32.0), score("B", "1", 40.0))
    return Results(task="denoise", protocol="swinir: ...", scores=scores)


def test_means_are_over_the_images_of_a_set(results):
    means = results.means()
    assert list(means) == ["A", "B"]
    assert means["A"] == {
        "psnr": 31.0,
        "ssim": pytest.approx(0.9),
        "degraded_psnr": 20.0,
        "degraded_ssim": 0.5,
        "images": 2,
    }


def test_files_hold_means_images_and_facts(results, tmp_path):
    results.write(tmp_path / "new", checkpoint="a.ckpt")
    content = json.loads((tmp_path / "new" / "results.json").read_text())
    assert content["checkpoint"] == "a.ckpt"
    assert content["means"]["B"]["psnr"] == 40.0
    with (tmp_path / "new" / "results.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["test_set"], row["image"], float(row["psnr"])) for row in rows] == [
        ("A", "1", 30.0),
        ("A", "2", 32.0),
        ("B", "1", 40.0),
    ]
    assert len(list((tmp_path / "new").iterdir())) == 2


def test_the_table_shows_the_gain_on_unbroken_lines(results, capsys):
    results.show()
    [line] = [line for line in capsys.readouterr().out.splitlines() if "│ A " in line]
    assert "31.00" in line
    assert "+11.00" in line
