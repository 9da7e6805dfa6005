"""Command: train a model, then test its best checkpoint.

python -m kgt_lightning.train task=denoise model.k=256
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from kgt_lightning.config.command import command
from kgt_lightning.config.extras import missing
from kgt_lightning.data.datamodule import RestorationData
from kgt_lightning.metrics.scoring import first_metric
from kgt_lightning.runs.checkpoint import Checkpoint, read_checkpoint
from kgt_lightning.runs.curves import draw_curves
from kgt_lightning.runs.loggers import cut_logs, finishing, log_results
from kgt_lightning.runs.record import recording
from kgt_lightning.runs.results import run_test
from kgt_lightning.sweeps.ledger import read_score, should_run
from kgt_lightning.sweeps.plugins import register_plugins
from kgt_lightning.training.callbacks import ConfigInCheckpoint
from kgt_lightning.training.checkpoint_io import newest_intact
from kgt_lightning.training.module import RestorationModule
from kgt_lightning.training.pruning import why_pruned
from kgt_lightning.training.strategies import check_strategy, load_weights, processes_of

register_plugins()
OmegaConf.register_new_resolver("first_metric", first_metric, replace=True)

log = logging.getLogger(__name__)

FIXED_BY_WEIGHTS = ("task", "module.backbone", "data.channels", "degradation.scale")
"""Parts of the configuration that a resumed run cannot change."""


def train(config: DictConfig, *, overrides: Sequence[str] = ()) -> float | None:
    """Train as configured, and test: the first score, usually PSNR in dB, its mean over the first test set.

    None is the score of a trial that its search has stopped.

    Args:
        config: whole.
        overrides: arguments it was composed with, for the record of the run.

    """
    folder = Path(config.run_dir)
    with recording(config, folder, overrides=list(overrides)) as record:
        check_settings(config)
        torch.set_float32_matmul_precision(config.matmul_precision)
        resolved: dict[str, Any] = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
        last = last_checkpoint(config, folder)
        # A run that goes on has weights of its own.
        pretrained = read_checkpoint(config.weights, key="weights") if config.weights and not last else None

        lightning.seed_everything(config.seed, workers=True, verbose=False)
        data: RestorationData = instantiate(config.data)
        data.scan()
        module: RestorationModule = instantiate(config.module)
        if pretrained:
            load_pretrained(pretrained, module, config)
        trainer = make_trainer(config, resolved)
        check_strategy(trainer)
        cut_logs(trainer.loggers, step=last.step if last else 0)
        record.start(device=trainer.strategy.root_device, devices=trainer.world_size)
        with finishing(trainer.loggers), processes_of(trainer, folder, on_loss=record.end_with):
            for logger in trainer.loggers:
                logger.log_hyperparams(resolved)
            parameters = sum(p.numel() for p in module.parameters())
            log.info("%s: %.2f million parameters; results go to %s", config.task, parameters / 1e6, folder)

            trainer.fit(module, data, ckpt_path=last.path if last else None, weights_only=True)
            record.pruned = why_pruned(trainer)
            if record.pruned is not None:
                return None
            best = trainer.checkpoint_callback.best_model_path  # type: ignore[union-attr]
            if best:
                # The averaged weights are what was validated; they are what the checkpoint holds.
                load_weights(module, read_checkpoint(best).state)
            results = run_test(trainer, module, data, task=config.task)
            means = results.means()
            if trainer.is_global_zero:
                results.write(folder, checkpoint=best, parameters=parameters)
                if reason := missing("curves.png", "report", "matplotlib"):
                    log.info("%s", reason)
                else:
                    draw_curves(folder)
                results.show()
                log.info("checkpoints, curves and panels are in %s", folder)
            rows = [score.row() for score in results.scores]
            by_set = {str(test_set): mean for test_set, mean in means.items()}
            log_results(trainer.loggers, means=by_set, rows=rows, step=trainer.global_step - 1)
    return next(iter(means.values()))[module.scoring.columns[0].name]


def check_settings(config: DictConfig) -> None:
    """Find what no class checks by itself.

    Raises:
        ValueError: naming the key and what it may be.

    """
    # Lightning stops at numbers of steps below 1 late, with a riddle, or never.
    for key in ("max_steps", "val_check_interval", "accumulate_grad_batches", "log_every_n_steps"):
        value = config.trainer[key]
        if not isinstance(value, int) or value < 1:
            raise ValueError(
                f"trainer.{key}={value} must be a whole number of at least 1: training is counted in steps"
            )
    if not isinstance(config.seed, int) or not 0 <= config.seed < 2**32:
        raise ValueError(f"seed={config.seed} must be a whole number in 0..{2**32 - 1}")
    if not isinstance(config.resume, bool):
        raise ValueError(f"resume={config.resume} must be true or false: a run is named with run=<name>")
    if not isinstance(config.retry, bool):
        raise ValueError(f"retry={config.retry} must be true or false")
    if not isinstance(config.weights, str | None):
        raise ValueError(f"weights={config.weights} must be the path of a checkpoint, or null")
    if config.matmul_precision not in ("highest", "high", "medium"):
        raise ValueError(f"matmul_precision={config.matmul_precision} must be one of highest, high, medium")


def make_trainer(config: DictConfig, resolved: dict[str, Any]) -> lightning.Trainer:
    """Trainer with the configured loggers and callbacks."""
    callbacks = [ConfigInCheckpoint(resolved), *(instantiate(each) for each in config.callbacks.values() if each)]
    loggers = [instantiate(each) for each in config.logger.values() if each]
    # A short run is validated at its end.
    every = min(config.trainer.val_check_interval, config.trainer.max_steps * config.trainer.accumulate_grad_batches)
    return instantiate(
        config.trainer,
        callbacks=callbacks,
        logger=loggers,
        val_check_interval=every,
        # Under SLURM Lightning begins with any hpc_ckpt_*.ckpt that lies here: the folder must be that of no other run.
        default_root_dir=config.run_dir,
    )


def last_checkpoint(config: DictConfig, folder: Path) -> Checkpoint | None:
    """Checkpoint to go on from: the newest intact one in the folder of the run if ``resume`` is set.

    Raises:
        ValueError: if the folder already holds a run and resume is not set, or the run was made with another model, or
            all its checkpoints are damaged.

    """
    path = newest_intact(folder / "checkpoints")
    if not config.resume:
        if path is not None:
            raise ValueError(
                f"{folder} already holds a run: go on with resume=true, or start another one with run=<name>"
            )
        return None
    if path is None:
        log.info("resume=true, but there is no run to go on with: starting anew in %s", folder)
        return None
    last = read_checkpoint(path)
    for key in FIXED_BY_WEIGHTS:
        ours, theirs = (_plain(OmegaConf.select(each, key)) for each in (config, last.config))
        if ours != theirs:
            raise ValueError(f"{path} was made with another {key}: {_difference(theirs, ours)}; repeat its settings")
    log.info("going on from step %d, %s", last.step, path)
    return last


def load_pretrained(pretrained: Checkpoint, module: RestorationModule, config: DictConfig) -> None:
    """Give the module of a new run the weights of another one, averaged where that kept an average.

    Raises:
        ValueError: if that run's backbone is another one.

    """
    difference = _difference(_plain(pretrained.config.module.backbone), _plain(config.module.backbone))
    try:
        keep = pretrained.load_pretrained(module)
    except ValueError as error:
        raise ValueError(f"weights={pretrained.path} is of another model: {difference} ({error})") from error
    log.info("beginning with the weights of %s, which did %d steps", pretrained.path, pretrained.step)
    if difference:
        log.info("its model had other settings: %s", difference)
    if keep:
        log.warning("not taken from it, since scale, channels or task differ: %s", " and ".join(keep))


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def _difference(theirs: Any, ours: Any) -> str:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        keys = [key for key in {**theirs, **ours} if theirs.get(key) != ours.get(key)]
        return ", ".join(f"{key}={theirs.get(key)} there and {ours.get(key)} here" for key in keys)
    return f"{theirs} there and {ours} here"


@command("train")
def main(config: DictConfig) -> float | None:
    """Command-line entry."""
    hydra = HydraConfig.get()
    folder = Path(config.run_dir)
    if hydra.mode is RunMode.MULTIRUN and not should_run(config, folder):
        return read_score(folder)
    return train(config, overrides=hydra.overrides.task)


if __name__ == "__main__":
    main()
