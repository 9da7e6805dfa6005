"""Metrics of the library piq (extra ``metrics``): nearer to what is seen than PSNR, some with lower values for better.

module.scoring.metrics=[psnr,ssim,{_target_:kgt_lightning.metrics.perceptual.Piq,measure:gmsd}]
"""

import importlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from kgt_lightning.config.extras import require

_LOWER_IS_BETTER = ("gmsd", "multi_scale_gmsd", "mdsi")


@dataclass(frozen=True, kw_only=True)
class Piq:
    """A metric of piq that needs no weights.

    Raises:
        ValueError: if piq is not installed.

    """

    measure: Literal["fsim", "gmsd", "multi_scale_gmsd", "haarpsi", "mdsi", "srsim", "vif_p", "vsi"]
    """Name of the function in piq, and of the column."""
    unit: ClassVar[str] = ""

    def __post_init__(self) -> None:
        _piq()

    @property
    def name(self) -> str:
        """Of the column."""
        return self.measure

    @property
    def higher_is_better(self) -> bool:
        """But for those that measure a deviation."""
        return self.measure not in _LOWER_IS_BETTER

    def __call__(self, restored: Tensor, clean: Tensor) -> Tensor:
        """[B] of images [B, C, H, W] in [0, 1]; gray ones as three equal channels."""
        images = (image.expand(-1, 3, -1, -1) for image in (restored, clean))
        return getattr(_piq(), self.measure)(*images, data_range=1.0, reduction="none")


@dataclass(frozen=True)
class LPIPS:
    """Learned perceptual distance on VGG-16, 0 where the two are identical (arXiv 1801.03924).

    Its weights are never downloaded from here: they must lie in torch.hub's folder.

    Raises:
        ValueError: if piq is not installed, or the weights are not there.

    """

    name: ClassVar[str] = "lpips"
    unit: ClassVar[str] = ""
    higher_is_better: ClassVar[bool] = False
    FILES: ClassVar[dict[str, str]] = {
        "vgg16-397923af.pth": "https://download.pytorch.org/models/vgg16-397923af.pth",
        "lpips_weights.pt": "https://github.com/photosynthesis-team/photosynthesis.metrics/releases/download/v0.4.0/"
        "lpips_weights.pt",
    }

    def __post_init__(self) -> None:
        _piq()
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        for file, address in self.FILES.items():
            if not (folder / file).is_file():
                raise ValueError(
                    f"LPIPS needs {folder / file}, which is not downloaded by itself: get it from {address}"
                )

    def __call__(self, restored: Tensor, clean: Tensor) -> Tensor:
        """[B] of images [B, C, H, W] in [0, 1]; gray ones as three equal channels."""
        network = self._network.to(restored.device)
        return network(*(image.float().expand(-1, 3, -1, -1) for image in (restored, clean)))

    @cached_property
    def _network(self) -> Any:
        return _piq().LPIPS(reduction="none").eval()


def _piq() -> ModuleType:
    require("this metric", "metrics", "piq")
    return importlib.import_module("piq")
