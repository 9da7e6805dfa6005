"""Jobs of a sweep as jobs of SLURM: submitted as one array, back in the queue when their time is up, waited for."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from kgt_lightning.runs.record import FAILED, INTERRUPTED, OUT_OF_MEMORY, read_failures, remove_failures
from kgt_lightning.sweeps.attempt import Attempt
from kgt_lightning.sweeps.ledger import Job

log = logging.getLogger(__name__)

UNKNOWN = "no longer in the queue"
OVER = (
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED"),
    *("NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT", UNKNOWN),
)
"""States in which a job has left the queue; one that is to run again is PENDING."""

_TOLD_TO_STOP = [128 + number for number in (signal.SIGUSR1, signal.SIGUSR2)]


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """A job of the sweep in the queue."""

    attempt: Attempt
    id: str


class Task:
    """What each of the processes of a job runs, again after the job was put back into the queue."""

    def __init__(self, *, arguments: Sequence[str]) -> None:
        self.arguments = [*arguments]

    def __call__(self) -> None:
        """Run the command; if there is no time left for its end, it goes back into the queue."""
        # Submitit's handler. The run is to be saved before it acts, and saves at the same signal.
        requeue: Any = signal.getsignal(signal.SIGUSR2)
        rank = int(os.environ["SLURM_PROCID"])
        command = self.arguments[-1]
        others = ["hydra.output_subdir=null", f"hydra.job.name=rank{rank}", "hydra.job_logging.root.handlers=[file]"]
        sys.argv = [command, *self.arguments, *(others if rank else [])]
        try:
            import_module(f"kgt_lightning.{command}").main()
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


def run_on_slurm(
    jobs: Sequence[Job], *, folder: Path, parameters: Mapping[str, Any], max_num_timeout: int, poll_seconds: float
) -> None:
    """Submit jobs, but not those that an earlier start has left in the queue, and wait for the end of all.

    Args:
        jobs: all of one sweep.
        folder: for submitit's files, and for what jobs print before their logs begin.
        parameters: of submitit's ``AutoExecutor``.
        max_num_timeout: times that a job is put back into the queue because its time is up.
        poll_seconds: time between two looks at the queue.

    Raises:
        ValueError: if this machine has no SLURM, or it refuses the jobs, with its reason.

    """
    queue = states()
    waiting: list[Submitted] = []
    new: list[tuple[Attempt, list[str]]] = []
    for job in jobs:
        attempt = Attempt(job)
        file = job.folder / "slurm_job"
        earlier = file.read_text().strip() if file.exists() else ""
        if queue.get(earlier, UNKNOWN) not in OVER:
            log.info("%s is in the queue already, as %s", job.name, earlier)
            waiting.append(Submitted(attempt=attempt, id=earlier))
            continue
        # A job begins anew only if it has no checkpoint; whether it has one by then is not known yet.
        arguments = attempt.arguments(resume=True)
        if arguments is not None:
            new.append((attempt, arguments))
    if new:
        tasks = [Task(arguments=arguments) for _, arguments in new]
        ids = _submit(tasks, folder=folder, parameters=parameters, max_num_timeout=max_num_timeout)
        for (attempt, _), number in zip(new, ids, strict=True):
            remove_failures(attempt.job.folder)
            (attempt.job.folder / "slurm_job").write_text(f"{number}\n")
            log.info("%s is in the queue as %s; its log will be in %s", attempt.job.name, number, attempt.job.folder)
            waiting.append(Submitted(attempt=attempt, id=number))
    try:
        _wait(waiting, poll_seconds=poll_seconds)
    except KeyboardInterrupt:
        ids = sorted({each.id.partition("_")[0] for each in waiting})
        log.warning("the jobs stay in the queue: the same command waits for them, scancel %s ends them", " ".join(ids))
        raise SystemExit(128 + signal.SIGINT) from None


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


def _submit(tasks: Sequence[Task], *, folder: Path, parameters: Mapping[str, Any], max_num_timeout: int) -> list[str]:
    import submitit
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    executor = submitit.AutoExecutor(folder=folder, cluster="slurm", slurm_max_num_timeout=max_num_timeout)
    executor.update_parameters(**parameters)
    try:
        with executor.batch():
            jobs = [executor.submit(task) for task in tasks]
    except (FailedJobError, FailedSubmissionError) as error:
        raise ValueError(f"SLURM refuses the jobs: {' '.join(str(error).split())}") from error
    return [job.job_id for job in jobs]


def _wait(waiting: Sequence[Submitted], *, poll_seconds: float) -> None:
    """Wait until all jobs have left the queue for good, and see to it that their records tell how they ended."""
    left = [*waiting]
    last: dict[str, str] = {}
    while left:
        try:
            queue = states()
        except ValueError as error:
            log.warning("%s; it is asked again", error)
            time.sleep(poll_seconds)
            continue
        for each in [*left]:
            state = queue.get(each.id, UNKNOWN)
            if last.get(each.id) != state:
                log.info("%s: %s", each.attempt.job.name, state.lower())
                last[each.id] = state
            if state in OVER:
                left.remove(each)
                _settle(each.attempt, state)
        if left:
            time.sleep(poll_seconds)


def _settle(attempt: Attempt, state: str) -> None:
    """See to it that the record of a job tells how it ended, if the job was not given the time to write it."""
    status = {"FAILED": FAILED, "COMPLETED": FAILED, "OUT_OF_MEMORY": OUT_OF_MEMORY}.get(state, INTERRUPTED)
    reason = f"SLURM: {state.lower()}"
    for rank, (its_status, error) in read_failures(attempt.job.folder).items():
        if its_status != INTERRUPTED:
            status, reason = its_status, f"process {rank}: {error}"
    attempt.settle(status, reason)
