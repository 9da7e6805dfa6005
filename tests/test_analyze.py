"""How far a model looks, as a command: a table, and pictures of every model."""

import csv
import shutil

import pytest
import torch

from kgt_lightning import analyze
from kgt_lightning.images.files import Picture, read_image, write_image


@pytest.fixture
def entry(photo, tmp_path):
    write_image(tmp_path / "photo.png", Picture(pixels=photo[0, :, 100:140, 100:140]))
    return tmp_path / "photo.png"


def read_table(tmp_path):
    with (tmp_path / "out/analyze.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_models_are_compared_in_one_table_and_drawn(run_command, trained, entry, tmp_path):
    for run in ("first", "second"):
        (tmp_path / run / "checkpoints").mkdir(parents=True)
        shutil.copy(trained, tmp_path / run / "checkpoints/best.ckpt")
    both = ",".join(f"{run}/checkpoints/best.ckpt" for run in ("first", "second"))
    arguments = (f"checkpoint=[{both}]", f"input={entry}", "size=32", "grid=2", "hydra.run.dir=out")
    code, output, errors = run_command(analyze.main, *arguments)
    assert code == 0, errors
    assert "first" in output and "by chance" in output
    first, second = read_table(tmp_path)
    assert (first.pop("run"), second.pop("run")) == ("first", "second")
    assert first == second, "the same model looks as far"
    numbers = {key: float(value) for key, value in first.items()}
    assert (numbers["window_px"], numbers["k"]) == (8, 8)
    assert 0 < numbers["neighbours_px"] < 8 * 2**0.5
    assert 0 <= numbers["influence_50%_px"] <= numbers["influence_90%_px"] <= numbers["influence_99%_px"] < 32
    for name in ("neighbours", "statistics", "influence"):
        picture = read_image(tmp_path / "out/first" / f"{name}.png").pixels
        assert picture.std() > 0.05, f"{name}.png is empty"
    assert (tmp_path / "out/analyze.md").read_text().count("\n") == 4


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"checkpoint": "[{0},{0}]"}, "two of them are of a run named"),
        ({"input": "gray.png"}, "has 1 channels"),
        ({"input": "missing.png"}, "missing.png"),
        ({"checkpoint": "missing.ckpt"}, "does not exist"),
    ],
)
def test_mistakes_are_said_in_one_line(run_command, trained, entry, tmp_path, change, expected):
    write_image(tmp_path / "gray.png", Picture(pixels=torch.rand(1, 16, 16)))
    settings = {"checkpoint": str(trained), "input": str(entry)} | change
    code, _, errors = run_command(analyze.main, *(f"{key}={value.format(trained)}" for key, value in settings.items()))
    assert code == 2
    assert expected in errors.strip().splitlines()[-1]
