"""Command: restore an image file, or every image in a folder.

python -m kgt_lightning.restore checkpoint=outputs/denoise/<run>/checkpoints/best.ckpt input=photos output=restored
"""

import logging
import time
from dataclasses import replace
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor

from kgt_lightning.checkpoint import load_checkpoint
from kgt_lightning.entry import command
from kgt_lightning.images import gray, list_images, read_image, write_image
from kgt_lightning.restoration import RestorationModule
from kgt_lightning.tiling import restore_tiled

SECTIONS = ("model",)

log = logging.getLogger(__name__)


def restore(module: RestorationModule, image: Tensor, *, tile: int, overlap: int) -> Tensor:
    """Restored image [C, H*scale, W*scale] on the CPU of an image [C, H, W] in [0, 1], C = 1 or 3, tile by tile.

    A gray image goes through a colour model as three equal channels; a colour image goes through a gray model channel
    by channel.
    """
    channels = module.network.backbone.channels
    batch = image[None]
    if channels == 3 and len(image) == 1:
        batch = batch.expand(-1, 3, -1, -1)
    elif channels == 1 and len(image) == 3:
        batch = image[:, None]

    def forward(part: Tensor) -> Tensor:
        return module(part.to(module.device)).float().cpu()

    restored = restore_tiled(forward, batch, tile=tile, overlap=overlap, scale=module.network.scale)
    if channels == 3 and len(image) == 1:
        return gray(restored)[0]
    return restored[:, 0] if channels == 1 and len(image) == 3 else restored[0]


def targets(source: Path, folder: Path, *, overwrite: bool) -> dict[Path, Path]:
    """Where each image at the source is to be written: a file of the same name in the folder.

    Raises:
        ValueError: if there is no image, a file would be replaced without ``overwrite``, or would replace its source.

    """
    if source.is_file():
        pairs = {source: folder / source.name}
    else:
        pairs = {path: folder / path.relative_to(source) for path in list_images(source)}
    for path, target in pairs.items():
        if target.resolve() == path.resolve():
            raise ValueError(f"output={folder} is the folder of the input: the restored {path.name} would replace it")
        if target.exists() and not overwrite:
            raise ValueError(f"{target} is already there: choose another output, or set overwrite=true")
    return pairs


@command("restore", sections=SECTIONS)
def main(config: DictConfig) -> None:
    """Command-line entry."""
    pairs = targets(Path(config.input).expanduser(), Path(config.output).expanduser(), overwrite=config.overwrite)
    checkpoint = load_checkpoint(config.checkpoint)
    checkpoint.change({section: config[section] for section in SECTIONS})
    module = checkpoint.module().to(pick_device(config.device))
    for number, (path, target) in enumerate(pairs.items(), 1):
        started = time.perf_counter()
        picture = read_image(path)
        pixels = restore(module, picture.pixels, tile=config.tile, overlap=config.overlap)
        alpha = picture.alpha
        scale = module.network.scale
        if alpha is not None and scale > 1:
            alpha = torch.nn.functional.interpolate(alpha[None], scale_factor=scale, mode="bilinear")[0]
        write_image(target, replace(picture, pixels=pixels.clamp(0, 1), alpha=alpha))
        log.info("%d/%d %s (%.1f s)", number, len(pairs), target, time.perf_counter() - started)


def pick_device(name: str) -> torch.device:
    """The named device; auto takes CUDA, then MPS, then the CPU.

    Raises:
        ValueError: if this machine has no such device.

    """
    usable = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    names = [each for each, available in usable.items() if available]
    if name == "auto":
        return torch.device(names[0])
    if name not in names:
        raise ValueError(f"device={name} is not available: choose auto or one of {', '.join(names)}")
    return torch.device(name)


if __name__ == "__main__":
    main()
