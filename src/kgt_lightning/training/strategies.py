"""Several processes for one run, as Lightning sees them; :mod:`kgt_lightning.sweeps.ranks` starts them."""

import os
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict


def fully_sharded() -> ModelParallelStrategy:
    """Weights, gradients and optimiser shared among all devices (FSDP2); checkpoints are whole files as of any run."""
    processes = int(os.environ.get("WORLD_SIZE") or os.environ.get("SLURM_NTASKS") or 1)
    return ModelParallelStrategy(
        data_parallel_size=processes, tensor_parallel_size=1, save_distributed_checkpoint=False
    )


def check_strategy(trainer: Trainer, *, asked: Any) -> None:
    """Find combinations that would go wrong late.

    Args:
        trainer: as it was made.
        asked: strategy that it was configured with.

    Raises:
        ValueError: naming the setting to change.

    """
    if asked == "auto" and isinstance(trainer.strategy, DDPStrategy):
        raise ValueError(f"trainer.devices={trainer.num_devices}: several devices need trainer=ddp or trainer=fsdp")
    averaging = any(isinstance(callback, WeightAveraging) for callback in trainer.callbacks)  # type: ignore[attr-defined]
    if isinstance(trainer.strategy, ModelParallelStrategy) and averaging:
        raise ValueError("trainer=fsdp cannot average weights, as they are not whole: add callbacks.ema=null")


def load_weights(module: LightningModule, state: dict[str, Any]) -> None:
    """Load whole weights, also into a module whose own are shared among devices."""
    set_model_state_dict(module, state, options=StateDictOptions(full_state_dict=True))
