"""From features to the restored image."""

from typing import Protocol

import torch.nn.functional as F
from torch import Tensor, nn


class HeadFactory(Protocol):
    """Makes a head: a module that gives the image [B, channels, H*scale, W*scale].

    It is called with the features [B, width, H/stride, W/stride] and the input of the network [B, channels, H, W].
    """

    def __call__(self, *, width: int, stride: int, channels: int, scale: int) -> nn.Module:
        """Head with an attribute ``scale``."""
        ...


def check_head(head: object) -> None:
    """Raise a ValueError for what is no head."""
    if not isinstance(head, nn.Module) or not hasattr(head, "scale"):
        raise ValueError(
            f"module.head._target_: {type(head).__qualname__} is no module with an attribute scale, which a head needs:"
            " see kgt_lightning.model.HeadFactory"
        )


class ResidualHead(nn.Module):
    """restored = degraded + conv(features): for tasks whose output has the size of the input."""

    def __init__(self, *, width: int, stride: int, channels: int, scale: int) -> None:
        super().__init__()
        if scale != 1:
            raise ValueError(
                f"ResidualHead gives images of the size of the degraded one, scale={scale} needs another one:"
                " module.head._target_=kgt_lightning.model.PixelShuffleHead"
            )
        self.scale = scale
        self.conv = nn.Conv2d(width, channels * stride**2, 3, padding=1)
        _start_at_zero(self.conv)
        self.to_pixels = nn.PixelShuffle(stride)

    def forward(self, features: Tensor, degraded: Tensor) -> Tensor:
        """Restored image [B, channels, H, W], H and W those of the degraded image."""
        return degraded + self.to_pixels(self.conv(features))


class PixelShuffleHead(nn.Module):
    """restored = enlarged + conv(shuffle(conv(features))): for super-resolution (arXiv 1609.05158).

    The convolutions are SwinIR's, 64 channels wide. SwinIR does not add the bicubic enlargement; it has no parameters
    and lets short runs begin where interpolation ends.
    """

    WIDTH = 64

    def __init__(self, *, width: int, stride: int, channels: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.before = nn.Sequential(nn.Conv2d(width, self.WIDTH, 3, padding=1), nn.LeakyReLU())
        steps: list[nn.Module] = []
        for factor in _factors(scale * stride):
            steps += [nn.Conv2d(self.WIDTH, self.WIDTH * factor**2, 3, padding=1), nn.PixelShuffle(factor)]
        self.upsample = nn.Sequential(*steps)
        self.last = nn.Conv2d(self.WIDTH, channels, 3, padding=1)
        _start_at_zero(self.last)

    def forward(self, features: Tensor, degraded: Tensor) -> Tensor:
        """Restored image [B, channels, H*scale, W*scale] of the degraded image [B, channels, H, W]."""
        enlarged = F.interpolate(degraded, scale_factor=self.scale, mode="bicubic")
        return enlarged + self.last(self.upsample(self.before(features)))


def _start_at_zero(conv: nn.Conv2d) -> None:
    """Training starts from the degraded image itself, instead of noise that the first steps have to unlearn."""
    for parameter in conv.parameters():
        nn.init.zeros_(parameter)


def _factors(scale: int) -> list[int]:
    """The scale in steps of 2 and 3.

    Raises:
        ValueError: if other prime factors are left.

    """
    steps, rest = [], scale
    for factor in (2, 3):
        while rest > 1 and rest % factor == 0:
            steps.append(factor)
            rest //= factor
    if rest != 1:
        raise ValueError(f"scale={scale} must be a product of 2s and 3s, such as 2, 3 or 4")
    return steps
