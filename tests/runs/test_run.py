"""run.json says what was run and how it ended, whatever that was, and what is left to do."""

import errno
import json
import os

import pytest
import torch
from hydra.errors import InstantiationException
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException

from kgt_lightning.runs.run import (
    FAILED,
    FINISHED,
    Run,
    config_key,
    how_it_ended,
    is_finished,
    read_score,
    read_state,
    write_state,
)
from kgt_lightning.system import hardware as machine
from kgt_lightning.system.files import InUseError
from kgt_lightning.train import train


class Raise(Callback):
    """Ends a training as something unforeseen would."""

    error: BaseException | None = None

    def on_train_batch_end(self, trainer, *args):
        if self.error is not None and trainer.global_step == 2:
            raise self.error


RAISING = (f"+callbacks.raise._target_={__name__}.Raise",)


def test_a_finished_run(tiny, tmp_path):
    train(tiny(tmp_path, "trainer.max_steps=1"), overrides=["model.k=8"])
    record = json.loads((tmp_path / "run.json").read_text())
    assert (record["status"], record["error"], record["task"]) == ("finished", None, "denoise")
    assert record["overrides"] == ["model.k=8"]
    assert record["config"]["model"]["k"] == 8
    assert record["config"]["run_dir"] == str(tmp_path)
    assert record["parameters"] == json.loads((tmp_path / "results.json").read_text())["parameters"]
    # Two for each multiply-add of the two layers at least.
    assert record["flops"] > 2 * 2 * 128 * 128 * 8 * 8 * 8
    assert record["seconds"] > 0
    assert 100 < record["peak_memory_mb"] < 100_000
    assert "cores" in record["hardware"]
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (RuntimeError("the loss\nis not finite"), "failed", "the loss; is not finite"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
            "out of memory",
            "there is not enough memory (CUDA out of memory",
        ),
        (SIGTERMException(), "interrupted", "stopped from outside"),
    ],
    ids=["failed", "memory", "interrupted"],
)
def test_a_run_that_did_not_reach_its_end_and_then_does(tiny, tmp_path, monkeypatch, error, status, reason):
    monkeypatch.setattr(Raise, "error", error)
    arguments = ("trainer.max_steps=3", "trainer.val_check_interval=1", *RAISING)
    with pytest.raises(type(error)):
        train(tiny(tmp_path, *arguments))
    record = read_state(tmp_path)
    assert record["status"] == status
    assert record["error"].startswith(reason)
    monkeypatch.setattr(Raise, "error", None)
    train(tiny(tmp_path, *arguments, "resume=true"))
    after = read_state(tmp_path)
    assert (after["status"], after["error"]) == ("finished", None)
    assert after["seconds"] > record["seconds"], "the earlier start counts"


def test_a_run_that_cannot_begin(tiny, tmp_path):
    with pytest.raises(InstantiationException):
        train(tiny(tmp_path, "model.k=99"))
    record = read_state(tmp_path)
    assert record["status"] == "failed"
    assert record["error"].startswith("k=99 must lie in 1..16")


def test_what_is_refused_leaves_the_record_of_the_run_that_is_there(tiny, tmp_path):
    train(tiny(tmp_path, "trainer.max_steps=1"))
    before = (tmp_path / "run.json").read_bytes()
    for arguments in ([], ["resume=true", "model.width=16"], ["trainer.max_steps=0"]):
        with pytest.raises(ValueError, match=r"already holds|another module\.backbone|must be a whole number"):
            train(tiny(tmp_path, "trainer.max_steps=1", *arguments))
    assert (tmp_path / "run.json").read_bytes() == before


def test_seconds_after_a_kill_are_those_up_to_the_last_checkpoint(tiny, tmp_path):
    train(tiny(tmp_path, "trainer.max_steps=1"))
    killed = {"status": "running", "seconds": 1000.0, "started": "2020-01-01T00:00:00+00:00", "peak_memory_mb": None}
    write_state(tmp_path, read_state(tmp_path) | killed)
    last = tmp_path / "checkpoints" / "last.ckpt"
    os.utime(last, (1577836800 + 500, 1577836800 + 500))
    train(tiny(tmp_path, "trainer.max_steps=1", "resume=true"))
    assert 1500 < read_state(tmp_path)["seconds"] < 1600


