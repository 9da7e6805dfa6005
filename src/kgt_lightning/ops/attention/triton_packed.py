"""Attention under a packed bit mask as Triton kernels: blocks on the tensor cores, those without an edge skipped.

Forward and backward follow FlashAttention-2 (arXiv 2307.08691): queries, then keys, each with its own pass. The
gradient of the bias table has a third pass, over pairs of window rows: all pairs of two rows that lie dy apart meet the
same 2M-1 entries, so that their gradients add up in one tile, whose diagonals are summed once; no atomic addition is
needed.

Shapes: W windows, H heads, N = M*M nodes, D head width (BD padded to a power of two), B blocks of BLOCK nodes,
BX nodes of a window row, BC entries of a head. A program owns BLOCK nodes and meets the others STEP at a time.
``q_w``, ``q_h``, ``q_n`` are strides of q.
"""

import math
from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from kgt_lightning.ops.attention.triton_call import Backward, Forward
from kgt_lightning.ops.kernels.triton_launch import Launch, next_power
from kgt_lightning.ops.kernels.triton_tiles import (
    LOG2E,
    base2_score,
    bias_part,
    dot,
    load_rows,
    place,
    softmax_step,
    store_heads,
)  # fmt: skip
from kgt_lightning.ops.key_graph.forms import BLOCK, BlockList


