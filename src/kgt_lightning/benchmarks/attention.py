"""The attention alone, over window sizes and neighbours, against dense attention in the same run."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from kgt_lightning.benchmarks.measure import Row, time_and_memory
from kgt_lightning.ops import KeyGraph, available_implementations, build_key_graph, key_graph_attention
from kgt_lightning.ops.attention.dispatch import choose_implementation
from kgt_lightning.ops.attention.reference import relative_position_index
from kgt_lightning.ops.kernels.triton_launch import next_power
from kgt_lightning.system.hardware import is_out_of_memory

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 3e-2}
"""Largest relative error against the float64 reference with which an implementation is timed."""


def bench_attention(
    *,
    num_nodes: Sequence[int],
    k: Sequence[int],
    impl: Sequence[str] | None,
    windows: int,
    heads: int,
    width: int,
    bias: bool,
    backward: bool,
    dtype: torch.dtype,
    device: torch.device,
    seconds: float,
) -> Iterator[Row]:
    """One row for each N, k and implementation, and one for dense attention at each N and k, as they are measured.

    Dense is PyTorch's scaled_dot_product_attention without bias or mask; flex, on a GPU, its compiled FlexAttention
    over the same Key-Graph. Times are medians in milliseconds, memory is the peak on top of the inputs in megabytes,
    speed-ups are dense time over own time of the same N and k. A k above
    N is left out; without ``impl`` all available implementations but the reference are measured.

    Raises:
        ValueError: if an implementation differs from the reference: a wrong result is not timed.

    """
    if unfit := [n for n in num_nodes if math.isqrt(n) ** 2 != n]:
        raise ValueError(f"attention.num_nodes={unfit}: windows are square, take 256, 1024, 2304 or another square")
    impls = impl or [name for name in available_implementations() if name != "reference"]
    measure = partial(_measure, backward=backward, device=device, seconds=seconds)
    for nodes, neighbours in product(num_nodes, k):
        if neighbours > nodes:
            continue
        sizes = {"windows": windows, "heads": heads, "width": width, "bias": bias, "num_nodes": nodes, "k": neighbours}
        common = {"device": device.type, "dtype": str(dtype).removeprefix("torch."), **sizes}
        random = partial(torch.randn, generator=torch.Generator(device).manual_seed(0), device=device)
        # Views of one tensor, as a model has them.
        qkv = list(random(windows, nodes, 3, heads, width).to(dtype).permute(2, 0, 3, 1, 4).unbind(0))
        tables = [random(heads, (2 * math.isqrt(nodes) - 1) ** 2).to(dtype)] if bias else []
        graph = build_key_graph(random(windows, nodes, heads * width), neighbours)
        dense = measure(F.scaled_dot_product_attention, qkv)
        yield {**common, "impl": "dense", "auto": False, **dense}
        if device.type == "cuda":
            yield {**common, "impl": "flex", "auto": False, **_measure_flex(graph, qkv, tables, measure)}
        # Compared on the first window and at most two heads.
        sample = [t[:1, :2] for t in qkv] + [table[:2] for table in tables]
        first = partial(_attend, graph=KeyGraph(graph.index[:1]), scale=width**-0.5)
        truth = _results(partial(first, impl="reference"), [t.double() for t in sample], backward=backward)
        chosen, _ = choose_implementation(neighbours, nodes, device)
        for name in impls:
            if wrong := _wrong(partial(first, impl=name), sample, truth):
                raise ValueError(f"impl={name}: {wrong} at N={nodes}, k={neighbours}: a wrong result is not timed")
            ours = measure(partial(_attend, graph=graph, scale=width**-0.5, impl=name), qkv + tables)
            speedups = {
                f"{what}_speedup": dense[f"{what}_ms"] / ours[f"{what}_ms"]
                for what in ("forward", "forward_backward")
                if dense.get(f"{what}_ms") and ours.get(f"{what}_ms")
            }
            yield {**common, "impl": name, "auto": name == chosen, **ours, **speedups}


def flex_attention_over(graph: KeyGraph, *, scale: float, compiled: bool) -> Callable[..., Tensor]:
    """PyTorch's FlexAttention over the graph: a function of q, k, v and the table; its block mask is made here."""
    neighbours, num_nodes = graph.mask, graph.num_nodes
    entry = relative_position_index(math.isqrt(num_nodes), neighbours.device)
    is_neighbour = lambda w, _, i, j: neighbours[w, i, j]  # noqa: E731
    blocks = create_block_mask(is_neighbour, len(neighbours), None, num_nodes, num_nodes, device=str(neighbours.device))
    run: Any = torch.compile(flex_attention, dynamic=False) if compiled else flex_attention

    def attend(q: Tensor, k: Tensor, v: Tensor, table: Tensor | None = None) -> Tensor:
        def add_bias(score: Tensor, _: Tensor, head: Tensor, i: Tensor, j: Tensor) -> Tensor:
            return score if table is None else score + table[head, entry[i, j]]

        # It wants widths that are powers of two.
        width = q.shape[-1]
        padded = [F.pad(t, (0, next_power(width) - width)) for t in (q, k, v)]
        return run(*padded, score_mod=add_bias, block_mask=blocks, scale=scale)[..., :width]

    return attend


