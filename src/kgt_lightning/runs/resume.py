"""What a training begins with: the state that an earlier start of the run left, or the weights of another run."""

import logging
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kgt_lightning.runs.checkpoint import Checkpoint, read_checkpoint
from kgt_lightning.training.checkpoint_io import newest_intact
from kgt_lightning.training.module import RestorationModule

log = logging.getLogger(__name__)

FIXED_BY_WEIGHTS = ("task", "module.backbone", "data.channels", "degradation.scale")
"""Parts of the configuration that a resumed run cannot change."""


def last_checkpoint(config: DictConfig, folder: Path) -> Checkpoint | None:
    """Checkpoint to go on from: the newest intact one in the folder of the run if ``resume`` is set.

    Raises:
        ValueError: if the folder already holds a run and resume is not set, or the run was made with another model, or
            all its checkpoints are damaged.

    """
    path = newest_intact(folder / "checkpoints")
    if not config.resume:
        # A run that was killed before it saved its first state may have a best checkpoint all the same.
        if any((folder / "checkpoints").glob("*.ckpt")):
            raise ValueError(
                f"{folder} already holds a run: go on with resume=true, or start another one with run=<name>"
            )
        return None
    if path is None:
        log.info("resume=true, but there is no run to go on with: starting anew in %s", folder)
        return None
    last = read_checkpoint(path)
    for key in FIXED_BY_WEIGHTS:
        ours, theirs = (_plain(OmegaConf.select(of, key)) for of in (config, last.config))
        if ours != theirs:
            raise ValueError(f"{path} was made with another {key}: {_difference(theirs, ours)}; repeat its settings")
    log.info("going on from step %d, %s", last.step, path)
    return last


def load_pretrained(pretrained: Checkpoint, module: RestorationModule, config: DictConfig) -> None:
    """Give the module of a new run the weights of another one, averaged where that kept an average.

    A module of more layers computes at first what the other one did.

    Raises:
        ValueError: if that run's backbone is another one.

    """
    difference = _difference(_plain(pretrained.config.module.backbone), _plain(config.module.backbone))
    try:
        keep, added = pretrained.load_pretrained(module)
    except ValueError as error:
        raise ValueError(f"weights={pretrained.path} is of another model: {difference} ({error})") from error
    log.info("beginning with the weights of %s, which did %d steps", pretrained.path, pretrained.step)
    if difference:
        log.info("its model had other settings: %s", difference)
    if added:
        log.info("it lacks these blocks, which begin as the identity: %s", ", ".join(added))
    if keep:
        log.warning("not taken from it, since scale, channels or task differ: %s", " and ".join(keep))


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def _difference(theirs: Any, ours: Any) -> str:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        keys = [key for key in {**theirs, **ours} if theirs.get(key) != ours.get(key)]
        return ", ".join(f"{key}={theirs.get(key)} there and {ours.get(key)} here" for key in keys)
    return f"{theirs} there and {ours} here"
