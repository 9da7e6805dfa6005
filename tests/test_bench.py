"""The command writes what it measured; wrong settings are answered in one line."""

import csv
import json
import subprocess
import sys

import pytest

from kgt_lightning.benchmarks.report import a_decade_at_least


def bench(tmp_path, *arguments):
    command = [sys.executable, "-m", "kgt_lightning.bench", f"hydra.run.dir={tmp_path}", "seconds=0", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_an_axis_does_not_magnify_noise():
    low, high = a_decade_at_least(253, 277)
    assert high / low == pytest.approx(10) and low / 253 == pytest.approx(277 / high)
    assert a_decade_at_least(1, 50) == (1, 50)


@pytest.mark.slow
def test_attention_leaves_table_csv_json_and_plot(tmp_path):
    arguments = ["attention.num_nodes=[16,25]", "attention.k=[4]", "attention.impl=[mask]", "attention.windows=1"]
    result = bench(tmp_path, *arguments)
    assert result.returncode == 0, result.stderr
    assert "forward ms" in result.stdout
    content = json.loads((tmp_path / "attention.json").read_text())
    assert content["machine"]["torch"] and content["settings"]["attention"]["windows"] == 1
    with (tmp_path / "attention.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["impl"] for row in rows] == [row["impl"] for row in content["rows"]] == ["dense", "mask"] * 2
    assert (tmp_path / "attention.png").stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("what=speed", "what=speed must be one of attention, graph, model, data"),
        ("dtype=int8", "dtype=int8 must be one of float32"),
        ("attention.num_nodes=[50]", "windows are square"),
        ("attention.impl=[flash]", "impl='flash' is not available"),
    ],
)
def test_wrong_settings_are_answered_in_one_line(tmp_path, argument, message):
    result = bench(tmp_path, argument)
    assert result.returncode == 2
    assert message in result.stderr.splitlines()[-1]
