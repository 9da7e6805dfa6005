"""What a run leaves behind besides weights: its configuration, pictures, and how fast it was."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from torch import Tensor
from torch.distributed.tensor import DTensor

from kgt_lightning.analysis.figures import draw_neighbours, draw_statistics
from kgt_lightning.analysis.key_graphs import captured
from kgt_lightning.config.extras import require
from kgt_lightning.config.types import Points, Positive, Size, Whole
from kgt_lightning.data.datasets import Sample
from kgt_lightning.images.files import Picture, read_image, write_image
from kgt_lightning.model.padding import pad_to_multiple
from kgt_lightning.system.hardware import process_peak_mb
from kgt_lightning.training.module import RestorationModule

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
    """Pictures degraded | restored | clean | error of the first validation images, as PNG files and to the loggers.

    The error is ``|restored - clean|``, its mean over the channels, times ``error_scale``: 1/error_scale and more is
    white.
    """

    def __init__(self, *, folder: str, images: Whole, error_scale: Positive) -> None:
        self.folder = Path(folder)
        self.images = images
        self.error_scale = error_scale
        self._written: dict[str, Path] = {}

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
        restored, clean = outputs[0].float(), batch.clean[0]
        error = (restored - clean).abs().mean(0, keepdim=True).expand_as(clean) * self.error_scale
        panel = side_by_side(pl_module.baseline(batch.degraded)[0], restored, clean, error)
        file = self.folder / f"step_{trainer.global_step:07d}" / f"{batch.name.replace('/', '_')}.png"
        write_image(file, Picture(pixels=panel))
        self._written[batch.name] = file

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Give the panels to the loggers."""
        if self._written:
            caption = f"degraded | restored | clean | {self.error_scale:g} x |restored - clean|"
            log_pictures(trainer, "panels", self._written, caption=caption)
        self._written = {}


def log_pictures(trainer: lightning.Trainer, key: str, files: Mapping[str, Path], *, caption: str) -> None:
    """Give PNG files, by the names of their images, to the loggers that take pictures.

    Weights & Biases gets all under the one key, so that a saved view can name it whatever the images are called.
    """
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            paths, captions = [str(file) for file in files.values()], [f"{name}: {caption}" for name in files]
            # The step of the scores of the same validation.
            logger.log_image(key, paths, step=trainer.global_step - 1, caption=captions)
        elif isinstance(logger, TensorBoardLogger):
            for name, file in files.items():
                logger.experiment.add_image(f"{key}/{name}", read_image(file).pixels, trainer.global_step)


def side_by_side(*pictures: Tensor, gap: int = 4) -> Tensor:
    """Pictures [C, H, W] in one row with white between them, clamped to [0, 1]."""
    apart = [F.pad(picture.detach().float().cpu().clamp(0, 1), (0, gap), value=1.0) for picture in pictures]
    return torch.cat(apart, dim=-1)[..., :-gap]


