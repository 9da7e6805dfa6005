"""How far a restored image is from the clean one, for training."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor


def charbonnier(restored: Tensor, clean: Tensor) -> Tensor:
    """Mean of sqrt(d^2 + 1e-6), an L1 that is smooth at zero (eps = 1e-3, as GRL trains with)."""
    return ((restored - clean).square() + 1e-6).sqrt().mean()


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": F.l1_loss,
    "charbonnier": charbonnier,
    "smooth_l1": F.smooth_l1_loss,
    "mse": F.mse_loss,
}
