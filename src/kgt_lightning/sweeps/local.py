"""Sweeps that survive: what is missing of one is run, here every job in a process of its own."""

import logging
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch
from omegaconf import DictConfig

from kgt_lightning.config.command import FULL_ERROR
from kgt_lightning.runs.run import FAILED, INTERRUPTED, is_finished
from kgt_lightning.sweeps.jobs import Job, find_jobs
from kgt_lightning.sweeps.process import start_process
from kgt_lightning.system.files import alone_in
from kgt_lightning.system.tables import Table

log = logging.getLogger(__name__)

Process = subprocess.Popen[bytes]


def run_sweep(
    configs: Sequence[DictConfig],
    *,
    folder: Path,
    swept: Sequence[Sequence[str]],
    run: Callable[[Sequence[Job]], None],
) -> list[Job]:
    """All jobs of a sweep, after what was missing of it was run.

    Args:
        configs: of the jobs, composed.
        folder: of the sweep.
        swept: for each job, those of its arguments that the sweep chose.
        run: runs jobs to their ends, here (:func:`run_here`) or elsewhere, so that run.json of each tells how it ended.

    Raises:
        InUseError: if another process runs the same sweep.

    """
    with alone_in(folder):
        jobs = find_jobs(configs, folder=folder, swept=swept)
        run([job for job in jobs if not job.earlier])
        return jobs


def show(jobs: Sequence[Job], *, folder: Path) -> None:
    """Print how all jobs stand."""
    columns = ["job", "status", "score", "minutes", ""]
    rows = [[job.name, *standing(job.state, earlier=job.earlier, score=job.score)] for job in jobs]
    Table(title=str(folder), columns=columns, rows=rows).show()


def standing(state: Mapping[str, Any], *, earlier: bool, score: float | None) -> list[str]:
    """Cells of a table: status, score, minutes and reason of a run."""
    minutes = "" if state["seconds"] is None else f"{state['seconds'] / 60:.1f}"
    status = f"{state['status']}, before" if earlier else state["status"]
    return [status, "" if score is None else f"{score:.2f}", minutes, state["error"] or ""]


def what_is_missing(jobs: Sequence[Job], *, folder: Path) -> ValueError | None:
    """Error for a sweep of which not all jobs came to their end: the first reason, and how to go on."""
    states = [(job.name, job.state) for job in jobs]
    missing = [
        f"{name} {state['status']} ({state['error']})" for name, state in states if not is_finished(state, retry=True)
    ]
    return not_finished("jobs", missing, of=len(jobs), folder=folder) if missing else None


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
        number = len(gpus) // at_once
        if not number:
            raise ValueError(f"hydra.launcher.at_once={at_once}: there are {len(gpus)} GPUs, at most so many jobs")
        part["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[slot * number : (slot + 1) * number])
    return part


def run_here(jobs: Sequence[Job], *, at_once: int) -> None:
    """Run jobs on this machine, in order.

    Args:
        jobs: all of one sweep.
        at_once: number of jobs that run at the same time; they share GPUs and threads.

    Raises:
        ValueError: if there are fewer GPUs than jobs at once.

    """
    parts: SimpleQueue[dict[str, str]] = SimpleQueue()
    for part in [gpu_env(slot, at_once) for slot in range(at_once)]:
        parts.put(part)
    running: list[Process] = []

    def run(job: Job) -> None:
        part = parts.get()
        log.info("%s begins; its log is in %s", job.name, job.folder)
        try:
            _run(job, running, environment=part)
        finally:
            parts.put(part)

    with ThreadPoolExecutor(at_once) as pool:
        try:
            for done in [pool.submit(run, job) for job in jobs]:
                done.result()
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
    """Run the job to its end, and see to it that its run.json tells it."""
    arguments = job.arguments()
    if arguments is None:
        return
    # What is set for Hydra in this process is not meant for others, but what the user set is.
    process = start_process(arguments, environment={**environment, "HYDRA_FULL_ERROR": str(int(FULL_ERROR))})
    running.append(process)
    code = process.wait()
    running.remove(process)
    if code < 0:
        job.settle(INTERRUPTED, f"killed by {signal.Signals(-code).name}")
    else:
        job.settle(FAILED, f"ended with exit code {code} without saying why, see train.log")