@pytest.mark.parametrize(
    ("arguments", "same"),
    [
        (["run=other", "data.workers=2", "logger=tensorboard", "resume=true", "trainer.devices=2"], True),
        (["callbacks.panels.images=1", "trainer.log_every_n_steps=3", "data.cache_dir=elsewhere"], True),
        (["callbacks.panels=null", "optim.lr=0.001"], True),
        (["callbacks.pruning={trial:3}"], True),
        (["model.k=9"], False),
        (["seed=1"], False),
        (["model.attention=mask"], False),
        (["callbacks.ema=null"], False),
        (["data_root=null"], False),
        (["weights=other.ckpt"], False),
        (["trainer.precision=bf16-mixed"], False),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_key_is_that_of_what_shapes_the_result(tiny, tmp_path, arguments, same):
    first = config_key(tiny(tmp_path / "a"))
    assert (config_key(tiny(tmp_path / "b", *arguments)) == first) is same


@pytest.mark.parametrize(
    ("status", "retry", "finished"),
    [
        ("finished", False, True),
        ("finished", True, True),
        ("pruned", False, True),
        ("pruned", True, True),
        ("failed", False, True),
        ("failed", True, False),
        ("out of memory", False, True),
        ("out of memory", True, False),
        ("interrupted", False, False),
        ("running", False, False),
    ],
)
def test_what_is_run_again(status, retry, finished):
    assert is_finished({"status": status}, retry=retry) is finished
    assert not is_finished(None, retry=retry)


def test_other_launchers_go_on_in_numbered_folders(tiny, tmp_path):
    config = tiny(tmp_path)
    assert Run(config, tmp_path, overrides=[]).should_run()
    record = {"status": "finished", "error": None, "overrides": ["model.k=8"], "key": config_key(config)}
    write_state(tmp_path, record)
    (tmp_path / "results.json").write_text(json.dumps({"means": {"CBSD68 sigma=25": {"psnr": 30.0, "images": 3}}}))
    assert not Run(config, tmp_path, overrides=[]).should_run()
    assert read_score(tmp_path) == 30.0
    write_state(tmp_path, {**record, "status": "failed", "error": "the loss is not finite"})
    with pytest.raises(ValueError, match="failed before: the loss is not finite; retry=true tries again"):
        Run(config, tmp_path, overrides=[]).should_run()
    write_state(tmp_path, {**record, "status": "interrupted"})
    config.resume = False
    assert Run(config, tmp_path, overrides=[]).should_run()
    assert config.resume is True
    with pytest.raises(ValueError, match=r"holds another job \(model.k=8\): name another sweep"):
        Run(tiny(tmp_path, "model.k=9"), tmp_path, overrides=[]).should_run()


def test_a_damaged_record_is_named(tmp_path):
    (tmp_path / "run.json").write_text('{"status": "fini')
    with pytest.raises(ValueError, match=r"run\.json is damaged .* remove it"):
        read_state(tmp_path)


def test_an_error_without_words_is_named_by_its_type():
    assert how_it_ended(AssertionError()) == ("failed", "AssertionError")


def test_without_a_checkout_there_is_no_commit(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "__file__", str(tmp_path / "machine.py"))
    assert machine.commit() is None


def test_of_two_runs_in_one_folder_the_second_is_refused(tiny, in_use, tmp_path):
    """Also when both begin before either has written anything."""
    run = Run(tiny(tmp_path), tmp_path, overrides=[])
    with in_use(tmp_path):
        with pytest.raises(InUseError, match="is in use by another process"), run.recording():
            raise AssertionError("it began")
        run.settle(FAILED, "refused")
        assert run.state == {}
    with run.recording():
        pass
    assert run.state["status"] == FINISHED


def test_a_full_disk_is_named_and_does_not_leave_the_run_running(tiny, tmp_path, monkeypatch):
    run = Run(tiny(tmp_path), tmp_path, overrides=[])

    def full(file, content):
        raise OSError(errno.ENOSPC, "No space left on device", str(file))

    with pytest.raises(OSError, match="No space"), run.recording():
        run.start(device=torch.device("cpu"), devices=1)
        monkeypatch.setattr("kgt_lightning.runs.run.write_atomic", full)
        full(tmp_path / "last.ckpt", "")
    assert run.state["status"] == FAILED
    assert run.state["error"].startswith(f"{tmp_path}/last.ckpt cannot be written, the disk is full")
