"""Images of any size restored tile by tile."""

from collections.abc import Iterator

import torch
from torch import Tensor

from kgt_lightning.images.color import gray
from kgt_lightning.images.tiling import TileDone, assembled, tiles
from kgt_lightning.model.padding import pad_to_multiple
from kgt_lightning.restoring.mixing import AS_RESTORED, Mixing
from kgt_lightning.training.module import RestorationModule


def restored_tiles(
    module: RestorationModule, image: Tensor, *, tile: int, overlap: int, mixing: Mixing = AS_RESTORED
) -> Iterator[TileDone]:
    """What is restored of an image [C, H, W], C = 1 or 3, tile by tile, as [1, C', ...] on the CPU in [0, 1].

    To stop is to take no further tile. The image is uint8 or uint16, or floating point in [0, 1]; besides it, memory
    holds one tile and two rows of tiles. A gray image goes through a colour model as three equal channels; a colour
    image goes through a gray model channel by channel.

    Raises:
        ValueError: if the image has colours where the module restores them, or it computes values that are not finite.

    """
    channels, scale = module.degraded_channels, module.network.scale
    if channels != module.network.backbone.channels and len(image) != channels:
        raise ValueError(f"the image has {len(image)} channels, this model restores images of {channels}: convert it")
    levels = 1 if image.is_floating_point() else torch.iinfo(image.dtype).max

    def forward(part: Tensor) -> Tensor:
        degraded = part.float().div(levels).to(module.device)
        if len(image) < channels:
            degraded = degraded.expand(-1, 3, -1, -1)
        elif len(image) > channels:
            degraded = degraded.transpose(0, 1)
        restored = module(degraded).float()
        if not restored.isfinite().all():
            raise ValueError("the model computed values that are not finite: it cannot restore this image")
        if mixing != AS_RESTORED:
            restored = mixing(module.baseline(degraded), restored)
        if len(image) < channels:
            # of equal channels their value to the bit, which weights that add up to one nearly give
            return (restored[:, :1] + gray(restored - restored[:, :1])).cpu()
        return (restored.transpose(0, 1) if len(image) > channels else restored).cpu()

    height, width = (side * scale for side in image.shape[-2:])
    batch = pad_to_multiple(image[None], module.grid)
    for done in tiles(forward, batch, tile=tile, overlap=overlap, scale=scale):
        # What was added for the model's grid is cut off again.
        rows = None if done.rows is None else done.rows[..., : height - done.first_row, :width]
        yield done._replace(tile=done.tile[..., : height - done.top, : width - done.left], rows=rows)


def restore(
    module: RestorationModule, image: Tensor, *, tile: int, overlap: int, mixing: Mixing = AS_RESTORED
) -> Tensor:
    """Restored image [C', H*scale, W*scale], all rows of :func:`restored_tiles`."""
    return assembled(restored_tiles(module, image, tile=tile, overlap=overlap, mixing=mixing))[0]


def aligned(tile: int, overlap: int, *, multiple: int) -> tuple[int, int]:
    """Tile and overlap for a model that pads to a multiple: nothing is padded, and windows lie as in the whole image.

    The tile is cut down to a multiple, but not below one; the overlap is made up to one where that leaves a tile.
    """
    tile = max(tile - tile % multiple, multiple)
    wider = overlap + -overlap % multiple
    return tile, wider if wider < tile else min(overlap, tile // 2)
