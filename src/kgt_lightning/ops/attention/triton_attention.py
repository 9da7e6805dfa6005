"""Key-Graph Attention on the GPU: fused Triton kernels over tile unions, forward and backward.

Shapes: W windows, H heads, N = M*M nodes, K neighbours, D head width, E = (2M-1)**2 entries of the bias table.
"""

from typing import Any

import torch
from torch import Tensor

from kgt_lightning.ops.attention.triton_call import Backward, Forward, new_heads
from kgt_lightning.ops.kernels.derivatives import Gradients, ReverseOnly, one_by_one
from kgt_lightning.ops.kernels.triton_launch import DTYPES, MAX_NODES, MAX_WIDTH, Launch, interpreting, rows
from kgt_lightning.ops.key_graph.forms import TileUnions
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
    # Made once for all layers that share the graph, so that it is not left to the backward of each.
    transposed = vars(graph.transposed_unions) if torch.is_grad_enabled() else {"entries": None, "lengths": None}
    lists = (*vars(graph.unions).values(), *transposed.values(), graph.packed_bits)
    return _Attention.apply(q, k, v, bias_table, *lists, scale, deterministic)[0]


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
    q: Tensor, k: Tensor, v: Tensor, table: Tensor | None, unions: TileUnions, *, scale: float
) -> tuple[list[Launch], Forward]:
    """What computes the output and its lse, and these among the tensors of the call."""
    from kgt_lightning.ops.attention import triton_union  # triton is not installed everywhere

    out, lse = _room(q)
    q, k, v = rows(q), rows(k), rows(v)
    table = None if table is None else table.contiguous()
    call = Forward(q=q, k=k, v=v, table=table, out=out, lse=lse, unions=unions, scale=scale)
    return triton_union.plan_forward(call), call


def plan_backward(
    forward: Forward, grad_out: Tensor, transposed: TileUnions, bits: Tensor, *, deterministic: bool
) -> tuple[list[Launch], Backward, Tensor | None]:
    """What computes the gradients, to be run in order, and these; that of the table is a sum over parts [P, ...]."""
    from kgt_lightning.ops.attention import triton_bias, triton_union

    made: dict[str, Any] = {name: new_heads(forward.q) for name in ("grad_q", "grad_k", "grad_v")}
    made |= {"grad_out": rows(grad_out), "delta": torch.empty_like(forward.lse)}
    call = Backward(**vars(forward), transposed=transposed, bits=bits, **made)
    launches, table_parts = triton_union.plan_backward(call, deterministic=deterministic)
    if call.table is not None and table_parts is None:
        launch, table_parts = triton_bias.plan_backward_bias(call)
        launches.append(launch)
    return launches, call, table_parts


@torch.library.custom_op("kgt::triton_attention", mutates_args=())
def _attention(
    q: Tensor, k: Tensor, v: Tensor, bias_table: Tensor | None, entries: Tensor, lengths: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    with torch.cuda.device_of(q):
        launches, call = plan_forward(q, k, v, bias_table, TileUnions(entries, lengths), scale=scale)
        for launch in launches:
            launch.run()
    return call.out, call.lse


@_attention.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, bias_table: Tensor | None, entries: Tensor, lengths: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    return _room(q)


@torch.library.custom_op("kgt::triton_attention_backward", mutates_args=())
def _attention_backward(
    grad_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias_table: Tensor | None,
    out: Tensor,
    lse: Tensor,
    entries: Tensor,
    lengths: Tensor,
    transposed_entries: Tensor,
    transposed_lengths: Tensor,
    bits: Tensor,
    scale: float,
    deterministic: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    table = None if bias_table is None else bias_table.contiguous()
    unions, transposed = TileUnions(entries, lengths), TileUnions(transposed_entries, transposed_lengths)
    q, k, v = rows(q), rows(k), rows(v)
    forward = Forward(q=q, k=k, v=v, table=table, out=out, lse=lse, unions=unions, scale=scale)
    with torch.cuda.device_of(q):
        launches, call, parts = plan_backward(forward, grad_out, transposed, bits, deterministic=deterministic)
        for launch in launches:
            launch.run()
        grad_table = (
            q.new_empty(0) if parts is None or table is None else parts.sum(0).view(table.shape).to(table.dtype)
        )
    return call.grad_q, call.grad_k, call.grad_v, grad_table


@_attention_backward.register_fake
def _(grad_out: Tensor, q: Tensor, k: Tensor, v: Tensor, bias_table: Tensor | None, *others: Any) -> tuple[Tensor, ...]:
    grad_table = q.new_empty(0) if bias_table is None else torch.empty_like(bias_table.contiguous())
    return new_heads(q), new_heads(q), new_heads(q), grad_table


for _operation in (_attention, _attention_backward):
    _operation.register_vmap(one_by_one(_operation))


class _Attention(ReverseOnly):
    @staticmethod
    def forward(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        bias_table: Tensor | None,
        entries: Tensor,
        lengths: Tensor,
        transposed_entries: Tensor | None,
        transposed_lengths: Tensor | None,
        bits: Tensor,
        scale: float,
        deterministic: bool,
    ) -> tuple[Tensor, Tensor]:
        return _attention(q, k, v, bias_table, entries, lengths, scale)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        *tensors, ctx.scale, ctx.deterministic = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*tensors, *output)

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, table, *lists, out, lse = ctx.saved_tensors
        *grads, grad_table = _Gradients.apply(grad_out, q, k, v, table, out, lse, *lists, ctx.scale, ctx.deterministic)
        return *grads, None if table is None else grad_table, *[None] * (len(lists) + 2)


class _Gradients(Gradients):
    @staticmethod
    def forward(
        grad_out: Tensor,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        bias_table: Tensor | None,
        out: Tensor,
        lse: Tensor,
        entries: Tensor,
        lengths: Tensor,
        transposed_entries: Tensor,
        transposed_lengths: Tensor,
        bits: Tensor,
        scale: float,
        deterministic: bool,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        heads, unions, transposed = (q, k, v), (entries, lengths), (transposed_entries, transposed_lengths)
        return _attention_backward(
            grad_out, *heads, bias_table, out, lse, *unions, *transposed, bits, scale, deterministic
        )


def _room(q: Tensor) -> tuple[Tensor, Tensor]:
    """Unset output and lse."""
    return new_heads(q), torch.empty(q.shape[:3], dtype=torch.float32, device=q.device)
