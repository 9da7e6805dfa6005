"""Several processes train as one."""

import json
import subprocess
import sys

import pytest
import torch

from kgt_lightning.runs.curves import read_curve
from kgt_lightning.train import train

STEPS = ("trainer.max_steps=20", "data.batch_size=4", "trainer.val_check_interval=10")


def losses(folder):
    return list(read_curve(folder, "train/loss").values())


def psnrs(folder):
    return [image["psnr"] for image in json.loads((folder / "results.json").read_text())["images"]]


def weights(folder):
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return [content[part] for part in ("state_dict", "current_model_state") if part in content]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("starter", "arguments"),
    [
        (["-m"], ["trainer=ddp"]),
        (["-m", "torch.distributed.run", "--nproc-per-node=2", "-m"], ["trainer=fsdp", "callbacks.ema=null"]),
    ],
    ids=["ddp", "fsdp under torchrun"],
)
def test_two_processes_share_the_batch_of_one(tiny, tiny_arguments, train_process, tmp_path, starter, arguments):
    train(tiny(tmp_path / "one", *STEPS, *arguments[1:]))
    settings = [*tiny_arguments, *STEPS, *arguments, "trainer.devices=2", "run=two", "hydra.run.dir=two"]
    done = train_process(*settings, starter=starter)
    assert done.returncode == 0, done.stderr
    assert len(losses(tmp_path / "two")) == 20
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    assert psnrs(tmp_path / "two") == pytest.approx(psnrs(tmp_path / "one"), abs=1e-3), "three images, each once"
    # A checkpoint is whole, however many processes held its parts.
    for ours, theirs in zip(weights(tmp_path / "two"), weights(tmp_path / "one"), strict=True):
        assert ours.keys() == theirs.keys()
        for name in theirs:
            torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=1e-4)
    assert json.loads((tmp_path / "two" / "run.json").read_text())["status"] == "finished"
    assert len(list((tmp_path / "two").glob("run.json*"))) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trainer.devices=2"], "several devices need trainer=ddp or trainer=fsdp"),
        (["trainer=fsdp", "trainer.devices=1"], "add callbacks.ema=null"),
    ],
    ids=["ddp", "fsdp"],
)
def test_what_would_go_wrong_late_is_refused(tiny, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        train(tiny(tmp_path, *arguments))


def test_a_process_ends_with_the_one_that_started_it(tmp_path):
    """The end of its standard input is what it sees of that."""
    command = [
        sys.executable,
        "-m",
        "kgt_lightning.sweeps.process",
        "--config-path",
        str(tmp_path),
        "--config-name",
        "job",
    ]
    assert subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60).returncode == 1
    assert not list(tmp_path.iterdir())
