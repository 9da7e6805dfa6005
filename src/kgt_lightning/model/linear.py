"""The linear layers of the model."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Linear(nn.Linear):
    """torch.nn.Linear; in float32 on processors with AVX-512 computed as a convolution of single nodes.

    PyTorch gives products of matrices to MKL, which leaves AVX-512 of AMD's processors unused, and convolutions to
    oneDNN, which does not: twice the speed, forward and backward.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Tensor [..., out_features] of one [..., in_features]."""
        if not self._as_convolution(input):
            return super().forward(input)
        columns = input.reshape(1, -1, 1, self.in_features).permute(0, 3, 1, 2)
        out = F.conv2d(columns, self.weight[:, :, None, None], self.bias)
        return out.permute(0, 2, 3, 1).reshape(*input.shape[:-1], self.out_features)

    def _as_convolution(self, input: Tensor) -> bool:
        return (
            not torch.compiler.is_compiling()
            and input.device.type == "cpu"
            and input.dtype == self.weight.dtype == torch.float32
            and input.numel() > 0
            and not torch.is_autocast_enabled("cpu")
            and torch.backends.mkldnn.is_available()
            and torch.backends.cpu.get_cpu_capability() == "AVX512"
        )