def _measure_flex(graph: KeyGraph, qkv: list[Tensor], tables: list[Tensor], measure: Callable[..., Row]) -> Row:
    """Its row; where PyTorch cannot compile it, the reason, which is a result too."""
    try:
        return measure(flex_attention_over(graph, scale=qkv[0].shape[-1] ** -0.5, compiled=True), qkv + tables)
    except (RuntimeError, ValueError) as error:
        return {"status": f"failed: {str(error).splitlines()[0][:200]}"}


def _attend(q: Tensor, k: Tensor, v: Tensor, table: Tensor | None = None, **options: Any) -> Tensor:
    return key_graph_attention(q, k, v, bias_table=table, **options)


def _results(attend: Callable[..., Tensor], inputs: Sequence[Tensor], *, backward: bool) -> list[Tensor]:
    """Output, and the gradients of a sum that weighs each output differently."""
    inputs = [t.detach().requires_grad_(backward) for t in inputs]
    out = attend(*inputs)
    if not backward:
        return [out]
    weights = torch.linspace(-1, 1, out.numel(), dtype=torch.float64, device=out.device).view_as(out).to(out.dtype)
    return [out.detach(), *torch.autograd.grad(out, inputs, weights)]


def _wrong(attend: Callable[..., Tensor], inputs: Sequence[Tensor], truth: Sequence[Tensor]) -> str | None:
    """Which result differs by more than the tolerance, or is not finite; what runs out of memory will say so later."""
    tolerance = TOLERANCE[inputs[0].dtype]
    try:
        ours = _results(attend, inputs, backward=len(truth) > 1)
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            return None
        raise
    for what, mine, right in zip(["output", "dq", "dk", "dv", "dbias"], ours, truth, strict=False):
        # With one neighbour the gradients of q, k and the table are zero but for rounding.
        difference = ((mine.double() - right).norm() / right.norm().clamp_min(1e-3)).item()
        if not difference <= tolerance:
            return f"{what} differs from the reference by {difference:.1e} (allowed {tolerance:.0e})"
    return None


def _measure(
    attend: Callable[..., Tensor], inputs: Sequence[Tensor], *, backward: bool, device: torch.device, seconds: float
) -> Row:
    row: Row = {}
    forward = torch.no_grad()(partial(attend, *inputs))
    row["forward_ms"], row["forward_mb"], row["status"] = time_and_memory(forward, device=device, seconds=seconds)
    if backward and row["status"] == "ok":
        leaves = [t.detach().requires_grad_() for t in inputs]
        gradient = torch.ones_like(inputs[0])

        def forward_backward() -> None:
            torch.autograd.grad(attend(*leaves), leaves, gradient)

        time, memory, status = time_and_memory(forward_backward, device=device, seconds=seconds)
        row |= {"forward_backward_ms": time, "forward_backward_mb": memory, "status": status}
    return row
