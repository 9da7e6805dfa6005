"""Models that the package brings, as plain modules."""

from torch import Tensor, nn

from kgt_lightning.models import ModelInfo, model_file, model_info
from kgt_lightning.runs.checkpoint import load_checkpoint
from kgt_lightning.system.files import sha256
from kgt_lightning.training.module import RestorationModule


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
        ValueError: if the package brings no such model, or its file is not the one of its card.

    """
    info, file = model_info(name), model_file(name)
    if sha256(file) != info.sha256:
        raise ValueError(f"{file} is not the file of its card: it is damaged, install the package anew")
    return Pretrained(restorer=load_checkpoint(name).module(), info=info)
