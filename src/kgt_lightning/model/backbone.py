"""What the head and everything around it need to know of a backbone."""

from typing import Protocol

from torch import Tensor


class Backbone(Protocol):
    """A module from image to features; any class with these four attributes will do, for example a plain CNN.

    :class:`.kgt.KGT` has ``k`` and ``train_k`` too: only with them training draws k. Only stages have Key-Graphs, to
    draw and to analyze.
    """

    channels: int
    """Of the image."""
    width: int
    """Channels of the features."""
    stride: int
    """Pixels that a feature is wide: 1 for features at full resolution."""

    @property
    def multiple(self) -> int:
        """Sides of the image are padded to multiples of this; 1 takes images of any size."""
        ...

    def __call__(self, image: Tensor) -> Tensor:
        """Features [B, width, H/stride, W/stride] of an image [B, channels, H, W]."""
        ...


def check_backbone(backbone: object) -> None:
    """Raise a ValueError for a class that is no backbone, naming what it lacks."""
    lacking = [name for name in ("channels", "width", "stride", "multiple") if not hasattr(backbone, name)]
    if lacking:
        raise ValueError(
            f"model._target_: {type(backbone).__qualname__} has no {' and no '.join(lacking)}, which a backbone needs:"
            " see kgt_lightning.model.Backbone"
        )
