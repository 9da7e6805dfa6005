"""Key-Graph Attention as dense attention under a mask: simplest and fast at large k, memory N*N."""

import math

import torch.nn.functional as F
from torch import Tensor

from kgt_lightning.ops.graph import KeyGraph
from kgt_lightning.ops.reference import expand_bias


def mask_attention(
    q: Tensor, k: Tensor, v: Tensor, graph: KeyGraph, *, scale: float, bias_table: Tensor | None = None
) -> Tensor:
    """PyTorch's scaled-dot-product attention, strangers masked out; see :func:`key_graph_attention`."""
    mask = graph.mask[:, None]
    if bias_table is not None:
        bias_HNN = expand_bias(bias_table, graph.num_nodes).to(q.dtype)
        mask = bias_HNN.masked_fill(~mask, -math.inf)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
