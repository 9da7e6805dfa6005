"""Images made smaller by MATLAB's bicubic resizing."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from kgt_lightning.degradations.degradation import Degradation, seeded_by_name
from kgt_lightning.images.resize import imresize


@dataclass(frozen=True, kw_only=True)
class BicubicDown(Degradation):
    """degraded = imresize(clean, 1/scale): MATLAB's antialiased bicubic, which all benchmarks are made with.

    It has no context: the patches of an image are resized as a whole image is, mirrored at their edges.
    """

    scale: Literal[2, 3, 4]
    matlab_uint8: bool
    """Whether both passes are rounded to 8 bits, as in files that MATLAB wrote; otherwise nothing is rounded."""

    @property
    def given_setting(self) -> str:
        """The scale, as where the small version is made."""
        return f"x{self.scale}"

    def __call__(self, clean: Tensor, rng: np.random.Generator) -> Tensor:
        """Degraded image [C, H/scale, W/scale] of a clean one; nothing about it is random."""
        return imresize(clean, 1 / self.scale, matlab_uint8=self.matlab_uint8)

    def test_settings(self) -> dict[str, Callable[[Tensor, str], Tensor]]:
        """The one setting, such as ``x2``."""
        return {self.given_setting: seeded_by_name(self)}

    def estimate(self, degraded: Tensor) -> Tensor:
        """Bicubic enlargement, as MATLAB's of floating-point images."""
        return imresize(degraded, self.scale)
