"""The end of a run: always validated, and compared with the best validation."""

import logging
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

log = logging.getLogger(__name__)


class ValidateAtEnd(Callback):
    """Validates after the last step also where ``val_check_interval`` does not divide the run; says what was best."""

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop the run at its last step: Lightning validates where it is stopped, not where its steps are done."""
        if trainer.global_step >= trainer.max_steps:
            trainer.should_stop = True

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Say so if an earlier validation was better than the last."""
        kept = trainer.checkpoint_callback
        if not isinstance(kept, ModelCheckpoint) or kept.best_model_score is None or kept.monitor is None:
            return
        last = trainer.callback_metrics.get(kept.monitor)
        if last is not None and last != kept.best_model_score:
            log.warning(
                "the best validation was an earlier one: %s=%.3f there, %.3f at the end; the best is what is kept",
                kept.monitor,
                kept.best_model_score,
                last,
            )
