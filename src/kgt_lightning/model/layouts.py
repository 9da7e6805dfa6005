"""How stages are wired: one after the other, or down and up through resolutions."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from kgt_lightning.config.types import Size, Sizes, Whole
from kgt_lightning.model.stage import Stage

StageFactory = Callable[..., Stage]
"""Makes a stage from keyword arguments width, heads, depth and shifted; what is the same everywhere is bound before."""


class Columnar(nn.Module):
    """Stages at one resolution, then LayerNorm and a convolution with a residual around all of them (as SwinIR's)."""

    reduction = 1
    """How many times smaller than its input the smallest feature map is."""

    def __init__(self, *, stage: StageFactory, width: int, shift: bool, depths: Sizes, heads: Size) -> None:
        super().__init__()
        self.first_norm = nn.LayerNorm(width)
        self.stages = nn.ModuleList(
            stage(width=width, heads=heads, depth=depth, shifted=shift and i % 2 == 1) for i, depth in enumerate(depths)
        )
        self.last_norm = nn.LayerNorm(width)
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, features: Tensor, k: int) -> Tensor:
        """Features of the same shape [B, C, H, W]."""
        deep = _over_channels(self.first_norm, features)
        for stage in self.stages:
            deep = stage(deep, k)
        return features + self.conv(_over_channels(self.last_norm, deep))


class UShape(nn.Module):
    """Stages on the way down, a latent stage, stages on the way up with skip connections, a final stage at full size.

    Each step down halves the resolution and doubles the width. The published text gives this order but neither widths
    nor depths; the presets choose them to meet the published parameter count.
    """

    def __init__(
        self,
        *,
        stage: StageFactory,
        width: int,
        shift: bool,
        depths: Sizes,
        heads: Sizes,
        final_depth: Whole,
    ) -> None:
        super().__init__()
        if len(depths) != len(heads):
            raise ValueError(f"depths={list(depths)} and heads={list(heads)} must name the same number of levels")
        *down, latent = range(len(depths))
        self.reduction = 2**latent

        def make(level: int, *, depth: int, shifted: bool) -> Stage:
            return stage(width=width * 2**level, heads=heads[level], depth=depth, shifted=shift and shifted)

        self.down_stages = nn.ModuleList(make(i, depth=depths[i], shifted=False) for i in down)
        self.shrinks = nn.ModuleList(_shrink(width * 2**i) for i in down)
        self.latent_stage = make(latent, depth=depths[latent], shifted=False)
        self.grows = nn.ModuleList(_grow(width * 2 ** (i + 1)) for i in down)
        self.merges = nn.ModuleList(nn.Conv2d(width * 2 ** (i + 1), width * 2**i, 1) for i in down)
        self.up_stages = nn.ModuleList(make(i, depth=depths[i], shifted=True) for i in down)
        self.final_stage = make(0, depth=final_depth, shifted=False)

    def forward(self, features: Tensor, k: int) -> Tensor:
        """Features of the same shape [B, C, H, W]; H and W are multiples of ``reduction`` windows."""
        skips = []
        for stage, shrink in zip(self.down_stages, self.shrinks, strict=True):
            features = stage(features, k)
            skips.append(features)
            features = shrink(features)
        features = self.latent_stage(features, k)
        for i in reversed(range(len(skips))):
            features = torch.cat([self.grows[i](features), skips[i]], dim=1)
            features = self.up_stages[i](self.merges[i](features), k)
        return self.final_stage(features, k)


def _over_channels(norm: nn.LayerNorm, features_BCHW: Tensor) -> Tensor:
    return norm(features_BCHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _shrink(width: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(width, width // 2, 3, padding=1), nn.PixelUnshuffle(2))


def _grow(width: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(width, width * 2, 3, padding=1), nn.PixelShuffle(2))
