"""Sweeps on a real SLURM: what is cancelled, pre-empted or out of time, and then goes on."""

import json
import re
import signal
import time
from pathlib import Path

import pytest
from lightning.pytorch.callbacks import Callback
from one_node import until

from kgt_lightning.runs.curves import read_curve
from kgt_lightning.runs.run import read_state
from kgt_lightning.train import train

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]

STEPS = 6
TRAINING = (f"trainer.max_steps={STEPS}", "trainer.val_check_interval=4", "callbacks.last.every_minutes=60")
TWO_PROCESSES = ("trainer=ddp", "trainer.devices=2")
JOBS = ("k=4", "k=8")
SECONDS = 200


class Hold(Callback):
    """Holds a training that was not resumed in a step, until the test lets it go."""

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == 2 and trainer.ckpt_path is None and trainer.is_global_zero:
            folder = Path(trainer.checkpoint_callback.dirpath).parent
            (folder / "held").touch()
            end = time.monotonic() + SECONDS
            while not (folder / "go").exists() and time.monotonic() < end:
                time.sleep(0.1)


HELD = (f"+callbacks.hold._target_={__name__}.Hold",)


@pytest.fixture
def folder(tmp_path):
    """That of the sweep."""
    return tmp_path / "outputs" / "sweeps" / "test"


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """Folders of the same runs, alone in one process and left in peace."""
    place = tmp_path_factory.mktemp("whole")
    for job in JOBS:
        train(tiny(place / job.replace("=", ""), f"model.{job}", *TRAINING))
    return {job: place / job.replace("=", "") for job in JOBS}


def losses(run):
    return read_curve(run, "train/loss")


def assert_same(run, whole):
    """Every loss once, and the scores."""
    assert list(losses(run)) == list(range(1, STEPS + 1))
    assert losses(run) == pytest.approx(losses(whole), rel=1e-4)
    ours, theirs = (json.loads((each / "results.json").read_text())["means"] for each in (run, whole))
    for test_set, means in theirs.items():
        assert ours[test_set] == pytest.approx(means, abs=1e-4)
    record = read_state(run)
    assert (record["status"], record["error"]) == ("finished", None)


def assert_resumed(run):
    assert re.search(r"going on from step [2-5]", (run / "train.log").read_text()), "begun anew, it would end the same"


def number(run):
    return (run / "slurm_job").read_text().strip()


def wait_until_held(start, *runs):
    until(
        lambda: start.poll() is not None or all((run / "held").exists() for run in runs),
        seconds=SECONDS,
        what=start.log.read_text,
    )
    assert start.poll() is None, start.log.read_text()


def test_a_sweep_of_jobs_of_two_processes(sweep, folder, whole):
    start = sweep("model.k=4,8", *TRAINING, *TWO_PROCESSES)
    assert start.wait(SECONDS) == 0, start.log.read_text()
    assert sorted(each.parent.name for each in folder.glob("*/run.json")) == [*JOBS]
    for job in JOBS:
        assert_same(folder / job, whole[job])
        assert len((folder / job / "train.log").read_text().split("results go to")) == 2, "one process writes"
        assert "2 x" in read_state(folder / job)["hardware"]


def test_a_job_that_is_cancelled_is_named_and_goes_on_at_the_next_start(sweep, cluster, folder, whole):
    arguments = ("model.k=4,8", *TRAINING, *TWO_PROCESSES, *HELD)
    start = sweep(*arguments)
    wait_until_held(start, *(folder / job for job in JOBS))
    cluster("scancel", number(folder / "k=4"))
    for job in JOBS:
        (folder / job / "go").touch()
    assert start.wait(SECONDS) == 2, start.log.read_text()
    assert "error: 1 of 2 jobs are not finished, k=4 interrupted" in start.log.read_text()
    assert_same(folder / "k=8", whole["k=8"])

    before = (folder / "k=8" / "run.json").stat().st_mtime_ns
    again = sweep(*arguments)
    assert again.wait(SECONDS) == 0, again.log.read_text()
    assert "k=8 is in the queue" not in again.log.read_text()
    assert (folder / "k=8" / "run.json").stat().st_mtime_ns == before
    assert_resumed(folder / "k=4")
    assert_same(folder / "k=4", whole["k=4"])


def test_jobs_that_go_back_into_the_queue_lose_nothing_though_nobody_waits_for_them(sweep, cluster, folder, whole):
    """One is told that its time is up, the other is put back by hand; the first start of the sweep is killed."""
    arguments = ("model.k=4,8", *TRAINING, *TWO_PROCESSES, *HELD)
    first = sweep(*arguments)
    wait_until_held(first, *(folder / job for job in JOBS))
    first.send_signal(signal.SIGKILL)
    first.wait(30)
    second = sweep(*arguments)
    until(
        lambda: second.log.read_text().count("is in the queue already") == 2, seconds=SECONDS, what=second.log.read_text
    )
    numbers = {job: number(folder / job) for job in JOBS}
    cluster("scancel", "--signal=USR2", numbers["k=4"])
    cluster("scontrol", "requeue", numbers["k=8"])
    for job in JOBS:
        (folder / job / "go").touch()
    for job in JOBS:
        until(lambda job=job: cluster.state(numbers[job]) == "PENDING", seconds=SECONDS, what=cluster.queue)
        assert read_state(folder / job)["status"] == "interrupted"
        cluster.start_soon(numbers[job])
    assert second.wait(SECONDS) == 0, second.log.read_text()
    for job in JOBS:
        assert number(folder / job) == numbers[job]
        assert_resumed(folder / job)
        assert_same(folder / job, whole[job])


def test_a_job_that_must_make_room_goes_back_into_the_queue(sweep, cluster, folder, whole):
    start = sweep("model.k=4", *TRAINING, *HELD, "hydra.launcher.partition=grace")
    run = until(lambda: next(folder.glob("*/slurm_job"), None), seconds=SECONDS, what=start.log.read_text).parent
    wait_until_held(start, run)
    job = number(run)
    urgent = cluster(
        "sbatch", "--parsable", "--partition=urgent", "--cpus-per-task=4", "--output=/dev/null", "--wrap=sleep 3"
    )
    until(lambda: cluster.preempted(job), seconds=60, what=cluster.queue)
    (run / "go").touch()
    until(lambda: cluster.state(job) == "PENDING", seconds=SECONDS, what=cluster.queue)
    until(lambda: cluster.state(urgent) == "COMPLETED", seconds=60, what=cluster.queue)
    cluster.start_soon(job)
    assert start.wait(SECONDS) == 0, start.log.read_text()
    assert_resumed(run)
    assert_same(run, whole["k=4"])
