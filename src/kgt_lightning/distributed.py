"""Several processes for one run, on one machine started from here; torchrun and SLURM start them by themselves."""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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

from kgt_lightning.processes import start_job
from kgt_lightning.record import OUT_OF_MEMORY, RunRecord, read_failure, remove_failures

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
        remove_failures(folder)
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
            file = subfolder / f"rank{rank}.yaml"
            self.procs.append(start_job(job, file, hydra=settings, environment={"LOCAL_RANK": str(rank)}))


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


@contextmanager
def processes_of(trainer: Trainer, record: RunRecord) -> Iterator[None]:
    """The processes that the trainer starts live and die with the block, and the block with them.

    Raises:
        MemoryError: if another process ran out of memory.
        RuntimeError: if another process failed before this one did, with its reason.

    """
    launcher = trainer.strategy.launcher
    if not isinstance(launcher, RankLauncher):
        yield
        return
    over = threading.Event()
    threading.Thread(target=_watch, args=(launcher, record, over), daemon=True).start()
    try:
        yield
        trainer.strategy.barrier()
        for process in launcher.procs:
            process.wait(60)
    except Exception as error:
        # The connection closes a moment before the process is gone.
        for _ in range(20):
            if lost := _lost(launcher):
                raise _reason(launcher, record, lost) from error
            time.sleep(0.1)
        raise
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


GRACE_SECONDS = 20.0
"""Time for this process to notice by itself that another is gone; on GPUs it may wait for that one for ever."""


def _watch(launcher: RankLauncher, record: RunRecord, over: threading.Event) -> None:
    while not over.wait(0.5):
        lost = _lost(launcher)
        if lost and not over.wait(GRACE_SECONDS):
            error = _reason(launcher, record, lost)
            log.error("%s", error)
            record.end_with(error)
            os._exit(1)


def _lost(launcher: RankLauncher) -> int | None:
    """Rank of a process that ended with an error, if there is one."""
    return next((rank for rank, process in enumerate(launcher.procs, start=1) if process.poll()), None)


def _reason(launcher: RankLauncher, record: RunRecord, rank: int) -> MemoryError | RuntimeError:
    code = launcher.procs[rank - 1].returncode
    status, error = read_failure(record.folder, rank) or (None, f"it ended with exit code {code}")
    message = f"process {rank} of {launcher.num_processes}: {error}"
    return MemoryError(message) if status == OUT_OF_MEMORY else RuntimeError(message)
