"""The Key-Graph Constructor as Triton kernels: similarity and choice fused, no N x N matrix in memory.

A program owns BM nodes and finds for each of them an interval of similarities whose upper end has fewer than k nodes at
or above it, and whose lower end has at least k, narrowing it by counting until it holds just the nodes that are still
wanted, or only equal ones, of which those with the smallest index win. Similarities are compared as integers in the
order of the floats. Up to RESIDENT nodes they stay in registers; beyond, every round computes them anew, block by
block, in the same order of operations, so that a pair has the same bits in every round.

Shapes: W windows, N nodes, C channels, K neighbours, BM and BN nodes of a tile, BC channels at once, PARTS, a power of
two, into which a round cuts the interval.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kgt_lightning.ops.kernels.derivatives import one_by_one
from kgt_lightning.ops.kernels.triton_launch import Launch, alignment, dot_precision, next_power, rows
from kgt_lightning.ops.kernels.triton_tiles import dot

RESIDENT = 1024
"""Nodes of a window up to which a program keeps all similarities of its rows in registers."""

CHANNELS = 16
"""Channels that one product takes at once."""


@triton.jit
def similarity_order(
    nodes, row, column, nodes_n, N, C, BM: tl.constexpr, BN: tl.constexpr, BC: tl.constexpr, ALIGN: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """[BM, BN], int32: integers in the order of the similarities; the smallest integer beyond the window."""
    acc = tl.zeros([BM, BN], tl.float32)
    for first in range(0, C, BC):
        channel = first + tl.arange(0, BC)
        row_pointers = tl.multiple_of(nodes + (row[:, None] * nodes_n + channel[None, :]), (1, ALIGN))
        column_pointers = tl.multiple_of(nodes + (column[:, None] * nodes_n + channel[None, :]), (1, ALIGN))
        row_tile = tl.load(row_pointers, mask=(row < N)[:, None] & (channel < C)[None, :], other=0.0)
        column_tile = tl.load(column_pointers, mask=(column < N)[:, None] & (channel < C)[None, :], other=0.0)
        acc = dot(row_tile, tl.trans(column_tile), acc, PRECISION)
    # Minus zero equals zero and must not be ordered below it.
    acc = tl.where(acc == 0.0, 0.0, acc)
    order = acc.to(tl.int32, bitcast=True)
    order ^= (order >> 31) & 0x7FFFFFFF
    # NaN is the least similar, as on the CPU.
    order = tl.where(acc == acc, order, -0x7FFFFFFF)
    return tl.where((column < N)[None, :], order, -0x80000000)


@triton.jit
def choose_neighbours(
    nodes, bits, nodes_w, nodes_n, N, C, K,
    BM: tl.constexpr, BN: tl.constexpr, BC: tl.constexpr, PARTS: tl.constexpr, IN_REGISTERS: tl.constexpr,
    ROUNDS: tl.constexpr, TIE_ROUNDS: tl.constexpr, ALIGN: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Bits [W, ceil(N/32), N] of the chosen neighbours."""
    program = tl.program_id(0)
    blocks = tl.cdiv(N, BM)
    window = (program // blocks).to(tl.int64)
    row = program % blocks * BM + tl.arange(0, BM)
    nodes += window * nodes_w
    lane = tl.arange(0, BN)
    step = tl.arange(0, PARTS)[None, :]
    cut = step > 0
    kept = tl.zeros([BM, BN], tl.int32)
    if IN_REGISTERS:
        kept = similarity_order(nodes, row, lane, nodes_n, N, C, BM, BN, BC, ALIGN, PRECISION)

    low = tl.full([BM], -0x80000000, tl.int64)
    high = tl.full([BM], 0x80000000, tl.int64)
    above_low = tl.full([BM], 0x7FFFFFFF, tl.int32)  # how many similarities are at or above low
    above_high = tl.zeros([BM], tl.int32)
    unfinished = 1
    for _ in range(ROUNDS):
        if unfinished > 0:
            # [BM, PARTS], of which the first is no cut
            threshold = low[:, None] + (high - low)[:, None] * step // PARTS
            above = tl.zeros([BM, PARTS], tl.int32)
            for first in range(0, N, BN):
                if IN_REGISTERS:
                    order = kept
                else:
                    order = similarity_order(nodes, row, first + lane, nodes_n, N, C, BM, BN, BC, ALIGN, PRECISION)
                for t in range(1, PARTS):
                    at = (low + (high - low) * t // PARTS).to(tl.int32)
                    count = tl.sum((order >= at[:, None]).to(tl.int32), 1)
                    above += tl.where(step == t, count[:, None], 0)
            enough = above >= K
            low = tl.maximum(low, tl.max(tl.where(cut & enough, threshold, -0x80000000), 1))
            high = tl.minimum(high, tl.min(tl.where(cut & ~enough, threshold, 0x80000000), 1))
            above_low = tl.minimum(above_low, tl.min(tl.where(cut & enough, above, 0x7FFFFFFF), 1))
            above_high = tl.maximum(above_high, tl.max(tl.where(cut & ~enough, above, 0), 1))
            unfinished = tl.max(((above_low > K) & (high - low > 1)).to(tl.int32), 0)

    # Equal similarities, where they are too many: the smallest column up to which there are as many as wanted.
    wanted = K - above_high
    lowest = low.to(tl.int32)[:, None]
    highest = (high - 1).to(tl.int32)[:, None]
    before = tl.full([BM], -1, tl.int32)
    last = tl.zeros([BM], tl.int32) + (N - 1)
    unfinished = tl.max((above_low > K).to(tl.int32), 0)
    for _ in range(TIE_ROUNDS):
        if unfinished > 0:
            threshold = before[:, None] + (last - before)[:, None] * step // PARTS  # [BM, PARTS]
            below = tl.zeros([BM, PARTS], tl.int32)
            for first in range(0, N, BN):
                if IN_REGISTERS:
                    order = kept
                else:
                    order = similarity_order(nodes, row, first + lane, nodes_n, N, C, BM, BN, BC, ALIGN, PRECISION)
                equal = (order >= lowest) & (order <= highest)
                for t in range(1, PARTS):
                    at = before + (last - before) * t // PARTS
                    count = tl.sum((equal & ((first + lane)[None, :] <= at[:, None])).to(tl.int32), 1)
                    below += tl.where(step == t, count[:, None], 0)
            enough = below >= wanted[:, None]
            last = tl.minimum(last, tl.min(tl.where(cut & enough, threshold, N), 1))
            before = tl.maximum(before, tl.max(tl.where(cut & ~enough, threshold, -1), 1))
            unfinished = tl.max((last - before > 1).to(tl.int32), 0)

    words = tl.cdiv(N, 32)
    bits += window * words * N
    for first in range(0, N, BN):
        column = first + lane
        if IN_REGISTERS:
            order = kept
        else:
            order = similarity_order(nodes, row, column, nodes_n, N, C, BM, BN, BC, ALIGN, PRECISION)
        chosen = (order > highest) | ((order >= lowest) & (column[None, :] <= last[:, None]))
        flag = tl.reshape(chosen.to(tl.int8), (BM, BN // 32, 32))
        word = tl.sum(flag.to(tl.int32) << tl.arange(0, 32)[None, None, :], 2)  # [BM, BN // 32]
        number = first // 32 + tl.arange(0, BN // 32)
        to = bits + number[None, :] * N + row[:, None]
        tl.store(to, word, mask=(row < N)[:, None] & (number < words)[None, :])


@triton.jit
def list_neighbours(bits, index, N, K, BM: tl.constexpr, BN: tl.constexpr):
    """Neighbours [W, N, K], ascending, from the bits."""
    program = tl.program_id(0)
    blocks = tl.cdiv(N, BM)
    window = (program // blocks).to(tl.int64)
    row = program % blocks * BM + tl.arange(0, BM)
    bits += window * tl.cdiv(N, 32) * N
    index += window * N * K
    listed = tl.zeros([BM], tl.int32)
    for first in range(0, N, BN):
        column = first + tl.arange(0, BN)
        inside = (row < N)[:, None] & (column < N)[None, :]
        word = tl.load(bits + (column // 32)[None, :] * N + row[:, None], mask=inside, other=0)
        chosen = (word >> (column & 31)[None, :]) & 1  # [BM, BN]
        slot = listed[:, None] + tl.cumsum(chosen, 1) - 1
        values = tl.broadcast_to(column[None, :], (BM, BN)).to(index.dtype.element_ty)
        tl.store(index + row[:, None].to(tl.int64) * K + slot, values, mask=(chosen != 0) & (slot < K))
        listed += tl.sum(chosen, 1)


def plan_choice(nodes: Tensor, k: int) -> tuple[list[Launch], Tensor, Tensor]:
    """What chooses the neighbours, and the index [W, N, K] and bits [W, ceil(N/32), N] that it fills."""
    windows, num_nodes, channels = nodes.shape
    nodes = rows(nodes)
    index, bits = _room(nodes, k)
    padded = max(32, next_power(num_nodes))
    in_registers = num_nodes <= RESIDENT
    block = 16
    # A round in registers is cheap, and halving then needs the fewest comparisons; else rounds are what costs.
    parts = 2 if in_registers else 16
    programs = windows * -(-num_nodes // block)
    values = {"nodes": nodes, "bits": bits, "index": index, "N": num_nodes, "C": channels, "K": k, "BM": block}
    search = {"PARTS": parts, "IN_REGISTERS": in_registers}
    search |= {"ROUNDS": _rounds(2**32, parts), "TIE_ROUNDS": _rounds(num_nodes, parts)}
    products = {"ALIGN": alignment(nodes), "PRECISION": dot_precision(nodes), "BC": CHANNELS}
    products["BN"] = padded if in_registers else 128
    warps = max(4, padded // 64) if in_registers else 8
    # Loads in advance would take the registers that the similarities need.
    choice = Launch(choose_neighbours, programs, {**values, **search, **products}, num_warps=warps, num_stages=1)
    return [choice, Launch(list_neighbours, programs, {**values, "BN": 128})], index, bits


@torch.library.custom_op("kgt::choose_neighbours", mutates_args=())
def choose(nodes: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Neighbours [W, N, K], int32, ascending, and bits [W, ceil(N/32), N], int32, of the Key-Graph of nodes [W, N, C].

    Of equal similarities the smaller index wins. Nodes are float32, float16 or bfloat16 on a GPU.
    """
    with torch.cuda.device_of(nodes):
        launches, index, bits = plan_choice(nodes, k)
        for launch in launches:
            launch.run()
    return index, bits


@choose.register_fake
def _room(nodes: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Unset neighbours and bits."""
    windows, num_nodes, _ = nodes.shape
    index = torch.empty((windows, num_nodes, k), dtype=torch.int32, device=nodes.device)
    return index, torch.empty((windows, -(-num_nodes // 32), num_nodes), dtype=torch.int32, device=nodes.device)


choose.register_vmap(one_by_one(choose))


def _rounds(values: int, parts: int) -> int:
    """Rounds that narrow an interval of so many whole numbers down to one."""
    rounds = 0
    while values > 1:
        rounds, values = rounds + 1, -(-values // parts)
    return rounds
