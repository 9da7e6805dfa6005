"""The average of the weights that is validated and kept."""

from typing import Annotated, Any

from annotated_types import Interval
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn


class EMA(WeightAveraging):
    """Exponential moving average of the weights whose decay grows with the step n: min(decay, (1 + n) / (10 + n)).

    The average of a short run then holds no weights of its first steps, and needs no other decay than a long one.

    Args:
        decay: share of the old average that is kept at each step, in the long run.

    """

    def __init__(self, *, decay: Annotated[float, Interval(ge=0, lt=1)]) -> None:
        self.decay = decay
        super().__init__(multi_avg_fn=self._average)

    def decay_at(self, step: int) -> float:
        """Decay after so many averaged steps."""
        return min(self.decay, (1 + step) / (10 + step))

    def _average(self, averages: Any, weights: Any, step: Tensor | int) -> None:
        get_ema_multi_avg_fn(self.decay_at(int(step)))(averages, weights, step)
