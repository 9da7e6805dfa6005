"""A run on several devices starts its processes by itself, and ends with the reason of the first that failed."""

import os
import signal
import subprocess
import sys
import time

import pytest
from omegaconf import OmegaConf
from torch import distributed

from kgt_lightning.runs.run import read_state
from kgt_lightning.sweeps.ranks import leave_group, processes_to_start

TWO = {"strategy": "ddp", "accelerator": "cpu", "devices": 2, "num_nodes": 1}


@pytest.mark.parametrize(
    ("settings", "environment", "number"),
    [
        ({}, {}, 2),
        ({"devices": 1}, {}, 1),
        ({"strategy": "auto"}, {}, 1),
        ({}, {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}, 1),
        ({"num_nodes": 2}, {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "4", "RANK": "0", "LOCAL_RANK": "0"}, 1),
    ],
    ids=["two", "one device", "no strategy", "under torchrun", "two machines under torchrun"],
)
def test_processes_are_started_where_nobody_else_does(monkeypatch, settings, environment, number):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert processes_to_start(OmegaConf.create({**TWO, **settings})) == number


def test_several_machines_need_a_launcher():
    with pytest.raises(ValueError, match="num_nodes=2: several machines need torchrun or SLURM"):
        processes_to_start(OmegaConf.create({**TWO, "num_nodes": 2}))


def test_a_process_leaves_its_group():
    leave_group()  # of no group
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        leave_group()
        assert not distributed.is_initialized()
    finally:
        # Fork is unsafe beside the threads of a group: tests that fork in this process would wait for ever.
        if distributed.is_initialized():
            distributed.destroy_process_group()


@pytest.mark.slow
def test_a_mistake_that_a_process_finds_is_one_line(tiny_arguments, train_process, tmp_path):
    done = train_process(*tiny_arguments, "trainer=ddp", "trainer.devices=2", "run=mine", "model.k=99")
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    [line] = {line for line in done.stderr.splitlines() if line.startswith("error: ")}
    assert "k=99 must lie in 1..16" in line
    state = read_state(tmp_path / "outputs" / "denoise" / "mine")
    assert state["status"] == "failed"
    assert "k=99 must lie in 1..16" in state["error"]


@pytest.mark.slow
def test_no_process_outlives_the_command(tiny_arguments, process_environment, tmp_path):
    arguments = [*tiny_arguments, "trainer=ddp", "trainer.devices=2", "run=mine", "trainer.max_steps=100000"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "kgt_lightning.train", *arguments],
            cwd=tmp_path,
            env=process_environment,
            stdout=log,
            stderr=log,
        )
    while not (tmp_path / "outputs" / "denoise" / "mine" / "metrics.jsonl").exists():
        assert process.poll() is None, (tmp_path / "log").read_text()
        time.sleep(0.2)
    ranks = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True).stdout.split()
    assert len(ranks) == 2
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    end = time.monotonic() + 30
    while any(os.path.exists(f"/proc/{rank}") for rank in ranks):
        assert time.monotonic() < end, "a process goes on alone"
        time.sleep(0.2)
