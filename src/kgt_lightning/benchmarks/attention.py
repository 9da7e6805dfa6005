"""The attention alone, over window sizes and neighbours, against dense attention in the same run."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kgt_lightning.benchmarks.measure import time_and_memory
from kgt_lightning.ops import KeyGraph, available_implementations, build_key_graph, key_graph_attention
from kgt_lightning.ops.attention.dispatch import choose_implementation
from kgt_lightning.system.hardware import is_out_of_memory

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 3e-2}
"""Largest relative error against the float64 reference with which an implementation is timed."""

Row = dict[str, Any]


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

    Dense is PyTorch's scaled_dot_product_attention without bias or mask. Times are medians in milliseconds, memory is
    the peak on top of the inputs in megabytes, speed-ups are dense time over own time of the same N and k.

    Args:
        num_nodes: sizes N of a window, square numbers.
        k: neighbours; those above N are left out.
        impl: implementations; None takes all that are available but the reference.
        windows: number of windows.
        heads: heads of the attention.
        width: of a head.
        bias: whether ours adds a position bias, with a gradient.
        backward: whether forward + backward is measured too.
        dtype: of queries, keys, values and bias table.
        device: where to run.
        seconds: how long each figure is measured.

    Raises:
        ValueError: if an implementation differs from the reference: a wrong result is not timed.

    """
    unfit = [n for n in num_nodes if math.isqrt(n) ** 2 != n]
    if unfit:
        raise ValueError(f"attention.num_nodes={unfit}: windows are square, take 256, 1024, 2304 or another square")
    impls = list(impl) if impl else [name for name in available_implementations() if name != "reference"]
    measure = partial(_measure, backward=backward, device=device, seconds=seconds)
    for nodes in num_nodes:
        q, k_, v, table = make_inputs(
            windows=windows, heads=heads, num_nodes=nodes, width=width, dtype=dtype, device=device
        )
        for neighbours in (each for each in k if each <= nodes):
            common = {
                "device": device.type,
                "dtype": str(dtype).removeprefix("torch."),
                "windows": windows,
                "heads": heads,
                "width": width,
                "bias": bias,
                "num_nodes": nodes,
                "k": neighbours,
            }
            features = torch.randn(windows, nodes, heads * width, generator=_generator(device), device=device)
            graph = build_key_graph(features, neighbours)
            dense = measure(F.scaled_dot_product_attention, (q, k_, v))
            yield {**common, "impl": "dense", "auto": False, **dense}
            inputs = (q, k_, v, table) if bias else (q, k_, v)
            attend = partial(_attend, graph=graph, scale=width**-0.5)
            check = Check(attend, inputs, graph, backward=backward)
            for name in impls:
                check(name)
                ours = measure(partial(attend, impl=name), inputs)
                chosen, _ = choose_implementation(neighbours, nodes, device)
                yield {**common, "impl": name, "auto": name == chosen, **ours, **_speedups(dense, ours)}


def make_inputs(
    *, windows: int, heads: int, num_nodes: int, width: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries, keys and values [W, H, N, D], views of one tensor as a model has them, and a bias table."""
    packed = torch.randn(windows, num_nodes, 3, heads, width, generator=_generator(device), device=device)
    q, k, v = packed.to(dtype).permute(2, 0, 3, 1, 4).unbind(0)
    side = math.isqrt(num_nodes)
    table = torch.randn(heads, (2 * side - 1) ** 2, generator=_generator(device), device=device).to(dtype)
    return q, k, v, table


class Check:
    """Compares implementations with the reference in float64, on the first window and at most two heads."""

    def __init__(
        self, attend: Callable[..., Tensor], inputs: Sequence[Tensor], graph: KeyGraph, *, backward: bool
    ) -> None:
        self.where = f"N={graph.num_nodes}, k={graph.k}"
        self.tolerance = TOLERANCE[inputs[0].dtype]
        self.inputs = [t[:1, :2] for t in inputs[:3]] + [table[:2] for table in inputs[3:]]
        self.results = partial(_results, partial(attend, graph=KeyGraph(graph.index[:1])), backward=backward)
        self.truth = self.results([t.double() for t in self.inputs], impl="reference")

    def __call__(self, impl: str) -> None:
        """Nothing; what runs out of memory passes, the measurement will say so.

        Raises:
            ValueError: if output or a gradient differs by more than the tolerance of the data type, or is not finite.

        """
        try:
            ours = self.results(self.inputs, impl=impl)
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                return
            raise
        for what, mine, right in zip(["output", "dq", "dk", "dv", "dbias"], ours, self.truth, strict=False):
            # With one neighbour the gradients of q, k and the table are zero but for rounding.
            difference = ((mine.double() - right).norm() / right.norm().clamp_min(1e-3)).item()
            if not difference <= self.tolerance:
                raise ValueError(
                    f"impl={impl}: {what} differs from the reference by {difference:.1e} at {self.where}"
                    f" (allowed {self.tolerance:.0e}): a wrong result is not timed"
                )


def _generator(device: torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed(0)


def _attend(q: Tensor, k: Tensor, v: Tensor, table: Tensor | None = None, **options: Any) -> Tensor:
    return key_graph_attention(q, k, v, bias_table=table, **options)


def _results(attend: Callable[..., Tensor], inputs: Sequence[Tensor], *, impl: str, backward: bool) -> list[Tensor]:
    """Output, and the gradients of a sum that weighs each output differently."""
    inputs = [t.detach().requires_grad_(backward) for t in inputs]
    out = attend(*inputs, impl=impl)
    if not backward:
        return [out]
    weights = torch.linspace(-1, 1, out.numel(), dtype=torch.float64, device=out.device).view_as(out).to(out.dtype)
    return [out.detach(), *torch.autograd.grad(out, inputs, weights)]


def _measure(
    attend: Callable[..., Tensor], inputs: Sequence[Tensor], *, backward: bool, device: torch.device, seconds: float
) -> Row:
    def forward() -> None:
        with torch.no_grad():
            attend(*inputs)

    row: Row = {}
    row["forward_ms"], row["forward_mb"], row["status"] = time_and_memory(forward, device=device, seconds=seconds)
    if backward and row["status"] == "ok":
        leaves = [t.detach().requires_grad_() for t in inputs]
        gradient = torch.ones_like(inputs[0])

        def forward_backward() -> None:
            torch.autograd.grad(attend(*leaves), leaves, gradient)

        time, memory, status = time_and_memory(forward_backward, device=device, seconds=seconds)
        row |= {"forward_backward_ms": time, "forward_backward_mb": memory, "status": status}
    return row


def _speedups(dense: Row, ours: Row) -> Row:
    return {
        name.replace("_ms", "_speedup"): dense[name] / ours[name]
        for name in ("forward_ms", "forward_backward_ms")
        if dense.get(name) and ours.get(name)
    }
