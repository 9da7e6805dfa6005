"""Products of matrices by the fastest that there is on the processor."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kgt_lightning.ops.kernels.derivatives import one_by_one
from kgt_lightning.ops.kernels.native_build import library, why_unavailable

# PyTorch's rule for a 1x1 convolution on a single thread is to leave it to MKL below this number of images.
IMAGES = 16


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """torch.nn.functional.linear; in float32 on processors with AVX-512 computed as a convolution of single pixels.

    PyTorch gives products of matrices to MKL, which leaves AVX-512 of AMD's processors unused, and convolutions to
    oneDNN, which does not: twice the speed. The gradients of the weights are summed by a compiled kernel where there is
    one, half as fast again as oneDNN.
    """
    if not _is_convolved(input, weight):
        return F.linear(input, weight, bias)
    if bias is None or not torch.is_grad_enabled() or why_unavailable():
        return _convolved(input, weight, bias)
    return _Linear.apply(input, weight, bias)


def _convolved(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
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


class _Linear(torch.autograd.Function):
    """:func:`_convolved` with gradients that are differentiable themselves."""

    generate_vmap_rule = True

    @staticmethod
    def forward(input: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return _convolved(input, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        grad_input = linear(grad, weight.t()) if ctx.needs_input_grad[0] else None
        return grad_input, *_WeightGradients.apply(grad, input)


class _WeightGradients(torch.autograd.Function):
    """Gradients [outputs, inputs] of the weights, and [outputs] of the biases."""

    generate_vmap_rule = True

    @staticmethod
    def forward(grad: Tensor, input: Tensor) -> tuple[Tensor, Tensor]:
        return _weight_gradients(grad, input)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, to_weight: Tensor, to_bias: Tensor) -> tuple[Tensor, Tensor]:
        grad, input = ctx.saved_tensors
        return linear(input, to_weight, to_bias), linear(grad, to_weight.t())


@torch.library.custom_op("kgt::weight_gradients", mutates_args=(), device_types="cpu")
def _weight_gradients(grad: Tensor, input: Tensor) -> tuple[Tensor, Tensor]:
    (outputs, inputs), rows = (grad.shape[-1], input.shape[-1]), grad.numel() // grad.shape[-1]
    grad, input = grad.contiguous(), input.contiguous()
    weight, bias = grad.new_empty(outputs, inputs), grad.new_empty(outputs)
    kernel, pointers = library(double=False).kgt_weight_gradients, (weight.data_ptr(), bias.data_ptr())
    if kernel(grad.data_ptr(), input.data_ptr(), rows, outputs, inputs, *pointers, torch.get_num_threads()):
        raise MemoryError("native linear: no memory left for the gradients of the weights and some packed rows")
    return weight, bias


@_weight_gradients.register_fake
def _(grad: Tensor, input: Tensor) -> tuple[Tensor, Tensor]:
    return grad.new_empty(grad.shape[-1], input.shape[-1]), grad.new_empty(grad.shape[-1])


_weight_gradients.register_vmap(one_by_one(_weight_gradients))
