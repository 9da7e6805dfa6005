"""Key-Graph Attention on the GPU: fused Triton kernels in two schedules, forward and backward.

Shapes: W windows, H heads, N = M*M nodes, K neighbours, D head width, E = (2M-1)**2 entries of the bias table.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kgt_lightning.ops.kernels.triton_launch import DTYPES, MAX_WIDTH, Launch, interpreting, rows
from kgt_lightning.ops.key_graph.graph import KeyGraph

SCHEDULES = ("lists", "blocks")


def triton_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    graph: KeyGraph,
    *,
    scale: float,
    bias_table: Tensor | None = None,
    schedule: str = "auto",
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
        schedule: ``lists`` reads only the k keys and values of each node; ``blocks`` computes blocks of scores on the
            tensor cores under a packed bit mask; ``auto`` follows :func:`choose_schedule`.
        deterministic: whether the backward gives the same bits every time. The default asks
            ``torch.are_deterministic_algorithms_enabled()``. Only the table's gradient in ``lists`` has another,
            faster way, by atomic additions; the gradients of k and v always follow the transposed graph, which is made
            once for all layers and, by count of bytes, costs less than atomic additions do.

    Raises:
        ValueError: if the tensors are not on a GPU, or a type, width or schedule is not supported.

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
    problem = why_not_supported(q.dtype, q.shape[-1])
    if problem is not None:
        raise ValueError(f"impl='triton' is not possible ({problem}); choose mask or gather")
    if schedule == "auto":
        schedule = choose_schedule(graph.k, graph.num_nodes, q.dtype, q.shape[-1])
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule={schedule!r} is unknown; choose auto, {' or '.join(SCHEDULES)}")
    if deterministic is None:
        deterministic = torch.are_deterministic_algorithms_enabled()
    return _TritonAttention.apply(rows(q), rows(k), rows(v), bias_table, graph, scale, schedule, deterministic)


def why_not_supported(dtype: torch.dtype, width: int) -> str | None:
    """Why the kernels do not take heads of this type and width, in words, or None."""
    if dtype not in DTYPES:
        return f"q is {str(dtype).removeprefix('torch.')}, the kernels take float32, float16 and bfloat16"
    if width > MAX_WIDTH:
        return f"heads are {width} wide, the kernels take up to {MAX_WIDTH}"
    return None


def choose_schedule(k: int, num_nodes: int, dtype: torch.dtype, width: int) -> str:
    """Schedule that ``auto`` takes, from the cycles that a multiprocessor of an A100 needs, counted and not measured.

    At a head width of 32 and by its throughput per cycle, one neighbour of ``lists`` costs about 4 cycles: two gathered
    vectors, their conversion, two scalar products. One pair of ``blocks`` costs about 1/3 of a cycle in 16 bits, most
    of it for softmax, mask and bias, and about 2/3 in float32, whose products are made of three. Both grow alike with
    the width. Heads of more than 128 bytes are left to ``lists``: the tiles of ``blocks`` do not fit into registers.
    """
    if width * dtype.itemsize > 128:
        return "lists"
    pairs_per_neighbour = 6 if dtype == torch.float32 else 12
    return "lists" if k * pairs_per_neighbour <= num_nodes else "blocks"


def plan_forward(
    q: Tensor, k: Tensor, v: Tensor, graph: KeyGraph, table: Tensor | None, *, scale: float, schedule: str
) -> tuple[Launch, Tensor, Tensor]:
    """What computes the output [W, H, N, D] and the base-2 logarithm [W, H, N] of the softmax sums, and these two."""
    from kgt_lightning.ops.attention import triton_lists, triton_packed

    out, lse = _new(q), torch.empty(q.shape[:3], dtype=torch.float32, device=q.device)
    if schedule == "lists":
        launch = triton_lists.plan_forward(q, k, v, _neighbours(graph), table, scale, out=out, lse=lse)
    else:
        launch = triton_packed.plan_forward(q, k, v, graph.packed, table, scale, out=out, lse=lse)
    return launch, out, lse


@dataclass(frozen=True)
class BackwardPlan:
    """Launches of one backward, to be run in order, and the tensors that they fill."""

    launches: list[Launch]
    grad_q: Tensor
    grad_k: Tensor
    grad_v: Tensor
    table_parts: Tensor | None
    """[P, ...], float32: the gradient of the table is their sum over P."""


def plan_backward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    graph: KeyGraph,
    table: Tensor | None,
    out: Tensor,
    lse: Tensor,
    grad_out: Tensor,
    *,
    scale: float,
    schedule: str,
    deterministic: bool,
) -> BackwardPlan:
    """What computes the gradients, from the output and its lse."""
    from kgt_lightning.ops.attention import triton_lists, triton_packed

    delta, grad_q = torch.empty_like(lse), _new(q)
    query_side: dict[str, Any] = {"out": out, "lse": lse, "grad_out": grad_out, "delta": delta, "grad_q": grad_q}
    grad_k, grad_v = _new(q), _new(q)
    key_side = {"lse": lse, "grad_out": grad_out, "delta": delta, "grad_k": grad_k, "grad_v": grad_v}
    parts = None
    if schedule == "lists":
        if table is not None and not deterministic:
            parts = table.new_zeros((1, *table.shape), dtype=torch.float32)
        launches = [
            triton_lists.plan_backward_queries(
                q, k, v, _neighbours(graph), table, scale, **query_side, sum_table=parts
            ),
            triton_lists.plan_backward_keys(q, k, v, graph.transposed, table, scale, **key_side),
        ]
    else:
        launches = [
            triton_packed.plan_backward_queries(q, k, v, graph.packed, table, scale, **query_side),
            triton_packed.plan_backward_keys(q, k, v, graph.packed, table, scale, **key_side),
        ]
    if table is not None and parts is None:
        bits = graph.packed.bits
        launch, parts = triton_packed.plan_backward_bias(
            q, k, v, bits, table, scale, lse=lse, grad_out=grad_out, delta=delta
        )
        launches.append(launch)
    return BackwardPlan(launches, grad_q, grad_k, grad_v, parts)


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
        schedule: str,
        deterministic: bool,
    ) -> Tensor:
        table = None if bias_table is None else bias_table.contiguous()
        with torch.cuda.device_of(q):
            launch, out, lse = plan_forward(q, k, v, graph, table, scale=scale, schedule=schedule)
            launch.run()
        ctx.save_for_backward(q, k, v, table, out, lse)
        ctx.graph, ctx.scale, ctx.schedule, ctx.deterministic = graph, scale, schedule, deterministic
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, table, out, lse = ctx.saved_tensors
        with torch.cuda.device_of(q):
            plan = plan_backward(
                *(q, k, v, ctx.graph, table, out, lse, rows(grad_out)),
                **{"scale": ctx.scale, "schedule": ctx.schedule, "deterministic": ctx.deterministic},
            )
            for launch in plan.launches:
                launch.run()
            grad_table = None
            if plan.table_parts is not None:
                grad_table = plan.table_parts.sum(0).view(table.shape).to(table.dtype)
        return plan.grad_q, plan.grad_k, plan.grad_v, grad_table, None, None, None, None


def _neighbours(graph: KeyGraph) -> Tensor:
    """[W, N, K]; checked unless the fused constructor made them, because the kernels read wherever they point."""
    return rows(graph.index32 if graph.bits is None else graph.index)


def _new(like: Tensor) -> Tensor:
    """[W, H, N, D] with the heads of a node side by side in memory."""
    windows, heads, num_nodes, width = like.shape
    return torch.empty((windows, num_nodes, heads, width), dtype=like.dtype, device=like.device).transpose(1, 2)
