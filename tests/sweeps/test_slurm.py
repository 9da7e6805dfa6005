"""Jobs for SLURM without one: what is refused, and what is made of what it says. tests/slurm/ runs it for real."""

import signal
import sys
from types import SimpleNamespace

import pytest

from kgt_lightning import train
from kgt_lightning.runs.run import config_key, read_state, write_state
from kgt_lightning.sweeps import process, slurm
from kgt_lightning.sweeps.jobs import Job
from kgt_lightning.sweeps.slurm import Task, states

LAUNCHER = ("-m", "hydra/launcher=slurm")


@pytest.fixture
def job(composed, tiny_arguments, tmp_path):
    """A job in an empty folder."""
    config = composed("train", *tiny_arguments, f"run_dir={tmp_path}", "run=test")
    return Job(config, tmp_path, overrides=["model.k=8"], hydra=config)


@pytest.fixture
def queue(monkeypatch):
    """Answers to each of the next questions for the states of jobs; an error is raised."""
    answers = []

    def answer():
        now = answers.pop(0)
        if isinstance(now, Exception):
            raise now
        return now

    monkeypatch.setattr(slurm, "states", answer)
    return answers


def test_without_the_extra_its_name_is_told(run_command, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    code, _, errors = run_command(train.main, *LAUNCHER)
    assert code == 2
    assert errors == "error: hydra/launcher=slurm needs submitit: pip install 'kgt-lightning[slurm]'\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trainer=ddp"], "trainer.devices=auto: SLURM has to be told how many"),
        (["trainer.num_nodes=0"], "trainer.num_nodes=0: SLURM has to be told how many"),
        (
            ["hydra.launcher.partitoin=gpu"],
            "hydra.launcher.partitoin is no setting: did you mean hydra.launcher.partition?",
        ),
        (["hydra/launcher=slrum"], "hydra/launcher=slrum does not exist: choose one of basic, checked, "),
        ([], "there is no SLURM on this machine: no command squeue"),
    ],
)
def test_what_is_refused_is_told_in_a_line(run_command, monkeypatch, tmp_path, arguments, message):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    code, _, errors = run_command(train.main, *LAUNCHER, *arguments)
    assert code == 2
    assert errors.splitlines()[-1].startswith(f"error: {message}")


@pytest.mark.parametrize(("accelerator", "gpus"), [("cpu", 0), ("auto", 2), ("gpu", 2)])
def test_processes_and_gpus_follow_from_the_devices(accelerator, gpus):
    from hydra import compose, initialize_config_dir

    from kgt_lightning.config.command import CONF_DIR

    arguments = ["hydra/launcher=slurm", "trainer=ddp", "trainer.devices=2", f"trainer.accelerator={accelerator}"]
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        launcher = compose("train", arguments, return_hydra_config=True).hydra.launcher
    assert (launcher.tasks_per_node, launcher.gpus_per_node, launcher.nodes) == (2, gpus, 1)


def test_states_are_read_from_the_queue(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    command = tmp_path / "squeue"
    command.write_text("#!/bin/sh\necho '7_0 RUNNING'\necho '7_1 PENDING'\n")
    command.chmod(0o755)
    assert states() == {"7_0": "RUNNING", "7_1": "PENDING"}
    command.write_text("#!/bin/sh\necho 'Unable to contact slurm controller' >&2\nexit 1\n")
    with pytest.raises(ValueError, match="SLURM does not answer: Unable to contact"):
        states()


@pytest.mark.parametrize(
    ("state", "status", "reason"),
    [
        ("CANCELLED", "interrupted", "SLURM: cancelled"),
        ("TIMEOUT", "interrupted", "SLURM: timeout"),
        ("NODE_FAIL", "interrupted", "SLURM: node_fail"),
        ("OUT_OF_MEMORY", "out of memory", "SLURM: out_of_memory"),
        ("FAILED", "failed", "SLURM: failed"),
        (None, "interrupted", "SLURM: no longer in the queue"),
    ],
)
def test_a_job_that_could_not_write_its_end_is_recorded_as_slurm_saw_it(queue, job, state, status, reason):
    queue += [{"7_0": "RUNNING"}, ValueError("SLURM does not answer"), {"7_0": state} if state else {}]
    slurm.wait({"7_0": job}, poll_seconds=0)
    record = read_state(job.folder)
    assert (record["status"], record["error"]) == (status, reason)
    assert record["overrides"] == ["model.k=8"]


def test_what_the_job_has_written_itself_stays(queue, job):
    record = {"status": "finished", "error": None, "overrides": [], "key": config_key(job.config)}
    write_state(job.folder, record)
    queue += [{"7": "COMPLETING"}, {"7": "COMPLETED"}]
    slurm.wait({"7": job}, poll_seconds=0)
    assert read_state(job.folder) == record


def test_the_reason_of_another_process_is_told(queue, job):
    (job.folder / "rank3.json").write_text('["out of memory", "process 3 of 4: CUDA out of memory"]')
    (job.folder / "rank1.json").write_text('["interrupted", "stopped from outside before its end"]')
    queue += [{"7": "FAILED"}]
    slurm.wait({"7": job}, poll_seconds=0)
    record = read_state(job.folder)
    assert (record["status"], record["error"]) == ("out of memory", "process 3 of 4: CUDA out of memory")


@pytest.mark.parametrize(
    ("number", "rank", "state", "requeued"),
    [
        (signal.SIGUSR1, 0, "RUNNING", True),
        (signal.SIGUSR2, 0, "RUNNING", True),
        (signal.SIGUSR2, 1, "RUNNING", False),
        (signal.SIGTERM, 0, "RUNNING", True),
        (signal.SIGTERM, 0, "CANCELLED", False),
        (signal.SIGTERM, 0, "PENDING", False),
        (signal.SIGINT, 0, "RUNNING", False),
    ],
)
def test_only_a_job_that_is_to_go_on_goes_back_into_the_queue(monkeypatch, queue, number, rank, state, requeued):
    """Once, by its first process, unless SLURM ends it for good or has put it back already."""
    calls = []

    def end():
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGUSR2, lambda *args: calls.append(args))
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setattr(process, "import_module", lambda name: SimpleNamespace(main=end))
    for name, value in {"SLURM_PROCID": str(rank), "SLURM_JOB_ID": "7"}.items():
        monkeypatch.setenv(name, value)
    queue.append({"7": state})
    try:
        with pytest.raises(SystemExit):
            Task(arguments=["--config-name", "train"])()
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert len(calls) == requeued
    assert sys.argv[:3] == ["train", "--config-name", "train"]
    assert any("handlers" in each for each in sys.argv) is (rank > 0), "the log is written by one process"
