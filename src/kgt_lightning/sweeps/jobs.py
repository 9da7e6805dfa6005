"""The jobs of a sweep: their folders, found again however they are ordered and named, and how each is started."""

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from kgt_lightning.config.arguments import as_given
from kgt_lightning.config.errors import one_line
from kgt_lightning.config.schema import check_types
from kgt_lightning.runs.run import FAILED, FINISHED, Run, config_key, is_finished, read_score, read_state
from kgt_lightning.sweeps.process import write_job


def problem_of(config: DictConfig) -> str | None:
    """What is wrong with a configuration of train, found by building model and data without their memory; or None."""
    try:
        check_types(config, command="train")
        with torch.device("meta"):
            instantiate(config.module)
        instantiate(config.data)
    except ValueError as error:
        return one_line(error)
    except InstantiationException as error:
        # What else fails may do so for want of the memory; the job will tell.
        return one_line(error) if isinstance(error.__cause__, ValueError) else None
    return None


class Job(Run):
    """One point of a sweep: a run that goes on from what earlier starts left in its folder."""

    def __init__(self, config: DictConfig, folder: Path, *, overrides: list[str], hydra: DictConfig) -> None:
        super().__init__(config, folder, overrides=overrides)
        self.hydra = hydra
        """Section hydra that was composed with the configuration."""
        self.name = folder.name
        self.earlier = is_finished(self.before, retry=config.retry)
        """Whether nothing was left to do before this start of the sweep."""

    @property
    def score(self) -> float | None:
        """First score of the first test set, None if it is not finished."""
        return read_score(self.folder) if self.state.get("status") == FINISHED else None

    def arguments(self) -> list[str] | None:
        """Arguments for its process, None if its configuration is wrong, which run.json then says."""
        self.config.resume = True
        if problem := problem_of(self.config):
            self.end(FAILED, problem)
            return None
        start = f".hydra/{datetime.now():%Y-%m-%d_%H-%M-%S}"
        return write_job(
            self.config,
            command="train",
            run_dir=self.folder,
            hydra=self.hydra,
            output_subdir=start,
            folder=self.folder / start / "job",
        )


def find_jobs(configs: Sequence[DictConfig], *, folder: Path, swept: Sequence[Sequence[str]]) -> list[Job]:
    """Jobs in the folders where earlier starts left them, or else in new ones named after what was swept.

    Args:
        configs: composed, with their section hydra.
        folder: of the sweep.
        swept: for each job, those of its arguments that the sweep chose.

    """
    states = {file.parent: read_state(file.parent) or {} for file in sorted(folder.glob("*/run.json"))}
    taken, jobs = set(states), list[Job]()
    for config, chosen in zip((config.copy() for config in configs), swept, strict=True):
        OmegaConf.set_struct(config, False)
        hydra = config.pop("hydra")
        overrides = as_given(hydra.overrides.task)
        key = config_key(config)
        # Jobs of the same key differ in what does not shape the result, such as the number of devices.
        same = [place for place, state in states.items() if state["key"] == key]
        same.sort(key=lambda place: states[place]["overrides"] != overrides)
        name = job_name(chosen)
        place, number = same[0] if same else folder / name, 2
        if same:
            del states[place]
        while not same and place in taken:
            place, number = folder / f"{name}-{number}", number + 1
        taken.add(place)
        config.run_dir, config.run, config.sweep = str(place.absolute()), place.name, folder.name
        jobs.append(Job(config, place, overrides=overrides, hydra=hydra))
    return jobs


def job_name(swept: Sequence[str]) -> str:
    """Short name of a folder: ``k=64,seed=1`` for model.k=64 seed=1."""
    pairs = [argument.lstrip("+~").partition("=") for argument in swept]
    leaves = [key.rpartition(".")[2] for key, _, _ in pairs]
    parts = [
        f"{leaf if leaves.count(leaf) == 1 else key}={_short(value)}"
        for (key, _, value), leaf in zip(pairs, leaves, strict=True)
    ]
    return re.sub(r"[^\w.,=+-]+", "_", re.sub(r"[][{}'\" ]", "", ",".join(parts)))[:100].strip(".") or "job"


def _short(value: str) -> str:
    """A fraction with four digits; what is searched has all that a float has."""
    return f"{float(value):.4g}" if re.fullmatch(r"-?\d+\.\d{5,}|-?\d\.\d{4,}e-?\d+", value) else value
