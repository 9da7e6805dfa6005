"""From a degraded image to a restored one, without what trains and tests: nothing here needs Lightning."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kgt_lightning.degradations.degradation import Degradation, check_degradation
from kgt_lightning.model import Backbone, HeadFactory, Restorer
from kgt_lightning.model.backbone import check_backbone
from kgt_lightning.model.heads import check_head


class Restoration(nn.Module):
    """A backbone with a head, beside the degradation that they undo.

    Args:
        backbone: from image to features.
        degradation: that is undone: it says scale and channels of the degraded image.
        head: makes the head from ``width`` and ``stride`` of the features, ``channels`` of the image and ``scale``.
        self_ensemble: restores each image in its eight positions and averages: better by some hundredths of a decibel,
            eight times the time (arXiv 1707.02921, section 3.4).

    Raises:
        ValueError: if backbone, degradation or head are none.

    """

    def __init__(self, *, backbone: Backbone, degradation: Degradation, head: HeadFactory, self_ensemble: bool) -> None:
        super().__init__()
        check_backbone(backbone)
        check_degradation(degradation)
        self.degradation = degradation
        made = head(width=backbone.width, stride=backbone.stride, channels=backbone.channels, scale=degradation.scale)
        check_head(made)
        self.network = Restorer(backbone=backbone, head=made)
        self.self_ensemble = self_ensemble

    @property
    def degraded_channels(self) -> int:
        """Of the degraded images."""
        return self.degradation.channels or self.network.backbone.channels

    @property
    def grid(self) -> int:
        """Parts of a degraded image may begin at multiples of this only."""
        return self.degradation.grid

    def network_input(self, degraded: Tensor) -> Tensor:
        """What the network is given [B, C, H, W]: the degraded image, or an estimate if that has other channels."""
        same = self.degraded_channels == self.network.backbone.channels
        image = degraded if same else self.degradation.estimate(degraded)
        top, left = self.degradation.margin
        return F.pad(image, (left, 0, top, 0), "reflect") if top or left else image

    def baseline(self, degraded: Tensor) -> Tensor:
        """What the restored image is to beat [B, C, H*scale, W*scale]."""
        return self.degradation.estimate(degraded)

    def forward(self, degraded: Tensor) -> Tensor:
        """Restored image [B, C, H*scale, W*scale] of a degraded one [B, C', H, W]; values may lie outside [0, 1]."""
        image = self.network_input(degraded)
        return self._cut(self_ensemble(self.network, image) if self.self_ensemble else self.network(image))

    def _cut(self, restored: Tensor) -> Tensor:
        """Restored image without the margin of the network's input."""
        top, left = (side * self.network.scale for side in self.degradation.margin)
        return restored[..., top:, left:]


def self_ensemble(restore: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    """Mean of what is restored of the image in its eight positions, four turns of it and of its mirror image."""
    total = torch.zeros(())
    for mirrored in (False, True):
        for turns in range(4):
            laid = torch.rot90(image.flip(-1) if mirrored else image, turns, (-2, -1))
            restored = torch.rot90(restore(laid), -turns, (-2, -1))
            total = total.to(restored) + (restored.flip(-1) if mirrored else restored)
    return total / 8