@triton.jit
def step_start(blocks, i, BLOCK: tl.constexpr, STEP: tl.constexpr):
    """First node of step i through the listed blocks."""
    return tl.load(blocks + i // (BLOCK // STEP)) * BLOCK + i % (BLOCK // STEP) * STEP


@triton.jit
def edges(bits, first, query, key, inside, N):
    """[queries, keys], bool: whether the keys, which begin at node first, are neighbours."""
    word = tl.load(bits + first // 32 * N + query, mask=inside & (first < N), other=0)
    return ((word[:, None] >> (key & 31)[None, :]) & 1) != 0


@triton.jit
def packed_forward(
    q, k, v, bits, blocks, counts, table, out, lse, q_w, q_h, q_n, k_w, k_h, k_n, v_w, v_h, v_n, scale, H, N, M,
    D: tl.constexpr, BD: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr, BIAS: tl.constexpr, ALIGN: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Output [W, H, N, D] and lse [W, H, N]."""
    block, head, window = place(N, H, BLOCK)
    query = block * BLOCK + tl.arange(0, BLOCK)
    inside = query < N
    k += window * k_w + head * k_h
    v += window * v_w + head * v_h
    bits += window * tl.cdiv(N, 32) * N
    row = window * tl.cdiv(N, BLOCK) + block
    blocks += row * tl.cdiv(N, BLOCK)
    q_tile = load_rows(q + window * q_w + head * q_h, query, q_n, inside, D, BD, ALIGN)  # [BLOCK, BD]
    query_part = bias_part(query, M)

    top = tl.full([BLOCK], -float("inf"), tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    acc = tl.zeros([BLOCK, BD], tl.float32)
    for i in range(tl.load(counts + row) * (BLOCK // STEP)):
        first = step_start(blocks, i, BLOCK, STEP)
        key = first + tl.arange(0, STEP)
        k_tile = load_rows(k, key, k_n, key < N, D, BD, ALIGN)  # [STEP, BD]
        edge = edges(bits, first, query, key, inside, N)  # [BLOCK, STEP]
        entry = query_part[:, None] - bias_part(key, M)[None, :]
        score = base2_score(dot(q_tile, tl.trans(k_tile), None, PRECISION), scale, table, head, M, entry, edge, BIAS)
        score = tl.where(edge, score, -float("inf"))
        weight, shrink, top, total = softmax_step(score, top, total)
        v_tile = load_rows(v, key, v_n, key < N, D, BD, ALIGN)  # [STEP, BD]
        acc = dot(weight.to(v_tile.dtype), v_tile, acc * shrink[:, None], PRECISION)

    total = tl.where(inside, total, 1.0)
    store_heads(out, window, head, query, inside, acc / total[:, None], H, N, D, BD, ALIGN)
    tl.store(lse + (window * H + head) * N + query, top + tl.log2(total), mask=inside)


@triton.jit
def packed_backward_queries(
    q, k, v, bits, blocks, counts, table, out, lse, grad_out, delta, grad_q,
    q_w, q_h, q_n, k_w, k_h, k_n, v_w, v_h, v_n, out_w, out_h, out_n, grad_out_w, grad_out_h, grad_out_n,
    scale, H, N, M,
    D: tl.constexpr, BD: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr, BIAS: tl.constexpr, ALIGN: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradient of q, and delta [W, H, N] = out . grad_out."""
    block, head, window = place(N, H, BLOCK)
    query = block * BLOCK + tl.arange(0, BLOCK)
    inside = query < N
    at = (window * H + head) * N + query
    q += window * q_w + head * q_h
    k += window * k_w + head * k_h
    v += window * v_w + head * v_h
    out += window * out_w + head * out_h
    grad_out += window * grad_out_w + head * grad_out_h
    bits += window * tl.cdiv(N, 32) * N
    row = window * tl.cdiv(N, BLOCK) + block
    blocks += row * tl.cdiv(N, BLOCK)
    q_tile = load_rows(q, query, q_n, inside, D, BD, ALIGN)  # [BLOCK, BD]
    out_tile = load_rows(out, query, out_n, inside, D, BD, ALIGN)  # [BLOCK, BD]
    grad_out_tile = load_rows(grad_out, query, grad_out_n, inside, D, BD, ALIGN)  # [BLOCK, BD]
    delta_tile = tl.sum(out_tile.to(tl.float32) * grad_out_tile.to(tl.float32), 1)  # [BLOCK]
    tl.store(delta + at, delta_tile, mask=inside)
    lse_tile = tl.load(lse + at, mask=inside, other=0.0)
    query_part = bias_part(query, M)

    acc = tl.zeros([BLOCK, BD], tl.float32)
    for i in range(tl.load(counts + row) * (BLOCK // STEP)):
        first = step_start(blocks, i, BLOCK, STEP)
        key = first + tl.arange(0, STEP)
        k_tile = load_rows(k, key, k_n, key < N, D, BD, ALIGN)  # [STEP, BD]
        v_tile = load_rows(v, key, v_n, key < N, D, BD, ALIGN)  # [STEP, BD]
        edge = edges(bits, first, query, key, inside, N)  # [BLOCK, STEP]
        entry = query_part[:, None] - bias_part(key, M)[None, :]
        score = base2_score(dot(q_tile, tl.trans(k_tile), None, PRECISION), scale, table, head, M, entry, edge, BIAS)
        weight = tl.where(edge, tl.exp2(score - lse_tile[:, None]), 0.0)
        grad_weight = dot(grad_out_tile, tl.trans(v_tile), None, PRECISION)
        grad_score = weight * (grad_weight - delta_tile[:, None])
        acc = dot(grad_score.to(k_tile.dtype), k_tile, acc, PRECISION)

    store_heads(grad_q, window, head, query, inside, acc * scale, H, N, D, BD, ALIGN)


@triton.jit
def packed_backward_keys(
    q, k, v, bits, blocks, counts, table, lse, grad_out, delta, grad_k, grad_v,
    q_w, q_h, q_n, k_w, k_h, k_n, v_w, v_h, v_n, grad_out_w, grad_out_h, grad_out_n, scale, H, N, M,
    D: tl.constexpr, BD: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr, BIAS: tl.constexpr, ALIGN: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of k and v; the tiles of scores are transposed, so that the same bits serve both directions."""
    block, head, window = place(N, H, BLOCK)
    lane = tl.arange(0, BLOCK)
    key = block * BLOCK + lane
    inside = key < N
    plane = (window * H + head) * N
    q += window * q_w + head * q_h
    k += window * k_w + head * k_h
    v += window * v_w + head * v_h
    grad_out += window * grad_out_w + head * grad_out_h
    words = tl.cdiv(N, 32)
    word = 2 * block
    bits += window * words * N
    column = window * tl.cdiv(N, BLOCK) + block
    blocks += column * tl.cdiv(N, BLOCK)
    k_tile = load_rows(k, key, k_n, inside, D, BD, ALIGN)  # [BLOCK, BD]
    v_tile = load_rows(v, key, v_n, inside, D, BD, ALIGN)  # [BLOCK, BD]
    key_part = bias_part(key, M)

    acc_k = tl.zeros([BLOCK, BD], tl.float32)
    acc_v = tl.zeros([BLOCK, BD], tl.float32)
    for i in range(tl.load(counts + column) * (BLOCK // STEP)):
        query = step_start(blocks, i, BLOCK, STEP) + tl.arange(0, STEP)
        q_tile = load_rows(q, query, q_n, query < N, D, BD, ALIGN)  # [STEP, BD]
        grad_out_tile = load_rows(grad_out, query, grad_out_n, query < N, D, BD, ALIGN)  # [STEP, BD]
        lse_tile = tl.load(lse + plane + query, mask=query < N, other=0.0)
        delta_tile = tl.load(delta + plane + query, mask=query < N, other=0.0)
        low = tl.load(bits + word * N + query, mask=query < N, other=0)
        high = tl.load(bits + (word + 1) * N + query, mask=(query < N) & (word + 1 < words), other=0)
        column_bits = tl.where(lane[:, None] < 32, low[None, :], high[None, :])
        edge = ((column_bits >> (lane[:, None] & 31)) & 1) != 0  # [BLOCK, STEP]
        entry = bias_part(query, M)[None, :] - key_part[:, None]
        score = base2_score(dot(k_tile, tl.trans(q_tile), None, PRECISION), scale, table, head, M, entry, edge, BIAS)
        weight = tl.where(edge, tl.exp2(score - lse_tile[None, :]), 0.0)
        acc_v = dot(weight.to(q_tile.dtype), grad_out_tile, acc_v, PRECISION)
        grad_weight = dot(v_tile, tl.trans(grad_out_tile), None, PRECISION)
        grad_score = weight * (grad_weight - delta_tile[None, :])
        acc_k = dot(grad_score.to(q_tile.dtype), q_tile, acc_k, PRECISION)

    store_heads(grad_k, window, head, key, inside, acc_k * scale, H, N, D, BD, ALIGN)
    store_heads(grad_v, window, head, key, inside, acc_v, H, N, D, BD, ALIGN)


@triton.jit
def backward_bias(
    q, k, v, bits, table, lse, grad_out, delta, partial,
    q_w, q_h, q_n, k_w, k_h, k_n, v_w, v_h, v_n, grad_out_w, grad_out_h, grad_out_n,
    scale, H, N, M, W, windows_each,
    D: tl.constexpr, BC: tl.constexpr, BX: tl.constexpr, ALIGN: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradient of the table, in parts [groups of windows * blocks of a row squared, H, 2M-1, 2M-1], zero at first."""
    program = tl.program_id(0)
    offsets = 2 * M - 1
    row_blocks = tl.cdiv(M, BX)
    offset = program % offsets
    head = program // offsets % H
    part = (program // offsets // H).to(tl.int64)
    query_block = part % row_blocks
    key_block = part // row_blocks % row_blocks
    group = part // row_blocks // row_blocks
    lane = tl.arange(0, BX)
    query_x = query_block * BX + lane
    key_x = key_block * BX + lane
    pair = (query_x < M)[:, None] & (key_x < M)[None, :]  # [queries, keys]
    columns = query_x[:, None] - key_x[None, :] + M - 1
    row = (head * offsets + offset) * offsets
    bias = tl.load(table + row + columns, mask=pair, other=0.0).to(tl.float32) * LOG2E
    # Rows of queries and keys that lie dy apart, in every window of the group.
    dy = offset - (M - 1)
    first_y = tl.maximum(dy, 0)
    num_rows = M - tl.abs(dy)
    first_window = group * windows_each
    num_windows = tl.minimum(windows_each, W - first_window)

    acc = tl.zeros([BX, BX], tl.float32)
    for i in range(num_windows * num_rows):
        window = first_window + i // num_rows
        query_y = first_y + i % num_rows
        query = query_y.to(tl.int32) * M + query_x.to(tl.int32)
        key = (query_y - dy).to(tl.int32) * M + key_x.to(tl.int32)
        q_base = q + window * q_w + head * q_h
        k_base = k + window * k_w + head * k_h
        v_base = v + window * v_w + head * v_h
        g_base = grad_out + window * grad_out_w + head * grad_out_h
        words = bits + (window * tl.cdiv(N, 32) + key[None, :] // 32) * N + query[:, None]
        edge = ((tl.load(words, mask=pair, other=0) >> (key[None, :] & 31)) & 1) != 0
        at = (window * H + head) * N + query
        lse_tile = tl.load(lse + at, mask=query_x < M, other=0.0)
        delta_tile = tl.load(delta + at, mask=query_x < M, other=0.0)
        score = tl.zeros([BX, BX], tl.float32)
        grad_weight = tl.zeros([BX, BX], tl.float32)
        for first in range(0, D, BC):
            q_tile = load_rows(q_base + first, query, q_n, query_x < M, D - first, BC, ALIGN)  # [BX, BC]
            k_tile = load_rows(k_base + first, key, k_n, key_x < M, D - first, BC, ALIGN)
            score = dot(q_tile, tl.trans(k_tile), score, PRECISION)
        for first in range(0, D, BC):
            v_tile = load_rows(v_base + first, key, v_n, key_x < M, D - first, BC, ALIGN)
            grad_out_tile = load_rows(g_base + first, query, grad_out_n, query_x < M, D - first, BC, ALIGN)
            grad_weight = dot(grad_out_tile, tl.trans(v_tile), grad_weight, PRECISION)
        score = score * (scale * LOG2E) + bias
        weight = tl.where(edge, tl.exp2(score - lse_tile[:, None]), 0.0)
        acc += weight * (grad_weight - delta_tile[:, None])

    # Each diagonal of the tile is one entry of the table.
    partial += (part * H * offsets + head * offsets + offset) * offsets
    shift = (query_block - key_block) * BX + M - 1
    for diagonal in range(1 - BX, BX):
        value = tl.sum(tl.sum(tl.where(lane[:, None] - lane[None, :] == diagonal, acc, 0.0), 1), 0)
        column = shift + diagonal
        tl.store(partial + column, value, mask=(column >= 0) & (column < offsets))


def plan_forward(call: Forward) -> list[Launch]:
    """Launches that fill out and lse."""
    return [call.launch(packed_forward, call.programs(BLOCK), _values(call, call.graph.packed.rows))]


def plan_backward(call: Backward, *, deterministic: bool) -> tuple[list[Launch], Tensor | None]:
    """Launches that fill delta and the gradients, but not that of the table."""
    packed, programs = call.graph.packed, call.programs(BLOCK)
    return [
        call.launch(packed_backward_queries, programs, _values(call, packed.rows)),
        call.launch(packed_backward_keys, programs, _values(call, packed.columns)),
    ], None


def _values(call: Forward, lists: BlockList) -> dict[str, Any]:
    # Products in float32 keep both halves of their operands in registers.
    step = 16 if call.q.element_size() == 4 else 32
    return {**vars(lists), "bits": call.graph.packed.bits, "BLOCK": BLOCK, "STEP": step}


def plan_backward_bias(call: Backward) -> tuple[Launch, Tensor]:
    """Launch that fills parts [P, H, 2M-1, 2M-1], float32, of the table's gradient, and the parts."""
    windows, heads, num_nodes, _ = call.q.shape
    side = math.isqrt(num_nodes)
    offsets = 2 * side - 1
    # Smaller tiles for wide heads in float32, whose products need more registers.
    largest = 16 if call.q.element_size() == 4 and call.padded_width > 32 else 32
    block = min(largest, max(16, next_power(side)))
    row_blocks = -(-side // block)
    # A few programs for every multiprocessor of a large GPU; more would only make more parts to sum.
    groups = min(windows, max(1, 2048 // (offsets * heads * row_blocks**2)))
    parts = groups * row_blocks**2
    partial = call.lse.new_zeros((parts, heads, offsets, offsets))
    values = {
        **{"bits": call.graph.packed.bits, "partial": partial, "BX": block},
        "windows_each": -(-windows // groups) if groups else 0,
        # Wide heads are taken in parts, so that their tiles fit into registers.
        "BC": min(call.padded_width, 64 // call.q.element_size()),
    }
    return call.launch(backward_bias, parts * heads * offsets, values), partial
