"""The tensors of one attention on the GPU, and the launch of a kernel over them.

Shapes: W windows, H heads, N = M*M nodes, D head width, E = (2M-1)**2 entries of the bias table.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kgt_lightning.ops.kernels.triton_launch import Launch, alignment, dot_precision, next_power
from kgt_lightning.ops.key_graph.forms import TileUnions


@dataclass(frozen=True, kw_only=True)
class Forward:
    """What a forward reads and writes; kernels name these tensors as they are named here."""

    q: Tensor
    k: Tensor
    v: Tensor
    table: Tensor | None
    out: Tensor
    lse: Tensor
    """[W, H, N], float32: base-2 logarithm of the softmax sums."""
    unions: TileUnions
    scale: float

    @property
    def padded_width(self) -> int:
        """Width BD of the tiles that hold heads: tensor cores take powers of two from 16."""
        return max(16, next_power(self.q.shape[-1]))

    def launch(self, kernel: Any, programs: int, values: dict[str, Any], num_warps: int = 4) -> Launch:
        """Launch over these tensors, their sizes, and further values by name."""
        windows, heads, num_nodes, width = self.q.shape
        sizes = {"W": windows, "H": heads, "N": num_nodes, "M": math.isqrt(num_nodes), "D": width}
        kind = {"BD": self.padded_width, "BIAS": self.table is not None, "PRECISION": dot_precision(self.q)}
        values = {**vars(self), **sizes, **kind, **values}
        taken = [values.get(name) for name in kernel.arg_names]
        align = alignment(*(t for t in taken if isinstance(t, Tensor) and t.shape == self.q.shape))
        return Launch(kernel, programs, {**values, "ALIGN": align}, num_warps)


@dataclass(frozen=True, kw_only=True)
class Backward(Forward):
    """What a backward reads and writes."""

    transposed: TileUnions
    bits: Tensor
    """[W, ceil(N/32), N], int32: one for each pair of nodes, see :func:`pack_bits`."""
    grad_out: Tensor
    delta: Tensor
    """[W, H, N], float32: out . grad_out, written by the launch that computes grad_q."""
    grad_q: Tensor
    grad_k: Tensor
    grad_v: Tensor


def new_heads(like: Tensor) -> Tensor:
    """[W, H, N, D] with the heads of a node side by side in memory, as kernels store them."""
    windows, heads, num_nodes, width = like.shape
    return torch.empty((windows, num_nodes, heads, width), dtype=like.dtype, device=like.device).transpose(1, 2)
