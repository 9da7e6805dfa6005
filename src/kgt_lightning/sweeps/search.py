"""Searches: sweeps whose jobs Optuna proposes from how good those before them were."""

import json
import logging
import shlex
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
from hydra.core.override_parser.types import Override, OverrideType, Quote, QuotedString, ValueType
from hydra.utils import instantiate
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.trial import FrozenTrial, TrialState

from kgt_lightning.runs.curves import read_curve
from kgt_lightning.runs.run import FINISHED, INTERRUPTED, PRUNED, is_finished, read_state
from kgt_lightning.sweeps.local import not_finished, standing
from kgt_lightning.system.files import alone_in, write_atomic
from kgt_lightning.system.tables import Table
from kgt_lightning.training.pruning import NAME, SECTION, storage_in

STUDY, BEST = "study.journal", "best.json"
"""Files of a search, in the folder of its sweep."""

Launch = Callable[[Sequence[Sequence[str]], int], Sequence[Path]]
"""Runs jobs, given the arguments of each and the number of the first, to their end, and says their folders."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Search:
    """A study that goes on where it was left, its trials the jobs of a sweep.

    The study is written by this process alone. A trial is proposed from the seed, its number and what is told about
    those before it, and written whole; therefore a search that was interrupted proposes what it would have proposed.
    What a trial became is told when its batch has ended: which trials a pruner compares with does not depend on who is
    faster.
    """

    folder: Path
    """Of the sweep."""
    spaces: Mapping[str, BaseDistribution]
    key: str
    """Of what all trials share: a study does not mix trials of different settings."""
    monitor: str
    """Name of the validated value, such as val/psnr."""
    n_trials: int
    n_jobs: int
    direction: Literal["maximize", "minimize"]
    sampler: Mapping[str, Any]
    pruner: Mapping[str, Any] | None
    retry: bool

    def run(self, launch: Launch) -> None:
        """Run what is missing to ``n_trials`` trials, and say how all stand.

        Raises:
            ValueError: if trials have failed or were interrupted, another process runs the same search, or the folder
                holds a search of other settings.

        """
        with alone_in(self.folder, lock=".search.lock"):
            study = self._open()
            before = {trial.number for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()}
            if self.retry:
                _repeat_failed(study)
            begun: set[int] = set()
            while batch := self._next_batch(study, begun):
                begun |= set(batch)
                for number in batch:
                    log.info("trial %d: %s", number, shlex.join(self._chosen(study, number)))
                arguments = [[*self._chosen(study, number), self._told(number)] for number in batch]
                for number, folder in zip(batch, launch(arguments, batch[0]), strict=True):
                    self._conclude(study, number, folder)
            self._show(study, before)
            best = self._write_best(study)
        states = [(trial.number, self._state(trial)) for trial in _counting(study)]
        missing = [
            f"trial {number} {state['status']} ({state['error']})"
            for number, state in states
            if not is_finished(state, retry=True)
        ]
        if missing:
            raise not_finished("trials", missing, of=len(states), folder=self.folder)
        if best is None:
            raise ValueError(f"{self.folder}: no trial came to its end, loosen hydra.sweeper.pruner")

    def _open(self) -> optuna.Study:
        storage = storage_in(self.folder / STUDY)
        study = optuna.create_study(study_name=NAME, storage=storage, direction=self.direction, load_if_exists=True)
        spaces = {key: distribution_to_json(space) for key, space in self.spaces.items()}
        asked = {"direction": self.direction, "monitor": self.monitor, "spaces": spaces, "key": self.key}
        there = study.user_attrs.get("asked")
        if there is None:
            study.set_user_attr("asked", asked)
        elif there != asked:
            other = [name for name in asked if there.get(name) != asked[name]]
            names = ", ".join("settings" if name == "key" else name for name in other)
            raise ValueError(f"{self.folder} holds a search with other {names}: repeat them, or name another sweep")
        return study

    def _next_batch(self, study: optuna.Study, begun: set[int]) -> list[int]:
        """Numbers of the trials to run next, following each other; none if the search is at its end.

        Batches end at multiples of ``n_jobs``, so that one that was interrupted is the same when it is taken up again.
        """
        running = [trial.number for trial in study.get_trials(deepcopy=False) if _is_open(trial, begun)]
        first = running[0] if running else len(study.get_trials(deepcopy=False))
        numbers = range(first, (first // self.n_jobs + 1) * self.n_jobs)
        while len(study.get_trials(deepcopy=False)) <= numbers[-1] and len(_counting(study)) < self.n_trials:
            self._propose(study)
        trials = study.get_trials(deepcopy=False)
        batch: list[int] = []
        for number in numbers:
            if number >= len(trials) or not _is_open(trials[number], begun):
                break
            # Of two that are the same the second waits, and finds the run of the first.
            if any(trials[other].params == trials[number].params for other in batch):
                break
            batch.append(number)
        return batch

    def _propose(self, study: optuna.Study) -> None:
        """Add a trial, in one line of the file: a copy of the study in memory was asked for it."""
        trials = study.get_trials(deepcopy=False)
        # Not seed + number, by which the searches of two seeds would share most of their draws.
        seed = int(np.random.SeedSequence([self.sampler["seed"], len(trials)]).generate_state(1)[0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = instantiate(self.sampler, seed=seed)
        copy = optuna.create_study(direction=self.direction, sampler=sampler)
        copy.add_trials(trials)
        copy.ask(dict(self.spaces))
        study.add_trial(copy.get_trials()[-1])

    def _chosen(self, study: optuna.Study, number: int) -> list[str]:
        """Arguments of a trial that the study chose."""
        params = study.get_trials(deepcopy=False)[number].params
        return [f"{key}={params[key]}" for key in self.spaces]

    def _told(self, number: int) -> str:
        """Argument that tells a job which trial it is."""
        section = {
            "_target_": "kgt_lightning.training.pruning.Pruning",
            "study": QuotedString(str((self.folder / STUDY).absolute()), Quote.single),
            "trial": number,
            "pruner": dict(self.pruner) if self.pruner else None,
        }
        value = Override(OverrideType.FORCE_ADD, SECTION, ValueType.ELEMENT, section).get_value_element_as_str()
        return f"++{SECTION}={value}"

    def _conclude(self, study: optuna.Study, number: int, folder: Path) -> None:
        """Tell what became of a trial; one that was interrupted stays open."""
        trial = self._handle(study, number)
        trial.set_user_attr("run", folder.name)
        state = self._state(study.get_trials(deepcopy=False)[number])
        values: Mapping[int, float] = {}
        if is_finished(state, retry=True):
            values = read_curve(folder, self.monitor)
            for step, value in values.items():
                trial.report(value, step)
        if state["status"] == FINISHED:
            if not values:
                raise ValueError(f"{folder} has no {self.monitor} in its log: a search needs logger=jsonl")
            study.tell(number, max(values.values()) if self.direction == "maximize" else min(values.values()))
        elif is_finished(state, retry=False):
            study.tell(number, state=TrialState.PRUNED if state["status"] == PRUNED else TrialState.FAIL)

    def _state(self, trial: FrozenTrial) -> Mapping[str, Any]:
        """run.json of its run."""
        run = trial.user_attrs.get("run")
        unknown = {"status": INTERRUPTED, "error": "ended without saying why", "seconds": None}
        return (read_state(self.folder / run) if run else None) or unknown

    def _handle(self, study: optuna.Study, number: int) -> optuna.Trial:
        """Trial of this number to write to, whichever process began it."""
        storage = storage_in(self.folder / STUDY)
        search = storage.get_study_id_from_name(NAME)
        return optuna.Trial(study, storage.get_trial_id_from_study_id_trial_number(search, number))

    def _show(self, study: optuna.Study, before: set[int]) -> None:
        rows = []
        for trial in _counting(study):
            values = trial.intermediate_values
            value = trial.value if trial.value is not None else values[max(values)] if values else None
            cells = standing(self._state(trial), earlier=trial.number in before, score=value)
            rows.append([str(trial.number), trial.user_attrs.get("run"), *cells])
        columns = ["trial", "run", "status", self.monitor, "minutes", ""]
        Table(title=str(self.folder), columns=columns, rows=rows).show()

    def _write_best(self, study: optuna.Study) -> FrozenTrial | None:
        """Best trial, printed and written as arguments to be repeated; None if no trial is finished."""
        if not study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]):
            return None
        best = study.best_trial
        arguments = self._chosen(study, best.number)
        content = {"trial": best.number, "run": best.user_attrs["run"], self.monitor: best.value}
        write_atomic(self.folder / BEST, json.dumps({**content, "arguments": arguments}, indent=2) + "\n")
        log.info("best is trial %d, %s %.2f: %s", best.number, self.monitor, best.value, shlex.join(arguments))
        return best


def _is_open(trial: FrozenTrial, begun: Iterable[int]) -> bool:
    return trial.state == TrialState.RUNNING and trial.number not in begun


def _counting(study: optuna.Study) -> list[FrozenTrial]:
    """All trials but those that failed and were tried again under another number."""
    trials = study.get_trials(deepcopy=False)
    repeated = {trial.user_attrs.get("repeats") for trial in trials}
    return [trial for trial in trials if trial.number not in repeated]


def _repeat_failed(study: optuna.Study) -> None:
    """Add each trial that failed once more: what was told of a trial is never changed."""
    for trial in _counting(study):
        if trial.state == TrialState.FAIL:
            study.add_trial(
                optuna.trial.create_trial(
                    state=TrialState.RUNNING,
                    params=trial.params,
                    distributions=trial.distributions,
                    user_attrs={"repeats": trial.number},
                )
            )
