"""What a run leaves behind besides weights: its configuration, pictures, and how fast it was."""

import logging
import time
from pathlib import Path
from typing import Any

import lightning
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from torch import Tensor

from kgt_lightning.data.samples import Sample
from kgt_lightning.images import Picture, write_image
from kgt_lightning.restoration import RestorationModule

log = logging.getLogger(__name__)


class ConfigInCheckpoint(Callback):
    """Puts the resolved configuration into every checkpoint, so that a checkpoint alone can be evaluated and used."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the configuration under ``config``."""
        checkpoint["config"] = self.config


class Panels(Callback):
    """Pictures degraded | restored | clean of the first validation images, as PNG files and to the logger."""

    def __init__(self, *, folder: str, images: int) -> None:
        self.folder = Path(folder)
        self.images = images

    def on_validation_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write one panel."""
        if batch_idx >= self.images or trainer.sanity_checking or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, RestorationModule)
        assert isinstance(batch, Sample)
        panel = side_by_side(pl_module.baseline(batch.degraded)[0], outputs[0], batch.clean[0])
        file = self.folder / f"step_{trainer.global_step:07d}" / f"{batch.name.replace('/', '_')}.png"
        write_image(file, Picture(pixels=panel))
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image(f"panels/{batch.name}", [str(file)], caption=["degraded | restored | clean"])
            elif isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(f"panels/{batch.name}", panel, trainer.global_step)


def side_by_side(*pictures: Tensor, gap: int = 4) -> Tensor:
    """Pictures [C, H, W] in one row with white between them, clamped to [0, 1]."""
    apart = [F.pad(picture.detach().float().cpu().clamp(0, 1), (0, gap), value=1.0) for picture in pictures]
    return torch.cat(apart, dim=-1)[..., :-gap]


class Speed(Callback):
    """Logs samples per second over all devices, the learning rate and the peak memory of the GPU.

    Time spent on validation does not count. The mean over the run stands in the log at its end.
    """

    def __init__(self) -> None:
        self._samples, self._since = 0, 0.0
        self._all_samples, self._all_seconds = 0, 0.0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock."""
        self._all_samples, self._all_seconds = 0, 0.0
        self._start()

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Stop the clock."""
        self._stop()

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock again."""
        self._start()

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Log the mean of the whole run."""
        self._stop()
        if self._all_samples and trainer.is_global_zero:
            rate = self._all_samples / self._all_seconds
            log.info("trained on %d samples, %.1f per second", self._all_samples, rate)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the speed since the last validation; Lightning keeps it every ``log_every_n_steps``."""
        self._samples += len(batch[0]) * trainer.world_size
        rate = self._samples / (time.perf_counter() - self._since)
        values = {"train/samples_per_second": rate, "train/lr": trainer.optimizers[0].param_groups[0]["lr"]}
        if torch.cuda.is_available():
            values["train/peak_memory_mb"] = torch.cuda.max_memory_allocated() / 2**20
        pl_module.log_dict(values)

    def _start(self) -> None:
        self._samples, self._since = 0, time.perf_counter()

    def _stop(self) -> None:
        if self._samples:
            self._all_samples += self._samples
            self._all_seconds += time.perf_counter() - self._since
        self._samples = 0
