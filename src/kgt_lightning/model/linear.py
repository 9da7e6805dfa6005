"""The linear layers of the model."""

from torch import Tensor, nn

from kgt_lightning.ops.linear import linear


class Linear(nn.Linear):
    """torch.nn.Linear, computed by :func:`kgt_lightning.ops.linear.linear`."""

    def forward(self, input: Tensor) -> Tensor:
        """Tensor [..., out_features] of one [..., in_features]."""
        return linear(input, self.weight, self.bias)
