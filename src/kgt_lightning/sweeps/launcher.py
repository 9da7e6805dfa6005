"""Hydra's launchers for ``train -m``: what all share, and the one that runs each job in a process of its own here."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from kgt_lightning.config.keys import NOT_NAMING, lies_in
from kgt_lightning.runs.run import is_finished
from kgt_lightning.sweeps.jobs import Job
from kgt_lightning.sweeps.local import run_here, run_sweep, show, what_is_missing
from kgt_lightning.training.pruning import SECTION


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
        loader = self.hydra_context.config_loader
        configs = [loader.load_sweep_config(self.config, list(arguments)) for arguments in job_overrides]
        for number, config in enumerate(configs, start=initial_job_idx):
            with open_dict(config):
                config.hydra.job.id = config.hydra.job.num = number
        given = OverridesParser.create().parse_overrides(list(self.config.hydra.overrides.task))
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
        problems = [f"{job.name}: {problem}" for job in jobs if (problem := job.problem())]
        if problems:
            raise ValueError(f"no job is started, {len(problems)} of {len(jobs)} are wrong, {problems[0]}")
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
