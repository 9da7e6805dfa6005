"""How far a restored image is from the clean one, for training; any callable of the two will do."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from kgt_lightning.config.types import NotNegative

Loss = Callable[[Tensor, Tensor], Tensor]
"""Of restored and clean patches [B, C, H, W]."""


@dataclass(frozen=True, kw_only=True)
class Charbonnier:
    """Mean of sqrt(d^2 + eps^2), an L1 that is smooth at zero."""

    eps: NotNegative
    """In units of the pixels, which lie in [0, 1]."""

    def __call__(self, restored: Tensor, clean: Tensor) -> Tensor:
        """Loss of a batch, both [B, C, H, W]."""
        return ((restored - clean).square() + self.eps**2).sqrt().mean()


@dataclass(frozen=True, kw_only=True)
class NegativePSNR:
    """Mean over images of 10 log10(mse + 1e-6), so that every image weighs the same (arXiv 2204.04676)."""

    def __call__(self, restored: Tensor, clean: Tensor) -> Tensor:
        """Loss of a batch in dB, both [B, C, H, W]."""
        return 10 * ((restored - clean).square().mean((1, 2, 3)) + 1e-6).log10().mean()
