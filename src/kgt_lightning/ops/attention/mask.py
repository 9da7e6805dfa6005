"""Key-Graph Attention as dense attention under a mask: simplest and fast at large k, memory N*N.

Shapes: W windows, H heads, N nodes.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from kgt_lightning.ops.attention.reference import expand_bias
from kgt_lightning.ops.key_graph.graph import KeyGraph

# Biases of all pairs with the non-neighbours at -inf, held at once; more windows are worked on in turns.
CHUNK_BYTES = 128 * 2**20


def mask_attention(
    q: Tensor, k: Tensor, v: Tensor, graph: KeyGraph, *, scale: float, bias_table: Tensor | None = None
) -> Tensor:
    """PyTorch's scaled-dot-product attention, non-neighbours masked out; see :func:`key_graph_attention`.

    Without a bias table no biases are made, and where all nodes are neighbours no mask is: PyTorch's fused kernels then
    run. A bias table that wants a gradient makes PyTorch take its slow path.
    """
    all_are_neighbours = graph.k == graph.num_nodes
    if bias_table is None:
        mask = None if all_are_neighbours else graph.mask[:, None]
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
    bias_HNN = expand_bias(bias_table, graph.num_nodes).to(q.dtype)
    if all_are_neighbours:
        # Masks of three dimensions would take the slow path.
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias_HNN[None], scale=scale)
    windows = max(1, CHUNK_BYTES // (bias_HNN.numel() * bias_HNN.element_size()))
    parts = zip(*(t.split(windows) for t in (q, k, v, graph.mask)), strict=True)
    return torch.cat(
        [
            F.scaled_dot_product_attention(
                q_WHND, k_WHND, v_WHND, attn_mask=bias_HNN.masked_fill(~mask_WNN[:, None], -math.inf), scale=scale
            )
            for q_WHND, k_WHND, v_WHND, mask_WNN in parts
        ]
    )
