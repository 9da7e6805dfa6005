"""Hydra's launchers for ``train -m``: each job in a process of its own here, or as a job of SLURM."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from kgt_lightning.config.command import FULL_ERROR
from kgt_lightning.config.extras import require
from kgt_lightning.runs.record import is_shaping
from kgt_lightning.sweeps.ledger import Job
from kgt_lightning.sweeps.local import run_here, run_sweep, show, what_is_missing
from kgt_lightning.sweeps.slurm import run_on_slurm
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
        outcomes = run_sweep(configs, folder=self.folder, swept=swept, run=self.run)
        if not self.trials:
            show(outcomes, folder=self.folder)
        returns = []
        for each in outcomes:
            ret = JobReturn(overrides=each.job.overrides, cfg=each.job.config, status=JobStatus.COMPLETED)
            # Where Hydra's own launchers say it.
            ret.hydra_cfg = OmegaConf.create({"hydra": {"runtime": {"output_dir": str(each.job.folder)}}})
            ret.return_value = each.score
            if not each.finished:
                ret.status, ret.return_value = JobStatus.FAILED, what_is_missing(outcomes, folder=self.folder)
            returns.append(ret)
        return returns

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


@dataclass(kw_only=True)
class SlurmLauncher(RecordedLauncher):
    """Each job as one of SLURM, of as many processes as devices.

    Submitit's own launcher for Hydra submits all jobs at every start, and one that fails hides how the others stand.
    """

    trials: bool
    name: str
    partition: str | None
    account: str | None
    qos: str | None
    constraint: str | None
    additional_parameters: dict[str, Any]
    """Other options of sbatch."""
    setup_lines: list[str]
    """Of shell, before each job."""
    nodes: int
    tasks_per_node: int
    gpus_per_node: int
    cpus_per_task: int
    mem_gb: float | None
    timeout_min: int
    signal_delay_s: int
    """Time before the end of ``timeout_min`` at which a job is told to stop."""
    max_num_timeout: int
    """Times that a job goes back into the queue because its time is up."""
    array_parallelism: int
    poll_seconds: float

    def check(self) -> None:
        """Raise a ValueError if a setting is wrong, or submitit is missing."""
        require("hydra/launcher=slurm", "slurm", "submitit")
        for key, value in (("devices", self.tasks_per_node), ("num_nodes", self.nodes)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"trainer.{key}={value}: SLURM has to be told how many, as a number of at least 1")

    def run(self, jobs: Sequence[Job]) -> None:
        """Submit jobs, and wait for them."""
        parameters = {
            "name": self.name,
            "nodes": self.nodes,
            "tasks_per_node": self.tasks_per_node,
            # All GPUs of a node are seen by all processes there: Lightning chooses by the rank.
            "gpus_per_node": self.gpus_per_node or None,
            "cpus_per_task": self.cpus_per_task,
            "mem_gb": self.mem_gb,
            "timeout_min": self.timeout_min,
            "slurm_partition": self.partition,
            "slurm_account": self.account,
            "slurm_qos": self.qos,
            "slurm_constraint": self.constraint,
            "slurm_array_parallelism": self.array_parallelism,
            "slurm_signal_delay_s": self.signal_delay_s,
            "slurm_additional_parameters": {"requeue": True, **self.additional_parameters},
            "slurm_setup": [
                # sbatch passes the environment on: what is set for Hydra in this process is not meant for others.
                f"export HYDRA_FULL_ERROR={int(FULL_ERROR)}",
                "export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$SLURM_CPUS_PER_TASK}",
                *self.setup_lines,
            ],
            # srun does not take over --cpus-per-task; and a process that is gone is waited for in vain.
            "slurm_srun_args": [f"--cpus-per-task={self.cpus_per_task}", "--kill-on-bad-exit=1"],
        }
        run_on_slurm(
            jobs,
            folder=self.folder / ".submitit" / "%j",
            parameters={key: value for key, value in parameters.items() if value is not None},
            max_num_timeout=self.max_num_timeout,
            poll_seconds=self.poll_seconds,
        )
