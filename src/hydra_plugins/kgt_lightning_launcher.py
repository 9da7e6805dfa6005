"""Hydra's launcher for ``train -m``; Hydra finds its plugins in this package and in no other."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict


@dataclass
class OwnProcessConf:
    """Settings, in conf/ as ``hydra/launcher: own_process``."""

    _target_: str = "hydra_plugins.kgt_lightning_launcher.OwnProcessLauncher"
    at_once: int = 1
    trials: bool = False


ConfigStore.instance().store(group="hydra/launcher", name="own_process", node=OwnProcessConf, provider="kgt_lightning")


class OwnProcessLauncher(Launcher):
    """Each job in a process of its own: a job that is killed or takes all memory does not take the others along.

    A process may then start further ones for several devices, memory of GPUs is free again after each job, and what a
    job leaves in its process (environment, random state, loggers) is gone with it. Submitit's local launcher does so
    too, but starts all jobs at the same time.

    Args:
        at_once: number of jobs that run at the same time.
        trials: whether they are trials of a search, which says by itself how they stand.

    """

    def __init__(self, *, at_once: int, trials: bool) -> None:
        self.at_once = at_once
        self.trials = trials

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what is needed to compose the jobs."""
        self.hydra_context = hydra_context
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs; the result of one that is not finished is an error that says what is missing."""
        # Hydra imports this file at the start of every command.
        from kgt_lightning.pruning import SECTION
        from kgt_lightning.record import is_shaping
        from kgt_lightning.sweep import run_sweep, show, what_is_missing

        if not isinstance(self.at_once, int) or self.at_once < 1:
            raise ValueError(f"hydra.launcher.at_once={self.at_once} must be a whole number of at least 1")
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        loader = self.hydra_context.config_loader
        configs = [loader.load_sweep_config(self.config, list(each)) for each in job_overrides]
        for number, config in enumerate(configs, start=initial_job_idx):
            with open_dict(config):
                config.hydra.job.id = config.hydra.job.num = number
        given = OverridesParser.create().parse_overrides(list(self.config.hydra.overrides.task))
        # Of several arguments for the same key the last counts.
        last = {each.get_key_element(): each for each in given}
        fixed = {key for key, each in last.items() if not each.is_sweep_override()}
        if len(job_overrides) == 1 and not self.trials:
            # Nothing is swept, but this may be one more job of a sweep: what shapes it says which.
            fixed = {key for key in fixed if not is_shaping(key)}
        fixed.add(f"++{SECTION}")
        swept = [
            [each.input_line or "" for each in parsed if each.get_key_element() not in fixed]
            for parsed in (OverridesParser.create().parse_overrides(list(each)) for each in job_overrides)
        ]
        folder = Path(self.config.hydra.sweep.dir)
        outcomes = run_sweep(configs, folder=folder, swept=swept, at_once=self.at_once)
        if not self.trials:
            show(outcomes, folder=folder)
        returns = []
        for each in outcomes:
            ret = JobReturn(overrides=each.job.overrides, cfg=each.job.config, status=JobStatus.COMPLETED)
            # Where Hydra's own launchers say it.
            ret.hydra_cfg = OmegaConf.create({"hydra": {"runtime": {"output_dir": str(each.job.folder)}}})
            ret.return_value = each.score
            if not each.settled:
                ret.status, ret.return_value = JobStatus.FAILED, what_is_missing(outcomes, folder=folder)
            returns.append(ret)
        return returns
