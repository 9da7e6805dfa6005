"""Command: PSNR and SSIM of a checkpoint on test sets.

python -m kgt_lightning.evaluate checkpoint=outputs/denoise/<run>/checkpoints/best.ckpt data_root=<folder>
"""

import logging
from pathlib import Path
from typing import Any

import lightning
from hydra.utils import instantiate
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig

from kgt_lightning.checkpoint import load_checkpoint
from kgt_lightning.data import RestorationData, Sample
from kgt_lightning.entry import command
from kgt_lightning.images import Picture, write_image
from kgt_lightning.results import run_test

SECTIONS = ("data", "model", "module")

log = logging.getLogger(__name__)


class SaveRestored(Callback):
    """Writes every restored image as PNG below a folder, one folder for each test set."""

    def __init__(self, *, folder: Path, test_sets: list[str]) -> None:
        self.folders = [folder / name.replace(" ", "_") for name in test_sets]

    def on_test_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write one image."""
        assert isinstance(batch, Sample)
        restored = Picture(pixels=outputs[0].float().cpu().clamp(0, 1))
        write_image(self.folders[dataloader_idx] / f"{batch.name}.png", restored)


@command("evaluate", sections=SECTIONS)
def main(config: DictConfig) -> None:
    """Command-line entry."""
    checkpoint = load_checkpoint(config.checkpoint)
    if config.task is not None and config.task != checkpoint.config.task:
        raise ValueError(
            f"checkpoint={checkpoint.path} was trained for task={checkpoint.config.task}, not {config.task}:"
            f" leave task out, or name a checkpoint of {config.task}"
        )
    checkpoint.change({"data": {"root": config.data_root}})
    checkpoint.change({section: config[section] for section in SECTIONS})
    module = checkpoint.module()
    data: RestorationData = instantiate(checkpoint.config.data)

    folder = Path(config.run_dir)
    callbacks = []
    if config.save_images:
        callbacks.append(SaveRestored(folder=folder / "restored", test_sets=list(data.test_sets)))
    trainer = instantiate(config.trainer, callbacks=callbacks)
    results = run_test(trainer, module, data, task=checkpoint.config.task)
    if trainer.is_global_zero:
        results.write(folder, checkpoint=str(checkpoint.path), k=module.network.backbone.k)
        results.show()
        log.info("results.json and results.csv are in %s", folder)


if __name__ == "__main__":
    main()
