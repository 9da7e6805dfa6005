import pytest

from kgt_lightning.loggers import AppendingCSV


def test_rows_are_appended_also_by_a_later_logger(tmp_path):
    AppendingCSV(folder=str(tmp_path)).log_metrics({"train/loss": 0.5, "train/lr": 0.1, "epoch": 0}, step=0)
    AppendingCSV(folder=str(tmp_path)).log_metrics({"train/loss": 0.25, "train/lr": 0.1}, step=1)
    assert (tmp_path / "train.csv").read_text().splitlines() == ["step,loss,lr", "1,0.5,0.1", "2,0.25,0.1"]


def test_each_kind_has_a_file(tmp_path):
    AppendingCSV(folder=str(tmp_path)).log_metrics({"train/loss": 1.0, "val/psnr": 30.0}, step=9)
    assert (tmp_path / "val.csv").read_text().splitlines() == ["step,psnr", "10,30.0"]


def test_a_missing_metric_leaves_a_gap_and_a_new_one_begins_a_file(tmp_path):
    logger = AppendingCSV(folder=str(tmp_path))
    logger.log_metrics({"train/loss": 1.0, "train/lr": 0.1}, step=0)
    logger.log_metrics({"train/loss": 2.0}, step=1)
    logger.log_metrics({"train/loss": 3.0, "train/memory": 7}, step=2)
    assert (tmp_path / "train.csv").read_text().splitlines() == ["step,loss,lr", "1,1.0,0.1", "2,2.0,"]
    assert (tmp_path / "train_2.csv").read_text().splitlines() == ["step,loss,memory", "3,3.0,7"]


def test_rows_beyond_a_step_are_cut_and_half_a_line_too(tmp_path):
    for step in range(5):
        AppendingCSV(folder=str(tmp_path)).log_metrics({"train/loss": step / 2, "val/psnr": 30.0 + step}, step=step)
    before = (tmp_path / "train.csv").read_bytes()
    (tmp_path / "results.csv").write_text("test_set,psnr\nSet5,3")  # not ours
    with (tmp_path / "train.csv").open("a") as stream:
        stream.write("6,2.")
    AppendingCSV(folder=str(tmp_path)).cut(step=5)
    assert (tmp_path / "train.csv").read_bytes() == before
    AppendingCSV(folder=str(tmp_path)).cut(step=2)
    assert (tmp_path / "train.csv").read_text().splitlines() == ["step,loss", "1,0.0", "2,0.5"]
    assert (tmp_path / "val.csv").read_text().splitlines() == ["step,psnr", "1,30.0", "2,31.0"]
    assert (tmp_path / "results.csv").read_text() == "test_set,psnr\nSet5,3"
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("left", ["", "step,lo", "step,loss\r\n1,0.5\r\n2,0.2", "step,loss\r\n1,0.5\r\n2,7\r\n3,7\r\n"])
def test_steps_rise_whatever_an_earlier_logger_left(tmp_path, left):
    (tmp_path / "train.csv").write_text(left, newline="")
    logger = AppendingCSV(folder=str(tmp_path))
    logger.log_metrics({"train/loss": 0.25}, step=1)
    logger.log_metrics({"train/loss": 0.125}, step=2)
    rows = (tmp_path / "train.csv").read_text().splitlines()
    assert rows == ["step,loss", *(["1,0.5"] if "0.5" in left else []), "2,0.25", "3,0.125"]


@pytest.mark.slow
def test_wandb_is_offline_without_an_account_and_ends_with_each_job(run_command, tiny_arguments, tmp_path, monkeypatch):
    from kgt_lightning import train

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    arguments = ("logger=wandb", "trainer.max_steps=1", "model.k=4,8", "hydra.sweep.dir=sweep")
    code, _, errors = run_command(train.main, "-m", *tiny_arguments, *arguments)
    assert code == 0, errors
    for job in ("0", "1"):
        assert len(list((tmp_path / "sweep" / job / "wandb").glob("offline-run-*"))) == 1
