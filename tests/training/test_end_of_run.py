import logging

import torch

from kgt_lightning.runs.curves import read_curve
from kgt_lightning.train import train


def test_the_last_step_is_validated_and_saved_after_it(tiny, tmp_path):
    train(tiny(tmp_path, "trainer.max_steps=5", "trainer.val_check_interval=2"))
    assert list(read_curve(tmp_path, "val/psnr")) == [2, 4, 5]
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 5


def test_a_run_says_when_its_best_is_not_its_last(tiny, tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    arguments = ("trainer.max_steps=4", "trainer.val_check_interval=1", "callbacks.ema=null")
    # A rate that ruins the model after the first step.
    train(tiny(tmp_path, *arguments, "optim.lr=1", "optim.schedule.warmup=0"))
    assert "the best validation was an earlier one: val/psnr=" in caplog.text
