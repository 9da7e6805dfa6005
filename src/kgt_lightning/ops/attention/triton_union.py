"""Attention over tile unions as Triton kernels: the 16 queries of a 4 x 4 patch share one list of gathered keys.

Nodes that lie together have most neighbours in common, so that the list is little longer than that of one query.
Scores, softmax and values run as dense tiles on the tensor cores; a bit for each query and key leaves out the pairs
that are no neighbours. Forward and backward follow FlashAttention-2 (arXiv 2307.08691): queries, then keys, each with
its own pass and its own lists, so that no atomic addition is needed but for the table's gradient.

Shapes: W windows, H heads, N = M*M nodes, T tiles of 16 nodes, L entries of a list, D head width (BD padded to a power
of two). A program owns a tile and meets the nodes of its list STEP at a time. ``q_w``, ``q_h``, ``q_n`` are strides of
q. M is SIDE where it divides, a constant, because division by a variable would cost more than the products.
"""

from dataclasses import replace
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from kgt_lightning.ops.attention.triton_call import Backward, Forward
from kgt_lightning.ops.kernels.triton_launch import Launch, window_side
from kgt_lightning.ops.kernels.triton_tiles import (
    LOG2E,
    bias_origin,
    bias_part,
    dot,
    gather_rows,
    load_rows,
    store_heads,
    tile_nodes,
)  # fmt: skip
from kgt_lightning.ops.kernels.triton_tuned import tuned
from kgt_lightning.ops.key_graph.forms import TileUnions
from kgt_lightning.ops.key_graph.triton_unions import STEP


