"""Sweeps that survive: every job in a process of its own, found again by what shapes its result."""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import torch
from filelock import FileLock, Timeout
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from kgt_lightning.config.command import FULL_ERROR
from kgt_lightning.runs.record import FAILED, FINISHED, INTERRUPTED, PRUNED, read_record
from kgt_lightning.sweeps.attempt import Attempt
from kgt_lightning.sweeps.ledger import Job, find_folders, is_finished, read_score
from kgt_lightning.sweeps.processes import start_job

log = logging.getLogger(__name__)

Process = subprocess.Popen[bytes]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a job stands after the sweep."""

    job: Job
    status: str
    error: str | None
    seconds: float | None
    score: float | None
    """First score of the first test set, if the job is finished."""
    earlier: bool
    """Whether that was so before this start."""

    @property
    def finished(self) -> bool:
        """Whether nothing is missing: it is finished, or was stopped by its search."""
        return self.status in (FINISHED, PRUNED)


def run_sweep(
    configs: Sequence[DictConfig],
    *,
    folder: Path,
    swept: Sequence[Sequence[str]],
    run: Callable[[Sequence[Job]], None],
) -> list[Outcome]:
    """Run what is missing of a sweep, and say how all its jobs stand.

    A job is found again by the key of its configuration. It is skipped if it is finished, resumed if it was
    interrupted, and reported if it failed, unless ``retry`` is set.

    Args:
        configs: of the jobs, composed.
        folder: of the sweep.
        swept: for each job, those of its arguments that the sweep chose.
        run: runs jobs to their ends, here (:func:`run_here`) or elsewhere, so that their records tell how they ended.

    Raises:
        ValueError: if another process runs the same sweep.

    """
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(folder, ".lock"):
        jobs = find_folders(configs, folder=folder, swept=swept)
        before = [read_record(job.folder) for job in jobs]
        finished = [is_finished(record, job.config.retry) for job, record in zip(jobs, before, strict=True)]
        run([job for job, done in zip(jobs, finished, strict=True) if not done])
        return [_outcome(job, earlier=done) for job, done in zip(jobs, finished, strict=True)]


@contextmanager
def exclusive_lock(folder: Path, name: str) -> Iterator[None]:
    """No other process is in such a block for the same folder.

    Args:
        folder: of the sweep.
        name: of the file that is locked; the lock is let go when this process ends, in whatever way.

    Raises:
        ValueError: if another process is.

    """
    lock = FileLock(folder / name, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(f"{folder} is being run by another process: wait for it, or name another sweep") from None
    try:
        yield
    finally:
        lock.release()


def show(outcomes: Sequence[Outcome], *, folder: Path) -> None:
    """Print how all jobs stand."""
    table = Table(title=f"{folder}", title_justify="left", title_style="")
    for column in ("job", "status", "score", "minutes", ""):
        table.add_column(column, justify="right" if column in ("score", "minutes") else "left", overflow="fold")
    for each in outcomes:
        score = "" if each.score is None else f"{each.score:.2f}"
        minutes = "" if each.seconds is None else f"{each.seconds / 60:.1f}"
        table.add_row(each.job.name, each.status + (", before" if each.earlier else ""), score, minutes, each.error)
    # In a file or a pipe no line is broken.
    Console(width=None if sys.stdout.isatty() else 200, markup=False).print(table)


def what_is_missing(outcomes: Sequence[Outcome], *, folder: Path) -> ValueError:
    """Error for a sweep of which not all jobs are finished: the first reason, and how to go on."""
    missing = [f"{each.job.name} {each.status} ({each.error})" for each in outcomes if not each.finished]
    return not_finished("jobs", missing, of=len(outcomes), folder=folder)


def not_finished(what: str, missing: Sequence[str], *, of: int, folder: Path) -> ValueError:
    """Error that says how many of what are missing, the first with its reason, and how to go on."""
    return ValueError(
        f"{len(missing)} of {of} {what} are not finished, {missing[0]}: the same command with sweep={folder.name}"
        " goes on with those that were interrupted, with retry=true also with those that failed"
    )


def gpu_env(slot: int, at_once: int) -> dict[str, str]:
    """Variables that give one of several jobs at once its part of the machine.

    Raises:
        ValueError: if there are fewer GPUs than jobs at once.

    """
    if at_once == 1:
        return {}
    part = {}
    if "OMP_NUM_THREADS" not in os.environ:
        part["OMP_NUM_THREADS"] = str(max((os.cpu_count() or 1) // at_once, 1))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
    if gpus:
        each = len(gpus) // at_once
        if not each:
            raise ValueError(f"hydra.launcher.at_once={at_once}: there are {len(gpus)} GPUs, at most so many jobs")
        part["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[slot * each : (slot + 1) * each])
    return part


def run_here(jobs: Sequence[Job], *, at_once: int) -> None:
    """Run jobs on this machine, in order.

    Args:
        jobs: all of one sweep.
        at_once: number of jobs that run at the same time; they share GPUs and threads.

    Raises:
        ValueError: if there are fewer GPUs than jobs at once.

    """
    slots: SimpleQueue[int] = SimpleQueue()
    parts = [gpu_env(slot, at_once) for slot in range(at_once)]
    for slot in range(at_once):
        slots.put(slot)
    running: list[Process] = []

    def run(job: Job) -> None:
        slot = slots.get()
        log.info("%s begins; its log is in %s", job.name, job.folder)
        try:
            _run(job, running, environment=parts[slot])
        finally:
            slots.put(slot)

    with ThreadPoolExecutor(at_once) as pool:
        try:
            for each in [pool.submit(run, job) for job in jobs]:
                each.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            # Interrupted from the terminal, they end by themselves.
            for process in running:
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
            raise


def _run(job: Job, running: list[Process], *, environment: dict[str, str]) -> None:
    """Run the job to its end, and see to it that its record tells it."""
    attempt = Attempt(job)
    arguments = attempt.arguments(resume=attempt.before is not None)
    if arguments is None:
        return
    # What is set for Hydra in this process is not meant for others, but what the user set is.
    process = start_job(arguments, environment={**environment, "HYDRA_FULL_ERROR": str(int(FULL_ERROR))})
    running.append(process)
    code = process.wait()
    running.remove(process)
    status, reason = FAILED, f"ended with exit code {code} without saying why, see train.log"
    if code < 0:
        status, reason = INTERRUPTED, f"killed by {signal.Signals(-code).name}"
    attempt.settle(status, reason)


def _outcome(job: Job, *, earlier: bool) -> Outcome:
    record = read_record(job.folder)
    assert record is not None
    done = record["status"] == FINISHED
    return Outcome(
        job=job,
        status=record["status"],
        error=record["error"],
        seconds=record["seconds"],
        score=read_score(job.folder) if done else None,
        earlier=earlier,
    )
