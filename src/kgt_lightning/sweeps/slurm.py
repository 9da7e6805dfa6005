"""Jobs of a sweep as jobs of SLURM: submitted as one array, back in the queue when their time is up, waited for."""

import logging
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kgt_lightning.config.command import FULL_ERROR
from kgt_lightning.config.extras import require
from kgt_lightning.runs.run import FAILED, INTERRUPTED, OUT_OF_MEMORY, read_failure, remove_failures
from kgt_lightning.sweeps.jobs import Job
from kgt_lightning.sweeps.launcher import RecordedLauncher
from kgt_lightning.sweeps.process import run_command

log = logging.getLogger(__name__)

UNKNOWN = "no longer in the queue"
OVER = (
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED"),
    *("NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT", UNKNOWN),
)
"""States in which a job has left the queue; one that is to run again is PENDING."""

_TOLD_TO_STOP = [128 + number for number in (signal.SIGUSR1, signal.SIGUSR2)]


class Task:
    """What each of the processes of a job runs, again after the job was put back into the queue."""

    def __init__(self, *, arguments: Sequence[str]) -> None:
        self.arguments = [*arguments]

    def __call__(self) -> None:
        """Run the command; if there is no time left for its end, it goes back into the queue."""
        # Submitit's handler. The run is to be saved before it acts, and saves at the same signal.
        requeue: Any = signal.getsignal(signal.SIGUSR2)
        rank = int(os.environ["SLURM_PROCID"])
        try:
            run_command(self.arguments, rank=rank)
        except SystemExit as end:
            # SIGTERM comes when SLURM has decided, also to run the job again. Before a pre-emption with a time of grace
            # it has not, and the job must do it.
            preempted = end.code == 128 + signal.SIGTERM and states().get(_own_id()) == "RUNNING"
            if rank == 0 and (end.code in _TOLD_TO_STOP or preempted):
                requeue(signal.SIGUSR2, None)
            raise

    def checkpoint(self) -> Any:
        """The same once more, as submitit asks for it: the run knows from its files where it was."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


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
        """Submit jobs, but not those that an earlier start has left in the queue, and wait for the end of all.

        Raises:
            ValueError: if this machine has no SLURM, or it refuses the jobs, with its reason.

        """
        queue = states()
        waiting: dict[str, Job] = {}
        new: dict[Job, Task] = {}
        for job in jobs:
            file = job.folder / "slurm_job"
            earlier = file.read_text().strip() if file.exists() else ""
            if queue.get(earlier, UNKNOWN) not in OVER:
                log.info("%s is in the queue already, as %s", job.name, earlier)
                waiting[earlier] = job
            elif (arguments := job.arguments()) is not None:
                new[job] = Task(arguments=arguments)
        for job, number in zip(new, self._submit([*new.values()]) if new else [], strict=True):
            remove_failures(job.folder)
            (job.folder / "slurm_job").write_text(f"{number}\n")
            log.info("%s is in the queue as %s; its log will be in %s", job.name, number, job.folder)
            waiting[number] = job
        try:
            wait(waiting, poll_seconds=self.poll_seconds)
        except KeyboardInterrupt:
            ids = " ".join(sorted({number.partition("_")[0] for number in waiting}))
            log.warning("the jobs stay in the queue: the same command waits for them, scancel %s ends them", ids)
            raise SystemExit(128 + signal.SIGINT) from None

    def _submit(self, tasks: Sequence[Task]) -> list[str]:
        import submitit
        from submitit.core.utils import FailedJobError, FailedSubmissionError

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
        executor = submitit.AutoExecutor(
            folder=self.folder / ".submitit" / "%j", cluster="slurm", slurm_max_num_timeout=self.max_num_timeout
        )
        executor.update_parameters(**{key: value for key, value in parameters.items() if value is not None})
        try:
            with executor.batch():
                jobs = [executor.submit(task) for task in tasks]
        except (FailedJobError, FailedSubmissionError) as error:
            raise ValueError(f"SLURM refuses the jobs: {' '.join(str(error).split())}") from error
        return [job.job_id for job in jobs]


def states() -> dict[str, str]:
    """State of each of the user's jobs that SLURM knows of, by its number.

    Raises:
        ValueError: if there is no SLURM, or it does not answer.

    """
    command = ["squeue", "--me", "--array", "--noheader", "--states=all", "--format=%i %T"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    except FileNotFoundError:
        raise ValueError(
            "there is no SLURM on this machine: no command squeue; leave hydra/launcher=slurm out"
        ) from None
    except subprocess.SubprocessError as error:
        said = (getattr(error, "stderr", None) or str(error)).strip()
        raise ValueError(f"SLURM does not answer: {said}") from error
    return dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if line.strip())


def _own_id() -> str:
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"]


def wait(waiting: Mapping[str, Job], *, poll_seconds: float) -> None:
    """Wait until all jobs have left the queue for good, and see to it that run.json of each tells how it ended."""
    last = dict.fromkeys(waiting, "")
    while last:
        try:
            queue = states()
        except ValueError as error:
            log.warning("%s; it is asked again", error)
            time.sleep(poll_seconds)
            continue
        for number, before in [*last.items()]:
            last[number] = state = queue.get(number, UNKNOWN)
            if state != before:
                log.info("%s: %s", waiting[number].name, state.lower())
            if state in OVER:
                del last[number]
                _settle(waiting[number], state)
        if last:
            time.sleep(poll_seconds)


def _settle(job: Job, state: str) -> None:
    """See to it that run.json tells how the job ended, if it was not given the time to write it."""
    status = {"FAILED": FAILED, "COMPLETED": FAILED, "OUT_OF_MEMORY": OUT_OF_MEMORY}.get(state, INTERRUPTED)
    job.settle(*(read_failure(job.folder) or (status, f"SLURM: {state.lower()}")))
