"""Curves are read from whatever runs leave that were resumed, or stopped in the middle of a line."""

import json

import pytest

from kgt_lightning.runs.curves import draw_curves, read_curve, read_log, read_metrics, smooth, write_csv_files


def write(folder, *lines, end=""):
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + end)


def test_of_a_repeated_step_the_later_value_counts(tmp_path):
    write(tmp_path, *({"step": step, "train/loss": loss} for step, loss in ((1, 0.5), (3, 0.3), (2, 0.4), (2, 0.2))))
    assert read_curve(tmp_path, "train/loss") == {1: 0.5, 2: 0.2, 3: 0.3}
    assert list(read_curve(tmp_path, "train/loss")) == [1, 2, 3]


def test_metrics_that_come_later_or_not_always_are_read(tmp_path):
    write(tmp_path, {"step": 1, "train/loss": 0.5}, {"step": 1, "val/psnr": 30}, {"step": 2, "train/lr": 1e-4})
    assert read_metrics(tmp_path) == {"train/loss": {1: 0.5}, "val/psnr": {1: 30.0}, "train/lr": {2: 1e-4}}


@pytest.mark.parametrize(
    "end", ['{"step": 2, "train/lo', '{"step": 2', "{}\n", "[1]\n", "\x00\x00", "7", '{"step": "2"}\n']
)
def test_unfinished_and_damaged_lines_are_passed_over(tmp_path, end):
    write(tmp_path, {"step": 1, "train/loss": 0.5}, end=end)
    assert read_log(tmp_path) == [{"step": 1, "train/loss": 0.5}]


def test_what_is_no_number_has_no_place_in_a_curve(tmp_path):
    write(tmp_path, {"step": 1, "train/loss": None, "train/lr": "x", "train/k": float("inf")})
    assert read_metrics(tmp_path) == {"train/k": {1: float("inf")}}


def test_what_is_not_there_is_empty(tmp_path):
    assert read_curve(tmp_path, "train/loss") == {}
    write(tmp_path)
    assert read_metrics(tmp_path) == {}
    assert draw_curves(tmp_path) is None


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("loss", [0.5, -30.0, float("nan")], ids=["positive", "a negative one", "none"])
def test_curves_are_drawn_of_any_loss_and_score(tmp_path, loss):
    lines = [{"step": step, "train/loss": loss / step, "val/lpips": 1 / step} for step in (1, 2, 3)]
    write(tmp_path, *lines)
    assert draw_curves(tmp_path) == tmp_path / "curves.png"
    assert (tmp_path / "curves.png").stat().st_size > 5000


def test_csv_files_hold_every_metric_of_a_kind(tmp_path):
    write(tmp_path, {"step": 1, "train/loss": 0.5}, {"step": 1, "val/psnr": 30.0}, {"step": 2, "train/lr": 0.1})
    write_csv_files(tmp_path)
    assert (tmp_path / "train.csv").read_text() == "step,loss,lr\n1,0.5,\n2,,0.1\n"
    assert (tmp_path / "val.csv").read_text() == "step,psnr\n1,30.0\n"
    metrics = read_metrics(tmp_path)
    (tmp_path / "metrics.jsonl").unlink()
    assert read_metrics(tmp_path) == metrics, "and are read back"


def test_folders_of_before_are_read(tmp_path):
    """Each kind in a file, and a new one with a number for a metric that came later."""
    (tmp_path / "train.csv").write_text("step,loss\n1,0.5\n2,0.4\n")
    (tmp_path / "train_2.csv").write_text("step,loss,lr\n2,0.3,1\n3,0.2,1\n")
    (tmp_path / "train_10.csv").write_text("step,loss,lr,k\n4,0.1,1,64\n")
    (tmp_path / "val.csv").write_text("step,psnr\n")
    (tmp_path / "results.csv").write_text("test_set,psnr\nSet5,30\n")
    assert read_curve(tmp_path, "train/loss") == {1: 0.5, 2: 0.3, 3: 0.2, 4: 0.1}
    assert read_curve(tmp_path, "train/lr") == {2: 1.0, 3: 1.0, 4: 1.0}
    assert set(read_metrics(tmp_path)) == {"train/loss", "train/lr", "train/k"}


def test_unfinished_rows_and_empty_cells_of_before_are_passed_over(tmp_path):
    rows = ["step,loss,lr", "1,0.5,1", "2,,1", "3,0.4", "4,0.34,0.3,1", "x,0.2,1", "5,0.1,1", "6,"]
    (tmp_path / "train.csv").write_text("\n".join(rows))
    assert read_curve(tmp_path, "train/loss") == {1: 0.5, 5: 0.1}


def test_smoothing_is_the_mean_of_the_last_values():
    values = [float(value % 7) for value in range(100)]
    found = smooth(values)
    assert len(found) == 100
    for index in (0, 3, 50, 99):
        last = values[max(0, index - 4) : index + 1]
        assert abs(found[index] - sum(last) / len(last)) < 1e-9
    assert smooth([]) == []
