"""Sweeps run what is missing, and say how every job stands."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from filelock import FileLock
from hydra import compose, initialize_config_dir

from kgt_lightning import train as command
from kgt_lightning.entry import CONF_DIR
from kgt_lightning.record import config_key, read_record, write_record
from kgt_lightning.sweep import find_folders, go_on, is_settled, job_name, run_sweep, share


@pytest.fixture
def jobs(tiny_arguments):
    """Composes the jobs of a sweep as a launcher does."""

    def compose_jobs(*points):
        with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            arguments = [[*tiny_arguments, *each.split()] for each in points]
            return [compose("train", each, return_hydra_config=True) for each in arguments]

    return compose_jobs


def found(configs, folder, *points):
    return find_folders(configs, folder=folder, swept=[each.split() for each in points])


def leave_record(job, status, **more):
    record = {"status": status, "error": None, "overrides": job.overrides, "key": config_key(job.config)}
    write_record(job.folder, {**record, "seconds": 1.0, **more})


@pytest.mark.parametrize(
    ("swept", "name"),
    [
        (["model.k=64"], "k=64"),
        (["model.k=64", "seed=1"], "k=64,seed=1"),
        (["+model.seed=2", "seed=1"], "model.seed=2,seed=1".replace(",seed", ",seed")),
        (["model.layout.depths=[2,2]", "model.train_k=null"], "depths=2,2,train_k=null"),
        (["data.sigma={low:5,high:50}"], "sigma=low_5,high_50"),
        (["model=../../evil"], "model=.._.._evil"),
        ([], "job"),
    ],
)
def test_folders_are_named_after_what_is_swept(swept, name):
    assert job_name(swept) == name


def test_jobs_are_found_again_in_another_order(jobs, tmp_path):
    first = found(jobs("model.k=4", "model.k=5"), tmp_path, "model.k=4", "model.k=5")
    assert [job.name for job in first] == ["k=4", "k=5"]
    for job in first:
        leave_record(job, "finished")
    # Named anew, in another order, with one more, whose name is taken.
    again = found(jobs("model.k=6", "model.k=5", "model.k=4"), tmp_path, "model.k=5", "seed=1", "seed=2")
    assert [job.name for job in again] == ["k=5-2", "k=5", "k=4"]


def test_jobs_that_differ_in_the_number_of_devices_only_have_folders_of_their_own(jobs, tmp_path):
    points = ["trainer.devices=1", "trainer.devices=2"]
    first = found(jobs(*points), tmp_path, *points)
    assert [job.name for job in first] == ["devices=1", "devices=2"]
    for job in first:
        leave_record(job, "finished", overrides=[job.name])
    configs = jobs(*reversed(points))
    for config, overrides in zip(configs, (["devices=2"], ["devices=1"]), strict=True):
        config.hydra.overrides.task = overrides
    assert [job.name for job in found(configs, tmp_path, *reversed(points))] == ["devices=2", "devices=1"]


@pytest.mark.parametrize(
    ("status", "retry", "settled"),
    [
        ("finished", False, True),
        ("finished", True, True),
        ("failed", False, True),
        ("failed", True, False),
        ("out of memory", False, True),
        ("out of memory", True, False),
        ("interrupted", False, False),
        ("running", False, False),
    ],
)
def test_what_is_run_again(status, retry, settled):
    assert is_settled({"status": status}, retry) is settled
    assert not is_settled(None, retry)


def test_a_sweep_runs_in_one_process_at_a_time(jobs, tmp_path):
    with FileLock(tmp_path / ".lock"), pytest.raises(ValueError, match="is being run by another process"):
        run_sweep(jobs("model.k=4"), folder=tmp_path, swept=[["model.k=4"]], at_once=1)


def test_jobs_at_once_share_the_machine(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,4,5")
    assert share(0, 1) == {}
    assert share(1, 2) == {"OMP_NUM_THREADS": "4", "CUDA_VISIBLE_DEVICES": "4,5"}
    with pytest.raises(ValueError, match="there are 4 GPUs"):
        share(0, 5)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert "OMP_NUM_THREADS" not in share(0, 2)


def test_other_launchers_go_on_in_numbered_folders(tiny, tmp_path):
    config = tiny(tmp_path)
    assert go_on(config, tmp_path) is None
    record = {"status": "finished", "error": None, "overrides": ["model.k=8"], "key": config_key(config)}
    write_record(tmp_path, record)
    (tmp_path / "results.json").write_text(json.dumps({"means": {"CBSD68 sigma=25": {"psnr": 30.0, "images": 3}}}))
    assert go_on(config, tmp_path) == 30.0
    write_record(tmp_path, {**record, "status": "failed", "error": "the loss is not finite"})
    with pytest.raises(ValueError, match="failed before: the loss is not finite; retry=true tries again"):
        go_on(config, tmp_path)
    write_record(tmp_path, {**record, "status": "interrupted"})
    assert go_on(config, tmp_path) is None
    assert config.resume is True
    with pytest.raises(ValueError, match=r"holds another job \(model.k=8\): name another sweep"):
        go_on(tiny(tmp_path, "model.k=9"), tmp_path)


def status_of(folder):
    return {each.parent.name: read_record(each.parent)["status"] for each in folder.glob("*/run.json")}


@pytest.mark.slow
def test_a_sweep_survives_what_happens_to_its_jobs(run_command, tiny_arguments, tmp_path):
    """Two processes to a job: one job fails, one is killed, one ends; then what is missing is run, in another order."""
    folder = tmp_path / "outputs" / "sweeps" / "mine"
    common = [*tiny_arguments, "sweep=mine", "trainer=ddp", "trainer.devices=2", "trainer.val_check_interval=2"]
    start = [sys.executable, "-m", "kgt_lightning.train", "-m", *common]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    # The killed job is long, until it is killed.
    with subprocess.Popen(
        [*start, "model.k=99,4,5", "trainer.max_steps=6"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as first:
        while not (folder / "k=4" / "checkpoints" / "last.ckpt").exists():
            time.sleep(0.05)
            assert first.poll() is None, first.stdout.read()
        [job] = [pid for pid in os.listdir("/proc") if pid.isdigit() and "k=4" in environment_of(pid)]
        os.kill(int(job), signal.SIGKILL)
        output = first.communicate(timeout=250)[0]
    assert first.returncode == 2, output
    assert status_of(folder) == {"k=99": "failed", "k=4": "interrupted", "k=5": "finished"}
