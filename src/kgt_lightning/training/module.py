"""What every task trains and tests the same way: backbone and head, loss, steps, scores and optimiser."""

from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.distributed.fsdp import FSDPModule, fully_shard

from kgt_lightning.config.types import Seed
from kgt_lightning.data.datasets import Sample
from kgt_lightning.degradations.degradation import Degradation
from kgt_lightning.metrics.per_image import Scores
from kgt_lightning.metrics.scoring import Scoring
from kgt_lightning.model import Backbone, HeadFactory, Stage
from kgt_lightning.training.losses import Loss
from kgt_lightning.training.optim import Optim
from kgt_lightning.training.restoration import Restoration
from kgt_lightning.training.score_record import ScoreRecord, content


class RestorationModule(Restoration, lightning.LightningModule):
    """A backbone with a head, trained and tested.

    Args:
        backbone: see :class:`Restoration`.
        degradation: likewise.
        head: likewise.
        loss: of restored and clean patches [B, C, H, W]; None in a module that is not trained.
        optim: makes optimiser and scheduler; None likewise.
        scoring: of validation and test images; its first column chooses the best checkpoint.
        self_ensemble: likewise; training is not changed.
        seed: of the draw from ``backbone.train_k``, where there is one.

    Raises:
        ValueError: if backbone or loss are none, or Y asked for of gray images.

    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        degradation: Degradation,
        head: HeadFactory,
        loss: Loss | None,
        optim: Optim | None,
        scoring: Scoring,
        self_ensemble: bool,
        seed: Seed,
    ) -> None:
        super().__init__(backbone=backbone, degradation=degradation, head=head, self_ensemble=self_ensemble)
        if loss is not None and not callable(loss):
            raise ValueError(
                f"module.loss={loss} must be a section with a _target_: choose a file of conf/loss, loss={loss}"
            )
        if "y" in scoring.colours and backbone.channels != 3:
            raise ValueError(
                f"module.scoring.colours={list(scoring.colours)} scores Y of RGB, data.channels={backbone.channels}:"
                " set it to [rgb], which scores the channels there are"
            )
        self.loss = loss
        self.optim = optim
        self.scoring = scoring
        self.seed = seed
        self.scores: list[Scores] = []
        self.score_record: ScoreRecord | None = None

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Loss of one batch of (degraded, clean) patches."""
        degraded, clean = batch
        assert self.loss is not None, "a module without a loss is not trained"
        k = self.draw_k(self.global_step)
        loss = self.loss(self._cut(self.network(self.network_input(degraded), k)), clean)
        # Named so, Lightning takes it for the step of all metrics. Its own count is off in a run that is prolonged.
        self.log("step", float(self.global_step))
        self.log("train/loss", loss, prog_bar=True, sync_dist=True)
        if k is not None:
            self.log("train/k", float(k))
        return loss

    def draw_k(self, step: int) -> int | None:
        """Neighbours in this training step: the same on every device, and after a resume. None without Key-Graphs."""
        choices = getattr(self.network.backbone, "train_k", None)
        if choices is None:
            return None
        return choices[int(np.random.Generator(np.random.Philox(key=[self.seed, step])).integers(len(choices)))]

    def on_validation_start(self) -> None:
        """Begin a new list of scores."""
        self.scores = [self._scores_of(self.trainer.val_dataloaders)]

    def validation_step(self, sample: Sample, batch_idx: int) -> Tensor:
        """Restored image; it is scored."""
        restored, found = self._restore_and_score(sample)
        self.scores[0].update(sample.position, found)
        return restored

    def on_validation_epoch_end(self) -> None:
        """Log the means over images."""
        means = torch.tensor(list(self.scores[0].compute().values())).mean(0)
        self.log("step", float(self.global_step - 1))
        for i, column in enumerate(self.scoring.columns):
            self.log(f"val/{column.name}", means[i], prog_bar=i == 0)

    def on_test_start(self) -> None:
        """Begin a list of scores for each test set."""
        self.scores = [self._scores_of(loader) for loader in self.trainer.test_dataloaders or []]

    def test_step(self, sample: Sample, batch_idx: int, dataloader_idx: int = 0) -> Tensor | None:
        """Restored image; it is scored. None where a record holds the scores already."""
        scores, record = self.scores[dataloader_idx], self.score_record
        images = "" if record is None else content(sample)
        if record is not None and (known := record.find(images)) is not None:
            scores.update(sample.position, known)
            return None
        restored, found = self._restore_and_score(sample)
        scores.update(sample.position, found)
        if record is not None:
            record.add(images, found)
        return restored

    def test_scores(self) -> list[dict[int, list[float]]]:
        """For each test set, by position of the image: scores of the restored image, then those of the baseline."""
        return [scores.compute() for scores in self.scores]

    def configure_model(self) -> None:
        """Share the weights among the devices where the strategy asks for that: a stage is whole while it computes."""
        if self.device_mesh is None or isinstance(self.network, FSDPModule):
            return
        mesh = self.device_mesh["data_parallel"]
        for module in self.network.modules():
            if isinstance(module, Stage):
                fully_shard(module, mesh=mesh)
        fully_shard(self.network, mesh=mesh)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Optimiser, and a scheduler that goes by steps."""
        assert self.optim is not None, "a module without an optimiser is not trained"
        optimizer, scheduler = self.optim(self.named_parameters(), self.trainer.max_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _scores_of(self, loader: Any) -> Scores:
        return Scores(images=len(loader.dataset), number=2 * len(self.scoring.columns)).to(self.device)

    def _restore_and_score(self, sample: Sample) -> tuple[Tensor, Tensor]:
        restored = self(sample.degraded).float()
        images = (restored, self.baseline(sample.degraded))
        return restored, torch.cat([self.scoring(image, sample.clean) for image in images])
