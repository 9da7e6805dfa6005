"""The Key-Graph by tiles: 16 nodes that lie together share one list of all nodes that any of them meets.

Shapes: W windows, N nodes, T tiles of 4 x 4 nodes, L entries of a list.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from kgt_lightning.ops.kernels.triton_launch import Launch, window_side
from kgt_lightning.ops.kernels.triton_tiles import tile_nodes

STEP = 32
"""Entries that a program of the attention takes at once."""


@dataclass(frozen=True, eq=False)
class TileUnions:
    """For every tile the nodes that its 16 nodes meet, ascending, each once, and which of the 16 meet it."""

    entries: Tensor
    """[W, T, L], int32: the node in the lower 16 bits; bit 16 + l says that node l of the tile meets it."""
    lengths: Tensor
    """[W, T], int32: entries of the list, rounded up to a multiple of STEP. The last node fills it up, met by none; the
    rest is memory that nobody reads."""


@triton.jit
def list_unions(
    bits, entries, lengths, N, L, SIDE: tl.constexpr, BN: tl.constexpr, STEP: tl.constexpr, TRANSPOSED: tl.constexpr
):  # fmt: skip
    """Neighbours of the nodes of a tile; or, transposed, the nodes that have one of the tile as a neighbour."""
    tiles = tl.cdiv(SIDE, 4) * tl.cdiv(tl.cdiv(N, SIDE), 4)
    row = tl.program_id(0).to(tl.int64)
    node, inside, lane = tile_nodes((row % tiles).to(tl.int32), N, SIDE)
    bits += row // tiles * tl.cdiv(N, 32) * N
    entries += row * L
    listed = 0
    last = 0
    for first in range(0, N, BN):
        other = first + tl.arange(0, BN)
        valid = inside[:, None] & (other < N)[None, :]
        if TRANSPOSED:
            word = tl.load(bits + (node // 32)[:, None] * N + other[None, :], mask=valid, other=0)
            met = (word >> (node & 31)[:, None]) & 1  # [16, BN]
        else:
            word = tl.load(bits + (other // 32)[None, :] * N + node[:, None], mask=valid, other=0)
            met = (word >> (other & 31)[None, :]) & 1
        members = tl.sum(met << lane[:, None], 0)  # [BN]
        some = (members != 0).to(tl.int32)
        slot = listed + tl.cumsum(some, 0) - 1
        tl.store(entries + slot, other | (members << 16), mask=(some != 0) & (slot < L))
        listed += tl.sum(some, 0)
        last = tl.maximum(last, tl.max(other * some, 0))
    slot = listed + tl.arange(0, STEP)
    length = tl.cdiv(listed, STEP) * STEP
    tl.store(entries + slot, last, mask=slot < length)
    tl.store(lengths + row, length)


def plan_unions(bits: Tensor, longest: int, *, transposed: bool) -> tuple[Launch, TileUnions]:
    """What lists the unions of tiles with at most so many entries, from bits [W, ceil(N/32), N], and where."""
    windows, _, num_nodes = bits.shape
    side = window_side(num_nodes)
    tiles = -(-side // 4) * -(-num_nodes // side // 4)
    # Their length is known on the GPU alone: room is made for the longest.
    room = -(-min(longest, num_nodes) // STEP) * STEP
    entries = torch.empty((windows, tiles, room), dtype=torch.int32, device=bits.device)
    lengths = torch.empty((windows, tiles), dtype=torch.int32, device=bits.device)
    tensors = {"bits": bits, "entries": entries, "lengths": lengths}
    sizes = {"N": num_nodes, "L": room, "SIDE": side, "BN": 128, "STEP": STEP}
    launch = Launch(list_unions, windows * tiles, {**tensors, **sizes, "TRANSPOSED": transposed})
    return launch, TileUnions(entries, lengths)


def list_tile_unions(bits: Tensor, longest: int, *, transposed: bool) -> TileUnions:
    """Unions of :func:`plan_unions`; of bits without memory (meta), lists without memory."""
    launch, unions = plan_unions(bits, longest, transposed=transposed)
    if not bits.is_meta:
        with torch.cuda.device_of(bits):
            launch.run()
    return unions
