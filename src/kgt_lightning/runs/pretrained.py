"""Models that the package brings, as plain modules."""

import hashlib
import math
from dataclasses import dataclass

from torch import Tensor, nn

import kgt_lightning
from kgt_lightning.models import model_file
from kgt_lightning.runs.checkpoint import load_checkpoint
from kgt_lightning.training.module import RestorationModule


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What a program has to know to use a model."""

    name: str
    task: str
    scale: int
    """How many times larger the restored image is."""
    channels: int
    """Of the restored images."""
    degraded_channels: int
    multiple: int
    """Sides are padded to multiples of this inside; tiles of such sides are restored as parts of the whole."""
    tile: int
    """Side of tiles in pixels that bounds the memory."""
    range: tuple[float, float]
    """Of the values of images."""
    parameters: int
    version: str
    """Of the package."""
    sha256: str
    """Of the file of weights."""


class Pretrained(nn.Module):
    """Restored images [B, channels, H*scale, W*scale] in [0, 1] of degraded ones [B, degraded_channels, H, W]."""

    def __init__(self, *, restorer: RestorationModule, info: ModelInfo) -> None:
        super().__init__()
        self.restorer = restorer
        self.info = info

    def forward(self, degraded: Tensor) -> Tensor:
        """Restored images; gradients flow where the caller allows them.

        Raises:
            ValueError: if the images have another number of channels.

        """
        if degraded.ndim != 4 or degraded.shape[1] != self.info.degraded_channels:
            raise ValueError(
                f"images have shape {list(degraded.shape)}; {self.info.name} takes"
                f" [B, {self.info.degraded_channels}, H, W] with values in 0..1"
            )
        return self.restorer(degraded).clamp(*self.info.range)


def pretrained(name: str) -> Pretrained:
    """The model of this name, ready to use.

    Raises:
        ValueError: if the package brings no such model, or its file is damaged.

    """
    file = model_file(name)
    checkpoint = load_checkpoint(file)
    module = checkpoint.module()
    backbone = module.network.backbone
    multiple = math.lcm(backbone.multiple, module.grid)
    info = ModelInfo(
        name=name,
        task=checkpoint.config.task,
        scale=module.network.scale,
        channels=backbone.channels,
        degraded_channels=module.degraded_channels,
        multiple=multiple,
        tile=max(256 - 256 % multiple, multiple),
        range=(0.0, 1.0),
        parameters=sum(each.numel() for each in module.parameters()),
        version=kgt_lightning.__version__,
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
    )
    return Pretrained(restorer=module, info=info)
