"""Super-resolution of images that MATLAB's bicubic resizing made smaller."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from torch import Tensor

from kgt_lightning.data.datamodule import RestorationData
from kgt_lightning.data.image_sets import SMALL, ImageSet
from kgt_lightning.images.resize import imresize
from kgt_lightning.model import KGT, PixelShuffleHead
from kgt_lightning.training.module import RestorationModule

SCALES = (2, 3, 4)


@dataclass(frozen=True, kw_only=True)
class BicubicDown:
    """degraded = imresize(clean, 1/scale): MATLAB's antialiased bicubic, which all benchmarks are made with."""

    scale: int
    """2, 3 or 4."""
    context: ClassVar[int] = 0
    """None, so that the patches of a image are resized as a whole image is: mirrored at their edges."""
    matlab_uint8: bool
    """Whether both passes are rounded to 8 bits, as in files that MATLAB wrote; otherwise nothing is rounded."""

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise ValueError(f"scale={self.scale} must be one of {', '.join(map(str, SCALES))}")

    def __call__(self, clean: Tensor, rng: np.random.Generator) -> Tensor:
        """Degraded image [C, H/scale, W/scale] of a clean one; nothing about it is random."""
        return self.shrink(clean)

    def test_settings(self) -> dict[str, Callable[[Tensor, str], Tensor]]:
        """The one setting, such as ``x2``."""
        return {f"x{self.scale}": self._shrink_named}

    def shrink(self, clean: Tensor) -> Tensor:
        """Degraded image [C, H/scale, W/scale] of a clean one [C, H, W] in [0, 1]."""
        return imresize(clean, 1 / self.scale, matlab_uint8=self.matlab_uint8)

    def _shrink_named(self, clean: Tensor, name: str) -> Tensor:
        return self.shrink(clean)


@dataclass(kw_only=True, eq=False)
class SRData(RestorationData):
    """Pairs of a small and a large image; fields as in :class:`BicubicDown`.

    A set may be a plain folder of images, or hold them in ``HR`` and their small versions in
    ``LR_bicubic/X<scale>``, named as the image or with ``x<scale>`` after it, as the benchmarks are published.
    Where none are given they are made: for a test of the whole image, in training of the patch.
    """

    scale: int
    matlab_uint8: bool

    def make_degradation(self) -> BicubicDown:
        """MATLAB's bicubic resizing."""
        return BicubicDown(scale=self.scale, matlab_uint8=self.matlab_uint8)

    @property
    def given_setting(self) -> str:
        """The scale, as where the small version is made."""
        return f"x{self.scale}"

    def images_in(self, folder: Path, *, training: bool) -> ImageSet:
        """Images of a set, with their small versions if it gives them at this scale.

        Raises:
            ValueError: if it gives them for some images only.

        """
        clean = super().images_in(folder, training=training)
        entries = list(clean.entries)
        given = folder / SMALL / f"X{self.scale}"
        if given.is_dir():
            small = {each.name: each.clean for each in self.degraded_in(given).entries}
            for i, each in enumerate(entries):
                names = (each.name, f"{each.name}x{self.scale}")
                found = next((name for name in names if name in small), None)
                if found is None:
                    raise ValueError(f"{given} has no {' or '.join(names)} for {each.name}: add it, or remove {given}")
                entries[i] = replace(each, degraded=small[found])
        return replace(clean, entries=tuple(entries))


class SRModule(RestorationModule):
    """KGT with a pixel-shuffle head."""

    def make_head(self, backbone: KGT, scale: int) -> PixelShuffleHead:
        """Restored = enlarged + pixel shuffle(features)."""
        return PixelShuffleHead(width=backbone.width, stride=backbone.stride, channels=backbone.channels, scale=scale)

    def baseline(self, degraded: Tensor) -> Tensor:
        """Bicubic enlargement, as MATLAB's of floating-point images."""
        return imresize(degraded, self.network.scale)
