"""Key-Graph Attention written for the eye: the truth the other implementations are tested against."""

import math

import torch
from torch import Tensor

from kgt_lightning.ops.key_graph.graph import KeyGraph


def relative_position_index(window: int, device: torch.device | None = None) -> Tensor:
    """Entry [N, N] of the bias table for query i and key j: (yi-yj+M-1)*(2M-1) + (xi-xj+M-1)."""
    y, x = torch.meshgrid(torch.arange(window, device=device), torch.arange(window, device=device), indexing="ij")
    y, x = y.flatten(), x.flatten()
    rows = y[:, None] - y[None, :] + window - 1
    columns = x[:, None] - x[None, :] + window - 1
    return rows * (2 * window - 1) + columns


def expand_bias(bias_table: Tensor, num_nodes: int) -> Tensor:
    """Bias [H, N, N] of every pair of nodes, from the table [H, (2M-1)*(2M-1)]."""
    index = relative_position_index(math.isqrt(num_nodes), bias_table.device)
    return bias_table[:, index]


def reference_attention(
    q: Tensor, k: Tensor, v: Tensor, graph: KeyGraph, *, scale: float, bias_table: Tensor | None = None
) -> Tensor:
    """All scores, those of non-neighbours set to -inf, softmax, weighted sum; see :func:`key_graph_attention`."""
    scores_WHNN = q @ k.transpose(-1, -2) * scale
    if bias_table is not None:
        scores_WHNN = scores_WHNN + expand_bias(bias_table, graph.num_nodes)
    scores_WHNN = scores_WHNN.masked_fill(~graph.mask[:, None], -math.inf)
    return scores_WHNN.softmax(-1) @ v
