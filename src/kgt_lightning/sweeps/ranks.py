"""Several processes for one run on one machine, started by torchrun's launcher; elsewhere torchrun or SLURM does."""

import atexit
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.fabric import Fabric
from lightning.fabric.strategies import ParallelStrategy
from omegaconf import DictConfig
from torch import distributed
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher import LaunchConfig, elastic_launch

from kgt_lightning.runs.run import (
    FAILED,
    INTERRUPTED,
    OUT_OF_MEMORY,
    STOPPED,
    Run,
    read_failure,
    read_state,
    remove_failures,
)
from kgt_lightning.sweeps.process import write_job
from kgt_lightning.system.ending import exit_with

GRACE_SECONDS = 120
"""Time for processes that are told to stop to save their state; also for those that wait for one that is gone."""


def run_in_ranks(config: DictConfig, run: Run) -> bool:
    """Whether this command was run in processes of its own, one for each device; with one device it is not.

    The process that does the work leaves its group when it ends.

    Raises:
        ValueError: if one of them found a mistake of the user, or there are several machines.
        MemoryError: if one ran out of memory.
        RuntimeError: if one failed otherwise, with its reason.
        SystemExit: if one was killed, or they were told to stop.

    """
    number = processes_to_start(config.trainer)
    if number == 1:
        atexit.register(leave_group)
        return False
    hydra: Any = HydraConfig.get()
    command = str(hydra.job.config_name)
    folder = run.folder / (hydra.output_subdir or ".hydra") / "ranks"
    job = config.copy()
    # All work in one folder. The rest stays as it is: what is named after the folder must not change the key.
    for key in job.keys() & {"run", "run_dir"}:
        job[key] = config[key]
    arguments = write_job(job, command=command, run_dir=run.folder, hydra=hydra, output_subdir=None, folder=folder)
    launch = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=number,
        run_id="run",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        # What others than the first print is kept beside the configuration.
        logs_specs=DefaultLogsSpecs(log_dir=str(folder), redirects=dict.fromkeys(range(1, number), Std.ALL)),
    )
    remove_failures(run.folder)
    try:
        with _prepared(number):
            elastic_launch(launch, sys.executable)("-m", "kgt_lightning.sweeps.process", *arguments)
    except SignalException as stop:
        run.settle(INTERRUPTED, STOPPED)
        raise SystemExit(128 + stop.sigval) from None
    except ChildFailedError as error:
        _raise_reason(error, run, number, folder)
    return True


def leave_group() -> None:
    """End the threads of the group that this process is one of, if it is.

    Lightning does so for NCCL only. A thread of gloo that lets go of a tensor while Python ends aborts the process,
    after all its work is done: "terminate called without an active exception".
    """
    if distributed.is_initialized():
        distributed.destroy_process_group()


def processes_to_start(trainer: DictConfig) -> int:
    """Number of processes that this one has to start; 1 also where torchrun or SLURM has started all.

    Raises:
        ValueError: for several machines, which only they can start.

    """
    if trainer.strategy == "auto":
        return 1
    strategy = Fabric(accelerator=trainer.accelerator, devices=trainer.devices, strategy="ddp").strategy
    assert isinstance(strategy, ParallelStrategy)
    assert strategy.cluster_environment is not None
    if strategy.cluster_environment.creates_processes_externally:
        return 1
    if trainer.num_nodes != 1:
        raise ValueError(f"trainer.num_nodes={trainer.num_nodes}: several machines need torchrun or SLURM")
    return strategy.world_size


@contextmanager
def _prepared(processes: int) -> Iterator[None]:
    """Environment, standard input and signals as the processes need them."""
    for name in ("agent.server.api", "multiprocessing.api"):
        # Its errors are told as those of the run.
        logging.getLogger(f"torch.distributed.elastic.{name}").setLevel(logging.CRITICAL)
    environment = {
        "OMP_NUM_THREADS": str(max((os.cpu_count() or 1) // processes, 1)),
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(GRACE_SECONDS),
    }
    added = environment.keys() - os.environ.keys()
    os.environ.update({name: environment[name] for name in added})
    # They end with their standard input, which ends with this process.
    before, (reading, writing) = os.dup(0), os.pipe()
    os.dup2(reading, 0)
    # Others are handled by torchrun itself.
    handlers = {number: signal.signal(number, _stop) for number in (signal.SIGUSR1, signal.SIGUSR2)}
    try:
        yield
    finally:
        os.dup2(before, 0)
        for descriptor in (before, reading, writing):
            os.close(descriptor)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for name in added:
            del os.environ[name]


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise SignalException(f"told to stop by {signal.Signals(number).name}", signal.Signals(number))


def _raise_reason(error: ChildFailedError, run: Run, number: int, folder: Path) -> NoReturn:
    """End as the process did that failed first, and see to it that run.json tells its reason."""
    rank, failure = error.get_first_failure()
    code = failure.exitcode
    place = f"process {rank} of {number}: " if rank else ""
    if code < 0:
        reason = f"{place}killed by {signal.Signals(-code).name}"
        run.settle(INTERRUPTED, reason, killed=True)
        logs = sorted(folder.glob(f"*/attempt_0/{rank}/stderr.log"), key=lambda log: log.stat().st_mtime)
        exit_with(f"{reason}; what it said is in {logs[-1]}" if logs else reason, code=128 - code)
    run.settle(*(read_failure(run.folder) or (FAILED, f"{place}it ended with exit code {code} without saying why")))
    state = read_state(run.folder) or {"status": FAILED, "error": f"{place}it ended with exit code {code}"}
    said = 0 in error.failures and error.failures[0].exitcode == 2 and HydraConfig.get().mode is RunMode.RUN
    if said or code > 128:
        raise SystemExit(code) from None
    if code == 2:
        raise ValueError(state["error"]) from None
    raise (MemoryError if state["status"] == OUT_OF_MEMORY else RuntimeError)(state["error"]) from None
