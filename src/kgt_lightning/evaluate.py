"""Command: PSNR and SSIM of a checkpoint on test sets.

python -m kgt_lightning.evaluate checkpoint=outputs/denoise/<run>/checkpoints/best.ckpt data_root=<folder>
python -m kgt_lightning.evaluate -m checkpoint=a.ckpt,b.ckpt model.k=16,64,256 data_root=<folder>
"""

import logging
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig

from kgt_lightning import __version__
from kgt_lightning.config.arguments import as_given
from kgt_lightning.config.command import command
from kgt_lightning.data.datamodule import RestorationData
from kgt_lightning.data.datasets import Sample
from kgt_lightning.images.files import Picture, write_image
from kgt_lightning.runs.checkpoint import Checkpoint, load_checkpoint
from kgt_lightning.runs.results import run_test
from kgt_lightning.runs.run import Run, config_key
from kgt_lightning.sweeps.plugins import register_plugins
from kgt_lightning.sweeps.ranks import run_in_ranks
from kgt_lightning.system.files import digest, sha256
from kgt_lightning.training.callbacks import side_by_side
from kgt_lightning.training.module import RestorationModule
from kgt_lightning.training.score_record import ScoreRecord

SECTIONS = ("data", "degradation", "model", "module")

register_plugins()

log = logging.getLogger(__name__)


class SaveImages(Callback):
    """Writes each test image as PNG below a folder: degraded, restored, and a panel of both with the clean one."""

    def __init__(self, *, folder: Path, test_sets: list[str]) -> None:
        self.folder = folder
        self.test_sets = [name.replace(" ", "_") for name in test_sets]

    def on_test_batch_end(  # type: ignore[override]
        self, trainer: Any, module: RestorationModule, outputs: Any, batch: Sample, _: int, dataloader_idx: int = 0
    ) -> None:
        pictures = {
            "degraded": batch.degraded[0],
            "restored": outputs[0],
            "panels": side_by_side(module.baseline(batch.degraded)[0], outputs[0], batch.clean[0]),
        }
        for kind, pixels in pictures.items():
            file = self.folder / kind / self.test_sets[dataloader_idx] / f"{batch.name}.png"
            write_image(file, Picture(pixels=pixels.float().cpu().clamp(0, 1)))


def prepare(config: DictConfig) -> tuple[Checkpoint, RestorationModule, RestorationData]:
    """Checkpoint, changed as configured, its model, and the data, of which every image has been looked at.

    Raises:
        ValueError: naming what is wrong with any of them.

    """
    checkpoint = load_checkpoint(config.checkpoint, trust=config.trust)
    task = checkpoint.config.task
    if config.task.name not in (None, task):
        raise ValueError(
            f"checkpoint={checkpoint.path} was trained for task={task}, not {config.task.name}: leave task out, or name"
            f" a checkpoint of {config.task.name}"
        )
    checkpoint.change({"data": {"root": config.data_root}, "module": {"self_ensemble": config.self_ensemble}})
    if "root" in checkpoint.config.degradation:
        checkpoint.change({"degradation": {"root": config.data_root}})
    if config.protocol is not None:
        checkpoint.change({"data": {"protocol": config.protocol}, "module": {"scoring": {"protocol": config.protocol}}})
        if "protocol" in checkpoint.config.degradation:
            checkpoint.change({"degradation": {"protocol": config.protocol}})
    if "degraded" in config.data:  # pairs that were not trained on: all of them are tested
        checkpoint.change({"data": {"train": None}})
    if config.data_root is None and "test" not in config.data:  # the sets of the training are not at hand
        checkpoint.change({"data": {"test": None}})
    checkpoint.change({section: config[section] for section in SECTIONS})
    channels, taken = checkpoint.config.data.channels, checkpoint.config.model.channels
    if channels != taken:
        raise ValueError(f"data.channels={channels}: the model in the checkpoint takes {taken}")
    module = checkpoint.module()
    data: RestorationData = checkpoint.build("data")
    _ = data.test_versions  # what is wrong with a set is named before the first image is restored
    return checkpoint, module, data


@command("evaluate", sections=SECTIONS, names=["task"])
def main(config: DictConfig) -> None:
    checkpoint, module, data = prepare(config)
    folder = Path(config.run_dir)
    # For the record: what was trained with, as changed for the test.
    tested = checkpoint.config.copy()
    tested.update({"checkpoint": str(checkpoint.path), "run_dir": str(folder), "run": folder.name, "resume": False})
    run = Run(tested, folder, overrides=as_given(HydraConfig.get().overrides.task))
    if (given := run.another) is not None:
        given = given or "without settings"
        raise ValueError(f"{folder} holds another run ({given}): name a folder of its own with hydra.run.dir=<folder>")
    if run_in_ranks(config, run):
        return
    saving = [SaveImages(folder=folder, test_sets=list(map(str, data.test_sets)))] if config.save_images else []
    trainer = instantiate(config.trainer, callbacks=saving)
    with run.recording():
        if not config.save_images:  # which needs what was restored of every image
            how = digest([__version__, config_key(tested), sha256(checkpoint.path), str(config.trainer)])
            module.score_record = ScoreRecord(folder=folder, how=how)
            if len(module.score_record):
                log.info("%d images have been scored already", len(module.score_record))
        run.start(device=trainer.strategy.root_device, devices=trainer.world_size)
        results = run_test(trainer, module, data, task=checkpoint.config.task)
        if trainer.is_global_zero:
            results.write(folder, checkpoint=str(checkpoint.path), k=getattr(module.network.backbone, "k", None))
            results.show()
            log.info("results.json and results.csv are in %s", folder)


if __name__ == "__main__":
    main()
