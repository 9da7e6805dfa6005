"""Key-Graph Attention: one name for callers, an explicit table of implementations behind it.

Shapes: W windows, H heads, N = M*M nodes, K neighbours, D head width.
"""

import logging
import math
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from kgt_lightning.ops.attention.gather import gather_attention
from kgt_lightning.ops.attention.mask import mask_attention
from kgt_lightning.ops.attention.native import native_attention
from kgt_lightning.ops.attention.reference import reference_attention
from kgt_lightning.ops.attention.triton_attention import triton_attention, why_not_supported
from kgt_lightning.ops.kernels.native_build import why_unavailable as why_no_native
from kgt_lightning.ops.kernels.triton_launch import why_unavailable as why_no_triton
from kgt_lightning.ops.key_graph.graph import KeyGraph

log = logging.getLogger(__name__)

Implementation = Callable[..., Tensor]

IMPLEMENTATIONS: dict[str, Implementation] = {
    "reference": reference_attention,
    "mask": mask_attention,
    "gather": gather_attention,
    "native": native_attention,
    "triton": triton_attention,
}

# Why a machine may lack an implementation, in words, or None; those not named run everywhere.
WHY_UNAVAILABLE: dict[str, Callable[[], str | None]] = {
    "native": why_no_native,
    "triton": why_no_triton,
}


def available_implementations() -> list[str]:
    """Names that ``impl`` takes on this machine, ``auto`` aside."""
    return [name for name in IMPLEMENTATIONS if name not in WHY_UNAVAILABLE or WHY_UNAVAILABLE[name]() is None]


def key_graph_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    graph: KeyGraph,
    *,
    scale: float | Tensor,
    bias_table: Tensor | None = None,
    cosine: bool = False,
    impl: str = "auto",
) -> Tensor:
    """Attention [W, H, N, D] whose softmax runs only over the neighbours of each node (arXiv 2402.02634, section 3.3).

    out_i = sum_j softmax_j(scale * q_i . k_j + bias_ij) v_j, with j over ``graph.index[w, i]``.

    Args:
        q: [W, H, N, D].
        k: [W, H, N, D].
        v: [W, H, N, D].
        graph: the Key-Graph of the W windows.
        scale: factor of the scores, for example D ** -0.5; or one for each head, [H], which gets a gradient.
        bias_table: [H, (2M-1)*(2M-1)] with M*M = N; query i at (yi, xi) and key j at (yj, xj) take the entry
            (yi-yj+M-1)*(2M-1) + (xi-xj+M-1). It gets a gradient.
        cosine: whether q_i and k_j are divided by their lengths first (arXiv 2111.09883, equation 2).
        impl: ``auto``, or one of :func:`available_implementations`.

    Raises:
        ValueError: if a shape does not fit, or the implementation is unknown or unavailable.

    """
    _check_shapes(q, k, v, graph, bias_table, scale)
    if impl == "auto":
        impl, reason = choose_implementation(graph.k, graph.num_nodes, q.device, dtype=q.dtype, width=q.shape[-1])
        if not torch.compiler.is_compiling():
            _say_once(impl, reason)
    _check_available(impl)
    if impl == "native":  # lengths and scale on the way to its own copy of a window's keys and queries
        return native_attention(q, k, v, graph, scale=scale, bias_table=bias_table, cosine=cosine)
    if cosine:
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
    if isinstance(scale, Tensor):
        q, scale = q * scale[:, None, None], 1.0
    q, k = q.to(v.dtype), k.to(v.dtype)
    return IMPLEMENTATIONS[impl](q, k, v, graph, scale=scale, bias_table=bias_table)


def choose_implementation(
    k: int, num_nodes: int, device: torch.device, *, dtype: torch.dtype = torch.float32, width: int = 1
) -> tuple[str, str]:
    """Name of the implementation that ``auto`` takes for these sizes on this device, and the reason in words."""
    if device.type == "cpu":
        problem = why_no_native()
        if problem is None:
            return "native", "compiled code that reads only the neighbours costs least on the CPU"
        name, reason = _choose_plain(k, num_nodes)
        return name, f"native is unavailable: {problem}; {reason}"
    if device.type == "cuda":
        problem = why_no_triton() or why_not_supported(dtype, width, num_nodes)
        if problem is None:
            return "triton", "fused kernels that keep no score in memory cost least on a GPU"
        name, reason = _choose_plain(k, num_nodes)
        return name, f"triton is not possible: {problem}; {reason}"
    return _choose_plain(k, num_nodes)


def _choose_plain(k: int, num_nodes: int) -> tuple[str, str]:
    if k * 16 <= num_nodes:
        return "gather", f"k={k} is at most 1/16 of {num_nodes} nodes, so that reading the neighbours costs least"
    return "mask", f"k={k} is more than 1/16 of {num_nodes} nodes, so that dense scores with a mask cost least"


@cache
def _say_once(impl: str, reason: str) -> None:
    log.info("attention: auto chose %s (%s)", impl, reason)


def _check_available(impl: str) -> None:
    problem = "it is unknown" if impl not in IMPLEMENTATIONS else WHY_UNAVAILABLE.get(impl, lambda: None)()
    if problem is not None:
        choices = ", ".join(available_implementations())
        raise ValueError(f"impl={impl!r} is not available ({problem}); choose auto or one of {choices}")


def _check_shapes(
    q: Tensor, k: Tensor, v: Tensor, graph: KeyGraph, bias_table: Tensor | None, scale: float | Tensor
) -> None:
    if q.ndim != 4 or q.shape != k.shape or q.shape != v.shape:
        shapes = ", ".join(str(list(t.shape)) for t in (q, k, v))
        raise ValueError(f"q, k, v have shapes {shapes}; expected three times [windows, heads, nodes, width]")
    windows, heads, num_nodes, _ = q.shape
    others = {"k": k, "v": v, "the graph": graph.index, "bias_table": bias_table}
    if isinstance(scale, Tensor):
        others["scale"] = scale
        if scale.shape != (heads,):
            raise ValueError(f"scale has shape {list(scale.shape)}; {heads} heads need one number, or [{heads}]")
    elsewhere = [f"{name} on {t.device}" for name, t in others.items() if t is not None and t.device != q.device]
    if elsewhere:
        raise ValueError(f"q is on {q.device}, but {', '.join(elsewhere)}: move all to one device")
    if graph.index.shape[:2] != (windows, num_nodes):
        built_for = list(graph.index.shape[:2])
        raise ValueError(
            f"the graph is built for {built_for} [windows, nodes], the queries have {[windows, num_nodes]}"
        )
    if bias_table is not None:
        window = math.isqrt(num_nodes)
        expected = (heads, (2 * window - 1) ** 2)
        if window * window != num_nodes or bias_table.shape != torch.Size(expected):
            raise ValueError(
                f"bias_table has shape {list(bias_table.shape)}; {heads} heads and {num_nodes} nodes need"
                f" {list(expected)} and a square window"
            )
