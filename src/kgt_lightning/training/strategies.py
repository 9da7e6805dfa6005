"""Several processes for one run, on one machine started from here; torchrun and SLURM start them by themselves."""

import logging
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from lightning.fabric.utilities.distributed import _set_num_threads_if_needed
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from omegaconf import DictConfig, OmegaConf
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

from kgt_lightning.runs.record import FAILED, OUT_OF_MEMORY, read_failures, remove_failures
from kgt_lightning.sweeps.processes import start_job, write_job
from kgt_lightning.system.hardware import is_out_of_memory

log = logging.getLogger(__name__)

_OF_A_RUN = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")


class RankLauncher(_SubprocessScriptLauncher):
    """Gives every further process the composed job of this one.

    Lightning's own repeats the command line, which may be that of a whole sweep, and kills without a word.
    """

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Trainer | None = None, **kwargs: Any) -> Any:
        """Start the processes unless they are there already, then call the function in this one."""
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not self.cluster_environment.creates_processes_externally:
            self._start_ranks()
        _set_num_threads_if_needed(num_processes=self.num_processes)
        return function(*args, **kwargs)

    def _start_ranks(self) -> None:
        if not HydraConfig.initialized() or HydraConfig.get().output_subdir is None:
            raise ValueError("several devices need a command whose hydra.output_subdir is not null")
        environment = self.cluster_environment
        os.environ.update(
            MASTER_ADDR=environment.main_address,
            MASTER_PORT=str(environment.main_port),
            NODE_RANK=str(environment.node_rank()),
            LOCAL_RANK="0",
            WORLD_SIZE=str(self.num_processes * self.num_nodes),
        )
        hydra = HydraConfig.get()
        folder = Path(hydra.runtime.output_dir)
        subfolder = folder / str(hydra.output_subdir)
        job = OmegaConf.load(subfolder / "config.yaml")
        assert isinstance(job, DictConfig)
        for rank in range(1, self.num_processes):
            settings = {
                "run": {"dir": str(folder)},
                "output_subdir": None,
                "job": {"name": f"rank{rank}"},
                "job_logging": {"root": {"handlers": ["file"]}},
                "verbose": hydra.verbose,
            }
            arguments = write_job(
                job, command=str(hydra.job.config_name), folder=subfolder / f"rank{rank}", hydra=settings
            )
            self.procs.append(start_job(arguments, environment={"LOCAL_RANK": str(rank)}))


class DDP(DDPStrategy):
    """The whole model on every device, gradients averaged."""

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher = RankLauncher(self.cluster_environment, self.num_processes, self.num_nodes)


class FSDP(ModelParallelStrategy):
    """Weights, gradients and optimiser shared among the devices: for models that do not fit on one (FSDP2).

    Checkpoints are whole files as those of any other run.
    """

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher = RankLauncher(self.cluster_environment, self.num_processes, self.num_nodes)

    def setup_environment(self) -> None:
        """Share among all devices."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()


def check_strategy(trainer: Trainer) -> None:
    """Find combinations that would go wrong late.

    Raises:
        ValueError: naming the setting to change.

    """
    if type(trainer.strategy) is DDPStrategy:
        raise ValueError(f"trainer.devices={trainer.num_devices}: several devices need trainer=ddp or trainer=fsdp")
    if isinstance(trainer.strategy, FSDP) and any(isinstance(each, WeightAveraging) for each in trainer.callbacks):  # type: ignore[attr-defined]
        raise ValueError("trainer=fsdp cannot average weights, as they are not whole: add callbacks.ema=null")


def load_weights(module: LightningModule, state: dict[str, Any]) -> None:
    """Load whole weights, also into a module whose own are shared among devices."""
    set_model_state_dict(module, state, options=StateDictOptions(full_state_dict=True))


GRACE_SECONDS = 20.0
"""Time for this process to notice by itself that another is gone; on GPUs it may wait for that one for ever."""


@contextmanager
def processes_of(
    trainer: Trainer, folder: Path, *, on_loss: Callable[[Exception], None] | None = None
) -> Iterator[None]:
    """The other processes of the run live and die with the block, and the block with them.

    Those that torchrun or SLURM has started are theirs to end; here only the reasons that they leave are read.

    Args:
        trainer: with any strategy.
        folder: of the run.
        on_loss: called before this process ends itself, because it waits for another that is gone.

    Raises:
        MemoryError: if another process ran out of memory.
        RuntimeError: if another process failed before this one did, with its reason.

    """
    launcher = trainer.strategy.launcher
    if not isinstance(launcher, RankLauncher):
        yield
        return
    if trainer.is_global_zero:
        remove_failures(folder)
    over = threading.Event()
    threading.Thread(target=_watch, args=(launcher, folder, over, on_loss), daemon=True).start()
    try:
        yield
        trainer.strategy.barrier()
        over.set()
        for process in launcher.procs:
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
    except RuntimeError as error:
        # A lost connection is one; it closes a moment before the process is gone.
        reason = None if is_out_of_memory(error) else _why_lost(launcher, folder, seconds=2)
        if reason is None:
            raise
        raise reason from error
    finally:
        over.set()
        for process in launcher.procs:
            process.kill()
            process.wait()
        if launcher.procs:
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()
            # A next run in this process would take them for those of a process that was started by another.
            for name in _OF_A_RUN:
                os.environ.pop(name, None)


def _watch(
    launcher: RankLauncher, folder: Path, over: threading.Event, on_loss: Callable[[Exception], None] | None
) -> None:
    while not over.wait(0.5):
        reason = _why_lost(launcher, folder, seconds=0)
        if reason is not None and not over.wait(GRACE_SECONDS):
            log.error("%s", reason)
            if on_loss is not None:
                on_loss(reason)
            os._exit(1)


def _why_lost(launcher: RankLauncher, folder: Path, *, seconds: float) -> MemoryError | RuntimeError | None:
    """What became of another process that ended with an error, or does so within these seconds."""
    until = time.monotonic() + seconds
    number = launcher.num_processes * launcher.num_nodes
    while launcher.cluster_environment.global_rank() == 0 and number > 1:
        ended = {rank: process.poll() for rank, process in enumerate(launcher.procs, start=1)}
        # Of processes that others started only what they leave is known.
        left = read_failures(folder)
        for rank in sorted({rank for rank, code in ended.items() if code} | left.keys()):
            status, error = left.get(rank) or (FAILED, f"it ended with exit code {ended[rank]}")
            message = f"process {rank} of {number}: {error}"
            return MemoryError(message) if status == OUT_OF_MEMORY else RuntimeError(message)
        if time.monotonic() >= until:
            break
        time.sleep(0.1)
    return None
