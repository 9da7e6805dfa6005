"""Attention over neighbour lists as Triton kernels: every program reads only the k keys and values of its nodes.

Shapes: W windows, H heads, N = M*M nodes, K neighbours, D head width (BD padded to a power of two), E = (2M-1)**2
entries of the bias table; a program holds BQ queries and BK of their neighbours, or BJ keys and BS of the nodes that
have them as neighbours. ``q_w``, ``q_h``, ``q_n`` are strides of q.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kgt_lightning.ops.attention.triton_call import Backward, Forward
from kgt_lightning.ops.kernels.triton_launch import Launch, rows
from kgt_lightning.ops.kernels.triton_tiles import (
    bias_part,
    load_lists,
    load_rows,
    place,
    store_heads,
    store_rows,
)  # fmt: skip

TILE = 4096
"""Numbers of gathered keys that a program of four warps holds at once: 32 in every thread."""


@triton.jit
def lists_forward(
    q, k, v, index, table, out, lse,
    q_w, q_h, q_n, k_w, k_h, k_n, v_w, v_h, v_n,
    index_w, index_n,
    scale, H, N, M, K,
    D: tl.constexpr, BD: tl.constexpr, BQ: tl.constexpr, BK: tl.constexpr, BIAS: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    """Output [W, H, N, D] and lse [W, H, N]."""
    block, head, window = place(N, H, BQ)
    query = block * BQ + tl.arange(0, BQ)  # [BQ]
    inside = query < N
    k += window * k_w + head * k_h
    v += window * v_w + head * v_h
    base = q + window * q_w + head * q_h
    q_tile = load_rows(base, query, q_n, inside, D, BD, ALIGN).to(tl.float32)  # [BQ, BD]

    top = tl.full([BQ], -float("inf"), tl.float32)
    total = tl.zeros([BQ], tl.float32)
    acc = tl.zeros([BQ, BD], tl.float32)
    for first in range(0, K, BK):
        slot = first + tl.arange(0, BK)
        valid = inside[:, None] & (slot < K)[None, :]  # [BQ, BK]
        key = tl.load(index + window * index_w + query[:, None] * index_n + slot[None, :], mask=valid, other=0)
        key = key.to(tl.int32)
        k_tile = load_lists(k, key, k_n, valid, D, BD, ALIGN)  # [BQ, BK, BD]
        score = tl.sum(q_tile[:, None, :] * k_tile, 2) * (scale * 1.4426950408889634)  # [BQ, BK]
        if BIAS:
            entry = bias_part(query, M)[:, None] - bias_part(key, M) + 2 * M * (M - 1)
            bias = tl.load(table + head * (2 * M - 1) * (2 * M - 1) + entry, mask=valid, other=0.0)
            score += bias.to(tl.float32) * 1.4426950408889634
        score = tl.where(valid, score, -float("inf"))
        new_top = tl.maximum(top, tl.max(score, 1))
        # A row beyond the window, or whose neighbours so far have a bias of minus infinity, has no finite score.
        finite = tl.where(new_top == -float("inf"), 0.0, new_top)
        weight = tl.exp2(score - finite[:, None])  # [BQ, BK]
        shrink = tl.exp2(top - finite)
        v_tile = load_lists(v, key, v_n, valid, D, BD, ALIGN)  # [BQ, BK, BD]
        total = total * shrink + tl.sum(weight, 1)
        acc = acc * shrink[:, None] + tl.sum(weight[:, :, None] * v_tile, 1)
        top = new_top

    total = tl.where(inside, total, 1.0)
    store_heads(out, window, head, query, inside, acc / total[:, None], H, N, D, BD, ALIGN)
    tl.store(lse + (window * H + head) * N + query, top + tl.log2(total), mask=inside)


@triton.jit
def lists_backward_queries(
    q, k, v, index, table, out, lse, grad_out, delta, grad_q, table_sum,
    q_w, q_h, q_n, k_w, k_h, k_n, v_w, v_h, v_n,
    out_w, out_h, out_n, grad_out_w, grad_out_h, grad_out_n, grad_q_w, grad_q_h, grad_q_n,
    index_w, index_n,
    scale, H, N, M, K,
    D: tl.constexpr, BD: tl.constexpr, BQ: tl.constexpr, BK: tl.constexpr, BIAS: tl.constexpr, ALIGN: tl.constexpr,
    ATOMIC: tl.constexpr,
):  # fmt: skip
    """Gradient of q, and delta [W, H, N] = out . grad_out; with ATOMIC the sum for the table as well."""
    # place, base2_score and store_heads, which compute the same, would take 160 registers a thread here, not 128.
    program = tl.program_id(0)
    blocks = tl.cdiv(N, BQ)
    head = program // blocks % H
    window = (program // blocks // H).to(tl.int64)
    query = program % blocks * BQ + tl.arange(0, BQ)  # [BQ]
    inside = query < N
    plane = window * H + head
    k += window * k_w + head * k_h
    v += window * v_w + head * v_h
    base = q + window * q_w + head * q_h
    q_tile = load_rows(base, query, q_n, inside, D, BD, ALIGN).to(tl.float32)  # [BQ, BD]
    base = out + window * out_w + head * out_h
    out_tile = load_rows(base, query, out_n, inside, D, BD, ALIGN).to(tl.float32)  # [BQ, BD]
    base = grad_out + window * grad_out_w + head * grad_out_h
    grad_out_tile = load_rows(base, query, grad_out_n, inside, D, BD, ALIGN).to(tl.float32)  # [BQ, BD]
    delta_tile = tl.sum(out_tile * grad_out_tile, 1)  # [BQ]
    tl.store(delta + plane * N + query, delta_tile, mask=inside)
    lse_tile = tl.load(lse + plane * N + query, mask=inside, other=0.0)

    acc = tl.zeros([BQ, BD], tl.float32)
    for first in range(0, K, BK):
        slot = first + tl.arange(0, BK)
        valid = inside[:, None] & (slot < K)[None, :]  # [BQ, BK]
        key = tl.load(index + window * index_w + query[:, None] * index_n + slot[None, :], mask=valid, other=0)
        key = key.to(tl.int32)
        k_tile = load_lists(k, key, k_n, valid, D, BD, ALIGN)  # [BQ, BK, BD]
        v_tile = load_lists(v, key, v_n, valid, D, BD, ALIGN)  # [BQ, BK, BD]
        score = tl.sum(q_tile[:, None, :] * k_tile, 2) * (scale * 1.4426950408889634)  # [BQ, BK]
        entry = bias_part(query, M)[:, None] - bias_part(key, M) + 2 * M * (M - 1)
        entry += head * (2 * M - 1) * (2 * M - 1)
        if BIAS:
            score += tl.load(table + entry, mask=valid, other=0.0).to(tl.float32) * 1.4426950408889634
        weight = tl.where(valid, tl.exp2(score - lse_tile[:, None]), 0.0)
        grad_weight = tl.sum(grad_out_tile[:, None, :] * v_tile, 2)
        grad_score = weight * (grad_weight - delta_tile[:, None])  # [BQ, BK]
        acc += tl.sum(grad_score[:, :, None] * k_tile, 1)
        if ATOMIC:
            tl.atomic_add(table_sum + entry, grad_score, mask=valid, sem="relaxed")

    base = grad_q + window * grad_q_w + head * grad_q_h
    store_rows(base, query, grad_q_n, inside, acc * scale, D, BD, ALIGN)


@triton.jit
def lists_backward_keys(
    q, k, v, sources, starts, table, lse, grad_out, delta, grad_k, grad_v,
    q_w, q_h, q_n, k_w, k_h, k_n, v_w, v_h, v_n,
    grad_out_w, grad_out_h, grad_out_n,
    scale, H, N, M, K,
    D: tl.constexpr, BD: tl.constexpr, BJ: tl.constexpr, BS: tl.constexpr, BIAS: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    """Gradients of k and v: every key sums over the nodes that have it as a neighbour, always in the same order."""
    block, head, window = place(N, H, BJ)
    key = block * BJ + tl.arange(0, BJ)  # [BJ]
    inside = key < N
    plane = window * H + head
    q += window * q_w + head * q_h
    grad_out += window * grad_out_w + head * grad_out_h
    base = k + window * k_w + head * k_h
    k_tile = load_rows(base, key, k_n, inside, D, BD, ALIGN).to(tl.float32)  # [BJ, BD]
    base = v + window * v_w + head * v_h
    v_tile = load_rows(base, key, v_n, inside, D, BD, ALIGN).to(tl.float32)  # [BJ, BD]
    start = tl.load(starts + window * (N + 1) + key, mask=inside, other=0)
    length = tl.load(starts + window * (N + 1) + key + 1, mask=inside, other=0) - start  # [BJ]

    acc_k = tl.zeros([BJ, BD], tl.float32)
    acc_v = tl.zeros([BJ, BD], tl.float32)
    for first in range(0, tl.max(length, 0), BS):
        slot = first + tl.arange(0, BS)
        valid = slot[None, :] < length[:, None]  # [BJ, BS]
        query = tl.load(sources + window * N * K + start[:, None] + slot[None, :], mask=valid, other=0)
        q_tile = load_lists(q, query, q_n, valid, D, BD, ALIGN)  # [BJ, BS, BD]
        grad_out_tile = load_lists(grad_out, query, grad_out_n, valid, D, BD, ALIGN)  # [BJ, BS, BD]
        score = tl.sum(q_tile * k_tile[:, None, :], 2) * (scale * 1.4426950408889634)  # [BJ, BS]
        if BIAS:
            entry = bias_part(query, M) - bias_part(key, M)[:, None] + 2 * M * (M - 1)
            bias = tl.load(table + head * (2 * M - 1) * (2 * M - 1) + entry, mask=valid, other=0.0)
            score += bias.to(tl.float32) * 1.4426950408889634
        lse_tile = tl.load(lse + plane * N + query, mask=valid, other=0.0)
        delta_tile = tl.load(delta + plane * N + query, mask=valid, other=0.0)
        weight = tl.where(valid, tl.exp2(score - lse_tile), 0.0)  # [BJ, BS]
        grad_weight = tl.sum(grad_out_tile * v_tile[:, None, :], 2)
        grad_score = weight * (grad_weight - delta_tile)
        acc_v += tl.sum(weight[:, :, None] * grad_out_tile, 1)
        acc_k += tl.sum(grad_score[:, :, None] * q_tile, 1)

    store_heads(grad_k, window, head, key, inside, acc_k * scale, H, N, D, BD, ALIGN)
    store_heads(grad_v, window, head, key, inside, acc_v, H, N, D, BD, ALIGN)


def plan_forward(call: Forward) -> list[Launch]:
    """Launches that fill out and lse."""
    neighbours = _neighbours_at_once(call)
    # Half a tile for wide heads and for float32: a whole one spills registers on sm_90 and sm_100.
    halves = 2 if call.padded_width > 32 or call.q.dtype == torch.float32 else 1
    queries = TILE // (call.padded_width * neighbours) // halves
    values = {"index": _index(call), "BQ": queries, "BK": neighbours}
    return [call.launch(lists_forward, call.programs(queries), values)]


def plan_backward(call: Backward, *, deterministic: bool) -> tuple[list[Launch], Tensor | None]:
    """Launches that fill delta and the gradients, and the table's gradient [1, H, E], float32, unless deterministic.

    It is summed by atomic additions, whose order, and so the last bits of the result, changes from run to run. The
    gradients of k and v need none.
    """
    table_sum = None
    if call.table is not None and not deterministic:
        table_sum = call.table.new_zeros((1, *call.table.shape), dtype=torch.float32)
    neighbours = _neighbours_at_once(call)
    queries = TILE // (call.padded_width * neighbours)
    lists = {"index": _index(call), "table_sum": table_sum, "ATOMIC": table_sum is not None}
    transposed = {**vars(call.graph.transposed), "BJ": 1, "BS": TILE // (4 * call.padded_width)}
    return [
        call.launch(lists_backward_queries, call.programs(queries), {**lists, "BQ": queries, "BK": neighbours}),
        # The lists differ in length, up to N for a neighbour of all nodes: one key a program wastes least.
        call.launch(lists_backward_keys, call.programs(1), transposed, num_warps=1),
    ], table_sum


def _neighbours_at_once(call: Forward) -> int:
    return min(32, TILE // (4 * call.padded_width))


def _index(call: Forward) -> Tensor:
    """[W, N, K]; checked unless the fused constructor made it, because the kernels read wherever it points."""
    return rows(call.graph.index32 if call.graph.bits is None else call.graph.index)