@triton.jit
def tile_place(lengths, H, T):
    """Tile, head, window, int64, of this program, the number of its list, and the length of it."""
    program = tl.program_id(0)
    tile = program % T
    window = (program // T // H).to(tl.int64)
    row = window * T + tile
    return tile, program // T % H, window, row, tl.load(lengths + row)


@triton.jit
def take(entries, first, STEP: tl.constexpr):
    """Entries [STEP] of a list from place first on, and the nodes they name."""
    entry = tl.load(entries + first + tl.arange(0, STEP))
    return entry, entry & 0xFFFF


@triton.jit
def tile_score(product, scale, table, tile_part, other_part, edge, BIAS: tl.constexpr):
    """Scores [16, STEP] in natural units; minus infinity where there is no edge."""
    score = product * scale
    if BIAS:
        # Every pair has an entry, whether it is an edge or not: a load without a mask is one instruction.
        score += tl.load(table + (tile_part[:, None] + other_part[None, :])).to(tl.float32)
    return tl.where(edge, score, -float("inf"))


@triton.jit
def union_forward(
    q, k, v, entries, lengths, table, out, lse, q_w, q_h, q_n, k_w, k_h, k_n, v_w, v_h, v_n, scale, H, N, T, L,
    SIDE: tl.constexpr, D: tl.constexpr, BD: tl.constexpr, STEP: tl.constexpr, BIAS: tl.constexpr, ALIGN: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Output [W, H, N, D] and lse [W, H, N]."""
    tile, head, window, row, length = tile_place(lengths, H, T)
    query, inside, lane = tile_nodes(tile, N, SIDE)
    k += window * k_w + head * k_h
    v += window * v_w + head * v_h
    entries += row * L
    if BIAS:
        table += bias_origin(head, SIDE)
    q_tile = load_rows(q + window * q_w + head * q_h, query, q_n, inside, D, BD, ALIGN)  # [16, BD]
    member = 65536 << lane
    query_part = bias_part(query, SIDE)

    top = tl.full([16], -float("inf"), tl.float32)
    total = tl.zeros([16], tl.float32)
    acc = tl.zeros([16, BD], tl.float32)
    for first in range(0, length, STEP):
        entry, key = take(entries, first, STEP)
        k_tile = gather_rows(k, key, k_n, D, BD, ALIGN)  # [STEP, BD]
        edge = (entry[None, :] & member[:, None]) != 0  # [16, STEP]
        product = dot(q_tile, tl.trans(k_tile), None, PRECISION)
        score = tile_score(product, scale, table, query_part, -bias_part(key, SIDE), edge, BIAS)
        new_top = tl.maximum(top, tl.max(score, 1))
        # A query may have no finite score so far: it lies beyond the window, its neighbours come later in the list, or
        # their biases are minus infinity.
        finite = tl.where(new_top == -float("inf"), 0.0, new_top) * LOG2E
        weight = tl.exp2(score * LOG2E - finite[:, None])
        shrink = tl.exp2(top * LOG2E - finite)
        total = total * shrink + tl.sum(weight, 1)
        v_tile = gather_rows(v, key, v_n, D, BD, ALIGN)  # [STEP, BD]
        acc = dot(weight.to(v_tile.dtype), v_tile, acc * shrink[:, None], PRECISION)
        top = new_top

    total = tl.where(inside, total, 1.0)
    store_heads(out, window, head, query, inside, acc / total[:, None], H, N, D, BD, ALIGN)
    tl.store(lse + (window * H + head) * N + query, top * LOG2E + tl.log2(total), mask=inside)


@triton.jit
def union_backward_queries(
    q, k, v, entries, lengths, table, out, lse, grad_out, delta, grad_q, table_sum,
    q_w, q_h, q_n, k_w, k_h, k_n, v_w, v_h, v_n, out_w, out_h, out_n, grad_out_w, grad_out_h, grad_out_n,
    scale, H, N, T, L,
    SIDE: tl.constexpr, D: tl.constexpr, BD: tl.constexpr, STEP: tl.constexpr, BIAS: tl.constexpr, ALIGN: tl.constexpr,
    PRECISION: tl.constexpr, ATOMIC: tl.constexpr,
):  # fmt: skip
    """Gradient of q, and delta [W, H, N] = out . grad_out; with ATOMIC the sum for the table as well."""
    tile, head, window, row, length = tile_place(lengths, H, T)
    query, inside, lane = tile_nodes(tile, N, SIDE)
    at = (window * H + head) * N + query
    k += window * k_w + head * k_h
    v += window * v_w + head * v_h
    entries += row * L
    if BIAS:
        table += bias_origin(head, SIDE)
    q_tile = load_rows(q + window * q_w + head * q_h, query, q_n, inside, D, BD, ALIGN)  # [16, BD]
    out_tile = load_rows(out + window * out_w + head * out_h, query, out_n, inside, D, BD, ALIGN)
    grad_base = grad_out + window * grad_out_w + head * grad_out_h
    grad_out_tile = load_rows(grad_base, query, grad_out_n, inside, D, BD, ALIGN)  # [16, BD]
    delta_tile = tl.sum(out_tile.to(tl.float32) * grad_out_tile.to(tl.float32), 1)  # [16]
    tl.store(delta + at, delta_tile, mask=inside)
    lse_tile = tl.load(lse + at, mask=inside, other=0.0)
    member = 65536 << lane
    query_part = bias_part(query, SIDE)

    acc = tl.zeros([16, BD], tl.float32)
    for first in range(0, length, STEP):
        entry, key = take(entries, first, STEP)
        k_tile = gather_rows(k, key, k_n, D, BD, ALIGN)  # [STEP, BD]
        v_tile = gather_rows(v, key, v_n, D, BD, ALIGN)  # [STEP, BD]
        edge = (entry[None, :] & member[:, None]) != 0  # [16, STEP]
        key_part = -bias_part(key, SIDE)
        product = dot(q_tile, tl.trans(k_tile), None, PRECISION)
        score = tile_score(product, scale, table, query_part, key_part, edge, BIAS)
        weight = tl.exp2(score * LOG2E - lse_tile[:, None])
        grad_weight = dot(grad_out_tile, tl.trans(v_tile), None, PRECISION)
        grad_score = weight * (grad_weight - delta_tile[:, None])
        acc = dot(grad_score.to(k_tile.dtype), k_tile, acc, PRECISION)
        if ATOMIC:
            place = table_sum + bias_origin(head, SIDE) + (query_part[:, None] + key_part[None, :])
            tl.atomic_add(place, grad_score, mask=edge, sem="relaxed")

    store_heads(grad_q, window, head, query, inside, acc * scale, H, N, D, BD, ALIGN)


@triton.jit
def union_backward_keys(
    q, k, v, entries, lengths, table, lse, grad_out, delta, grad_k, grad_v,
    q_w, q_h, q_n, k_w, k_h, k_n, v_w, v_h, v_n, grad_out_w, grad_out_h, grad_out_n, scale, H, N, T, L,
    SIDE: tl.constexpr, D: tl.constexpr, BD: tl.constexpr, STEP: tl.constexpr, BIAS: tl.constexpr, ALIGN: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of k and v over the transposed lists: a tile of keys meets the queries that have one of them."""
    tile, head, window, row, length = tile_place(lengths, H, T)
    key, inside, lane = tile_nodes(tile, N, SIDE)
    plane = (window * H + head) * N
    q += window * q_w + head * q_h
    grad_out += window * grad_out_w + head * grad_out_h
    entries += row * L
    if BIAS:
        table += bias_origin(head, SIDE)
    k_tile = load_rows(k + window * k_w + head * k_h, key, k_n, inside, D, BD, ALIGN)  # [16, BD]
    v_tile = load_rows(v + window * v_w + head * v_h, key, v_n, inside, D, BD, ALIGN)  # [16, BD]
    member = 65536 << lane
    key_part = -bias_part(key, SIDE)

    acc_k = tl.zeros([16, BD], tl.float32)
    acc_v = tl.zeros([16, BD], tl.float32)
    for first in range(0, length, STEP):
        entry, query = take(entries, first, STEP)
        q_tile = gather_rows(q, query, q_n, D, BD, ALIGN)  # [STEP, BD]
        grad_out_tile = gather_rows(grad_out, query, grad_out_n, D, BD, ALIGN)  # [STEP, BD]
        lse_tile = tl.load(lse + plane + query)
        delta_tile = tl.load(delta + plane + query)
        edge = (entry[None, :] & member[:, None]) != 0  # [16, STEP]
        product = dot(k_tile, tl.trans(q_tile), None, PRECISION)
        score = tile_score(product, scale, table, key_part, bias_part(query, SIDE), edge, BIAS)
        weight = tl.exp2(score * LOG2E - lse_tile[None, :])
        acc_v = dot(weight.to(grad_out_tile.dtype), grad_out_tile, acc_v, PRECISION)
        grad_weight = dot(v_tile, tl.trans(grad_out_tile), None, PRECISION)
        grad_score = weight * (grad_weight - delta_tile[None, :])
        acc_k = dot(grad_score.to(q_tile.dtype), q_tile, acc_k, PRECISION)

    store_heads(grad_k, window, head, key, inside, acc_k * scale, H, N, D, BD, ALIGN)
    store_heads(grad_v, window, head, key, inside, acc_v, H, N, D, BD, ALIGN)


def plan_forward(call: Forward) -> list[Launch]:
    """Launches that fill out and lse."""
    return [_launch(call, union_forward, call.unions)]


def plan_backward(call: Backward, *, deterministic: bool) -> tuple[list[Launch], Tensor | None]:
    """Launches that fill delta and the gradients, and the table's gradient [1, H, E], float32, unless deterministic.

    It is summed by atomic additions, whose order, and so the last bits of the result, changes from run to run.
    """
    table_sum = None
    if call.table is not None and not deterministic:
        table_sum = call.table.new_zeros((1, *call.table.shape), dtype=torch.float32)
    sums = {"table_sum": table_sum, "ATOMIC": table_sum is not None}
    return [
        _launch(call, union_backward_queries, call.unions, sums),
        _launch(call, union_backward_keys, call.transposed),
    ], table_sum


def _launch(call: Forward, kernel: Any, unions: TileUnions, values: dict[str, Any] | None = None) -> Launch:
    windows, tiles, room = unions.entries.shape
    # One warp a tile, more for wide heads, whose rows it could not hold in registers; where these are the widest, AMD's
    # compiler has none left for loads in advance.
    row_bytes = call.padded_width * call.q.element_size()
    stages = 1 if torch.version.hip is not None and row_bytes > 256 else 2
    usual = min(8, max(1, row_bytes // 64)), stages
    warps, stages = tuned(kernel.__name__, call.q.dtype, call.padded_width, usual)
    sizes = {"T": tiles, "L": room, "SIDE": window_side(call.q.shape[2]), "STEP": STEP}
    values = {**vars(unions), **sizes, **(values or {})}
    return replace(call.launch(kernel, windows * tiles * call.q.shape[1], values, num_warps=warps), num_stages=stages)
