"""The table holds the numbers of results.json, in full in CSV, and marks the best."""

import csv
import io
import json

import pytest

from kgt_lightning.report.comparison import compare
from kgt_lightning.report.runs import read_runs
from kgt_lightning.report.tables import amount, as_csv, as_markdown, columns, duration, megabytes, metric_title


@pytest.fixture
def comparison(sweep):
    return compare(read_runs(sweep)[0])[0]


def test_csv_holds_every_number_in_full(sweep, comparison):
    rows = {row["folder"]: row for row in csv.DictReader(io.StringIO(as_csv(comparison)))}
    assert len(rows) == 7
    for name in ("k16", "k64", "again", "k256"):
        means = json.loads((sweep / name / "results.json").read_text())["means"]
        for test_set, mean in means.items():
            assert float(rows[name][f"{test_set} psnr"]) == mean["psnr"]
            assert float(rows[name][f"{test_set} ssim"]) == mean["ssim"]
    assert (rows["k256"]["k"], rows["k256"]["seed"], rows["k256"]["seconds"]) == ("256", "0", "356.0")
    assert rows["k16"]["samples_per_second"] == "42.0", "the median of the training log"
    assert (rows["bad"]["status"], rows["bad"]["error"]) == ("failed", "the loss is nan at step 3")
    assert rows["bad"]["CBSD68 sigma=25 psnr"] == ""


def test_best_and_second_are_marked_once_for_each_score(comparison):
    for column in columns(comparison):
        marks = [column.mark(index) for index in range(7)]
        assert marks.count("best") == marks.count("second") == (1 if column.group else 0)
    psnr = columns(comparison)[0]
    assert [comparison.runs[marks].k for marks in range(7) if psnr.mark(marks) == "best"] == [256]


def test_runs_that_print_the_same_share_the_mark(write_run, tmp_path):
    for name, gain in (("a", 9.0), ("b", 9.001), ("c", 8.0)):
        write_run(tmp_path / name, gains={"Set12 sigma=25": [gain]})
    psnr = columns(compare(read_runs(tmp_path)[0])[0])[0]
    assert [psnr.mark(index) for index in range(3)] == ["best", "best", ""]


def test_a_single_run_beats_nothing(write_run, tmp_path):
    write_run(tmp_path / "a", gains={"Set12 sigma=25": [9.0]})
    assert columns(compare(read_runs(tmp_path)[0])[0])[0].mark(0) == ""


def test_costs_that_no_run_knows_have_no_column(comparison):
    assert [column.key for column in columns(comparison) if not column.group] == [
        "parameters",
        "flops",
        "seconds",
        "samples_per_second",
    ]


def test_peak_memory_comes_from_the_log_if_the_run_did_not_note_it(sweep):
    with (sweep / "k16" / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 1, "train/peak_memory_mb": 700}\n{"step": 2, "train/peak_memory_mb": 900}\n')
    comparison = compare(read_runs(sweep)[0])[0]
    [memory] = [column for column in columns(comparison) if column.key == "peak_memory_mb"]
    assert memory.shown(0) == "900 MB"


def test_markdown_is_a_table_that_breaks_at_nothing(sweep, write_run):
    error = "k=a|b\nis <wrong>"
    write_run(sweep / "odd", gains=None, status="failed", error=error)
    lines = as_markdown(compare(read_runs(sweep)[0])[0]).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + 8
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1
    assert any("failed: k=a\\|b is &lt;wrong>" in line for line in table)
    assert sum("**30.60**" in line for line in table) == 1


@pytest.mark.parametrize(
    ("shown", "value"),
    [
        (amount(520_000), "520 k"),
        (amount(11e9), "11.0 G"),
        (amount(999_600), "1.00 M"),
        (amount(0), "0.00"),
        (duration(3), "3.00 s"),
        (duration(900), "15.0 min"),
        (duration(9000), "2.50 h"),
        (megabytes(988), "988 MB"),
        (megabytes(81_920), "80.0 GB"),
        (metric_title("psnr_y"), "PSNR y"),
        (metric_title("ssim_3d"), "SSIM 3d"),
    ],
)
def test_numbers_are_printed_to_be_read(shown, value):
    assert shown == value
