"""Searches go on where they were left, propose what they would have proposed, and say how every trial stands."""

import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from lightning.pytorch.callbacks import Callback
from optuna.distributions import CategoricalDistribution, FloatDistribution

from kgt_lightning.runs.run import read_state, write_state
from kgt_lightning.sweeps.search import BEST, STUDY, Search
from kgt_lightning.system.files import InUseError
from kgt_lightning.train import main
from kgt_lightning.training.pruning import NAME, storage_in

SPACES = {"optim.lr": FloatDistribution(1e-5, 1e-1, log=True), "model.k": CategoricalDistribution(["4", "8", "16"])}
SAMPLER = {"_target_": "optuna.samplers.TPESampler", "n_startup_trials": 3, "multivariate": True}
PRUNER = {"_target_": "optuna.pruners.MedianPruner", "n_startup_trials": 2, "n_warmup_steps": 0}


def search(folder, *, seed=0, **settings):
    usual = {
        "spaces": SPACES,
        "key": "0",
        "monitor": "val/psnr",
        "n_trials": 8,
        "n_jobs": 1,
        "direction": "maximize",
        "sampler": {**SAMPLER, "seed": seed},
        "pruner": None,
        "retry": False,
    }
    return Search(folder=folder, **{**usual, **settings})


class Jobs:
    """Stands for a launcher: a job is good if its learning rate is near 1e-3, and its run is kept by its arguments."""

    def __init__(self, folder):
        self.folder = folder
        self.launched = []
        self.ends = {}
        """Status and error by number of the trial, of those that do not finish."""
        self.stop_at = None
        """Number of the trial at which the whole search is interrupted."""

    def __call__(self, arguments, first):
        folders = []
        for number, each in enumerate(arguments, start=first):
            if number == self.stop_at:
                raise KeyboardInterrupt
            values = dict(argument.split("=", 1) for argument in each)
            folder = self.folder / f"lr={values['optim.lr']},k={values['model.k']}"
            self.launched.append(number)
            status, error = self.ends.get(number, ("finished", None))
            write_state(folder, {"status": status, "error": error, "seconds": 60.0})
            psnr = 30 - math.log10(float(values["optim.lr"]) / 1e-3) ** 2
            (folder / "val.csv").write_text(f"step,psnr\n10,{psnr - 1}\n20,{psnr}\n")
            folders.append(folder)
        return folders


@pytest.fixture
def jobs(tmp_path):
    return Jobs(tmp_path / "mine")


def trials(folder):
    return optuna.load_study(study_name=NAME, storage=storage_in(folder / STUDY)).trials


def proposed(folder):
    return [each.params for each in trials(folder)]


def test_a_search_finds_what_is_good_and_writes_it_down(jobs, capsys):
    search(jobs.folder, n_trials=25).run(jobs)
    assert jobs.launched == list(range(25))
    best = json.loads((jobs.folder / BEST).read_text())
    assert best["val/psnr"] == max(each.value for each in trials(jobs.folder)) > 29.9
    assert list(trials(jobs.folder)[best["trial"]].intermediate_values) == [10, 20], "all that was validated"
    assert best["arguments"][0] == f"optim.lr={proposed(jobs.folder)[best['trial']]['optim.lr']!r}"
    assert (jobs.folder / best["run"]).is_dir()
    assert capsys.readouterr().out.count("finished") == 25


def test_another_seed_is_another_search(tmp_path):
    for seed in (0, 1):
        search(tmp_path / str(seed), seed=seed).run(Jobs(tmp_path / str(seed)))
    first, second = ([each["optim.lr"] for each in proposed(tmp_path / str(seed))] for seed in (0, 1))
    assert not set(first) & set(second)


@pytest.mark.parametrize("n_jobs", [1, 3])
def test_an_interrupted_search_proposes_the_same_and_repeats_nothing(jobs, tmp_path, n_jobs):
    search(tmp_path / "whole", n_jobs=n_jobs).run(Jobs(tmp_path / "whole"))
    for jobs.stop_at in (0, 3, 6):
        with pytest.raises(KeyboardInterrupt):
            search(jobs.folder, n_jobs=n_jobs).run(jobs)
    jobs.stop_at = None
    search(jobs.folder, n_jobs=n_jobs).run(jobs)
    assert proposed(jobs.folder) == proposed(tmp_path / "whole")
    assert jobs.launched == list(range(8))
    search(jobs.folder, n_jobs=n_jobs).run(jobs)
    assert len(jobs.launched) == 8, "nothing is left to do"
    search(jobs.folder, n_jobs=n_jobs, n_trials=9).run(jobs)
    assert jobs.launched[8:] == [8]


