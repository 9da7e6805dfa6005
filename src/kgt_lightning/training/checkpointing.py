"""The state that a run goes on from: saved at validations, by the clock, and when the run is told to stop."""

import logging
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback, Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from kgt_lightning.config.types import NotNegative
from kgt_lightning.system.files import LAST, NEXT, PREVIOUS, rename

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""What ends a run: Ctrl+C, a scheduler that takes the machine away, and what SLURM sends before the time is up."""

log = logging.getLogger(__name__)


class ValidateEnd(Callback):
    """Has the last step validated, also where no multiple of ``val_check_interval`` ends the run."""

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Let every batch be validated from here on: it is the last."""
        if trainer.global_step == trainer.max_steps:
            trainer.val_check_batch = 1


class LastCheckpoint(Checkpoint):
    """Keeps the newest state of a run as ``last.ckpt``, and the one before it as ``previous.ckpt``.

    The state is saved after every validation, at the end, and between validations when enough time has passed. SIGTERM,
    SIGINT (Ctrl+C), SIGUSR1 and SIGUSR2 save it after the step under way, or after the validation that belongs to it,
    and end the run with exit code 128 + signal; a second signal ends it at once.

    A step whose validation is still to come is never saved: a run resumed there would leave the validation out. And a
    state becomes the last one only after the metrics of its step have been logged, so that no log lacks a step. The
    best checkpoint would not do as the one before: it may be hours older.

    Args:
        folder: for the checkpoints.
        every_minutes: time after which the state is saved also without a validation.

    """

    def __init__(self, *, folder: str, every_minutes: NotNegative) -> None:
        self.folder = Path(folder)
        self.every_minutes = every_minutes
        self._saved_at = 0.0
        self._step = 0
        self._written = False
        self._training = False
        self._signal: int | None = None
        self._stopping = False

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Listen to signals before Lightning does: it leaves SIGUSR1 to those who listen already.

        Under SLURM its own handler saves in the midst of a step, beside the run, where another run would take it up.
        """
        self._listen()

    def on_sanity_check_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Listen to signals; until the training starts they end the run at once."""
        self._listen()

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """From here on signals wait for the end of a step."""
        self._listen()
        self._training, self._signal, self._stopping = True, None, False
        self._step, self._saved_at = trainer.global_step, time.monotonic()

    def on_test_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Listen to signals: nothing is left to save, they end the run at once."""
        self._listen()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if it is time, or the last step, or the run is to stop."""
        if trainer.global_step == self._step:  # only one of the batches of a step
            return
        self._step = trainer.global_step
        if _is_validated(trainer):
            return
        late = time.monotonic() - self._saved_at >= 60 * self.every_minutes
        wanted = late or self._signal is not None or self._step == trainer.max_steps
        # All processes save, or none: their clocks differ, and a signal may reach only one of them.
        if trainer.strategy.reduce_boolean_decision(wanted, all=False):
            self._save(trainer)

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Confirm what was saved after the step before: its metrics have been logged."""
        self._confirm(trainer)
        self._stop(trainer)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Save."""
        if self._training:
            self._save(trainer)
            self._confirm(trainer)
            self._stop(trainer)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Confirm what was saved after the last step."""
        self._training = False
        self._confirm(trainer)
        self._stop(trainer)

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Keep what is written; a run that SIGTERM ended does not look like one that succeeded."""
        self._training = False
        self._confirm(trainer)
        if isinstance(exception, SIGTERMException):
            exception.code = 128 + signal.SIGTERM

    def _save(self, trainer: lightning.Trainer) -> None:
        self._stopping = trainer.strategy.reduce_boolean_decision(self._signal is not None, all=False)
        trainer.save_checkpoint(self.folder / NEXT, weights_only=False)
        self._written, self._saved_at = True, time.monotonic()

    def _confirm(self, trainer: lightning.Trainer) -> None:
        if self._written and trainer.is_global_zero:
            # At every moment one of the two names is that of a whole state.
            if (self.folder / LAST).exists():
                rename(self.folder / LAST, self.folder / PREVIOUS)
            rename(self.folder / NEXT, self.folder / LAST)
        self._written = False

    def _stop(self, trainer: lightning.Trainer) -> None:
        if not self._stopping:
            return
        number = self._signal or signal.SIGTERM
        if trainer.is_global_zero:
            name = signal.Signals(number).name
            log.warning("%s: saved at step %d and stopped, resume=true goes on from there", name, trainer.global_step)
        # The first process that fails makes torchrun end the others; the one that writes must end in order.
        raise SystemExit(128 + number if trainer.is_global_zero else 0)

    def _listen(self) -> None:
        # Lightning has kept the handlers of before, and brings them back at the end. Its own for SIGTERM is replaced:
        # with several processes it communicates in the midst of whatever they are doing.
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._heard)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if not self._training or self._signal is not None:
            raise SystemExit(128 + number)
        self._signal = number


def _is_validated(trainer: lightning.Trainer) -> bool:
    """Whether a validation follows the training batch that has just ended."""
    every = trainer.val_check_batch
    batches = trainer.global_step * trainer.accumulate_grad_batches
    return trainer.enable_validation and every is not None and batches % every == 0
