"""Windows, and the Key-Graph of the nodes inside each of them.

Shapes: B images, C channels, W windows (of all images), M window side, N = M*M nodes of a window,
K neighbours of a node.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from kgt_lightning.ops.kernels.triton_launch import DTYPES
from kgt_lightning.ops.kernels.triton_launch import why_unavailable as why_no_triton
from kgt_lightning.ops.key_graph.forms import TileUnions, dense_mask, pack_bits
from kgt_lightning.ops.key_graph.select import most_similar

Form = TypeVar("Form")


def split_windows(features_BCHW: Tensor, window: int) -> Tensor:
    """Nodes [B*H/M*W/M, M*M, C] of the non-overlapping windows of side M, row by row.

    Raises:
        ValueError: if a side of the features is not a multiple of the window.

    """
    batch, channels, height, width = features_BCHW.shape
    if height % window or width % window:
        raise ValueError(f"features of {height}x{width} do not divide into windows of {window}: pad them to a multiple")
    # By way of channels last, so that whole nodes are copied; merge_windows returns that memory format.
    grid = features_BCHW.permute(0, 2, 3, 1).reshape(batch, height // window, window, width // window, window, channels)
    return grid.transpose(2, 3).reshape(-1, window * window, channels)


def merge_windows(nodes_WNC: Tensor, window: int, height: int, width: int) -> Tensor:
    """Features [B, C, height, width] whose windows hold the nodes: the inverse of :func:`split_windows`."""
    channels = nodes_WNC.shape[-1]
    grid = nodes_WNC.view(-1, height // window, width // window, window, window, channels)
    return grid.transpose(2, 3).reshape(-1, height, width, channels).permute(0, 3, 1, 2)


@dataclass(frozen=True, eq=False)
class KeyGraph:
    """For every node the k most similar nodes of its window; shared by all heads and all layers of a stage."""

    index: Tensor
    """[W, N, K], integer (int32 from build_key_graph): the neighbours of each node, all different."""
    bits: Tensor | None = None
    """The same as :func:`pack_bits` gives, where the constructor made both at once."""
    checked: bool = False
    """Whether all neighbours are known to lie in the window; the constructor says so, and compiled code trusts it."""
    forms: dict[str, Any] = field(default_factory=dict, init=False, repr=False)
    """Of the graph, by name, that were asked for; cached_property takes a lock, which torch.compile cannot trace."""

    @property
    def k(self) -> int:
        """Neighbours kept for each node."""
        return self.index.shape[-1]

    @property
    def num_nodes(self) -> int:
        """Nodes of a window, N."""
        return self.index.shape[-2]

    @property
    def index32(self) -> Tensor:
        """[W, N, K], int32: the index, checked once so that compiled code may trust it.

        What the constructor made is not looked at, so that nothing waits for a GPU and a graph can be traced.

        Raises:
            ValueError: if a neighbour lies outside 0..N-1.

        """
        return self._form("index32", self._check_index)

    def _check_index(self) -> Tensor:
        if not self.checked and self.index.numel():
            low, high = (int(bound) for bound in self.index.aminmax())
            if low < 0 or high >= self.num_nodes:
                raise ValueError(f"neighbours {low}..{high} must lie in 0..{self.num_nodes - 1}, the nodes of a window")
        return self.index.to(torch.int32)

    def windows(self, start: int, stop: int) -> "KeyGraph":
        """Key-Graph of some of the windows."""
        return KeyGraph(self.index[start:stop], None if self.bits is None else self.bits[start:stop], self.checked)

    @property
    def mask(self) -> Tensor:
        """[W, N, N], bool: entry (i, j) says whether j is a neighbour of i. Made once, when first asked for."""
        return self._form("mask", lambda: dense_mask(self.index))

    @property
    def packed_bits(self) -> Tensor:
        """[W, ceil(N/32), N], int32: one bit per pair, see :func:`pack_bits`. Made once, when first asked for."""
        return self._form("bits", self._pack) if self.bits is None else self.bits

    def _pack(self) -> Tensor:
        # Where all nodes are neighbours of all, their list need not be read.
        return pack_bits(self.index if self.k == self.num_nodes else self.index32)

    @property
    def unions(self) -> TileUnions:
        """For every tile the neighbours of its nodes, for Triton. Made once, when first asked for."""
        from kgt_lightning.ops.key_graph.triton_unions import list_tile_unions  # triton is not installed everywhere

        longest = 16 * self.k
        return self._form("unions", lambda: list_tile_unions(self.packed_bits, longest, transposed=False))

    @property
    def transposed_unions(self) -> TileUnions:
        """For every tile the nodes that have one of it as a neighbour. Made once, when first asked for."""
        from kgt_lightning.ops.key_graph.triton_unions import list_tile_unions

        longest = self.num_nodes
        return self._form("transposed", lambda: list_tile_unions(self.packed_bits, longest, transposed=True))

    def _form(self, name: str, make: Callable[[], Form]) -> Form:
        if name not in self.forms:
            self.forms[name] = make()
        return self.forms[name]


@torch.no_grad()
def build_key_graph(nodes: Tensor, k: int) -> KeyGraph:
    """Key-Graph of every window: the k largest entries in each row of the similarity A = V V^T.

    The similarity is the plain inner product and the choice is not differentiated (arXiv 2402.02634, section 3.2).
    Equal similarities are decided for the smaller index; the neighbours come in rising order.

    Args:
        nodes: [W, N, C], the features of each window's nodes.
        k: neighbours kept for each node, 1 to N.

    Raises:
        ValueError: if the nodes are not [W, N, C] or k lies outside 1..N.

    """
    if nodes.ndim != 3:
        raise ValueError(f"nodes have shape {list(nodes.shape)}; expected [windows, nodes, channels]")
    num_nodes = nodes.shape[1]
    if not 1 <= k <= num_nodes:
        raise ValueError(f"k={k} must lie in 1..{num_nodes}, the nodes of a window")
    if k == num_nodes:
        all_nodes = torch.arange(num_nodes, dtype=torch.int32, device=nodes.device)
        return KeyGraph(all_nodes.expand(nodes.shape[0], num_nodes, num_nodes), checked=True)
    if nodes.is_cuda and why_no_triton() is None and nodes.dtype in DTYPES:
        from kgt_lightning.ops.key_graph.triton_graph import choose  # triton is not installed everywhere

        index, bits = choose(nodes, k)
        return KeyGraph(index, bits, checked=True)
    return KeyGraph(most_similar(nodes, k), checked=True)
