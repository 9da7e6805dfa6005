"""Sweeps run what is missing, and say how every job stands."""

import os
import signal

import pytest
from hydra import compose, initialize_config_dir
from lightning.pytorch.callbacks import Callback

from kgt_lightning.config.command import CONF_DIR
from kgt_lightning.runs.curves import read_curve
from kgt_lightning.runs.run import config_key, is_finished, read_score, read_state, write_state
from kgt_lightning.sweeps.jobs import find_jobs, job_name
from kgt_lightning.sweeps.local import gpu_env, run_sweep, show, what_is_missing
from kgt_lightning.system.files import InUseError
from kgt_lightning.train import main, train


@pytest.fixture
def jobs(tiny_arguments):
    """Composes the jobs of a sweep as a launcher does."""

    def compose_jobs(*points):
        with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            arguments = [[*tiny_arguments, *each.split()] for each in points]
            return [compose("train", each, return_hydra_config=True) for each in arguments]

    return compose_jobs


def found(configs, folder, *points):
    return find_jobs(configs, folder=folder, swept=[each.split() for each in points])


def leave_record(job, status, **more):
    record = {"status": status, "error": None, "overrides": job.overrides, "key": config_key(job.config)}
    write_state(job.folder, {**record, "seconds": 1.0, **more})


@pytest.mark.parametrize(
    ("swept", "name"),
    [
        (["model.k=64"], "k=64"),
        (["model.k=64", "seed=1"], "k=64,seed=1"),
        (["+model.seed=2", "seed=1"], "model.seed=2,seed=1"),
        (["model.layout.depths=[2,2]", "model.train_k=null"], "depths=2,2,train_k=null"),
        (["degradation.sigma={low:5,high:50}"], "sigma=low_5,high_50"),
        (["optim.lr=0.0012345678901", "model.k=64"], "lr=0.001235,k=64"),
        (["optim.lr=1.0293847e-05", "optim.schedule.final=0.005"], "lr=1.029e-05,final=0.005"),
        (["model=../../evil"], "model=.._.._evil"),
        ([], "job"),
    ],
)
def test_folders_are_named_after_what_is_swept(swept, name):
    assert job_name(swept) == name


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["model.k=8,16", "seed=1"], ["k=8", "k=16"]),
        (["experiment=sweep/k", "model.k=8,16", "data.workers=1"], ["k=8", "k=16"]),
        (["experiment=sweep/k", "model.k=64", "data.workers=1", "data_root=x"], ["k=64"]),
        (["model.k=64", "model.train_k=[16,64]", "logger=wandb"], ["k=64,train_k=16,64"]),
        (["data_root=x"], ["job"]),
    ],
)
def test_one_job_is_named_after_all_that_shapes_it(run_command, monkeypatch, arguments, names):
    given = []

    def keep(configs, *, folder, swept, run):
        given.extend(swept)
        return []

    monkeypatch.setattr("kgt_lightning.sweeps.launcher.run_sweep", keep)
    run_command(main, "-m", *arguments)
    assert [job_name(each) for each in given] == names


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


def test_a_sweep_runs_in_one_process_at_a_time(jobs, in_use, tmp_path):
    with in_use(tmp_path), pytest.raises(InUseError, match="is in use by another process"):
        run_sweep(jobs("model.k=4"), folder=tmp_path, swept=[["model.k=4"]], run=list)


def test_all_jobs_are_checked_before_the_first_starts(run_command, tiny_arguments, tmp_path):
    for wrong in ("model.k=4,999", "optim.lr=1e-3,0"):
        code, _, errors = run_command(main, "-m", *tiny_arguments, "sweep=mine", wrong)
        assert code == 2
        assert "no job is started, 1 of 2 are wrong" in errors.splitlines()[-1]
    assert not list(tmp_path.rglob("run.json"))


