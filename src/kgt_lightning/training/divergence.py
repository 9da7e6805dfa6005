"""The end of a training that has diverged, before what came of it is scored or saved."""

from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.distributed.tensor import DTensor


class StopAtDivergence(Callback):
    """Ends the run when loss, weights or restored images are not finite.

    They are looked at before every validation and every checkpoint, which therefore are of before, and as often as is
    logged; at every step the loss is only compared on its device, without waiting for it.

    Raises:
        ValueError: naming the step, and what to lower.

    """

    def __init__(self) -> None:
        self._first: Tensor | None = None
        """Step of the first loss that was not finite, 0 for none."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Begin."""
        self._first = torch.zeros((), dtype=torch.long, device=pl_module.device)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the first loss that is not finite."""
        assert self._first is not None
        fine = outputs["loss"].detach().isfinite() | (self._first > 0)
        self._first = torch.where(fine, self._first, trainer.global_step)
        if trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self._check(trainer, pl_module)

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Nothing is validated that has diverged."""
        self._check(trainer, pl_module)

    def on_validation_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Finite weights may restore to what is not."""
        if not outputs.isfinite().all():
            raise ValueError(_told(trainer, f"after step {trainer.global_step} the restored image {batch.name} is"))

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Nothing is saved that has diverged."""
        self._check(trainer, pl_module)

    def _check(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if self._first is None:
            return
        first = int(self._first)
        weights = (each.to_local() if isinstance(each, DTensor) else each for each in pl_module.parameters())
        diverged = first > 0 or not all(weight.isfinite().all() for weight in weights)
        # All processes end, or none: the loss of one may be finite.
        if trainer.strategy.reduce_boolean_decision(diverged, all=False):
            found = (
                f"from step {first} on the loss is" if first else f"after step {trainer.global_step} the weights are"
            )
            raise ValueError(_told(trainer, found))


def _told(trainer: lightning.Trainer, what: str) -> str:
    groups = trainer.optimizers[0].param_groups if trainer.optimizers else [{}]
    rate = groups[0].get("initial_lr", groups[0].get("lr", 0))
    return (
        f"the training diverged, {what} not finite: start another run with an optim.lr below {rate:g}, a longer"
        " optim.schedule.warmup or a lower trainer.gradient_clip_val; the checkpoints here are of before"
    )
