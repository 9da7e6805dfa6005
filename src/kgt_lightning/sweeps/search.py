"""Searches: sweeps whose jobs Optuna proposes one after the other, from how good those before them were."""

import json
import logging
import os
import shlex
import sys
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
from rich.console import Console
from rich.table import Table

from kgt_lightning.runs.curves import read_curve
from kgt_lightning.runs.record import FINISHED, INTERRUPTED, PRUNED, RUNNING, read_record
from kgt_lightning.sweeps.local import exclusive_lock, not_finished
from kgt_lightning.system.files import write_atomic
from kgt_lightning.training.pruning import NAME, SECTION, report, storage_in, trial_of

STUDY, BEST = "study.journal", "best.json"
"""Files of a search, in the folder of its sweep."""

Launch = Callable[[Sequence[Sequence[str]], int], Sequence[Path]]
"""Runs jobs, given the arguments of each and the number of the first, to their end, and says their folders."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Search:
    """A study that goes on where it was left, its trials the jobs of a sweep.

    The study is written by this process alone, but for the validations that the jobs report. A trial is proposed from
    the seed, its number and what is told about those before it, and written whole; therefore a search that was
    interrupted proposes what it would have proposed. What a trial became is told when its batch has ended: which trials
    a pruner compares with does not depend on who is faster.
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
        self.folder.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(self.folder, ".search.lock"):
            study = self._open()
            before = {each.number for each in study.get_trials(deepcopy=False) if each.state.is_finished()}
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
        missing = [
            f"trial {each.number} {_status(each)} ({each.user_attrs.get('error')})"
            for each in _counting(study)
            if each.state not in (TrialState.COMPLETE, TrialState.PRUNED)
        ]
        if missing:
            raise not_finished("trials", missing, of=len(_counting(study)), folder=self.folder)
        if best is None:
            raise ValueError(f"{self.folder}: no trial came to its end, loosen hydra.sweeper.pruner")

    def _open(self) -> optuna.Study:
        file = self.folder / STUDY
        if file.exists():
            # A kill or a full disk may leave half a line, to which the next would be appended.
            content = file.read_bytes()
            os.truncate(file, content.rfind(b"\n") + 1)
        study = optuna.create_study(
            study_name=NAME, storage=storage_in(file), direction=self.direction, load_if_exists=True
        )
        spaces = {key: distribution_to_json(space) for key, space in self.spaces.items()}
        asked = {"direction": self.direction, "monitor": self.monitor, "spaces": spaces, "key": self.key}
        there = study.user_attrs.get("asked")
        if there is None:
            study.set_user_attr("asked", asked)
        elif there != asked:
            what = {"key": "settings"}
            names = ", ".join(what.get(each, each) for each in asked if there.get(each) != asked[each])
            raise ValueError(f"{self.folder} holds a search with other {names}: repeat them, or name another sweep")
        return study

    def _next_batch(self, study: optuna.Study, begun: set[int]) -> list[int]:
        """Numbers of the trials to run next, following each other; none if the search is at its end.

        Batches end at multiples of ``n_jobs``, so that one that was interrupted is the same when it is taken up again.
        """
        running = [each.number for each in study.get_trials(deepcopy=False) if _is_open(each, begun)]
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
            if any(trials[each].params == trials[number].params for each in batch):
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
        record = read_record(folder) or {"status": INTERRUPTED, "error": "ended without a record", "seconds": None}
        trial, status = trial_of(study, number), record["status"]
        for name in ("error", "seconds"):
            trial.set_user_attr(name, record[name])
        trial.set_user_attr("status", status)
        trial.set_user_attr("run", folder.name)
        if status in (FINISHED, PRUNED):
            # A job that was there already, of the same key, has told another trial.
            report(study, number, read_curve(folder, self.monitor))
        values = study.get_trials(deepcopy=False)[number].intermediate_values.values()
        if status == FINISHED:
            if not values:
                raise ValueError(f"{folder} has no {self.monitor} in its log: a search needs logger=jsonl")
            study.tell(number, max(values) if self.direction == "maximize" else min(values))
        elif status == PRUNED:
            study.tell(number, state=TrialState.PRUNED)
        elif status not in (INTERRUPTED, RUNNING):
            study.tell(number, state=TrialState.FAIL)

    def _show(self, study: optuna.Study, before: set[int]) -> None:
        table = Table(title=f"{self.folder}", title_justify="left", title_style="")
        for column in ("trial", "run", "status", self.monitor, "minutes", ""):
            right = column in ("trial", self.monitor, "minutes")
            table.add_column(column, justify="right" if right else "left", overflow="fold")
        for each in _counting(study):
            values, seconds = each.intermediate_values, each.user_attrs.get("seconds")
            table.add_row(
                str(each.number),
                each.user_attrs.get("run"),
                _status(each) + (", before" if each.number in before else ""),
                f"{each.value if each.value is not None else values[max(values)]:.2f}" if values else "",
                "" if seconds is None else f"{seconds / 60:.1f}",
                each.user_attrs.get("error"),
            )
        Console(width=None if sys.stdout.isatty() else 200, markup=False).print(table)

    def _write_best(self, study: optuna.Study) -> FrozenTrial | None:
        """Best trial, printed and written as arguments to be repeated; None if no trial is finished."""
        if not any(each.state == TrialState.COMPLETE for each in study.get_trials(deepcopy=False)):
            return None
        best = study.best_trial
        arguments = self._chosen(study, best.number)
        content = {"trial": best.number, "run": best.user_attrs["run"], self.monitor: best.value}
        write_atomic(self.folder / BEST, json.dumps({**content, "arguments": arguments}, indent=2) + "\n")
        log.info("best is trial %d, %s %.2f: %s", best.number, self.monitor, best.value, shlex.join(arguments))
        return best


def _is_open(trial: FrozenTrial, begun: Iterable[int]) -> bool:
    return trial.state == TrialState.RUNNING and trial.number not in begun


def _status(trial: FrozenTrial) -> str:
    """As in the record of its run."""
    return str(trial.user_attrs.get("status", INTERRUPTED))


def _counting(study: optuna.Study) -> list[FrozenTrial]:
    """All trials but those that failed and were tried again under another number."""
    trials = study.get_trials(deepcopy=False)
    repeated = {each.user_attrs.get("repeats") for each in trials}
    return [each for each in trials if each.number not in repeated]


def _repeat_failed(study: optuna.Study) -> None:
    """Add each trial that failed once more: what was told of a trial is never changed."""
    for each in _counting(study):
        if each.state == TrialState.FAIL:
            study.add_trial(
                optuna.trial.create_trial(
                    state=TrialState.RUNNING,
                    params=each.params,
                    distributions=each.distributions,
                    user_attrs={"repeats": each.number},
                )
            )
