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
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import DictConfig, OmegaConf

from kgt_lightning.config.arguments import as_given
from kgt_lightning.config.command import command, leave_out_needless_warnings
from kgt_lightning.config.extras import missing
from kgt_lightning.config.keys import lies_in
from kgt_lightning.data.datamodule import RestorationData
from kgt_lightning.metrics.scoring import first_metric
from kgt_lightning.runs.checkpoint import read_checkpoint
from kgt_lightning.runs.curves import draw_curves
from kgt_lightning.runs.loggers import cut_logs, finishing, log_results
from kgt_lightning.runs.results import run_test
from kgt_lightning.runs.resume import last_checkpoint, load_pretrained
from kgt_lightning.runs.run import Run, read_score
from kgt_lightning.sweeps.plugins import register_plugins
from kgt_lightning.sweeps.ranks import run_in_ranks
from kgt_lightning.training.callbacks import ConfigInCheckpoint
from kgt_lightning.training.checkpointing import ValidateEnd
from kgt_lightning.training.divergence import StopAtDivergence
from kgt_lightning.training.module import RestorationModule
from kgt_lightning.training.pruning import why_pruned
from kgt_lightning.training.strategies import check_strategy, load_weights

register_plugins()
OmegaConf.register_new_resolver("first_metric", first_metric, replace=True)

log = logging.getLogger(__name__)


def train(config: DictConfig, *, overrides: Sequence[str] = ()) -> float | None:
    """Train as configured, and test: the first score, usually PSNR in dB, its mean over the first test set.

    None is the score of a trial that its search has stopped.

    Args:
        config: whole.
        overrides: arguments it was composed with, for the record of the run.

    """
    leave_out_needless_warnings()  # also where it is called from Python
    folder = Path(config.run_dir)
    run = Run(config, folder, overrides=list(overrides))
    with run.recording():
        torch.set_float32_matmul_precision(config.matmul_precision)
        resolved: dict[str, Any] = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
        if config.data_root is None and any(lies_in(each.partition("=")[0], ["data.train"]) for each in overrides):
            raise ValueError("data.train is named, but not where it lies: add data_root=<folder that holds it>")
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
        check_strategy(trainer, asked=config.trainer.strategy)
        cut_logs(trainer.loggers, step=last.step if last else 0)
        run.start(device=trainer.strategy.root_device, devices=trainer.world_size)
        with finishing(trainer.loggers):
            for logger in trainer.loggers:
                logger.log_hyperparams(resolved)
            parameters = sum(p.numel() for p in module.parameters())
            log.info("%s: %.2f million parameters; results go to %s", config.task, parameters / 1e6, folder)

            trainer.fit(module, data, ckpt_path=last.path if last else None, weights_only=True)
            run.pruned = why_pruned(trainer)
            if run.pruned is not None:
                return None
            best = tell_best(trainer)
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


def make_trainer(config: DictConfig, resolved: dict[str, Any]) -> lightning.Trainer:
    """Trainer with the configured loggers and callbacks."""
    configured = [instantiate(section) for section in config.callbacks.values() if section]
    return instantiate(
        config.trainer,
        callbacks=[ConfigInCheckpoint(resolved), StopAtDivergence(), ValidateEnd(), *configured],
        logger=[instantiate(section) for section in config.logger.values() if section],
        # Under SLURM Lightning begins with any hpc_ckpt_*.ckpt that lies here: the folder must be that of no other run.
        default_root_dir=config.run_dir,
    )


def tell_best(trainer: lightning.Trainer) -> str:
    """Path of the best checkpoint, empty if there is none; the log says if the last one is worse."""
    callback = trainer.checkpoint_callback
    if not isinstance(callback, ModelCheckpoint):
        return ""
    best, last = callback.best_model_score, callback.current_score
    if best is not None and last is not None and best != last:
        log.info("the best is not the last: %s %.2f against %.2f at the end", callback.monitor, best, last)
    return callback.best_model_path


@command("train")
def main(config: DictConfig) -> float | None:
    """Command-line entry."""
    hydra = HydraConfig.get()
    run = Run(config, Path(config.run_dir), overrides=as_given(hydra.overrides.task))
    if hydra.mode is RunMode.MULTIRUN and not run.should_run():
        return read_score(run.folder)
    if run_in_ranks(config, run):
        return read_score(run.folder)
    return train(config, overrides=run.overrides)


if __name__ == "__main__":
    main()
