"""Key-Graph Attention on the GPU: fused Triton kernels over tile unions, forward and backward.

Shapes: W windows, H heads, N = M*M nodes, K neighbours, D head width, E = (2M-1)**2 entries of the bias table.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kgt_lightning.ops.attention.triton_call import Backward, Forward, new_heads
from kgt_lightning.ops.kernels.triton_launch import DTYPES, MAX_NODES, MAX_WIDTH, Launch, interpreting, rows
from kgt_lightning.ops.key_graph.graph import KeyGraph


def triton_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    graph: KeyGraph,
    *,
    scale: float,
    bias_table: Tensor | None = None,
    deterministic: bool | None = None,
) -> Tensor:
    """Attention [W, H, N, D] by fused kernels that keep no N x N and no N x K x D tensor in memory.

    See :func:`key_graph_attention` for the equation. The softmax is computed online in float32. The result has the
    heads of a node side by side in memory, so that merging them costs no copy. Under autocast, q, k and v are cast.

    Args:
        q: [W, H, N, D], like k and v float32, float16 or bfloat16, D at most 128.
        k: [W, H, N, D].
        v: [W, H, N, D].
        graph: the Key-Graph of the W windows.
        scale: factor of the scores.
        bias_table: [H, E], of any floating type.
        deterministic: whether the backward gives the same bits every time. The default asks
            ``torch.are_deterministic_algorithms_enabled()``. Only the table's gradient has another way, by atomic
            additions, which costs less where neighbours are few.

    Raises:
        ValueError: if the tensors are not on a GPU, or a type, width or window is not supported.

    """
    if q.device.type != "cuda" and not interpreting():
        raise ValueError(
            f"impl='triton' needs tensors on a CUDA device, these are on {q.device}; choose native or mask"
        )
    if torch.is_autocast_enabled(q.device.type):
        dtype = torch.get_autocast_dtype(q.device.type)
        q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
    if q.dtype != k.dtype or q.dtype != v.dtype:
        given = ", ".join(str(t.dtype).removeprefix("torch.") for t in (q, k, v))
        raise ValueError(f"q, k, v are {given}; impl='triton' takes one type: cast them")
    problem = why_not_supported(q.dtype, q.shape[-1], graph.num_nodes)
    if problem is not None:
        raise ValueError(f"impl='triton' is not possible ({problem}); choose mask or gather")
    if deterministic is None:
        deterministic = torch.are_deterministic_algorithms_enabled()
    return _TritonAttention.apply(rows(q), rows(k), rows(v), bias_table, graph, scale, deterministic)


def why_not_supported(dtype: torch.dtype, width: int, num_nodes: int) -> str | None:
    """Why the kernels do not take heads of this type and width, or windows of so many nodes, in words, or None."""
    if dtype not in DTYPES:
        return f"q is {str(dtype).removeprefix('torch.')}, the kernels take float32, float16 and bfloat16"
    if width > MAX_WIDTH:
        return f"heads are {width} wide, the kernels take up to {MAX_WIDTH}"
    if num_nodes > MAX_NODES:
        return f"windows have {num_nodes} nodes, the kernels take up to {MAX_NODES}"
    return None


def plan_forward(
    q: Tensor, k: Tensor, v: Tensor, graph: KeyGraph, table: Tensor | None, *, scale: float
) -> tuple[list[Launch], Forward]:
    """What computes the output and its lse, and these among the tensors of the call."""
    from kgt_lightning.ops.attention import triton_union  # triton is not installed everywhere

    lse = torch.empty(q.shape[:3], dtype=torch.float32, device=q.device)
    call = Forward(q=q, k=k, v=v, table=table, out=new_heads(q), lse=lse, graph=graph, scale=scale)
    return triton_union.plan_forward(call), call


def plan_backward(
    forward: Forward, grad_out: Tensor, *, deterministic: bool
) -> tuple[list[Launch], Backward, Tensor | None]:
    """What computes the gradients, to be run in order, and these; that of the table is a sum over parts [P, ...]."""
    from kgt_lightning.ops.attention import triton_bias, triton_union

    grads: dict[str, Any] = {name: new_heads(forward.q) for name in ("grad_q", "grad_k", "grad_v")}
    call = Backward(**vars(forward), grad_out=grad_out, delta=torch.empty_like(forward.lse), **grads)
    launches, table_parts = triton_union.plan_backward(call, deterministic=deterministic)
    if call.table is not None and table_parts is None:
        launch, table_parts = triton_bias.plan_backward_bias(call)
        launches.append(launch)
    return launches, call, table_parts


class _TritonAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        bias_table: Tensor | None,
        graph: KeyGraph,
        scale: float,
        deterministic: bool,
    ) -> Tensor:
        table = None if bias_table is None else bias_table.contiguous()
        with torch.cuda.device_of(q):
            launches, call = plan_forward(q, k, v, graph, table, scale=scale)
            for launch in launches:
                launch.run()
        ctx.save_for_backward(q, k, v, table, call.out, call.lse)
        ctx.graph, ctx.scale, ctx.deterministic = graph, scale, deterministic
        return call.out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, table, out, lse = ctx.saved_tensors
        forward = Forward(q=q, k=k, v=v, table=table, out=out, lse=lse, graph=ctx.graph, scale=ctx.scale)
        with torch.cuda.device_of(q):
            launches, call, table_parts = plan_backward(forward, rows(grad_out), deterministic=ctx.deterministic)
            for launch in launches:
                launch.run()
            grad_table = None if table_parts is None else table_parts.sum(0).view(table.shape).to(table.dtype)
        return call.grad_q, call.grad_k, call.grad_v, grad_table, None, None, None
