import logging
import time
from types import SimpleNamespace

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kgt_lightning.data.datasets import Patches
from kgt_lightning.runs.curves import read_curve, read_metrics
from kgt_lightning.train import train
from kgt_lightning.training.callbacks import GradientNorm, Progress, side_by_side


def test_pictures_stand_in_a_row_with_white_between_them():
    black, gray = torch.zeros(3, 2, 3), torch.full((3, 2, 5), 0.5)
    row = side_by_side(black - 1, gray, black + 2, gap=4)
    assert row.shape == (3, 2, 3 + 4 + 5 + 4 + 3)
    assert (row[..., :3] == 0).all()
    assert (row[..., 3:7] == 1).all()
    assert (row[..., 7:12] == 0.5).all()
    assert (row[..., 16:] == 1).all()


def test_the_bar_shows_decibels_to_two_places():
    trainer = SimpleNamespace(loggers=[], progress_bar_metrics={"val/psnr": 27.9643, "train/loss": 0.03})
    shown = Progress(refresh_rate=10).get_metrics(trainer, None)
    assert shown == {"val/psnr": "27.96", "train/loss": "0.03000"}


def test_the_speed_of_a_run_is_logged_without_its_validation(tiny, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    train(tiny(tmp_path, "trainer.max_steps=4", "trainer.val_check_interval=2"))
    assert "trained on 8 samples, " in caplog.text
    metrics = {name: values for name, values in read_metrics(tmp_path).items() if name.startswith("train/")}
    names = ("loss", "k", "lr", "samples_per_second", "share_of_data", "peak_memory_mb", "gradient_norm")
    assert set(metrics) == {f"train/{name}" for name in names}
    assert all(list(values) == [1, 2, 3, 4] for values in metrics.values())
    assert all(100 < value < 100_000 for value in metrics["train/peak_memory_mb"].values()), "megabytes of this process"


def test_the_share_of_the_time_that_data_takes_is_logged(tiny, tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    get, seconds = Patches.__getitem__, []

    def slow(self, index):
        time.sleep(0.2)
        seconds.append(0.2)
        return get(self, index)

    train(tiny(tmp_path / "fast", "trainer.max_steps=3"))
    monkeypatch.setattr(Patches, "__getitem__", slow)
    train(tiny(tmp_path / "slow", "trainer.max_steps=3"))
    fast, slow = (read_curve(tmp_path / name, "train/share_of_data")[3] for name in ("fast", "slow"))
    assert seconds
    assert 0 < fast < slow < 1
    assert "% of the time between steps, for data" in caplog.text


def test_the_norm_of_the_gradient_is_that_of_all_weights_together(monkeypatch):
    module = torch.nn.Linear(2, 1)
    module.weight.grad, module.bias.grad = torch.tensor([[1.0, 2.0]]), torch.tensor([2.0])
    logged = {}
    monkeypatch.setattr(module, "log", logged.__setitem__, raising=False)
    GradientNorm().on_before_optimizer_step(None, module, None)
    assert logged["train/gradient_norm"] == 3


def test_key_graphs_are_drawn_and_the_training_does_not_notice(tiny, tmp_path):
    arguments = ("trainer.max_steps=2", "trainer.val_check_interval=1", "logger=tensorboard")
    train(tiny(tmp_path / "without", *arguments))
    train(tiny(tmp_path / "with", *arguments, "callbacks=key_graphs"))
    assert read_curve(tmp_path / "with", "train/loss") == read_curve(tmp_path / "without", "train/loss") != {}
    assert sorted(path.relative_to(tmp_path / "with").as_posix() for path in tmp_path.glob("with/key_graphs/*/*")) == [
        f"key_graphs/step_000000{step}/{name}.png" for step in (1, 2) for name in ("neighbours", "statistics")
    ]
    events = EventAccumulator(str(tmp_path / "with" / "tensorboard")).Reload()
    names = {tag.rpartition("/")[0] for tag in events.Tags()["images"]}
    assert names == {"panels", "key_graphs/neighbours", "key_graphs/statistics"}
