"""What a search and its trials share: the study on disk, and the callback that stops a trial which falls behind."""

import json
import logging
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning
from lightning.pytorch.callbacks import Callback

from kgt_lightning.system.files import write_atomic

if TYPE_CHECKING:  # optional, and every training imports this file
    import optuna

SECTION = "callbacks.pruning"
"""Section of the configuration by which a search tells each trial its number."""

NAME = "search"
"""Of the study inside its file."""

log = logging.getLogger(__name__)


def storage_in(file: Path) -> "optuna.storages.JournalStorage":
    """Storage of a study: a journal that its search alone writes, whole at every moment, and all machines may read.

    Raises:
        ValueError: if the file is damaged.

    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.storages.JournalStorage(_journal_type()(file))
    except (ValueError, KeyError) as error:
        raise ValueError(f"{file} is damaged ({error}): name another sweep") from error


@cache
def _journal_type() -> Any:
    from optuna.storages.journal import BaseJournalBackend

    class Journal(BaseJournalBackend):
        """A line of JSON for all that happens; half a line, as a kill left it in files of before, is dropped."""

        def __init__(self, file: Path) -> None:
            self.file = file

        def _lines(self) -> list[str]:
            lines = self.file.read_text().splitlines(keepends=True) if self.file.exists() else []
            return [line for line in lines if line.endswith("\n")]

        def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
            return map(json.loads, self._lines()[log_number_from:])

        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            added = [json.dumps(entry, separators=(",", ":")) + "\n" for entry in logs]
            write_atomic(self.file, "".join([*self._lines(), *added]))

    return Journal


class Pruning(Callback):
    """Ends the training of a trial if the pruner of its search says so after a validation.

    The value is the one by which the best checkpoint is chosen. The trial is compared with those that its search knew
    the end of when it began. After the last step stopping would save nothing.

    Args:
        study: file of the study.
        trial: number of the trial.
        pruner: one of Optuna's; None lets every trial come to its end.

    """

    def __init__(self, *, study: str, trial: int, pruner: Any) -> None:
        self.file = Path(study)
        self.trial = trial
        self.pruner = pruner
        self.values: dict[int, float] = {}
        """Of the validations, by step; they are kept in checkpoints."""
        self.reason: str | None = None
        """Why the training has been ended, if it has."""

    def state_dict(self) -> dict[str, Any]:
        """The values."""
        return {"values": self.values}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The values."""
        self.values = dict(state_dict["values"])

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Decide again about a validation after which the run was killed: it may have been before it could stop."""
        self._decide(trainer)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Decide."""
        if not trainer.sanity_checking:
            name = trainer.checkpoint_callback.monitor  # type: ignore[union-attr]
            self.values[trainer.global_step] = float(trainer.callback_metrics[name])
            self._decide(trainer)

    def _decide(self, trainer: lightning.Trainer) -> None:
        step = trainer.global_step
        if trainer.is_global_zero and self.pruner is not None and step in self.values and step != trainer.max_steps:
            self.reason = self._ask(step)
        # All processes stop after the same step.
        self.reason = trainer.strategy.broadcast(self.reason)
        if self.reason is not None:
            log.info("trial %d: %s", self.trial, self.reason)
            trainer.should_stop = True

    def _ask(self, step: int) -> str | None:
        """Why the trial is to stop at this step, None if it is to go on."""
        import optuna

        study = optuna.load_study(study_name=NAME, storage=storage_in(self.file))
        # Only the search writes to the file: a copy in memory is asked.
        copy = optuna.create_study(direction=study.direction, pruner=self.pruner)
        copy.add_trials(study.get_trials(deepcopy=False)[: self.trial])
        trial = copy.ask()
        for each, value in self.values.items():
            trial.report(value, each)
        if not trial.should_prune():
            return None
        return f"{self.values[step]:.2f} at step {step} is not promising enough ({type(self.pruner).__name__})"


def why_pruned(trainer: lightning.Trainer) -> str | None:
    """Reason for which a search has ended the training, None if it has not."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return next((callback.reason for callback in callbacks if isinstance(callback, Pruning)), None)
