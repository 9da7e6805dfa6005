"""Runs that are killed, stopped or damaged, and then go on: nothing may differ from a run that was left alone."""

import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from kgt_lightning.runs.curves import read_log
from kgt_lightning.train import train

pytestmark = pytest.mark.slow

STEPS = 12
ARGUMENTS = (
    f"trainer.max_steps={STEPS}",
    "trainer.val_check_interval=5",
    "model.train_k=[2,4,8]",
    "degradation.sigma=[15,25,50]",
    "callbacks.last.every_minutes=0",
    f"+callbacks.kill._target_={__name__}.KillAt",
)


class KillAt(Callback):
    """Sends a signal to one process, or as a terminal does to all of its group, at a step; without a step to none."""

    def __init__(self, *, step=0, hook="on_train_batch_start", number=int(signal.SIGKILL), rank=0, group=False):
        def kill(trainer, *rest):
            if trainer.global_step == step and trainer.global_rank == rank and not trainer.sanity_checking:
                os.killpg(os.getpgrp(), number) if group else os.kill(os.getpid(), number)

        if step:
            setattr(self, hook, kill)


def rows(folder, name="train/loss"):
    """Step and value of every line with this metric: of a step that was done again, only the last may be there."""
    return [(line["step"], line[name]) for line in read_log(folder) if name in line]


def assert_same(folder, whole):
    """Every loss, every validation, all weights, raw and averaged, and the state of the optimiser."""
    assert [step for step, _ in rows(whole)] == list(range(1, STEPS + 1))
    for name in ("train/loss", "train/k", "val/psnr"):
        assert rows(folder, name) == rows(whole, name)
    for name in ("last", "best"):
        ours, theirs = (
            torch.load(each / "checkpoints" / f"{name}.ckpt", weights_only=True) for each in (folder, whole)
        )
        assert ours["global_step"] == theirs["global_step"]
        for key in ("state_dict", "current_model_state", "optimizer_states", "lr_schedulers"):
            torch.testing.assert_close(ours[key], theirs[key], rtol=0, atol=0)


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """Folder of the run that was left alone."""
    folder = tmp_path_factory.mktemp("whole")
    train(tiny(folder, *ARGUMENTS))
    return folder


@pytest.fixture
def command(tiny_arguments, monkeypatch):
    """A training in a process of its own."""
    paths = [*map(str, (Path(__file__).parent, Path(__file__).parents[2] / "src")), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def start(folder, *arguments):
        line = [sys.executable, "-m", "kgt_lightning.train", *tiny_arguments, *ARGUMENTS, *arguments]
        with (folder.parent / f"{folder.name}.log").open("a") as log:
            return subprocess.Popen(
                [*line, f"hydra.run.dir={folder}"], cwd=folder.parent, stdout=log, stderr=log, start_new_session=True
            )

    return start


def in_a_fork(config) -> int:
    """Exit code of a training in a copy of this process."""
    process = multiprocessing.get_context("fork").Process(target=train, args=(config,))
    process.start()
    process.join(120)
    assert process.exitcode is not None
    return process.exitcode


def kill(step, **settings):
    """Arguments for :class:`KillAt`."""
    return [f"+callbacks.kill.{key}={value}" for key, value in {"step": step, **settings}.items()]


MOMENTS = random.Random(5).sample(
    [
        (step, hook)
        for step in range(1, STEPS)
        for hook in ("on_train_batch_start", "on_before_optimizer_step", "on_train_batch_end", "on_save_checkpoint")
    ],
    4,
)


@pytest.mark.parametrize(("step", "hook"), [*MOMENTS, (5, "on_validation_batch_end"), (5, "on_validation_end")])
def test_a_run_killed_at_any_moment_goes_on_as_if_it_had_not_been(tiny, whole, tmp_path, step, hook):
    assert in_a_fork(tiny(tmp_path, *ARGUMENTS, *kill(step, hook=hook))) == -9
    train(tiny(tmp_path, *ARGUMENTS, "resume=true"))
    assert_same(tmp_path, whole)


@pytest.mark.parametrize(("step", "saved"), [(3, 4), (4, 5)], ids=["a step", "a validation"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2])
def test_a_signal_saves_the_step_under_way_and_its_validation(tiny, whole, tmp_path, number, step, saved):
    rarely = "callbacks.last.every_minutes=60"
    config = tiny(tmp_path, *ARGUMENTS, rarely, *kill(step, hook="on_before_zero_grad", number=int(number)))
    assert in_a_fork(config) == 128 + number
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == saved
    assert rows(tmp_path) == rows(whole)[:saved]
    assert rows(tmp_path, "val/psnr") == rows(whole, "val/psnr")[: saved // 5]
    train(tiny(tmp_path, *ARGUMENTS, "resume=true"))
    assert_same(tmp_path, whole)


def test_a_signal_in_the_test_ends_it_with_a_code_of_its_own(tiny, tmp_path):
    when = kill(1, hook="on_test_batch_start", number=int(signal.SIGTERM))
    assert in_a_fork(tiny(tmp_path, *ARGUMENTS, "trainer.max_steps=1", *when)) == 128 + signal.SIGTERM
    train(tiny(tmp_path, *ARGUMENTS, "trainer.max_steps=1", "resume=true"))
    assert (tmp_path / "results.json").exists()


def test_what_is_saved_only_by_the_clock_goes_on_too(tiny, tmp_path):
    """Also at the last step, which here is not validated, and when the run is prolonged."""
    arguments = (*ARGUMENTS, "trainer.accumulate_grad_batches=2", "trainer.val_check_interval=6")
    train(tiny(tmp_path / "whole", *arguments))
    assert in_a_fork(tiny(tmp_path / "parts", *arguments, *kill(8))) == -9
    train(tiny(tmp_path / "parts", *arguments, "resume=true"))
    assert_same(tmp_path / "parts", tmp_path / "whole")
    train(tiny(tmp_path / "parts", *arguments, "resume=true", "trainer.max_steps=14"))
    assert [step for step, _ in rows(tmp_path / "parts")] == list(range(1, 15))
    assert [step for step, _ in rows(tmp_path / "parts", "test/CBSD68_sigma=15_psnr")] == [12, 14]


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(tiny, whole, tmp_path, caplog):
    assert in_a_fork(tiny(tmp_path, *ARGUMENTS, *kill(8))) == -9
    last = tmp_path / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-1000])
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 9, "train/lo')
    train(tiny(tmp_path, *ARGUMENTS, "resume=true"))
    assert f"{last} is damaged" in caplog.text
    assert_same(tmp_path, whole)


