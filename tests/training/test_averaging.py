import pytest
import torch

from kgt_lightning.train import train
from kgt_lightning.training.averaging import EMA


def test_the_decay_grows_with_the_step_up_to_the_one_that_is_set():
    ema = EMA(decay=0.99)
    decays = [ema.decay_at(step) for step in (0, 1, 10, 100, 890, 891, 10_000)]
    assert decays == pytest.approx([1 / 10, 2 / 11, 11 / 20, 101 / 110, 891 / 900, 0.99, 0.99])


def test_the_average_of_a_run_is_that_of_its_weights(tiny, tmp_path):
    train(tiny(tmp_path, "trainer.max_steps=2", "trainer.val_check_interval=1"))
    first, second = (
        torch.load(tmp_path / "checkpoints" / name, weights_only=True) for name in ("previous.ckpt", "last.ckpt")
    )
    key = "network.head.conv.weight"
    torch.testing.assert_close(first["state_dict"][key], first["current_model_state"][key])
    # Lightning begins the average with the weights of the first step; the second keeps 2/11 of it.
    expected = torch.lerp(second["current_model_state"][key], first["state_dict"][key], 2 / 11)
    torch.testing.assert_close(second["state_dict"][key], expected)
