"""The constructor of the Key-Graph against the bare similarity product in the same run."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import product

import torch

from kgt_lightning.benchmarks.measure import Row, time_and_memory
from kgt_lightning.ops import build_key_graph


def bench_graph(
    *,
    num_nodes: Sequence[int],
    k: Sequence[int],
    windows: int,
    channels: int,
    dtype: torch.dtype,
    device: torch.device,
    seconds: float,
) -> Iterator[Row]:
    """One row for each N and k (those above N left out): times in milliseconds, peak memory in megabytes.

    Raises:
        ValueError: if the graph does not keep the most similar nodes: a wrong result is not timed.

    """
    measure = partial(time_and_memory, device=device, seconds=seconds)
    for nodes, neighbours in product(num_nodes, k):
        if neighbours > nodes:
            continue
        generator = torch.Generator(device).manual_seed(0)
        features = torch.randn(windows, nodes, channels, generator=generator, device=device).to(dtype)
        _check(features, neighbours)
        product_ms, product_mb, _ = measure(partial(torch.matmul, features, features.mT))
        graph_ms, graph_mb, status = measure(partial(build_key_graph, features, neighbours))
        yield {
            "device": device.type,
            "dtype": str(dtype).removeprefix("torch."),
            "windows": windows,
            "channels": channels,
            "num_nodes": nodes,
            "k": neighbours,
            "product_ms": product_ms,
            "product_mb": product_mb,
            "graph_ms": graph_ms,
            "graph_mb": graph_mb,
            "ratio": graph_ms / product_ms if graph_ms and product_ms else None,
            "status": status,
        }


def _check(features: torch.Tensor, k: int) -> None:
    """Compare the similarities that the first window's graph keeps with the largest ones."""
    similarity = features[0] @ features[0].T
    index = build_key_graph(features, k).index[0].long()
    kept = similarity.gather(-1, index).sort(-1, descending=True).values
    repeated = bool((index.sort(-1).values.diff(dim=-1) == 0).any())
    # Two orders of summation may swap neighbours that are equally similar but for rounding.
    tolerance = 1e-2 if features.dtype.itemsize < 4 else 1e-4
    if repeated or not torch.allclose(kept.float(), similarity.topk(k).values.float(), rtol=tolerance):
        raise ValueError(f"the Key-Graph at N={features.shape[1]}, k={k} is wrong: a wrong result is not timed")
