"""Every configuration that is shipped composes and builds what it names."""

import pytest
import torch
from hydra.utils import instantiate

from kgt_lightning.config.command import CONF_DIR
from kgt_lightning.config.schema import check_types
from kgt_lightning.runs.curves import read_curve
from kgt_lightning.train import train


def choices(group):
    files = sorted((CONF_DIR / group).rglob("*.yaml"))
    return [file.relative_to(CONF_DIR / group).with_suffix("").as_posix() for file in files if file.name[0] != "_"]


def build(config, tmp_path):
    check_types(config)
    with torch.device("meta"):
        module = instantiate(config.module)
    assert sum(parameter.numel() for parameter in module.parameters()) > 10_000
    data = instantiate(config.data, cache_dir=str(tmp_path))
    assert data.degradation.scale == module.network.scale
    assert module.network.backbone.channels == data.channels


@pytest.mark.parametrize("model", choices("model"))
@pytest.mark.parametrize("task", choices("task"))
def test_every_task_takes_every_model(composed, tmp_path, task, model):
    build(composed("train", f"task={task}", f"model={model}", f"run_dir={tmp_path}"), tmp_path)


@pytest.mark.parametrize("experiment", choices("experiment"))
def test_every_experiment(composed, tmp_path, experiment):
    build(composed("train", f"experiment={experiment}", f"run_dir={tmp_path}"), tmp_path)


@pytest.mark.parametrize("argument", [f"{group}={name}" for group in ("optim", "trainer") for name in choices(group)])
def test_every_choice_of_the_training(composed, tmp_path, argument):
    config = composed("train", argument, f"run_dir={tmp_path}", "run=test")
    check_types(config)
    optimizer, scheduler = instantiate(config.optim)([torch.nn.Parameter(torch.zeros(1))], config.trainer.max_steps)
    assert 0 < scheduler.get_last_lr()[0] <= config.optim.lr
    assert optimizer.defaults["weight_decay"] == config.optim.weight_decay


@pytest.mark.parametrize("logger", choices("logger"))
def test_every_logger_and_the_callbacks(composed, tmp_path, logger):
    config = composed("train", f"logger={logger}", f"run_dir={tmp_path}", "run=test")
    check_types(config)
    assert "jsonl" in config.logger
    for callback in config.callbacks.values():
        instantiate(callback)


@pytest.mark.parametrize("debug", choices("debug"))
def test_every_debug_configuration_runs(tiny, tmp_path, debug):
    train(tiny(tmp_path, f"debug={debug}", "trainer.max_steps=2", "trainer.val_check_interval=2"))
    assert (tmp_path / "results.json").exists()
    assert (tmp_path / "fit-profile.txt").exists() == (debug == "profiler")


def test_overfitting_repeats_one_batch(tiny, tmp_path):
    """With weights that stand still its loss stays the same."""
    losses = {}
    for name in ("overfit", "steps"):
        train(tiny(tmp_path / name, f"debug={name}", "optim.lr=1e-12", "trainer.max_steps=3"))
        losses[name] = {round(loss, 5) for loss in read_curve(tmp_path / name, "train/loss").values()}
    assert len(losses["overfit"]) == 1
    assert len(losses["steps"]) == 3
