"""The Key-Graph by tiles: 16 nodes that lie together share one list of all nodes that any of them meets.

Shapes: W windows, N nodes, T tiles of 4 x 4 nodes, L entries of a list.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kgt_lightning.ops.kernels.derivatives import one_by_one
from kgt_lightning.ops.kernels.triton_launch import Launch, window_side
from kgt_lightning.ops.kernels.triton_tiles import tile_nodes
from kgt_lightning.ops.key_graph.forms import TileUnions

STEP = 32
"""Entries that a program of the attention takes at once."""


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
    unions = TileUnions(*_room(bits, longest))
    windows, tiles, room = unions.entries.shape
    num_nodes = bits.shape[-1]
    sizes = {"N": num_nodes, "L": room, "SIDE": window_side(num_nodes), "BN": 128, "STEP": STEP}
    values = {"bits": bits, **vars(unions), **sizes, "TRANSPOSED": transposed}
    return Launch(list_unions, windows * tiles, values), unions


def list_tile_unions(bits: Tensor, longest: int, *, transposed: bool) -> TileUnions:
    """Unions of :func:`plan_unions`."""
    return TileUnions(*_tile_unions(bits, longest, transposed))


@torch.library.custom_op("kgt::tile_unions", mutates_args=())
def _tile_unions(bits: Tensor, longest: int, transposed: bool) -> tuple[Tensor, Tensor]:
    launch, unions = plan_unions(bits, longest, transposed=transposed)
    with torch.cuda.device_of(bits):
        launch.run()
    return unions.entries, unions.lengths


@_tile_unions.register_fake
def _(bits: Tensor, longest: int, transposed: bool) -> tuple[Tensor, Tensor]:
    return _room(bits, longest)


_tile_unions.register_vmap(one_by_one(_tile_unions))


def _room(bits: Tensor, longest: int) -> tuple[Tensor, Tensor]:
    """Unset entries and lengths; how long a list is only the GPU will know, so that room is made for the longest."""
    windows, _, num_nodes = bits.shape
    side = window_side(num_nodes)
    tiles = -(-side // 4) * -(-num_nodes // side // 4)
    room = -(-min(longest, num_nodes) // STEP) * STEP
    entries = torch.empty((windows, tiles, room), dtype=torch.int32, device=bits.device)
    return entries, torch.empty((windows, tiles), dtype=torch.int32, device=bits.device)
