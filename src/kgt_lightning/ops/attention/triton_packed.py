"""Attention under a packed bit mask as Triton kernels: blocks on the tensor cores, those without an edge skipped.

Forward and backward follow FlashAttention-2 (arXiv 2307.08691): queries, then keys, each with its own pass. The
gradient of the bias table has a third pass, over pairs of window rows: all pairs of two rows that lie dy apart meet the
same 2M-1 entries, so that their gradients add up in one tile, whose diagonals are summed once; no atomic addition is
needed.

Shapes: W windows, H heads, N = M*M nodes, D head width (BD padded to a power of two), B blocks of BLOCK nodes,
BX nodes of a window row, BC entries of a head. A program owns BLOCK nodes and meets the others STEP at a time. Scores
are kept in base 2: lse is log2 of the sum of 2**score.
"""

import triton
import triton.language as tl
from torch import Tensor

from kgt_lightning.ops.kernels.triton_launch import (
    Launch,
    alignment,
    constants,
    count_programs,
    dot_precision,
    next_power,
    padded_width,
    sizes,
    strides,
)
from kgt_lightning.ops.kernels.triton_tiles import bias_part, dot, load_rows, store_rows
from kgt_lightning.ops.key_graph.forms import BLOCK, PackedGraph


@triton.jit
def packed_forward(
    q, k, v, bits, blocks, counts, table, out, lse,
    stride_qw, stride_qh, stride_qn, stride_kw, stride_kh, stride_kn, stride_vw, stride_vh, stride_vn,
    stride_ow, stride_oh, stride_on,
    scale, H, N, M,
    D: tl.constexpr, BD: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr, BIAS: tl.constexpr, ALIGN: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Output [W, H, N, D] and lse [W, H, N]."""
    program = tl.program_id(0)
    num_blocks = tl.cdiv(N, BLOCK)
    block = program % num_blocks
    head = program // num_blocks % H
    window = (program // num_blocks // H).to(tl.int64)
    query = block * BLOCK + tl.arange(0, BLOCK)
    inside = query < N
    k += window * stride_kw + head * stride_kh
    v += window * stride_vw + head * stride_vh
    q_tile = load_rows(q + window * stride_qw + head * stride_qh, query, stride_qn, inside, D, BD, ALIGN)  # [BLOCK, BD]
    query_part = bias_part(query, M) + 2 * M * (M - 1) + head * (2 * M - 1) * (2 * M - 1)
    met = window * num_blocks + block
    words = tl.cdiv(N, 32)
    bits += window * words * N

    top = tl.full([BLOCK], -float("inf"), tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    acc = tl.zeros([BLOCK, BD], tl.float32)
    for i in range(tl.load(counts + met) * (BLOCK // STEP)):
        first = tl.load(blocks + met * num_blocks + i // (BLOCK // STEP)) * BLOCK + i % (BLOCK // STEP) * STEP
        key = first + tl.arange(0, STEP)
        k_tile = load_rows(k, key, stride_kn, key < N, D, BD, ALIGN)  # [STEP, BD]
        word = tl.load(bits + first // 32 * N + query, mask=inside & (first < N), other=0)
        edge = ((word[:, None] >> (key & 31)[None, :]) & 1) != 0  # [BLOCK, STEP]
        score = dot(q_tile, tl.trans(k_tile), None, PRECISION) * (scale * 1.4426950408889634)
        if BIAS:
            bias = tl.load(table + query_part[:, None] - bias_part(key, M)[None, :], mask=edge, other=0.0)
            score += bias.to(tl.float32) * 1.4426950408889634
        score = tl.where(edge, score, -float("inf"))
        new_top = tl.maximum(top, tl.max(score, 1))
        # A row may have no neighbour in the blocks so far: a finite maximum keeps its arithmetic free of NaN.
        finite = tl.where(new_top == -float("inf"), 0.0, new_top)
        weight = tl.exp2(score - finite[:, None])
        shrink = tl.exp2(top - finite)
        v_tile = load_rows(v, key, stride_vn, key < N, D, BD, ALIGN)  # [STEP, BD]
        total = total * shrink + tl.sum(weight, 1)
        acc = dot(weight.to(v_tile.dtype), v_tile, acc * shrink[:, None], PRECISION)
        top = new_top

    total = tl.where(inside, total, 1.0)
    base = out + window * stride_ow + head * stride_oh
    store_rows(base, query, stride_on, inside, acc / total[:, None], D, BD, ALIGN)
    tl.store(lse + (window * H + head) * N + query, top + tl.log2(total), mask=inside)


@triton.jit
def packed_backward_queries(
    q, k, v, bits, blocks, counts, table, out, lse, grad_out, delta, grad_q,
    stride_qw, stride_qh, stride_qn, stride_kw, stride_kh, stride_kn, stride_vw, stride_vh, stride_vn,
    stride_ow, stride_oh, stride_on, stride_gw, stride_gh, stride_gn, stride_dw, stride_dh, stride_dn,
    scale, H, N, M,
    D: tl.constexpr, BD: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr, BIAS: tl.constexpr, ALIGN: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradient of q, and delta [W, H, N] = out . grad_out."""
    program = tl.program_id(0)
    num_blocks = tl.cdiv(N, BLOCK)
    block = program % num_blocks
    head = program // num_blocks % H
    window = (program // num_blocks // H).to(tl.int64)
    plane = window * H + head
    query = block * BLOCK + tl.arange(0, BLOCK)
    inside = query < N
    k += window * stride_kw + head * stride_kh
    v += window * stride_vw + head * stride_vh
    q_tile = load_rows(q + window * stride_qw + head * stride_qh, query, stride_qn, inside, D, BD, ALIGN)  # [BLOCK, BD]
    out_tile = load_rows(out + window * stride_ow + head * stride_oh, query, stride_on, inside, D, BD, ALIGN)
    base = grad_out + window * stride_gw + head * stride_gh
    grad_out_tile = load_rows(base, query, stride_gn, inside, D, BD, ALIGN)  # [BLOCK, BD]
    delta_tile = tl.sum(out_tile.to(tl.float32) * grad_out_tile.to(tl.float32), 1)  # [BLOCK]
    tl.store(delta + plane * N + query, delta_tile, mask=inside)
    lse_tile = tl.load(lse + plane * N + query, mask=inside, other=0.0)
    query_part = bias_part(query, M) + 2 * M * (M - 1) + head * (2 * M - 1) * (2 * M - 1)
    met = window * num_blocks + block
    words = tl.cdiv(N, 32)
    bits += window * words * N

    acc = tl.zeros([BLOCK, BD], tl.float32)
    for i in range(tl.load(counts + met) * (BLOCK // STEP)):
        first = tl.load(blocks + met * num_blocks + i // (BLOCK // STEP)) * BLOCK + i % (BLOCK // STEP) * STEP
        key = first + tl.arange(0, STEP)
        k_tile = load_rows(k, key, stride_kn, key < N, D, BD, ALIGN)  # [STEP, BD]
        v_tile = load_rows(v, key, stride_vn, key < N, D, BD, ALIGN)  # [STEP, BD]
        word = tl.load(bits + first // 32 * N + query, mask=inside & (first < N), other=0)
        edge = ((word[:, None] >> (key & 31)[None, :]) & 1) != 0  # [BLOCK, STEP]
        score = dot(q_tile, tl.trans(k_tile), None, PRECISION) * (scale * 1.4426950408889634)
        if BIAS:
            bias = tl.load(table + query_part[:, None] - bias_part(key, M)[None, :], mask=edge, other=0.0)
            score += bias.to(tl.float32) * 1.4426950408889634
        weight = tl.where(edge, tl.exp2(score - lse_tile[:, None]), 0.0)
        grad_weight = dot(grad_out_tile, tl.trans(v_tile), None, PRECISION)
        grad_score = weight * (grad_weight - delta_tile[:, None])
        acc = dot(grad_score.to(k_tile.dtype), k_tile, acc, PRECISION)

    base = grad_q + window * stride_dw + head * stride_dh
    store_rows(base, query, stride_dn, inside, acc * scale, D, BD, ALIGN)


@triton.jit
def packed_backward_keys(
    q, k, v, bits, blocks, counts, table, lse, grad_out, delta, grad_k, grad_v,
    stride_qw, stride_qh, stride_qn, stride_kw, stride_kh, stride_kn, stride_vw, stride_vh, stride_vn,
    stride_gw, stride_gh, stride_gn, stride_dw, stride_dh, stride_dn,
    scale, H, N, M,
    D: tl.constexpr, BD: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr, BIAS: tl.constexpr, ALIGN: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of k and v; the tiles of scores are transposed, so that the same bits serve both directions."""
    program = tl.program_id(0)
    num_blocks = tl.cdiv(N, BLOCK)
    block = program % num_blocks
    head = program // num_blocks % H
    window = (program // num_blocks // H).to(tl.int64)
    plane = window * H + head
    lane = tl.arange(0, BLOCK)
    key = block * BLOCK + lane
    word = 2 * block
    inside = key < N
    q += window * stride_qw + head * stride_qh
    grad_out += window * stride_gw + head * stride_gh
    k_tile = load_rows(k + window * stride_kw + head * stride_kh, key, stride_kn, inside, D, BD, ALIGN)  # [BLOCK, BD]
    v_tile = load_rows(v + window * stride_vw + head * stride_vh, key, stride_vn, inside, D, BD, ALIGN)  # [BLOCK, BD]
    key_part = bias_part(key, M) - 2 * M * (M - 1) - head * (2 * M - 1) * (2 * M - 1)
    met = window * num_blocks + block
    words = tl.cdiv(N, 32)
    bits += window * words * N

    acc_k = tl.zeros([BLOCK, BD], tl.float32)
    acc_v = tl.zeros([BLOCK, BD], tl.float32)
    for i in range(tl.load(counts + met) * (BLOCK // STEP)):
        first = tl.load(blocks + met * num_blocks + i // (BLOCK // STEP)) * BLOCK + i % (BLOCK // STEP) * STEP
        query = first + tl.arange(0, STEP)
        q_tile = load_rows(q, query, stride_qn, query < N, D, BD, ALIGN)  # [STEP, BD]
        grad_out_tile = load_rows(grad_out, query, stride_gn, query < N, D, BD, ALIGN)  # [STEP, BD]
        lse_tile = tl.load(lse + plane * N + query, mask=query < N, other=0.0)
        delta_tile = tl.load(delta + plane * N + query, mask=query < N, other=0.0)
        low = tl.load(bits + word * N + query, mask=query < N, other=0)
        high = tl.load(bits + (word + 1) * N + query, mask=(query < N) & (word + 1 < words), other=0)
        column_bits = tl.where(lane[:, None] < 32, low[None, :], high[None, :])
        edge = ((column_bits >> (lane[:, None] & 31)) & 1) != 0  # [BLOCK, STEP]
        score = dot(k_tile, tl.trans(q_tile), None, PRECISION) * (scale * 1.4426950408889634)
        if BIAS:
            bias = tl.load(table + bias_part(query, M)[None, :] - key_part[:, None], mask=edge, other=0.0)
            score += bias.to(tl.float32) * 1.4426950408889634
        weight = tl.where(edge, tl.exp2(score - lse_tile[None, :]), 0.0)
        acc_v = dot(weight.to(q_tile.dtype), grad_out_tile, acc_v, PRECISION)
        grad_weight = dot(v_tile, tl.trans(grad_out_tile), None, PRECISION)
        grad_score = weight * (grad_weight - delta_tile[None, :])
        acc_k = dot(grad_score.to(q_tile.dtype), q_tile, acc_k, PRECISION)

    base = grad_k + window * stride_dw + head * stride_dh
    store_rows(base, key, stride_dn, inside, acc_k * scale, D, BD, ALIGN)
    base = grad_v + window * stride_dw + head * stride_dh
    store_rows(base, key, stride_dn, inside, acc_v, D, BD, ALIGN)


@triton.jit
def backward_bias(
    q, k, v, bits, table, lse, grad_out, delta, partial,
    stride_qw, stride_qh, stride_qn, stride_kw, stride_kh, stride_kn, stride_vw, stride_vh, stride_vn,
    stride_gw, stride_gh, stride_gn,
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
    bias = tl.load(table + row + columns, mask=pair, other=0.0).to(tl.float32) * 1.4426950408889634
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
        q_base = q + window * stride_qw + head * stride_qh
        k_base = k + window * stride_kw + head * stride_kh
        v_base = v + window * stride_vw + head * stride_vh
        g_base = grad_out + window * stride_gw + head * stride_gh
        words = bits + (window * tl.cdiv(N, 32) + key[None, :] // 32) * N + query[:, None]
        edge = ((tl.load(words, mask=pair, other=0) >> (key[None, :] & 31)) & 1) != 0
        at = (window * H + head) * N + query
        lse_tile = tl.load(lse + at, mask=query_x < M, other=0.0)
        delta_tile = tl.load(delta + at, mask=query_x < M, other=0.0)
        score = tl.zeros([BX, BX], tl.float32)
        grad_weight = tl.zeros([BX, BX], tl.float32)
        for first in range(0, D, BC):
            q_tile = load_rows(q_base + first, query, stride_qn, query_x < M, D - first, BC, ALIGN)  # [BX, BC]
            k_tile = load_rows(k_base + first, key, stride_kn, key_x < M, D - first, BC, ALIGN)
            score = dot(q_tile, tl.trans(k_tile), score, PRECISION)
        for first in range(0, D, BC):
            v_tile = load_rows(v_base + first, key, stride_vn, key_x < M, D - first, BC, ALIGN)
            grad_out_tile = load_rows(g_base + first, query, stride_gn, query_x < M, D - first, BC, ALIGN)
            grad_weight = dot(grad_out_tile, tl.trans(v_tile), grad_weight, PRECISION)
        score = score * (scale * 1.4426950408889634) + bias
        weight = tl.where(edge, tl.exp2(score - lse_tile[:, None]), 0.0)
        acc += weight * (grad_weight - delta_tile[:, None])

    # Each diagonal of the tile is one entry of the table.
    partial += (part * H * offsets + head * offsets + offset) * offsets
    shift = (query_block - key_block) * BX + M - 1
    for diagonal in range(1 - BX, BX):
        value = tl.sum(tl.sum(tl.where(lane[:, None] - lane[None, :] == diagonal, acc, 0.0), 1), 0)
        column = shift + diagonal
        tl.store(partial + column, value, mask=(column >= 0) & (column < offsets))


def plan_forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    packed: PackedGraph,
    table: Tensor | None,
    scale: float,
    *,
    out: Tensor,
    lse: Tensor,
) -> Launch:
    """Launch that writes the output [W, H, N, D] and lse [W, H, N]."""
    return Launch(
        kernel=packed_forward,
        programs=count_programs(q, BLOCK),
        arguments={
            **{"q": q, "k": k, "v": v, "bits": packed.bits, "table": table, "out": out, "lse": lse},
            **{"blocks": packed.rows.blocks, "counts": packed.rows.counts},
            **strides(q=q, k=k, v=v, o=out),
            **sizes(q, scale),
        },
        constants=_constants(q, k, v, out, bias=table is not None),
    )


def plan_backward_queries(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    packed: PackedGraph,
    table: Tensor | None,
    scale: float,
    *,
    out: Tensor,
    lse: Tensor,
    grad_out: Tensor,
    delta: Tensor,
    grad_q: Tensor,
) -> Launch:
    """Launch that writes the gradient of q and delta [W, H, N]."""
    return Launch(
        kernel=packed_backward_queries,
        programs=count_programs(q, BLOCK),
        arguments={
            **{"q": q, "k": k, "v": v, "bits": packed.bits, "table": table, "out": out, "lse": lse},
            **{"blocks": packed.rows.blocks, "counts": packed.rows.counts},
            **{"grad_out": grad_out, "delta": delta, "grad_q": grad_q},
            **strides(q=q, k=k, v=v, o=out, g=grad_out, d=grad_q),
            **sizes(q, scale),
        },
        constants=_constants(q, k, v, out, grad_out, grad_q, bias=table is not None),
    )


def plan_backward_keys(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    packed: PackedGraph,
    table: Tensor | None,
    scale: float,
    *,
    lse: Tensor,
    grad_out: Tensor,
    delta: Tensor,
    grad_k: Tensor,
    grad_v: Tensor,
) -> Launch:
    """Launch that writes the gradients of k and v, which share their strides."""
    return Launch(
        kernel=packed_backward_keys,
        programs=count_programs(q, BLOCK),
        arguments={
            **{"q": q, "k": k, "v": v, "bits": packed.bits, "table": table, "lse": lse},
            **{"blocks": packed.columns.blocks, "counts": packed.columns.counts},
            **{"grad_out": grad_out, "delta": delta, "grad_k": grad_k, "grad_v": grad_v},
            **strides(q=q, k=k, v=v, g=grad_out, d=grad_k),
            **sizes(q, scale),
        },
        constants=_constants(q, k, v, grad_out, grad_k, grad_v, bias=table is not None),
    )


def plan_backward_bias(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bits: Tensor,
    table: Tensor,
    scale: float,
    *,
    lse: Tensor,
    grad_out: Tensor,
    delta: Tensor,
) -> tuple[Launch, Tensor]:
    """Launch that fills parts [P, H, 2M-1, 2M-1], float32, of the table's gradient, and the parts."""
    windows, heads = q.shape[:2]
    size = sizes(q, scale)
    side = int(size["M"])
    offsets = 2 * side - 1
    # Smaller tiles for wide heads in float32, whose products need more registers.
    largest = 16 if q.element_size() == 4 and padded_width(q) > 32 else 32
    block = min(largest, max(16, next_power(side)))
    row_blocks = -(-side // block)
    # A few programs for every multiprocessor of a large GPU; more would only make more parts to sum.
    groups = min(windows, max(1, 2048 // (offsets * heads * row_blocks**2)))
    windows_each = -(-windows // groups) if groups else 0
    parts = groups * row_blocks**2
    partial = q.new_zeros((parts, heads, offsets, offsets), dtype=lse.dtype)
    launch = Launch(
        kernel=backward_bias,
        programs=parts * heads * offsets,
        arguments={
            **{"q": q, "k": k, "v": v, "bits": bits, "table": table, "lse": lse},
            **{"grad_out": grad_out, "delta": delta, "partial": partial},
            **strides(q=q, k=k, v=v, g=grad_out),
            **size,
            **{"W": windows, "windows_each": windows_each},
        },
        constants={
            # Wide heads are taken in parts, so that their tiles fit into registers.
            **{"D": q.shape[-1], "BC": min(padded_width(q), 64 // q.element_size()), "BX": block},
            **{"ALIGN": alignment(q, k, v, grad_out), "PRECISION": dot_precision(q)},
        },
        num_warps=4,
    )
    return launch, partial


def _constants(*row_tensors: Tensor, bias: bool) -> dict[str, object]:
    q = row_tensors[0]
    # Products in float32 keep both halves of their operands in registers.
    step = 16 if q.element_size() == 4 else 32
    return {**constants(*row_tensors, bias=bias), "BLOCK": BLOCK, "STEP": step, "PRECISION": dot_precision(q)}