def test_a_run_without_an_intact_checkpoint_is_not_begun_anew(tiny, tmp_path):
    assert in_a_fork(tiny(tmp_path, *ARGUMENTS, *kill(4))) == -9
    for name in ("last", "previous"):
        (tmp_path / "checkpoints" / f"{name}.ckpt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"last\.ckpt and previous\.ckpt cannot be read.*another one with run=<name>"):
        train(tiny(tmp_path, *ARGUMENTS, "resume=true"))


def test_a_run_killed_before_its_first_checkpoint_begins_anew(tiny, whole, tmp_path):
    arguments = (*ARGUMENTS, "callbacks.last.every_minutes=60")
    assert in_a_fork(tiny(tmp_path, *arguments, *kill(3))) == -9
    assert len(rows(tmp_path)) == 3
    train(tiny(tmp_path, *arguments))
    assert_same(tmp_path, whole)


def test_workers_outlive_an_interrupt_of_all_processes(command, whole, tmp_path):
    folder = tmp_path / "run"
    code = command(folder, "data.workers=2", *kill(7, number=int(signal.SIGINT), group="true")).wait(280)
    log = (tmp_path / "run.log").read_text()
    assert code == 130, log
    assert "SIGINT: saved at step 8 and stopped, resume=true goes on from there" in log
    assert "Traceback" not in log
    assert command(folder, "data.workers=2", "resume=true").wait(280) == 0
    assert_same(folder, whole)


@pytest.mark.timeout(900)
def test_two_processes_one_of_which_is_killed_or_told_to_stop(command, tmp_path):
    two = ("trainer=ddp", "trainer.devices=2")
    alone, folder = command(tmp_path / "whole", *two), tmp_path / "run"
    assert command(folder, *two, *kill(4, rank=1)).wait(280) != 0
    assert alone.wait(280) == 0
    [line] = re.findall("^error: .*", (tmp_path / "run.log").read_text(), re.MULTILINE)
    reason, said = line.split("; what it said is in ")
    assert reason == "error: process 1 of 2: killed by SIGKILL"
    assert "GLOBAL_RANK: 1" in Path(said).read_text()
    assert command(folder, *two, "resume=true", *kill(8, rank=1, number=int(signal.SIGTERM))).wait(280) == 143
    assert command(folder, *two, "resume=true").wait(280) == 0
    assert_same(folder, tmp_path / "whole")
