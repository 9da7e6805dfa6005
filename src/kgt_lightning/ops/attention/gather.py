"""Key-Graph Attention over gathered neighbours: work and memory N*k*D, no N x N tensor."""

import math

import torch
from torch import Tensor

from kgt_lightning.ops.attention.reference import relative_position_index
from kgt_lightning.ops.key_graph.graph import KeyGraph


def gather_attention(
    q: Tensor, k: Tensor, v: Tensor, graph: KeyGraph, *, scale: float, bias_table: Tensor | None = None
) -> Tensor:
    """Keys and values of every node's neighbours are gathered first; see :func:`key_graph_attention`."""
    index = graph.index.long()
    k_WHNKD, v_WHNKD = _neighbours(k, index), _neighbours(v, index)
    scores_WHNK = torch.einsum("whnd,whnkd->whnk", q, k_WHNKD) * scale
    if bias_table is not None:
        entry_WNK = relative_position_index(math.isqrt(graph.num_nodes), q.device).expand(len(q), -1, -1)
        entry_WNK = entry_WNK.gather(-1, index)
        scores_WHNK = scores_WHNK + bias_table[:, entry_WNK].transpose(0, 1)
    return torch.einsum("whnk,whnkd->whnd", scores_WHNK.softmax(-1).to(v.dtype), v_WHNKD)


def _neighbours(values_WHND: Tensor, index_WNK: Tensor) -> Tensor:
    """[W, H, N, K, D]: the values of each node's neighbours."""
    windows, heads, num_nodes, width = values_WHND.shape
    flat = index_WNK.reshape(windows, 1, -1, 1).expand(-1, heads, -1, width)
    return values_WHND.gather(2, flat).view(windows, heads, num_nodes, -1, width)
