"""Curves are read from whatever runs leave that were resumed, or stopped in the middle of a line."""

from kgt_lightning.runs.curves import draw_curves, read_curve, smooth


def test_of_a_repeated_step_the_later_value_counts(tmp_path):
    (tmp_path / "train.csv").write_text("step,loss\n1,0.5\n2,0.4\n3,0.3\n2,0.2\n")
    assert read_curve(tmp_path, "train", "loss") == {1: 0.5, 2: 0.2, 3: 0.3}


def test_files_that_follow_are_read_too(tmp_path):
    (tmp_path / "train.csv").write_text("step,loss\n1,0.5\n2,0.4\n")
    (tmp_path / "train_2.csv").write_text("step,loss,lr\n2,0.3,1\n3,0.2,1\n")
    (tmp_path / "train_3.csv").write_text("step,loss,lr,k\n4,0.1,1,64\n")
    assert read_curve(tmp_path, "train", "loss") == {1: 0.5, 2: 0.3, 3: 0.2, 4: 0.1}
    assert read_curve(tmp_path, "train", "lr") == {2: 1.0, 3: 1.0, 4: 1.0}


def test_unfinished_rows_and_empty_cells_are_passed_over(tmp_path):
    rows = ["step,loss,lr", "1,0.5,1", "2,,1", "3,0.4", "4,0.34,0.3,1", "x,0.2,1", "5,0.1,1", "6,"]
    (tmp_path / "train.csv").write_text("\n".join(rows))
    assert read_curve(tmp_path, "train", "loss") == {1: 0.5, 5: 0.1}


def test_what_is_not_there_is_empty(tmp_path):
    assert read_curve(tmp_path, "train", "loss") == {}
    (tmp_path / "val.csv").write_text("")
    assert read_curve(tmp_path, "val", "psnr") == {}
    assert draw_curves(tmp_path) is None


def test_smoothing_is_the_mean_of_the_last_values():
    values = [float(value % 7) for value in range(100)]
    found = smooth(values)
    assert len(found) == 100
    for index in (0, 3, 50, 99):
        last = values[max(0, index - 4) : index + 1]
        assert abs(found[index] - sum(last) / len(last)) < 1e-9
    assert smooth([]) == []
