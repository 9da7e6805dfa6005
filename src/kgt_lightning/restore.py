"""Command: restore an image file, or every image in a folder.

python -m kgt_lightning.restore checkpoint=outputs/denoise/<run>/checkpoints/best.ckpt input=photos output=restored
"""

import logging
import math
import time
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import torch
from omegaconf import DictConfig

from kgt_lightning.config.command import command
from kgt_lightning.images.files import read_image, read_shape, write_image
from kgt_lightning.images.formats import FORMATS, list_images
from kgt_lightning.images.tiling import tile_starts
from kgt_lightning.models import NAMES, choose_model, model_info
from kgt_lightning.restoring.picture import aligned, restore
from kgt_lightning.runs.checkpoint import load_checkpoint
from kgt_lightning.training.module import RestorationModule

SECTIONS = ("degradation", "model", "module")

log = logging.getLogger(__name__)


def targets(source: Path, folder: Path, *, overwrite: bool) -> dict[Path, Path]:
    """Where each image at the source is to be written: a file of the same name in the folder.

    Raises:
        ValueError: if there is no image, one of a format that is not written, a file would be replaced without
            ``overwrite``, or would replace its source.

    """
    if not source.exists():
        raise ValueError(f"input={source} does not exist: name an image file, or a folder of them")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"output={folder} is a file: name a folder")
    if source.is_file():
        if source.suffix.lower() not in FORMATS:
            known = ", ".join(FORMATS)
            raise ValueError(f"input={source} cannot be written under its name: convert it to one of {known} first")
        pairs = {source: folder / source.name}
    else:
        # What an earlier run restored to a folder inside the source is no source.
        inside, itself = folder.resolve(), folder.resolve() == source.resolve()
        found = [path for path in list_images(source) if itself or inside not in path.resolve().parents]
        if not found:
            raise ValueError(f"input={source} holds no image outside output={folder}")
        pairs = {path: folder / path.relative_to(source) for path in found}
    for path, target in pairs.items():
        if target.resolve() == path.resolve():
            raise ValueError(f"output={folder} is the folder of the input: the restored {path.name} would replace it")
        if target.exists() and not overwrite:
            raise ValueError(f"{target} is already there: choose another output, or set overwrite=true")
    return pairs


@command("restore", sections=SECTIONS, names=["task"])
def main(config: DictConfig) -> None:
    pairs: dict[Path, Path] = {}
    for source in [config.input] if isinstance(config.input, str) else config.input:
        found = targets(Path(source).expanduser(), Path(config.output).expanduser(), overwrite=config.overwrite)
        if twice := set(found.values()).intersection(pairs.values()):
            raise ValueError(
                f"input: several files would be written as {min(twice)}: restore them to different folders"
            )
        pairs |= found
    tile_starts(1, config.tile, config.overlap)
    # Of the package's own models one for gray, one for colour images; of checkpoints the same for both.
    names = {channels: choose_checkpoint(config, channels=channels) for channels in (1, 3)}
    load = cache(partial(load_restorer, config))
    if names[1] == names[3]:
        load(names[3])  # what is wrong with it is no fault of an image
    failed = []
    for number, (path, target) in enumerate(pairs.items(), 1):
        started = time.perf_counter()
        try:
            module, tile, overlap = load(names[read_shape(path)[0]])
            restore_file(module, path, target, tile=tile, overlap=overlap)
        except (ValueError, OSError) as error:  # the other images are worth going on for
            failed.append(str(error))
            log.error("%d/%d %s", number, len(pairs), error)
        else:
            log.info("%d/%d %s (%.1f s)", number, len(pairs), target, time.perf_counter() - started)
    if failed:
        raise ValueError(f"{len(failed)} of {len(pairs)} images could not be restored, the first: {failed[0]}")


def choose_checkpoint(config: DictConfig, *, channels: int) -> str:
    """The checkpoint that was named, or else the model that the package brings for the task and so many channels.

    Raises:
        ValueError: if neither is given, or both, or the package brings no such model.

    """
    checkpoint, task = config.checkpoint, config.task.name
    if checkpoint is not None and task is not None:
        raise ValueError(f"checkpoint={checkpoint} knows its task: leave task={task} out")
    if checkpoint is not None:
        return str(checkpoint)
    models = [model_info(name) for name in NAMES]
    if task is None:
        ours = ", ".join(dict.fromkeys(model.task for model in models))
        raise ValueError(f"checkpoint is not given: add checkpoint=<file>, or task=<one of {ours}> for a model of ours")
    return choose_model(models, task=task, scale=config.degradation.get("scale"), channels=channels).name


def load_restorer(config: DictConfig, name: str) -> tuple[RestorationModule, int, int]:
    """Module of a checkpoint, changed as configured and on its device; tile and overlap for it."""
    checkpoint = load_checkpoint(name, trust=config.trust)
    if config.checkpoint is None:
        log.info("restoring with the model %s that the package brings", name)
    checkpoint.change({"module": {"self_ensemble": config.self_ensemble}})
    checkpoint.change({section: config[section] for section in SECTIONS})
    module = checkpoint.module().to(pick_device(config.device))
    multiple = math.lcm(module.network.backbone.multiple, module.grid)
    tile, overlap = aligned(config.tile, config.overlap, multiple=multiple)
    if (tile, overlap) != (config.tile, config.overlap):
        log.info("tile=%d and overlap=%d: whole windows of this model", tile, overlap)
    return module, tile, overlap


def restore_file(module: RestorationModule, path: Path, target: Path, *, tile: int, overlap: int) -> None:
    """Write what is restored of the image at the path to the target, with its bit depth, alpha and colour profile."""
    picture = read_image(path)
    pixels = restore(module, picture.pixels, tile=tile, overlap=overlap).clamp_(0, 1)
    alpha, scale = picture.alpha, module.network.scale
    if alpha is not None and scale > 1:
        alpha = torch.nn.functional.interpolate(alpha[None], scale_factor=scale, mode="bilinear")[0]
    # A profile for gray says nothing about colours.
    profile = picture.profile if len(pixels) == len(picture.pixels) else None
    write_image(target, replace(picture, pixels=pixels, alpha=alpha, profile=profile))


def pick_device(name: str) -> torch.device:
    """The named device; auto takes CUDA, then MPS, then the CPU."""
    usable = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    names = [device for device, available in usable.items() if available]
    if name not in ("auto", *names):
        raise ValueError(f"device={name} is not available: choose auto or one of {', '.join(names)}")
    return torch.device(names[0] if name == "auto" else name)


if __name__ == "__main__":
    main()
