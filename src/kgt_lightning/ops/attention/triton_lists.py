"""Attention over neighbour lists as Triton kernels: every program reads only the k keys and values of its nodes.

Shapes: W windows, H heads, N = M*M nodes, K neighbours, D head width (BD padded to a power of two), E = (2M-1)**2
entries of the bias table; a program holds BQ queries and BK of their neighbours, or BJ keys and BS of the nodes that
look at them. Scores are kept in base 2: lse is log2 of the sum of 2**score.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kgt_lightning.ops.kernels.triton_launch import Launch, constants, count_programs, padded_width, sizes, strides
from kgt_lightning.ops.kernels.triton_tiles import bias_part, load_lists, load_rows, store_rows
from kgt_lightning.ops.key_graph.forms import TransposedGraph

TILE = 4096
"""Numbers of gathered keys that a program of four warps holds at once: 32 in every thread."""


@triton.jit
def lists_forward(
    q, k, v, index, table, out, lse,
    stride_qw, stride_qh, stride_qn, stride_kw, stride_kh, stride_kn, stride_vw, stride_vh, stride_vn,
    stride_ow, stride_oh, stride_on, stride_iw, stride_in,
    scale, H, N, M, K,
    D: tl.constexpr, BD: tl.constexpr, BQ: tl.constexpr, BK: tl.constexpr, BIAS: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    """Output [W, H, N, D] and lse [W, H, N]."""
    program = tl.program_id(0)
    blocks = tl.cdiv(N, BQ)
    head = program // blocks % H
    window = (program // blocks // H).to(tl.int64)
    query = program % blocks * BQ + tl.arange(0, BQ)  # [BQ]
    inside = query < N
    k += window * stride_kw + head * stride_kh
    v += window * stride_vw + head * stride_vh
    base = q + window * stride_qw + head * stride_qh
    q_tile = load_rows(base, query, stride_qn, inside, D, BD, ALIGN).to(tl.float32)  # [BQ, BD]

    top = tl.full([BQ], -float("inf"), tl.float32)
    total = tl.zeros([BQ], tl.float32)
    acc = tl.zeros([BQ, BD], tl.float32)
    for first in range(0, K, BK):
        slot = first + tl.arange(0, BK)
        valid = inside[:, None] & (slot < K)[None, :]  # [BQ, BK]
        key = tl.load(index + window * stride_iw + query[:, None] * stride_in + slot[None, :], mask=valid, other=0)
        key = key.to(tl.int32)
        k_tile = load_lists(k, key, stride_kn, valid, D, BD, ALIGN)  # [BQ, BK, BD]
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
        v_tile = load_lists(v, key, stride_vn, valid, D, BD, ALIGN)  # [BQ, BK, BD]
        total = total * shrink + tl.sum(weight, 1)
        acc = acc * shrink[:, None] + tl.sum(weight[:, :, None] * v_tile, 1)
        top = new_top

    total = tl.where(inside, total, 1.0)
    base = out + window * stride_ow + head * stride_oh
    store_rows(base, query, stride_on, inside, acc / total[:, None], D, BD, ALIGN)
    tl.store(lse + (window * H + head) * N + query, top + tl.log2(total), mask=inside)


@triton.jit
def lists_backward_queries(
    q, k, v, index, table, out, lse, grad_out, delta, grad_q, sum_table,
    stride_qw, stride_qh, stride_qn, stride_kw, stride_kh, stride_kn, stride_vw, stride_vh, stride_vn,
    stride_ow, stride_oh, stride_on, stride_gw, stride_gh, stride_gn, stride_dw, stride_dh, stride_dn,
    stride_iw, stride_in,
    scale, H, N, M, K,
    D: tl.constexpr, BD: tl.constexpr, BQ: tl.constexpr, BK: tl.constexpr, BIAS: tl.constexpr, ALIGN: tl.constexpr,
    ATOMIC: tl.constexpr,
):  # fmt: skip
    """Gradient of q, and delta [W, H, N] = out . grad_out; with ATOMIC the sum for the table as well."""
    program = tl.program_id(0)
    blocks = tl.cdiv(N, BQ)
    head = program // blocks % H
    window = (program // blocks // H).to(tl.int64)
    query = program % blocks * BQ + tl.arange(0, BQ)  # [BQ]
    inside = query < N
    plane = window * H + head
    k += window * stride_kw + head * stride_kh
    v += window * stride_vw + head * stride_vh
    base = q + window * stride_qw + head * stride_qh
    q_tile = load_rows(base, query, stride_qn, inside, D, BD, ALIGN).to(tl.float32)  # [BQ, BD]
    base = out + window * stride_ow + head * stride_oh
    out_tile = load_rows(base, query, stride_on, inside, D, BD, ALIGN).to(tl.float32)  # [BQ, BD]
    base = grad_out + window * stride_gw + head * stride_gh
    grad_out_tile = load_rows(base, query, stride_gn, inside, D, BD, ALIGN).to(tl.float32)  # [BQ, BD]
    delta_tile = tl.sum(out_tile * grad_out_tile, 1)  # [BQ]
    tl.store(delta + plane * N + query, delta_tile, mask=inside)
    lse_tile = tl.load(lse + plane * N + query, mask=inside, other=0.0)

    acc = tl.zeros([BQ, BD], tl.float32)
    for first in range(0, K, BK):
        slot = first + tl.arange(0, BK)
        valid = inside[:, None] & (slot < K)[None, :]  # [BQ, BK]
        key = tl.load(index + window * stride_iw + query[:, None] * stride_in + slot[None, :], mask=valid, other=0)
        key = key.to(tl.int32)
        k_tile = load_lists(k, key, stride_kn, valid, D, BD, ALIGN)  # [BQ, BK, BD]
        v_tile = load_lists(v, key, stride_vn, valid, D, BD, ALIGN)  # [BQ, BK, BD]
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
            tl.atomic_add(sum_table + entry, grad_score, mask=valid, sem="relaxed")

    base = grad_q + window * stride_dw + head * stride_dh
    store_rows(base, query, stride_dn, inside, acc * scale, D, BD, ALIGN)


@triton.jit
def lists_backward_keys(
    q, k, v, sources, starts, table, lse, grad_out, delta, grad_k, grad_v,
    stride_qw, stride_qh, stride_qn, stride_kw, stride_kh, stride_kn, stride_vw, stride_vh, stride_vn,
    stride_gw, stride_gh, stride_gn, stride_dw, stride_dh, stride_dn,
    scale, H, N, M, K,
    D: tl.constexpr, BD: tl.constexpr, BJ: tl.constexpr, BS: tl.constexpr, BIAS: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    """Gradients of k and v: every key sums over the nodes that look at it, always in the same order."""
    program = tl.program_id(0)
    blocks = tl.cdiv(N, BJ)
    head = program // blocks % H
    window = (program // blocks // H).to(tl.int64)
    key = program % blocks * BJ + tl.arange(0, BJ)  # [BJ]
    inside = key < N
    plane = window * H + head
    q += window * stride_qw + head * stride_qh
    grad_out += window * stride_gw + head * stride_gh
    base = k + window * stride_kw + head * stride_kh
    k_tile = load_rows(base, key, stride_kn, inside, D, BD, ALIGN).to(tl.float32)  # [BJ, BD]
    base = v + window * stride_vw + head * stride_vh
    v_tile = load_rows(base, key, stride_vn, inside, D, BD, ALIGN).to(tl.float32)  # [BJ, BD]
    start = tl.load(starts + window * (N + 1) + key, mask=inside, other=0)
    length = tl.load(starts + window * (N + 1) + key + 1, mask=inside, other=0) - start  # [BJ]

    acc_k = tl.zeros([BJ, BD], tl.float32)
    acc_v = tl.zeros([BJ, BD], tl.float32)
    for first in range(0, tl.max(length, 0), BS):
        slot = first + tl.arange(0, BS)
        valid = slot[None, :] < length[:, None]  # [BJ, BS]
        query = tl.load(sources + window * N * K + start[:, None] + slot[None, :], mask=valid, other=0)
        q_tile = load_lists(q, query, stride_qn, valid, D, BD, ALIGN)  # [BJ, BS, BD]
        grad_out_tile = load_lists(grad_out, query, stride_gn, valid, D, BD, ALIGN)  # [BJ, BS, BD]
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

    base = grad_k + window * stride_dw + head * stride_dh
    store_rows(base, key, stride_dn, inside, acc_k * scale, D, BD, ALIGN)
    base = grad_v + window * stride_dw + head * stride_dh
    store_rows(base, key, stride_dn, inside, acc_v, D, BD, ALIGN)


def plan_forward(
    q: Tensor, k: Tensor, v: Tensor, index: Tensor, table: Tensor | None, scale: float, *, out: Tensor, lse: Tensor
) -> Launch:
    """Launch that writes the output [W, H, N, D] and lse [W, H, N]."""
    width = padded_width(q)
    neighbours = _neighbours_at_once(width)
    # Half a tile for wide heads and for float32: a whole one spills registers on sm_90 and sm_100.
    queries = TILE // (width * neighbours) // (2 if width > 32 or q.dtype == torch.float32 else 1)
    return Launch(
        kernel=lists_forward,
        programs=count_programs(q, queries),
        arguments={
            **{"q": q, "k": k, "v": v, "index": index, "table": table, "out": out, "lse": lse},
            **strides(q=q, k=k, v=v, o=out),
            **_list_arguments(index),
            **sizes(q, scale),
        },
        constants={**constants(q, k, v, out, bias=table is not None), "BQ": queries, "BK": neighbours},
    )


def plan_backward_queries(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    index: Tensor,
    table: Tensor | None,
    scale: float,
    *,
    out: Tensor,
    lse: Tensor,
    grad_out: Tensor,
    delta: Tensor,
    grad_q: Tensor,
    sum_table: Tensor | None = None,
) -> Launch:
    """Launch that writes the gradient of q and delta [W, H, N].

    With sum_table [H, E], float32 and zero at first, the gradient of the table is added up there by atomic additions,
    whose order, and so the last bits of the result, changes from run to run.
    """
    width = padded_width(q)
    neighbours = _neighbours_at_once(width)
    queries = TILE // (width * neighbours)
    return Launch(
        kernel=lists_backward_queries,
        programs=count_programs(q, queries),
        arguments={
            **{"q": q, "k": k, "v": v, "index": index, "table": table, "out": out, "lse": lse},
            **{"grad_out": grad_out, "delta": delta, "grad_q": grad_q},
            **{"sum_table": sum_table},
            **strides(q=q, k=k, v=v, o=out, g=grad_out, d=grad_q),
            **_list_arguments(index),
            **sizes(q, scale),
        },
        constants={
            **constants(q, k, v, out, grad_out, grad_q, bias=table is not None),
            **{"BQ": queries, "BK": neighbours, "ATOMIC": sum_table is not None},
        },
    )


def plan_backward_keys(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    transposed: TransposedGraph,
    table: Tensor | None,
    scale: float,
    *,
    lse: Tensor,
    grad_out: Tensor,
    delta: Tensor,
    grad_k: Tensor,
    grad_v: Tensor,
) -> Launch:
    """Launch that writes the gradients of k and v, which share their strides, without atomic additions."""
    width = padded_width(q)
    return Launch(
        kernel=lists_backward_keys,
        # The lists differ in length, up to N for a node that everyone looks at: one key a program wastes least.
        programs=count_programs(q, 1),
        arguments={
            **{"q": q, "k": k, "v": v, "sources": transposed.sources, "starts": transposed.starts, "table": table},
            **{"lse": lse, "grad_out": grad_out, "delta": delta, "grad_k": grad_k, "grad_v": grad_v},
            **strides(q=q, k=k, v=v, g=grad_out, d=grad_k),
            **{"K": transposed.sources.shape[1] // q.shape[2]},
            **sizes(q, scale),
        },
        constants={
            **constants(q, k, v, grad_out, grad_k, grad_v, bias=table is not None),
            **{"BJ": 1, "BS": TILE // (4 * width)},
        },
        num_warps=1,
    )


def _neighbours_at_once(padded_width: int) -> int:
    return min(32, TILE // (4 * padded_width))


def _list_arguments(index: Tensor) -> dict[str, int]:
    return {"stride_iw": index.stride(0), "stride_in": index.stride(1), "K": index.shape[2]}
