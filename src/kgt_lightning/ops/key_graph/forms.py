"""The Key-Graph in the forms that blockwise and backward kernels read: one bit per pair, and transposed lists.

Shapes: W windows, N nodes, K neighbours, B blocks of BLOCK nodes.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 64
"""Side, in nodes, of the square blocks that block lists speak of; a multiple of the 32 bits of a word."""


@dataclass(frozen=True, eq=False)
class BlockList:
    """For every block of nodes, the blocks on the other side of the graph that it shares an edge with."""

    blocks: Tensor
    """[W, B, B], int32: the first ``counts[w, b]`` entries are the blocks met by block b, ascending."""
    counts: Tensor
    """[W, B], int32."""


@dataclass(frozen=True, eq=False)
class PackedGraph:
    """The graph as one bit per pair, N*N/8 bytes per window, and which blocks of it hold any bit at all."""

    bits: Tensor
    """[W, ceil(N/32), N], int32: bit b of entry (w, c, i) says whether node 32c+b is a neighbour of node i."""

    @cached_property
    def rows(self) -> BlockList:
        """Per block of nodes, the blocks in which its neighbours lie."""
        return _block_list(self._occupied.mT)

    @cached_property
    def columns(self) -> BlockList:
        """Per block of nodes, the blocks whose nodes have a neighbour in it."""
        return _block_list(self._occupied)

    @cached_property
    def _occupied(self) -> Tensor:
        """[W, B, B], bool: entry (c, r) says whether a node of block r has a neighbour in block c."""
        windows, words, num_nodes = self.bits.shape
        padding = (0, -num_nodes % BLOCK, 0, -words % (BLOCK // 32))
        any_bit = F.pad(self.bits != 0, padding)
        any_bit = any_bit.view(windows, any_bit.shape[1] * 32 // BLOCK, BLOCK // 32, any_bit.shape[2] // BLOCK, BLOCK)
        return any_bit.any(-1).any(2)


@dataclass(frozen=True, eq=False)
class TransposedGraph:
    """For every node the nodes that it is a neighbour of: lists of different lengths, one after the other."""

    sources: Tensor
    """[W, N*K], int32: the list of node 0, then that of node 1, and so on; each ascending."""
    starts: Tensor
    """[W, N+1], int32: where the list of each node begins, and N*K."""


def dense_mask(index: Tensor) -> Tensor:
    """Mask [W, N, N], bool, of the neighbours [W, N, K]: entry (i, j) says whether j is one of i."""
    shape = (*index.shape[:-1], index.shape[-2])
    return torch.zeros(shape, dtype=torch.bool, device=index.device).scatter_(-1, index.long(), True)


def pack_bits(index: Tensor) -> Tensor:
    """Bits [W, ceil(N/32), N], int32, of :class:`PackedGraph`, for neighbours [W, N, K] that are all different."""
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


def transpose(index: Tensor) -> TransposedGraph:
    """Lists of the nodes that have each node as a neighbour, from the neighbours [W, N, K]."""
    windows, num_nodes, k = index.shape
    targets, edges = index.reshape(windows, num_nodes * k).sort(stable=True)
    wanted = torch.arange(num_nodes + 1, dtype=targets.dtype, device=index.device).expand(windows, -1).contiguous()
    starts = torch.searchsorted(targets, wanted, out_int32=True)
    return TransposedGraph((edges // k).to(torch.int32), starts)


def _block_list(occupied: Tensor) -> BlockList:
    order = occupied.to(torch.int8).argsort(dim=-1, descending=True, stable=True)
    return BlockList(order.to(torch.int32).contiguous(), occupied.sum(-1, dtype=torch.int32).contiguous())
