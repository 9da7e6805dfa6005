"""Key-Graph Attention on the CPU by a compiled kernel: reads only the k neighbours, needs no memory beyond its results.

The kernel is native.c; native_build.py makes and loads it. The same inputs give the same bits, whatever the number of
threads.

Shapes: W windows, H heads, N = M*M nodes, K neighbours, D head width.
"""

import ctypes
import math
from typing import Any

import torch
from torch import Tensor

from kgt_lightning.ops.kernels.derivatives import Gradients, ReverseOnly, one_by_one
from kgt_lightning.ops.kernels.native_build import library
from kgt_lightning.ops.key_graph.graph import KeyGraph

# The gradient of the bias table is summed over at most this many groups of windows at once: each group has a table of
# its own, so that the order of the sum does not depend on the threads.
WINDOW_GROUPS = 32


def native_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    graph: KeyGraph,
    *,
    scale: float | Tensor,
    bias_table: Tensor | None = None,
    cosine: bool = False,
) -> Tensor:
    """Attention over neighbour lists in compiled code; see :func:`key_graph_attention`.

    Computes in float64 for float64 inputs and in float32 for all others. The result has the heads of a node side by
    side in memory, so that merging them costs no copy.

    Raises:
        ValueError: if the tensors are not on the CPU.

    """
    if q.device.type != "cpu":
        raise ValueError(
            f"impl='native' needs tensors on the CPU, these are on {q.device}; choose triton, mask or gather"
        )
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    table = None if bias_table is None else bias_table.to(dtype)
    scale_H = scale.to(dtype) if isinstance(scale, Tensor) else q.new_full((q.shape[1],), scale, dtype=dtype)
    return _Attention.apply(q.to(dtype), k.to(dtype), v.to(dtype), graph.index32, table, scale_H, cosine).to(v.dtype)


@torch.library.custom_op("kgt::native_attention", mutates_args=(), device_types="cpu")
def _attention(
    q: Tensor, k: Tensor, v: Tensor, index: Tensor, bias_table: Tensor | None, scale: Tensor, cosine: bool
) -> Tensor:
    out = _empty_nodes_first(q)
    if not out.numel():
        return out
    q, k, v, index = (_rows(t) for t in (q, k, v, index))
    table, scale = None if bias_table is None else bias_table.contiguous(), scale.contiguous()
    kernel = library(double=q.dtype == torch.float64).kgt_forward
    inputs = (_shape(q, index, cosine), *map(_view, (q, k, v, index)), _pointer(table), _pointer(scale))
    _check(kernel(*inputs, _view(out)))
    return out


@torch.library.custom_op("kgt::native_attention_backward", mutates_args=(), device_types="cpu")
def _attention_backward(
    grad_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    index: Tensor,
    bias_table: Tensor | None,
    scale: Tensor,
    cosine: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    packed = _empty_packed(q)
    if not q.numel():
        nothing = q.new_zeros(0) if bias_table is None else torch.zeros_like(bias_table)
        return packed, nothing, torch.zeros_like(scale)
    grad_out, q, k, v, index = (_rows(t) for t in (grad_out, q, k, v, index))
    windows = len(q)
    groups = windows if bias_table is None else min(windows, WINDOW_GROUPS)
    table, scale = None if bias_table is None else bias_table.contiguous(), scale.contiguous()
    grad_table = q.new_zeros(0) if table is None else table.new_zeros(groups, *table.shape)
    grad_scale = scale.new_zeros(groups, *scale.shape)
    kernel = library(double=q.dtype == torch.float64).kgt_backward
    inputs = (_shape(q, index, cosine), *map(_view, (q, k, v, index)), _pointer(table), _pointer(scale))
    views = map(_view, (grad_out, *_heads(packed)))
    _check(kernel(*inputs, *views, _pointer(grad_table), _pointer(grad_scale), groups))
    return packed, grad_table if table is None else grad_table.sum(0), grad_scale.sum(0)


@_attention.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, index: Tensor, bias_table: Tensor | None, scale: Tensor, cosine: bool) -> Tensor:
    return _empty_nodes_first(q)


