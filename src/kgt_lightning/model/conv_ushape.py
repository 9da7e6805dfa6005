"""A U-shape for small budgets: convolutions where the pixels are many, Key-Graph stages where they are few."""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from kgt_lightning.config.types import Size, Sizes, Whole
from kgt_lightning.model.stage import Stage


class ConvUShape(nn.Module):
    """Levels at 1, 1/2, 1/4 ... of the resolution; a level with heads=0 has convolutions in place of Key-Graph stages.

    The way up adds the features of the way down. Every change of resolution lies between 3x3 convolutions at both
    resolutions, so that neither the folding of 2x2 pixels nor a window leaves a pattern of its own in the image.

    Args:
        stage: makes a Key-Graph stage from width, heads, depth and shifted.
        width: channels of the first level.
        shift: moves the windows by half their side on the way up.
        widths: channels of the levels below the first.
        depths: layers of a stage, or convolution blocks, of each level on the way down; the last is the latent stage.
        up_depths: the same on the way up, from the first level to the last but one.
        heads: of each level; 0 for convolutions only.

    Raises:
        ValueError: if the lists do not name the same levels, or a width cannot be folded.

    """

    def __init__(
        self,
        *,
        stage: Callable[..., Stage],
        width: int,
        shift: bool,
        widths: Sequence[Size],
        depths: Sizes,
        up_depths: Sequence[Size],
        heads: Sequence[Whole],
    ) -> None:
        super().__init__()
        channels = [width, *widths]
        if not len(channels) == len(depths) == len(heads) == len(up_depths) + 1:
            raise ValueError(
                f"model.layout.widths={list(widths)} makes {len(channels)} levels: depths={list(depths)} and"
                f" heads={list(heads)} must name all of them, up_depths={list(up_depths)} all but the last"
            )
        if any(each % 4 for each in widths):
            raise ValueError(f"widths={list(widths)} must be multiples of 4: a level folds 2x2 nodes of the one above")
        *down, latent = range(len(channels))
        self.reduction = 2**latent

        def make(level: int, *, depth: int, shifted: bool) -> nn.Module:
            if not heads[level]:
                return nn.ModuleList(ConvBlock(width=channels[level]) for _ in range(depth))
            return stage(width=channels[level], heads=heads[level], depth=depth, shifted=shift and shifted)

        self.down_stages = nn.ModuleList(make(i, depth=depths[i], shifted=False) for i in down)
        self.shrinks = nn.ModuleList(_shrink(channels[i], channels[i + 1]) for i in down)
        self.latent_stage = make(latent, depth=depths[latent], shifted=False)
        self.grows = nn.ModuleList(_grow(channels[i + 1], channels[i]) for i in down)
        self.up_stages = nn.ModuleList(make(i, depth=up_depths[i], shifted=True) for i in down)

    def forward(self, features: Tensor, k: int) -> Tensor:
        """Features of the same shape [B, C, H, W]; H and W are multiples of ``reduction`` windows."""
        skips = []
        for stage, shrink in zip(self.down_stages, self.shrinks, strict=True):
            features = _through(stage, features, k)
            skips.append(features)
            features = shrink(features)
        features = _through(self.latent_stage, features, k)
        for i in reversed(range(len(skips))):
            features = _through(self.up_stages[i], skips[i] + self.grows[i](features), k)
        return features


class ConvBlock(nn.Module):
    """x = x + conv(GELU(conv(x)))."""

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Features of the same shape [B, C, H, W]."""
        return features + self.second(F.gelu(self.first(features)))


def _through(stage: nn.Module, features: Tensor, k: int) -> Tensor:
    if isinstance(stage, Stage):
        return stage(features, k)
    for block in stage.children():
        features = block(features)
    return features


def _shrink(width: int, below: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(width, below // 4, 3, padding=1), nn.PixelUnshuffle(2))


def _grow(below: int, width: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(below, width * 4, 1), nn.PixelShuffle(2))
