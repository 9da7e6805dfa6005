"""What a trial of a search and its study tell each other: how good it is, and whether it is to go on."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning
from lightning.pytorch.callbacks import Callback

if TYPE_CHECKING:  # optional, and every training imports this file
    import optuna

SECTION = "callbacks.pruning"
"""Section of the configuration by which a search tells each trial its number."""

NAME = "search"
"""Of the study inside its file."""

log = logging.getLogger(__name__)


def storage_in(file: Path) -> "optuna.storages.JournalStorage":
    """Storage of a study: a journal to which every process appends a line for all that happens.

    Several machines may do so on a network file system, where the locks of SQLite do not hold.

    Raises:
        ValueError: if the file is damaged.

    """
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = str(file.absolute())
    try:
        return optuna.storages.JournalStorage(JournalFileBackend(path, lock_obj=JournalFileOpenLock(path)))
    except (ValueError, KeyError) as error:
        raise ValueError(f"{file} is damaged ({error}): name another sweep") from error


def trial_of(study: "optuna.Study", number: int) -> "optuna.Trial":
    """Handle of a trial, whichever process began it."""
    import optuna

    return optuna.Trial(study, study.get_trials(deepcopy=False)[number]._trial_id)


def report(study: "optuna.Study", number: int, values: Mapping[int, float]) -> None:
    """Tell the values of a trial by step; what is known stays as it is."""
    trial, known = trial_of(study, number), study.get_trials(deepcopy=False)[number].intermediate_values
    for step, value in values.items():
        if step not in known:
            trial.report(value, step)


class Pruning(Callback):
    """Reports each validation of a trial to its study, and ends the training if the pruner says so.

    The value is the one by which the best checkpoint is chosen. After the last step stopping would save nothing.

    Args:
        study: file of the study.
        trial: number of the trial.
        pruner: one of Optuna's; None lets every trial come to its end.

    """

    def __init__(self, *, study: str, trial: int, pruner: Any) -> None:
        self.file = Path(study)
        self.trial = trial
        self.pruner = pruner
        self.reason: str | None = None
        """Why the training has been ended, if it has."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Decide again about a validation after which the run was killed: it may have been before it could stop."""
        self._decide(trainer, {})

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Report, and decide."""
        if not trainer.sanity_checking:
            name = trainer.checkpoint_callback.monitor  # type: ignore[union-attr]
            self._decide(trainer, {trainer.global_step: float(trainer.callback_metrics[name])})

    def _decide(self, trainer: lightning.Trainer, values: Mapping[int, float]) -> None:
        if trainer.is_global_zero:
            self.reason = self._ask(values, step=trainer.global_step, last=trainer.max_steps)
        # All processes stop after the same step.
        self.reason = trainer.strategy.broadcast(self.reason)
        if self.reason is not None:
            log.info("trial %d: %s", self.trial, self.reason)
            trainer.should_stop = True

    def _ask(self, values: Mapping[int, float], *, step: int, last: int) -> str | None:
        """Why the trial is to stop at this step, None if it is to go on."""
        import optuna

        study = optuna.load_study(study_name=NAME, storage=storage_in(self.file), pruner=self.pruner)
        report(study, self.trial, values)
        known = study.get_trials(deepcopy=False)[self.trial].intermediate_values
        # Steps that a resumed run does again were decided about before.
        if self.pruner is None or step == last or step != max(known, default=None):
            return None
        if not trial_of(study, self.trial).should_prune():
            return None
        return f"{known[step]:.2f} at step {step} is not promising enough ({type(self.pruner).__name__})"


def why_pruned(trainer: lightning.Trainer) -> str | None:
    """Reason for which a search has ended the training, None if it has not."""
    return next((each.reason for each in trainer.callbacks if isinstance(each, Pruning)), None)  # type: ignore[attr-defined]
