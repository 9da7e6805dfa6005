"""The table holds the numbers of results.json, in full in CSV, and marks the best."""

import csv
import io
import json

import pytest

from kgt_lightning.report.comparison import compare
from kgt_lightning.report.runs import read_runs
from kgt_lightning.report.tables import amount, as_markdown, columns, csv_rows, curve_rows, duration, megabytes
from kgt_lightning.system.tables import csv_text


@pytest.fixture
def comparison(sweep):
    return compare(read_runs(sweep)[0])[0]


def test_csv_holds_every_number_in_full(sweep, comparison):
    rows = {row["folder"]: row for row in csv.DictReader(io.StringIO(csv_text(csv_rows(comparison))))}
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
        (megabytes(81_920), "81.9 GB"),
    ],
)
def test_numbers_are_printed_to_be_read(shown, value):
    assert shown == value


def test_what_was_logged_is_a_row_for_each_run_and_step(comparison):
    rows = list(curve_rows(comparison))
    assert len(rows) == 40 * 5, "failed runs logged nothing"
    assert rows[9] == {
        "run": "seed=0 k=16",
        "folder": "k16",
        "step": 10,
        "train/loss": 0.06325,
        "train/samples_per_second": 42.0,
        "val/psnr": 29.5,
    }


def test_of_a_score_whose_unit_is_distance_the_lowest_is_the_best(sweep):
    """As LPIPS: the results say what their numbers mean."""
    for place, lpips in zip(("again", "k16", "k64", "k256"), (0.4, 0.3, 0.1, 0.2), strict=True):
        content = json.loads((sweep / place / "results.json").read_text())
        content["columns"] = [{"name": "lpips", "unit": "", "higher_is_better": False}]
        for mean in content["means"].values():
            mean |= {"lpips": lpips, "degraded_lpips": 0.5}
        for image in content["images"]:
            image |= {"lpips": lpips}
        (sweep / place / "results.json").write_text(json.dumps(content))
    [comparison] = compare(read_runs(sweep)[0])
    [column] = [column for column in columns(comparison) if column.key == "Kodak sigma=25 lpips"]
    assert (column.title, column.shown(0)) == ("LPIPS", "0.3000")
    assert [comparison.runs[index].path for index in column.ranking] == ["k64", "k256", "k16", "again"]
    first, second = (comparison.names.index(name) for name in ("seed=0 k=16", "seed=0 k=64"))
    [difference, *_] = comparison.differences(first, second, test_set="Kodak sigma=25", metric="lpips")
    assert difference[1:] == pytest.approx((0.3, 0.1, 0.2)), "a gain"


@pytest.mark.parametrize(("name", "title", "unit"), [("psnr_y", "PSNR y", "dB"), ("ssim_3d", "SSIM 3d", "")])
def test_scores_are_written_as_papers_do(comparison, name, title, unit):
    assert comparison.metric(name)[:2] == (title, unit)
