"""The Key-Graph in other forms than the list of neighbours.

Shapes: W windows, N nodes, K neighbours, T tiles of 4 x 4 nodes, L entries of a list.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class TileUnions:
    """For every tile the nodes that its 16 nodes meet, ascending, each once, and which of the 16 meet it."""

    entries: Tensor
    """[W, T, L], int32: the node in the lower 16 bits; bit 16 + l says that node l of the tile meets it."""
    lengths: Tensor
    """[W, T], int32: entries of the list, rounded up to a multiple of STEP. The last node fills it up, met by none; the
    rest is memory that nobody reads."""


def dense_mask(index: Tensor) -> Tensor:
    """Mask [W, N, N], bool, of the neighbours [W, N, K]: entry (i, j) says whether j is one of i."""
    shape = (*index.shape[:-1], index.shape[-2])
    return torch.zeros(shape, dtype=torch.bool, device=index.device).scatter_(-1, index.long(), True)


def pack_bits(index: Tensor) -> Tensor:
    """Bits [W, ceil(N/32), N], int32, for neighbours [W, N, K] that are all different.

    Bit b of entry (w, c, i) says whether node 32c+b is a neighbour of node i.
    """
    windows, num_nodes, k = index.shape
    words = -(-num_nodes // 32)
    if k == num_nodes:
        full = torch.full((words,), -1, dtype=torch.int32, device=index.device)
        if num_nodes % 32:
            full[-1] = (1 << num_nodes % 32) - 1
        return full[None, :, None].repeat(windows, 1, num_nodes)
    window = torch.arange(windows, device=index.device)[:, None, None]
    node = torch.arange(num_nodes, device=index.device)[:, None]
    word = (window * words + index.long() // 32) * num_nodes + node
    bit = torch.ones_like(index, dtype=torch.int32) << (index % 32).int()
    # Bits of one word differ, so that their sum is their union; in one dimension the sum is deterministic everywhere.
    flat = torch.zeros(windows * words * num_nodes, dtype=torch.int32, device=index.device)
    return flat.scatter_add_(0, word.flatten(), bit.flatten()).view(windows, words, num_nodes)
