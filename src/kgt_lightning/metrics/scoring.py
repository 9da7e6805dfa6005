"""Which numbers are reported for every test image, and the protocol they are computed under."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from kgt_lightning.metrics.psnr_ssim import Protocol, check_protocol, describe_protocol, psnr, psnr_b, ssim, ssim_3d

METRICS: dict[str, Callable[..., Tensor]] = {
    "psnr": psnr,
    "ssim": ssim,
    "ssim_3d": ssim_3d,
    "psnr_b": psnr_b,
}


class Column(NamedTuple):
    """One number for every image."""

    name: str
    metric: str
    colour: str
    crop: int


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """Scores of restored images: every metric in every colour space and crop.

    The first of each makes the columns ``psnr``, ``ssim``, ...; further ones are named ``psnr_y`` or ``psnr_crop0``.

    Raises:
        ValueError: if a list is empty or names something unknown, or a crop is negative.

    """

    protocol: Protocol
    """Family of metrics: ``swinir`` or ``grl``; their numbers must not be mixed."""
    metrics: Sequence[Literal["psnr", "ssim", "ssim_3d", "psnr_b"]]
    colours: Sequence[Literal["rgb", "y"]]
    """``rgb`` scores all channels, of gray images the only one; ``y`` MATLAB's luma of RGB."""
    crops: Sequence[int]
    """Border pixels that are not scored."""

    def __post_init__(self) -> None:
        check_protocol(self.protocol)
        for name, known in (("metrics", METRICS), ("colours", ("rgb", "y"))):
            given = list(getattr(self, name))
            if not given or not set(given) <= set(known):
                raise ValueError(f"module.scoring.{name}={given} must list some of {', '.join(known)}")
        if not self.crops or min(self.crops) < 0:
            raise ValueError(f"module.scoring.crops={list(self.crops)} must list border widths of 0 or more pixels")

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """What is computed, in the order of the scores."""
        return tuple(
            Column(metric + (i > 0) * f"_{colour}" + (j > 0) * f"_crop{crop}", metric, colour, crop)
            for j, crop in enumerate(self.crops)
            for i, colour in enumerate(self.colours)
            for metric in self.metrics
        )

    def __call__(self, restored: Tensor, clean: Tensor) -> Tensor:
        """Scores [columns] of one image, both [1, C, H, W] in [0, 1]."""
        return torch.cat(
            [
                METRICS[each.metric](restored, clean, crop=each.crop, luma=each.colour == "y", protocol=self.protocol)
                for each in self.columns
            ]
        )

    def describe(self) -> str:
        """One line that says how the numbers were computed."""
        plain = describe_protocol(colours=self.colours, crops=self.crops, protocol=self.protocol)
        volume = "SSIM 3D 11x11x11 over RGB with the border repeated" if "ssim_3d" in self.metrics else ""
        return ", ".join(filter(None, [plain, volume]))
