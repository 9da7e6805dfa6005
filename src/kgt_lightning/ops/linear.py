"""Products of matrices by the faster of PyTorch's two libraries."""

import torch
import torch.nn.functional as F
from torch import Tensor

# PyTorch's rule for a 1x1 convolution on a single thread is to leave it to MKL below this number of images.
IMAGES = 16


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """torch.nn.functional.linear; in float32 on processors with AVX-512 computed as a convolution of single pixels.

    PyTorch gives products of matrices to MKL, which leaves AVX-512 of AMD's processors unused, and convolutions to
    oneDNN, which does not: twice the speed, forward and backward.
    """
    if not _is_convolved(input, weight):
        return F.linear(input, weight, bias)
    rows, width = input.numel() // input.shape[-1], input.shape[-1]
    columns = input.reshape(IMAGES if rows % IMAGES == 0 else 1, -1, 1, width).permute(0, 3, 1, 2)
    out = F.conv2d(columns, weight[:, :, None, None], bias)
    return out.permute(0, 2, 3, 1).reshape(*input.shape[:-1], len(weight))


def _is_convolved(input: Tensor, weight: Tensor) -> bool:
    """Whether :func:`linear` computes their product as a convolution."""
    return (
        not torch.compiler.is_compiling()
        and input.device.type == "cpu"
        and input.dtype == weight.dtype == torch.float32
        and input.numel() > 0
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.is_available()
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
    )
