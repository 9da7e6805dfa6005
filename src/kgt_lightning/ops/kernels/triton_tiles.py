"""Pieces that the Triton kernels share: rows in and out, the bias of a pair of nodes, products."""

import triton
import triton.language as tl


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
def bias_part(node, M):
    """A node's share of the entry in the bias table: query i and key j meet at part(i) - part(j) + 2M(M-1)."""
    return (node // M) * (2 * M - 1) + node % M


@triton.jit
def dot(a, b, acc, PRECISION: tl.constexpr):
    """Sum of acc and a @ b in float32 on the tensor cores; acc may be None."""
    # The interpreter multiplies the bit patterns of bfloat16 as integers; in float32 their products are exact.
    if PRECISION == "upcast":
        return tl.dot(a.to(tl.float32), b.to(tl.float32), acc, input_precision="ieee")
    else:
        return tl.dot(a, b, acc, input_precision=PRECISION)