def test_jobs_at_once_share_the_machine(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,4,5")
    assert gpu_env(0, 1) == {}
    assert gpu_env(1, 2) == {"OMP_NUM_THREADS": "4", "CUDA_VISIBLE_DEVICES": "4,5"}
    with pytest.raises(ValueError, match="there are 4 GPUs"):
        gpu_env(0, 5)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert "OMP_NUM_THREADS" not in gpu_env(0, 2)


@pytest.mark.slow
@pytest.mark.parametrize("asked", [True, False])
def test_a_user_who_asks_for_tracebacks_gets_those_of_the_jobs(tiny_arguments, train_process, tmp_path, asked):
    arguments = (*tiny_arguments, "sweep=mine", "trainer.accumulate_grad_batches=4")
    ended = train_process("-m", *arguments, HYDRA_FULL_ERROR=str(int(asked)))
    assert ended.returncode != 0
    [folder] = [record.parent for record in tmp_path.glob("outputs/sweeps/mine/*/run.json")]
    assert ("Traceback (most recent call last)" in (folder / "train.log").read_text()) is asked
    assert read_state(folder)["error"].startswith("data.batch_size=2 must be a multiple of")


def test_a_pruned_job_is_neither_failed_nor_missing(jobs, tmp_path, capsys):
    points = ["model.k=4", "model.k=5"]
    [stopped, failed] = found(jobs(*points), tmp_path, *points)
    leave_record(stopped, "pruned", error="20 dB at step 100")
    leave_record(failed, "failed", error="the loss is nan")
    ended = run_sweep(jobs(*points), folder=tmp_path, swept=[each.split() for each in points], run=list)
    assert [(job.state["status"], job.score, is_finished(job.state, retry=True)) for job in ended] == [
        ("pruned", None, True),
        ("failed", None, False),
    ]
    assert str(what_is_missing(ended, folder=tmp_path)).startswith("1 of 2 jobs are not finished, k=5 failed (the")
    show(ended, folder=tmp_path)
    assert "20 dB at step 100" in capsys.readouterr().out
    assert not ended[0].should_run()
    assert read_score(stopped.folder) is None


class Act(Callback):
    """Lets one process of a training come to grief."""

    def __init__(self, *, what):
        self.what = what

    def on_train_batch_end(self, trainer, *args):
        if self.what == "die" and trainer.global_step == 3 and trainer.global_rank == 0 and trainer.ckpt_path is None:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.what == "fail" and trainer.global_step == 1 and trainer.global_rank == 1:
            raise RuntimeError("this process is ill")


@pytest.mark.slow
def test_a_sweep_survives_what_happens_to_its_jobs(tiny, tiny_arguments, train_process, tmp_path):
    """Two processes to a job: one is killed, one fails, one ends; then what is missing is run, in another order."""
    folder = tmp_path / "outputs" / "sweeps" / "mine"
    settings = ["trainer.val_check_interval=2", f"+callbacks.act._target_={__name__}.Act"]
    start = ["-m", *tiny_arguments, *settings, "sweep=mine", "trainer=ddp", "trainer.devices=2"]

    first = train_process(*start, "+callbacks.act.what=die,fail,nothing")
    records = {each.parent.name: read_state(each.parent) for each in folder.glob("*/run.json")}
    assert {name: record["status"] for name, record in records.items()} == {
        "what=die": "interrupted",
        "what=fail": "failed",
        "what=nothing": "finished",
    }, first.stderr
    assert records["what=die"]["error"] == "killed by SIGKILL"
    assert records["what=fail"]["error"] == "process 1 of 2: this process is ill"
    assert first.returncode == 2
    assert "error: 2 of 3 jobs are not finished, what=die interrupted (killed by SIGKILL)" in first.stderr
    assert all(name in first.stdout for name in records), "a table closes the sweep"

    untouched = (folder / "what=nothing" / "run.json").stat().st_mtime_ns
    second = train_process(*start, "+callbacks.act.what=nothing,fail,die")
    assert second.returncode == 2, second.stderr
    assert "error: 1 of 3 jobs are not finished, what=fail failed (process 1 of 2" in second.stderr, (
        second.stderr,
        [file.read_text() for file in folder.glob("what=die/**/*.log")],
    )
    assert read_state(folder / "what=die")["status"] == "finished"
    assert read_state(folder / "what=fail") == records["what=fail"]
    assert (folder / "what=nothing" / "run.json").stat().st_mtime_ns == untouched
    assert sorted(each.name for each in folder.iterdir() if each.is_dir()) == sorted(records)

    # What was killed and resumed, what ran through, and one process alone agree.
    alone = train(tiny(tmp_path / "alone", "trainer.val_check_interval=2"))
    for name in ("what=die", "what=nothing"):
        assert read_score(folder / name) == pytest.approx(alone, abs=1e-3)
        assert list(read_curve(folder / name, "train/loss"))[-1] == 4