@pytest.mark.parametrize("n_jobs", [1, 3])
def test_a_search_killed_while_it_writes_goes_on(jobs, tmp_path, n_jobs):
    """The file may end after any byte."""
    search(jobs.folder, n_jobs=n_jobs).run(jobs)
    whole, expected = (jobs.folder / STUDY).read_bytes(), proposed(jobs.folder)
    for length in [0, *random.Random(n_jobs).sample(range(len(whole)), 12)]:
        (jobs.folder / STUDY).write_bytes(whole[:length])
        search(jobs.folder, n_jobs=n_jobs).run(jobs)
        assert proposed(jobs.folder) == expected


def test_a_process_that_was_killed_while_it_wrote_does_not_stop_the_search(jobs, monkeypatch):
    search(jobs.folder, n_trials=1).run(jobs)
    monkeypatch.setattr(optuna.storages.journal.JournalFileOpenLock.__init__, "__defaults__", (3,))
    (jobs.folder / f"{STUDY}.lock").touch()
    search(jobs.folder, n_trials=2).run(jobs)
    assert len(proposed(jobs.folder)) == 2


def test_failed_and_interrupted_trials_are_told_and_tried_again_as_wanted(jobs, capsys):
    jobs.ends = {1: ("failed", "the loss is nan"), 2: ("interrupted", "killed by SIGKILL"), 3: ("pruned", "22 dB")}
    expected = r"2 of 5 trials are not finished, trial 1 failed \(the loss is nan\): the same command with sweep=mine"
    with pytest.raises(ValueError, match=expected):
        search(jobs.folder, n_trials=5).run(jobs)
    assert [each.state.name for each in trials(jobs.folder)] == ["COMPLETE", "FAIL", "RUNNING", "PRUNED", "COMPLETE"]
    table = capsys.readouterr().out
    assert all(word in table for word in ("failed", "the loss is nan", "interrupted", "killed by SIGKILL", "pruned"))

    jobs.ends, jobs.launched = {}, []
    with pytest.raises(ValueError, match="1 of 5 trials are not finished, trial 1 failed"):
        search(jobs.folder, n_trials=5).run(jobs)
    assert jobs.launched == [2]
    search(jobs.folder, n_trials=5, retry=True).run(jobs)
    assert jobs.launched == [2, 5]
    assert proposed(jobs.folder)[5] == proposed(jobs.folder)[1]
    search(jobs.folder, n_trials=5, retry=True).run(jobs)
    assert jobs.launched == [2, 5], "what failed once and then succeeded is done"


def test_trials_that_are_the_same_run_once(jobs):
    spaces = {"optim.lr": CategoricalDistribution(["1e-3", "1e-2"]), "model.k": CategoricalDistribution(["4"])}
    batches = []

    def launch(arguments, first):
        batches.append([tuple(each[:2]) for each in arguments])
        return jobs(arguments, first)

    search(jobs.folder, spaces=spaces, n_jobs=4).run(launch)
    assert sum(map(len, batches)) == 8
    assert all(len(set(each)) == len(each) for each in batches)


def test_a_search_of_other_settings_is_not_mixed_in(jobs):
    search(jobs.folder, n_trials=1).run(jobs)
    with pytest.raises(ValueError, match="mine holds a search with other settings: repeat them, or name another sweep"):
        search(jobs.folder, key="1").run(jobs)
    with pytest.raises(ValueError, match="other direction, spaces"):
        search(jobs.folder, direction="minimize", spaces={"model.k": SPACES["model.k"]}).run(jobs)


def test_a_search_runs_in_one_process_at_a_time(jobs, in_use):
    with in_use(jobs.folder, lock=".search.lock"), pytest.raises(InUseError, match="is in use by another process"):
        search(jobs.folder).run(jobs)


