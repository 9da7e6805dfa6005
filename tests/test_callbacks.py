import logging

import torch

from kgt_lightning.callbacks import side_by_side
from kgt_lightning.train import train


def test_pictures_stand_in_a_row_with_white_between_them():
    black, gray = torch.zeros(3, 2, 3), torch.full((3, 2, 5), 0.5)
    row = side_by_side(black - 1, gray, black + 2, gap=4)
    assert row.shape == (3, 2, 3 + 4 + 5 + 4 + 3)
    assert (row[..., :3] == 0).all()
    assert (row[..., 3:7] == 1).all()
    assert (row[..., 7:12] == 0.5).all()
    assert (row[..., 16:] == 1).all()


def test_the_speed_of_a_run_is_logged_without_its_validation(tiny, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    train(tiny(tmp_path, "trainer.max_steps=4", "trainer.val_check_interval=2"))
    assert "trained on 8 samples, " in caplog.text
    header = (tmp_path / "train.csv").read_text().splitlines()[0]
    assert set(header.split(",")) == {"step", "loss", "k", "lr", "samples_per_second", "gradient_norm"}