@_attention_backward.register_fake
def _(
    grad_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    index: Tensor,
    bias_table: Tensor | None,
    scale: Tensor,
    cosine: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    grad_table = q.new_empty(0) if bias_table is None else torch.empty_like(bias_table)
    return _empty_packed(q), grad_table, torch.empty_like(scale)


for _operation in (_attention, _attention_backward):
    _operation.register_vmap(one_by_one(_operation))


class _Attention(ReverseOnly):
    @staticmethod
    def forward(
        q: Tensor, k: Tensor, v: Tensor, index: Tensor, bias_table: Tensor | None, scale: Tensor, cosine: bool
    ) -> Tensor:
        return _attention(q, k, v, index, bias_table, scale, cosine)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.cosine = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors  # checkpointing gives them once
        *_, bias_table, _ = saved
        packed, grad_table, grad_scale = _Gradients.apply(grad_out, *saved, ctx.cosine)
        return *_heads(packed), None, None if bias_table is None else grad_table, grad_scale, None


class _Gradients(Gradients):
    @staticmethod
    def forward(
        grad_out: Tensor,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        index: Tensor,
        bias_table: Tensor | None,
        scale: Tensor,
        cosine: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        return _attention_backward(grad_out, q, k, v, index, bias_table, scale, cosine)


def _empty_nodes_first(q_WHND: Tensor) -> Tensor:
    """Unset [W, H, N, D] that lies in memory as [W, N, H, D]."""
    windows, heads, num_nodes, width = q_WHND.shape
    return q_WHND.new_empty(windows, num_nodes, heads, width).transpose(1, 2)


def _empty_packed(q_WHND: Tensor) -> Tensor:
    """Unset [W, N, 3, H, D]: the gradients of a projection to queries, keys and values."""
    windows, heads, num_nodes, width = q_WHND.shape
    return q_WHND.new_empty(windows, num_nodes, 3, heads, width)


def _heads(packed_WN3HD: Tensor) -> tuple[Tensor, ...]:
    return packed_WN3HD.permute(2, 0, 3, 1, 4).unbind()


class _Heads(torch.autograd.Function):
    """:func:`_heads`, whose gradients are taken as they lie where they lie packed already."""

    generate_vmap_rule = True

    @staticmethod
    def forward(packed_WN3HD: Tensor) -> tuple[Tensor, ...]:
        return _heads(packed_WN3HD)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing of the forward pass is kept; torch.func wants it said apart."""

    @staticmethod
    def backward(ctx: Any, *grads_WHND: Tensor) -> Tensor:
        first = grads_WHND[0]
        windows, heads, num_nodes, width = first.shape
        row = heads * width
        strides = (num_nodes * 3 * row, width, 3 * row, 1)
        packed = not torch.is_grad_enabled() and all(
            grad.stride() == strides
            and grad.storage_offset() == first.storage_offset() + i * row
            and grad.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
            for i, grad in enumerate(grads_WHND)
        )
        if packed:
            return first.as_strided((windows, num_nodes, 3, heads, width), (strides[0], 3 * row, row, width, 1))
        return torch.stack(grads_WHND).permute(1, 3, 0, 2, 4)


def split_heads(packed_WN3HD: Tensor) -> tuple[Tensor, ...]:
    """Queries, keys and values [W, H, N, D] of a projection [W, N, 3, H, D]: views of it, and so are their gradients.

    What autograd itself makes of the views would be two copies of the gradients.
    """
    return _heads(packed_WN3HD) if torch.compiler.is_compiling() else _Heads.apply(packed_WN3HD)


def _rows(tensor: Tensor) -> Tensor:
    """Tensor with a contiguous last dimension, which is all that the kernel asks for."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def _shape(q_WHND: Tensor, index_WNK: Tensor, cosine: bool) -> ctypes.Array:
    return _struct(*q_WHND.shape, index_WNK.shape[-1], math.isqrt(q_WHND.shape[2]), torch.get_num_threads(), cosine)


def _view(tensor: Tensor) -> ctypes.Array:
    return _struct(tensor.data_ptr(), *tensor.stride()[:-1])


def _struct(*numbers: int) -> ctypes.Array:
    """A structure of native.c: all their fields, int64 and pointers, take 64 bits."""
    return (ctypes.c_int64 * len(numbers))(*numbers)


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _check(status: int) -> None:
    if status:
        raise MemoryError("native attention: no memory left for the packed keys and values of a window")
