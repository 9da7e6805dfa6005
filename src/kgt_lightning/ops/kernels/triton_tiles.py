"""Pieces that the Triton kernels share: places, rows in and out, the bias of a pair of nodes, softmax, products.

Scores are kept in base 2: lse is log2 of the sum of 2**score.
"""

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def place(N, H, NODES: tl.constexpr):
    """Block of NODES nodes, head, and window, int64, of this program."""
    program = tl.program_id(0)
    blocks = tl.cdiv(N, NODES)
    return program % blocks, program // blocks % H, (program // blocks // H).to(tl.int64)


@triton.jit
def load_rows(base, rows, stride, valid, D, BD: tl.constexpr, ALIGN: tl.constexpr):
    """[R, BD]: the vectors of the rows [R]; zero where a row is not valid, and beyond the width D."""
    columns = tl.arange(0, BD)
    pointers = base + rows[:, None] * stride + columns[None, :]
    pointers = tl.multiple_of(pointers, (1, ALIGN))
    mask = valid[:, None] & (columns[None, :] < D)
    return tl.load(pointers, mask=mask, other=0.0)


@triton.jit
def load_lists(base, rows, stride, valid, D: tl.constexpr, BD: tl.constexpr, ALIGN: tl.constexpr):
    """[R, S, BD], float32: the vectors of the rows [R, S]; zero where a row is not valid, and beyond the width D."""
    columns = tl.arange(0, BD)
    pointers = base + rows[:, :, None] * stride + columns[None, None, :]
    pointers = tl.multiple_of(pointers, (1, 1, ALIGN))
    mask = valid[:, :, None] & (columns[None, None, :] < D)
    return tl.load(pointers, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def store_rows(base, rows, stride, valid, values, D: tl.constexpr, BD: tl.constexpr, ALIGN: tl.constexpr):
    """Write the vectors [R, BD], of which D entries count, to the valid rows [R]."""
    columns = tl.arange(0, BD)
    pointers = base + rows[:, None] * stride + columns[None, :]
    pointers = tl.multiple_of(pointers, (1, ALIGN))
    mask = valid[:, None] & (columns[None, :] < D)
    tl.store(pointers, values.to(base.dtype.element_ty), mask=mask)


@triton.jit
def store_heads(
    base, window, head, nodes, valid, values, H, N, D: tl.constexpr, BD: tl.constexpr, ALIGN: tl.constexpr
):  # fmt: skip
    """Write the vectors [R, BD] of the valid nodes [R] to a tensor that lies in memory as [W, N, H, D]."""
    base += window * N * H * D + head * D
    store_rows(base, nodes, H * D, valid, values, D, BD, ALIGN)


@triton.jit
def bias_part(node, M):
    """A node's share of its entries in the bias table: query i and key j meet at part(i) - part(j) + origin(head)."""
    return (node // M) * (2 * M - 1) + node % M


@triton.jit
def bias_origin(head, M):
    """Entry of the bias table at which a node meets itself."""
    return head * (2 * M - 1) * (2 * M - 1) + 2 * M * (M - 1)


@triton.jit
def base2_score(product, scale, table, head, M, entry, valid, BIAS: tl.constexpr):
    """Scores in base 2 from products of queries and keys and their entries in the table, relative to the origin."""
    score = product * (scale * LOG2E)
    if BIAS:
        score += tl.load(table + bias_origin(head, M) + entry, mask=valid, other=0.0).to(tl.float32) * LOG2E
    return score


@triton.jit
def softmax_step(score, top, total):
    """Weights of further scores, the factor of what was summed before, and the new largest score and total."""
    new_top = tl.maximum(top, tl.max(score, 1))
    # A row may have no finite score so far: it lies beyond the window, its neighbours come in later blocks, or their
    # biases are minus infinity.
    finite = tl.where(new_top == -float("inf"), 0.0, new_top)
    weight = tl.exp2(score - finite[:, None])
    shrink = tl.exp2(top - finite)
    return weight, shrink, new_top, total * shrink + tl.sum(weight, 1)


@triton.jit
def dot(a, b, acc, PRECISION: tl.constexpr):
    """Sum of acc and a @ b in float32 on the tensor cores; acc may be None."""
    # The interpreter multiplies the bit patterns of bfloat16 as integers; in float32 their products are exact.
    if PRECISION == "upcast":
        return tl.dot(a.to(tl.float32), b.to(tl.float32), acc, input_precision="ieee")
    else:
        return tl.dot(a, b, acc, input_precision=PRECISION)