class KeyGraphPanels(Callback):
    """Pictures of the Key-Graphs of a validation image at every validation: neighbours of chosen nodes, and statistics.

    They come from a forward pass of their own over the central part of the image; training is not touched.

    Args:
        folder: for the pictures.
        image: number of the validation image.
        size: side in pixels of its central part, as the network is given it; cut down to whole windows.
        points: vertical and horizontal places in it, from 0 to 1, of the nodes whose neighbours are drawn.

    """

    def __init__(self, *, folder: str, image: Whole, size: Size, points: Points) -> None:
        require("callbacks=key_graphs", "report", "matplotlib")
        self.folder = Path(folder)
        self.image = image
        self.size = size
        self.points = [(point[0], point[1]) for point in points]

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Stop where there will be nothing to draw."""
        assert isinstance(pl_module, RestorationModule)
        with captured(pl_module.network.backbone):
            pass

    def on_validation_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw."""
        if batch_idx != self.image or trainer.sanity_checking:
            return
        assert isinstance(pl_module, RestorationModule)
        network, multiple = pl_module.network, pl_module.network.backbone.multiple
        side = max(self.size // multiple, 1) * multiple
        # Padded here, so that the picture has the size that the stages see.
        image = pad_to_multiple(central_part(pl_module.network_input(batch.degraded), side), multiple)
        # In all processes: weights may be shared among them.
        with captured(network.backbone) as graphs:
            network(image)
        if not trainer.is_global_zero:
            return
        folder = self.folder / f"step_{trainer.global_step:07d}"
        folder.mkdir(parents=True, exist_ok=True)
        draw_neighbours(image[0], graphs, self.points, folder / "neighbours.png")
        draw_statistics(graphs, folder / "statistics.png")
        caption = f"k={graphs[0].neighbours.shape[1]}"
        for name in ("neighbours", "statistics"):
            log_pictures(trainer, f"key_graphs/{name}", {batch.name: folder / f"{name}.png"}, caption=caption)


def central_part(image: Tensor, side: int) -> Tensor:
    """Central part of an image [B, C, H, W], its sides at most this long."""
    top, left = (max(length - side, 0) // 2 for length in image.shape[-2:])
    return image[..., top : top + side, left : left + side]


class GradientNorm(Callback):
    """Logs the norm of the whole gradient as it is before clipping."""

    def on_before_optimizer_step(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Log."""
        gradients = [each.grad for each in pl_module.parameters() if each.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        # Of weights that are shared among devices each has a part.
        pl_module.log("train/gradient_norm", norm.full_tensor() if isinstance(norm, DTensor) else norm)


class Progress(TQDMProgressBar):
    """Lightning's bar, its values to four digits: of three, filled up with zeros, 27.96 dB would read 28.00."""

    def __init__(self, *, refresh_rate: Whole) -> None:
        super().__init__(refresh_rate=refresh_rate)

    def get_metrics(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Names and values as they are shown."""
        shown = super().get_metrics(trainer, pl_module)
        return {name: f"{value:#.4g}" if isinstance(value, float) else value for name, value in shown.items()}


class Speed(Callback):
    """Logs samples per second over all devices, the learning rate and the peak memory of the first process.

    Also the share of the time, 0 to 1, that went by between steps, where the next batch is loaded, or waited for with
    workers, and brought to the device. Time spent on validation does not count. The means over the run stand in the log
    at its end.
    """

    def __init__(self) -> None:
        self._samples, self._since, self._waited, self._step_ended = 0, 0.0, 0.0, 0.0
        self._all_samples, self._all_seconds, self._all_waited = 0, 0.0, 0.0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock."""
        self._all_samples, self._all_seconds, self._all_waited = 0, 0.0, 0.0
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
            waited = self._all_waited / self._all_seconds
            log.info(
                "trained on %d samples, %.1f per second; %.0f %% of the time between steps, for data",
                self._all_samples,
                rate,
                100 * waited,
            )

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """The batch is there."""
        self._waited += time.perf_counter() - self._step_ended

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the speed since the last validation; Lightning keeps it every ``log_every_n_steps``."""
        self._samples += len(batch[0]) * trainer.world_size
        self._step_ended = time.perf_counter()
        seconds = self._step_ended - self._since
        pl_module.log_dict(
            {
                "train/samples_per_second": self._samples / seconds,
                "train/share_of_data": self._waited / seconds,
                "train/lr": trainer.optimizers[0].param_groups[0]["lr"],
                "train/peak_memory_mb": process_peak_mb(),
            }
        )

    def _start(self) -> None:
        self._samples, self._waited = 0, 0.0
        self._since = self._step_ended = time.perf_counter()

    def _stop(self) -> None:
        if self._samples:
            self._all_samples += self._samples
            self._all_seconds += time.perf_counter() - self._since
            self._all_waited += self._waited
        self._samples = 0
