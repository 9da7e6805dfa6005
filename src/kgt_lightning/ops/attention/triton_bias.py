"""Gradient of the position bias as a Triton kernel, the same bits every time.

All pairs of two window rows that lie dy apart meet the same 2M-1 entries of the table, so that their gradients add up
in one tile, whose diagonals are summed once; no atomic addition is needed. Every pair of nodes is computed, whether it
is an edge or not: atomic additions, which cost less where neighbours are few, are the way where bits may vary.

Shapes: W windows, H heads, N = M*M nodes, D head width, BX nodes of a window row, BC entries of a head. ``q_w``,
``q_h``, ``q_n`` are strides of q.
"""

import math

import triton
import triton.language as tl
from torch import Tensor

from kgt_lightning.ops.attention.triton_call import Backward
from kgt_lightning.ops.kernels.triton_launch import Launch, next_power
from kgt_lightning.ops.kernels.triton_tiles import LOG2E, dot, load_rows


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
        "partial": partial,
        "BX": block,
        "windows_each": -(-windows // groups) if groups else 0,
        # Wide heads are taken in parts, so that their tiles fit into registers.
        "BC": min(call.padded_width, 64 // call.q.element_size()),
    }
    return call.launch(backward_bias, parts * heads * offsets, values), partial