def test_a_damaged_study_is_named(jobs):
    search(jobs.folder, n_trials=2).run(jobs)
    lines = (jobs.folder / STUDY).read_bytes().splitlines(keepends=True)
    (jobs.folder / STUDY).write_bytes(b"".join([*lines[:3], b"{]\n", *lines[3:]]))
    with pytest.raises(ValueError, match=r"study\.journal is damaged .* name another sweep"):
        search(jobs.folder).run(jobs)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "there is nothing to search: name spaces"),
        (["optim.lr=interval(1,0.1)"], "optim.lr=interval(1,0.1): "),
        (["model.kk=choice(4,8)"], "model.kk is no setting: did you mean model.k?"),
        (["model.k=choice(4,many)"], "model.k=many must be a whole number"),
        (["model.k=choice(4,8)", "hydra.sweeper.n_jobs=0"], "hydra.sweeper.n_jobs=0 must be at least 1"),
        (["model.k=choice(4,8)", "hydra.sweeper.n_trials=ten"], "hydra.sweeper.n_trials=ten must be a whole number"),
        (["model.k=choice(4,8)", "hydra.sweeper.direction=up"], "must be one of maximize, minimize"),
        (["model.k=choice(4,8)", "hydra.sweeper.sampler.seed=null"], "hydra.sweeper.sampler.seed=None must be"),
        (["model.k=choice(4,8)", "hydra.sweeper.pruner._target_=optuna.pruners.Medium"], "optuna.pruners.Medium"),
        (["model.k=choice(4,99999)", "optim.lr=interval(0.1,0.2)"], "no trial is started, model.k=99999 is impossible"),
        (["optim.lr=interval(-1,1)"], "no trial is started, optim.lr=-1.0 is impossible"),
    ],
)
def test_mistakes_are_said_in_one_line_and_leave_nothing(run_command, tmp_path, arguments, reason):
    code, _, error = run_command(main, "-m", "hydra/sweeper=optuna", "sweep=mine", *arguments)
    assert code == 2
    last = error.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert reason in last
    assert not list(tmp_path.rglob("run.json"))
    assert not list(tmp_path.rglob(STUDY))


def test_without_optuna_the_extra_is_named(run_command, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    code, _, error = run_command(main, "-m", "hydra/sweeper=optuna", "model.k=choice(4,8)")
    assert code == 2
    assert error.strip().splitlines()[-1] == (
        "error: hydra/sweeper=optuna needs optuna: pip install 'kgt-lightning[search]'"
    )


def starts(run):
    """Number of processes that have worked on a run."""
    return len(list(run.glob(".hydra/*/job")))


class Hold(Callback):
    """Holds the third trial, once, before a validation can end it, so that it can be killed there."""

    def on_train_batch_end(self, trainer, *args):
        run = Path(trainer.checkpoint_callback.dirpath).parent
        third = len(list(run.parent.glob("*/run.json"))) == 3
        if third and trainer.global_step == 2 and not (run / "held").exists():
            (run / "held").touch()
            time.sleep(250)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_search_that_is_killed_goes_on(tiny_arguments, train_process, process_environment, tmp_path):
    """Two of six trials have ended when all processes are killed, amid the third."""
    folder = tmp_path / "outputs" / "sweeps" / "mine"
    settings = ["trainer.max_steps=30", "trainer.val_check_interval=3", "optim.lr=tag(log,interval(1e-5,1e-1))"]
    settings += ["hydra.sweeper.n_trials=6", "hydra.sweeper.pruner.n_startup_trials=1"]
    settings += [f"+callbacks.hold._target_={__name__}.Hold"]
    arguments = ["-m", "hydra/sweeper=optuna", "sweep=mine", *tiny_arguments, *settings]

    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "kgt_lightning.train", *arguments],
            cwd=tmp_path,
            env=process_environment,
            stdout=log,
            start_new_session=True,
        )
        while not list(folder.glob("*/held")):
            assert process.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    ended = {each for each in folder.glob("*") if (read_state(each) or {}).get("status") in ("finished", "pruned")}
    running = [each.parent for each in folder.glob("*/run.json") if each.parent not in ended]
    assert len(ended) == 2

    again = train_process(*arguments)
    assert again.returncode == 0, again.stderr
    runs = [each.parent for each in folder.glob("*/run.json")]
    statuses = [read_state(each)["status"] for each in runs]
    assert len(runs) == 6
    assert set(statuses) == {"finished", "pruned"}
    assert [starts(each) for each in runs] == [1 + (each in running) for each in runs]
    assert sorted(each.state.name for each in trials(folder)) == sorted(
        {"finished": "COMPLETE", "pruned": "PRUNED"}[each] for each in statuses
    )
    assert [read_state(each)["config"]["callbacks"]["pruning"]["trial"] for each in running] == [2]
    assert "best is trial" in again.stdout + again.stderr
    assert all(re.fullmatch("lr=[-.0-9e]+", each.name) for each in runs), "named after what was chosen"
