"""A trial stops in order when the study of its search says so; the study is written by its search alone."""

import optuna
import pytest
from lightning.pytorch.callbacks import Callback

from kgt_lightning.runs.curves import read_curve
from kgt_lightning.runs.run import read_state
from kgt_lightning.train import train
from kgt_lightning.training.pruning import NAME, storage_in

PRUNER = "pruner:{_target_:optuna.pruners.MedianPruner,n_startup_trials:2,n_warmup_steps:0}"
SETTINGS = ("trainer.max_steps=4", "trainer.val_check_interval=1")


@pytest.fixture
def study(tmp_path):
    """Makes a study of two finished trials with these values by step, and a third that runs."""

    def make(values):
        made = optuna.create_study(study_name=NAME, storage=storage_in(tmp_path / "study"), direction="maximize")
        for _ in range(2):
            made.add_trial(
                optuna.trial.create_trial(value=max(values.values(), default=50.0), intermediate_values=values)
            )
        made.ask()
        return made

    return make


@pytest.fixture
def trial(tmp_path):
    """Argument that makes a training the third trial."""
    return (
        f"callbacks.pruning={{_target_:kgt_lightning.training.pruning.Pruning,study:{tmp_path}/study,trial:2,{PRUNER}}}"
    )


class Interrupt(Callback):
    """Ends a training before its third step."""

    def on_train_batch_start(self, trainer, *args):
        if trainer.global_step == 2:
            raise SystemExit(1)


def test_a_trial_that_falls_behind_is_stopped_and_not_tested(tiny, tmp_path, study, trial):
    study({2: 50.0})
    folder, written = tmp_path / "run", (tmp_path / "study").read_bytes()
    assert train(tiny(folder, *SETTINGS, trial)) is None
    assert (tmp_path / "study").read_bytes() == written
    record = read_state(folder)
    assert record["status"] == "pruned"
    psnr = read_curve(folder, "val/psnr")
    assert record["error"] == f"{psnr[2]:.2f} at step 2 is not promising enough (MedianPruner)"
    assert list(psnr) == [1, 2] == list(read_curve(folder, "train/loss"))
    assert not (folder / "results.json").exists()
    assert (folder / "checkpoints" / "last.ckpt").exists()


def test_a_trial_that_keeps_up_comes_to_its_end(tiny, tmp_path, study, trial):
    """After the last step nothing would be saved."""
    study({2: 0.0, 4: 50.0})
    assert train(tiny(tmp_path / "run", *SETTINGS, trial)) is not None
    assert read_state(tmp_path / "run")["status"] == "finished"
    assert list(read_curve(tmp_path / "run", "val/psnr")) == [1, 2, 3, 4]


def test_a_trial_killed_after_it_was_condemned_stops_when_it_goes_on(tiny, tmp_path, study, trial):
    study({2: 50.0})
    folder = tmp_path / "run"
    unaware = trial.replace(PRUNER, "pruner:null")
    with pytest.raises(SystemExit):
        train(tiny(folder, *SETTINGS, unaware, f"+callbacks.interrupt._target_={__name__}.Interrupt"))
    assert list(read_curve(folder, "val/psnr")) == [1, 2]
    assert train(tiny(folder, *SETTINGS, trial, "resume=true")) is None
    assert read_state(folder)["status"] == "pruned"
    assert list(read_curve(folder, "train/loss")) == [1, 2]


@pytest.mark.slow
def test_several_processes_stop_together(tiny_arguments, train_process, tmp_path, study, trial):
    study({1: 50.0})
    two = ("trainer=ddp", "trainer.devices=2", f"hydra.run.dir={tmp_path}/run")
    ended = train_process(*tiny_arguments, *SETTINGS, trial, *two)
    assert ended.returncode == 0, ended.stderr
    assert read_state(tmp_path / "run")["status"] == "pruned"
    assert list(read_curve(tmp_path / "run", "train/loss")) == [1]
    assert not list((tmp_path / "run").glob("rank*.json"))
