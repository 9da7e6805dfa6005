"""Pieces that the Triton kernels share: nodes of a tile, rows in and out, the bias of a pair of nodes, products."""

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def tile_nodes(tile, N, SIDE: tl.constexpr):
    """Nodes [16] of a tile, of 4 x 4 of a window with rows of SIDE; which lie in the window; and 0 to 15.

    Those beyond the window are node 0, so that it can be read and need not be left out.
    """
    lane = tl.arange(0, 16)
    across = tl.cdiv(SIDE, 4)
    x = tile % across * 4 + lane % 4
    node = (tile // across * 4 + lane // 4) * SIDE + x
    inside = (x < SIDE) & (node < N)
    return tl.where(inside, node, 0), inside, lane


@triton.jit
def load_rows(base, rows, stride, valid, D, BD: tl.constexpr, ALIGN: tl.constexpr):
    """[R, BD]: the vectors of the rows [R]; zero where a row is not valid, and beyond the width D."""
    columns = tl.arange(0, BD)
    pointers = base + rows[:, None] * stride + columns[None, :]
    pointers = tl.multiple_of(pointers, (1, ALIGN))
    mask = valid[:, None] & (columns[None, :] < D)
    return tl.load(pointers, mask=mask, other=0.0)


@triton.jit
def gather_rows(base, rows, stride, D: tl.constexpr, BD: tl.constexpr, ALIGN: tl.constexpr):
    """[R, BD]: the vectors of the rows [R], which are all valid; zero beyond the width D."""
    columns = tl.arange(0, BD)
    pointers = tl.multiple_of(base + (rows[:, None] * stride + columns[None, :]), (1, ALIGN))
    if D == BD:
        return tl.load(pointers)
    else:
        return tl.load(pointers, mask=(columns < D)[None, :], other=0.0)


@triton.jit
def store_heads(
    base, window, head, nodes, valid, values, H, N, D: tl.constexpr, BD: tl.constexpr, ALIGN: tl.constexpr
):  # fmt: skip
    """Write the vectors [R, BD] of the valid nodes [R] to a tensor that lies in memory as [W, N, H, D]."""
    columns = tl.arange(0, BD)
    pointers = base + window * N * H * D + head * D + (nodes[:, None] * (H * D) + columns[None, :])
    pointers = tl.multiple_of(pointers, (1, ALIGN))
    tl.store(pointers, values.to(base.dtype.element_ty), mask=valid[:, None] & (columns[None, :] < D))


@triton.jit
def bias_part(node, M):
    """A node's share of its entries in the bias table: query i and key j meet at part(i) - part(j) + origin(head)."""
    return (node // M) * (2 * M - 1) + node % M


@triton.jit
def bias_origin(head, M):
    """Entry of the bias table at which a node meets itself."""
    return head * (2 * M - 1) * (2 * M - 1) + 2 * M * (M - 1)


@triton.jit
def dot(a, b, acc, PRECISION: tl.constexpr):
    """Sum of acc and a @ b in float32 on the tensor cores; acc may be None."""
    # The interpreter multiplies the bit patterns of bfloat16 as integers; in float32 their products are exact.
    if PRECISION == "upcast":
        return tl.dot(a.to(tl.float32), b.to(tl.float32), acc, input_precision="ieee")
    else:
        return tl.dot(a, b, acc, input_precision=PRECISION)
