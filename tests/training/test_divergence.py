import json
from typing import ClassVar

import pytest
import torch

from kgt_lightning import train as command
from kgt_lightning.train import train
from kgt_lightning.training.losses import Charbonnier


class Diverges(Charbonnier):
    """Not finite at the third step."""

    calls: ClassVar = []

    def __call__(self, restored, clean):
        self.calls.append(None)
        return super().__call__(restored, clean) * (torch.nan if len(self.calls) == 3 else 1)


def test_the_step_is_named_and_the_checkpoint_of_before_stays(tiny, tmp_path):
    settings = ("trainer.max_steps=8", "trainer.val_check_interval=2", f"module.loss._target_={__name__}.Diverges")
    with pytest.raises(
        ValueError, match=r"diverged, from step 3 on the loss is not finite.*an optim\.lr below 0\.001,"
    ):
        train(tiny(tmp_path, "loss=charbonnier", "trainer.log_every_n_steps=4", *settings))
    for name in ("last", "best"):
        content = torch.load(tmp_path / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert content["global_step"] == 2
        assert all(weight.isfinite().all() for weight in content["state_dict"].values())
    state = json.loads((tmp_path / "run.json").read_text())
    assert state["status"] == "failed"
    assert "from step 3 on" in state["error"]


def test_far_too_large_a_rate_is_named(run_command, tiny_arguments):
    code, _, errors = run_command(command.main, *tiny_arguments, "optim.lr=1e10", "optim.schedule.warmup=0", "run=a")
    [line] = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert code == 2
    assert "the training diverged" in line
    assert "an optim.lr below 1e+10" in line


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("run=", "run= is no name of a folder below outputs: give one such as run=first"),
        ("run=../../x", "run=../../x is no name of a folder below outputs"),
        ("run=/tmp/x", "run=/tmp/x is no name of a folder below outputs"),
        ("callbacks.checkpoint=null", "callbacks.checkpoint=null must be a section"),
        ("+trainer.max_epochs=0", "trainer.max_epochs=0 must be one of -1 or null"),
    ],
)
def test_what_would_be_found_late_is_found_first(run_command, tiny_arguments, tmp_path, argument, message):
    code, _, errors = run_command(command.main, *tiny_arguments, argument)
    assert code == 2
    [line] = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: {message}")
    assert not list(tmp_path.rglob("checkpoints"))
