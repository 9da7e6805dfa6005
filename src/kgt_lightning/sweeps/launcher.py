"""Hydra's launchers: what those of ``train -m`` share, the one of them that runs each job here, and one that checks."""

import logging
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus, configure_log, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from kgt_lightning.config.arguments import as_given
from kgt_lightning.config.errors import is_user_error, one_line
from kgt_lightning.config.keys import NOT_NAMING, lies_in
from kgt_lightning.config.schema import check_types
from kgt_lightning.runs.run import is_finished
from kgt_lightning.sweeps.jobs import Job, problem_of
from kgt_lightning.sweeps.local import run_here, run_sweep, show, what_is_missing
from kgt_lightning.training.pruning import SECTION

log = logging.getLogger(__name__)


def composed(
    context: HydraContext, config: DictConfig, job_overrides: Sequence[Sequence[str]], *, first: int
) -> list[DictConfig]:
    """Configurations of jobs, each with its section hydra, numbered from the first on."""
    configs = [context.config_loader.load_sweep_config(config, list(arguments)) for arguments in job_overrides]
    for number, each in enumerate(configs, start=first):
        with open_dict(each):
            each.hydra.job.id = each.hydra.job.num = number
    return configs


def refuse_wrong(problems: Mapping[str, str | None]) -> None:
    """See to it that no job has a problem.

    Raises:
        ValueError: naming the first that has one.

    """
    wrong = [f"{name}: {problem}" for name, problem in problems.items() if problem]
    if wrong:
        raise ValueError(f"no job is started, {len(wrong)} of {len(problems)} are wrong, {wrong[0]}")


class CheckedLauncher(Launcher):
    """Jobs one after the other in this process; none is started if one of them would be refused.

    Args:
        check: what a job does before it begins to compute, given its configuration; raises a ValueError if it is wrong.

    """

    def __init__(self, *, check: Callable[[DictConfig], object]) -> None:
        self.check = check

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what is needed to compose and run the jobs."""
        self.hydra_context = hydra_context
        self.task_function = task_function
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs; what one ended with, also an error, is its result."""
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        configs = composed(self.hydra_context, self.config, job_overrides, first=initial_job_idx)
        names = [" ".join(arguments) for arguments in job_overrides]
        refuse_wrong({name: self._problem(config) for name, config in zip(names, configs, strict=True)})
        ends = []
        for number, (name, config) in enumerate(zip(names, configs, strict=True), 1):
            log.info("%d/%d %s", number, len(configs), name)
            ends.append(
                run_job(
                    task_function=self.task_function,
                    config=config,
                    job_dir_key="hydra.sweep.dir",
                    job_subdir_key="hydra.sweep.subdir",
                    hydra_context=self.hydra_context,
                )
            )
            configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        return ends

    def _problem(self, config: DictConfig) -> str | None:
        own = config.copy()
        with open_dict(own):
            command = own.pop("hydra").job.config_name
        try:
            check_types(own, command=command)
            self.check(own)
        except Exception as error:
            if not is_user_error(error):
                raise
            return one_line(error)
        return None


class RecordedLauncher(Launcher):
    """Runs what is missing of a sweep as the records of its jobs tell, and says how all of them stand."""

    trials: bool
    """Whether the jobs are trials of a search, which says by itself how they stand."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what is needed to compose the jobs."""
        self.hydra_context = hydra_context
        self.config = config

    @abstractmethod
    def check(self) -> None:
        """Raise a ValueError if a setting is wrong."""

    @abstractmethod
    def run(self, jobs: Sequence[Job]) -> None:
        """Run jobs to their ends, so that their records tell how they ended."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs; the result of one that is not finished is an error that says what is missing."""
        self.check()
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        configs = composed(self.hydra_context, self.config, job_overrides, first=initial_job_idx)
        given = OverridesParser.create().parse_overrides(as_given(self.config.hydra.overrides.task))
        # Of several arguments for the same key the last counts.
        last = {override.get_key_element(): override for override in given}
        fixed = {key for key, override in last.items() if not override.is_sweep_override()}
        if len(job_overrides) == 1 and not self.trials:
            # Nothing is swept, but this may be one more job of a sweep: what shapes it says which.
            fixed = {key for key in fixed if lies_in(key, NOT_NAMING)}
        fixed.add(f"++{SECTION}")
        swept = [
            [override.input_line or "" for override in parsed if override.get_key_element() not in fixed]
            for parsed in (OverridesParser.create().parse_overrides(list(arguments)) for arguments in job_overrides)
        ]
        # Of a search each trial is judged by itself.
        run = self.run if self.trials else self._run_if_all_fit
        jobs = run_sweep(configs, folder=self.folder, swept=swept, run=run)
        if not self.trials:
            show(jobs, folder=self.folder)
        missing = what_is_missing(jobs, folder=self.folder)
        returns = []
        for job in jobs:
            ret = JobReturn(overrides=job.overrides, cfg=job.config, status=JobStatus.COMPLETED)
            # Where Hydra's own launchers say it.
            ret.hydra_cfg = OmegaConf.create({"hydra": {"runtime": {"output_dir": str(job.folder)}}})
            ret.return_value = job.score
            if not is_finished(job.state, retry=True):
                ret.status, ret.return_value = JobStatus.FAILED, missing
            returns.append(ret)
        return returns

    def _run_if_all_fit(self, jobs: Sequence[Job]) -> None:
        """Run jobs to their ends; none is started if one could not be built."""
        refuse_wrong({job.name: problem_of(job.config) for job in jobs})
        self.run(jobs)

    @property
    def folder(self) -> Path:
        """That of the sweep."""
        return Path(self.config.hydra.sweep.dir)


class OwnProcessLauncher(RecordedLauncher):
    """Each job in a process of its own: a job that is killed or takes all memory does not take the others along.

    A process may then start further ones for several devices, memory of GPUs is free again after each job, and what a
    job leaves in its process (environment, random state, loggers) is gone with it. Submitit's local launcher does so
    too, but starts all jobs at the same time.
    """

    def __init__(self, *, at_once: int, trials: bool) -> None:
        self.at_once = at_once
        self.trials = trials

    def check(self) -> None:
        """Raise a ValueError if a setting is wrong."""
        if not isinstance(self.at_once, int) or self.at_once < 1:
            raise ValueError(f"hydra.launcher.at_once={self.at_once} must be a whole number of at least 1")

    def run(self, jobs: Sequence[Job]) -> None:
        """Run jobs on this machine."""
        run_here(jobs, at_once=self.at_once)
