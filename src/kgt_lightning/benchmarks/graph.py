"""The constructor of the Key-Graph against the bare similarity product in the same run."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch

from kgt_lightning.benchmarks.measure import time_and_memory
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
) -> Iterator[dict[str, Any]]:
    """One row for each N and k (those above N left out): times in milliseconds, peak memory in megabytes.

    Raises:
        ValueError: if the graph does not keep the most similar nodes: a wrong result is not timed.

    """
    for nodes in num_nodes:
        generator = torch.Generator(device).manual_seed(0)
        features = torch.randn(windows, nodes, channels, generator=generator, device=device).to(dtype)
        for neighbours in (each for each in k if each <= nodes):
            _check(features, neighbours)
            product, product_mb, _ = time_and_memory(partial(_similarity, features), device=device, seconds=seconds)
            build = partial(build_key_graph, features, neighbours)
            ours, ours_mb, status = time_and_memory(build, device=device, seconds=seconds)
            yield {
                "device": device.type,
                "dtype": str(dtype).removeprefix("torch."),
                "windows": windows,
                "channels": channels,
                "num_nodes": nodes,
                "k": neighbours,
                "product_ms": product,
                "product_mb": product_mb,
                "graph_ms": ours,
                "graph_mb": ours_mb,
                "ratio": ours / product if ours and product else None,
                "status": status,
            }


def _similarity(features: torch.Tensor) -> torch.Tensor:
    return features @ features.mT


def _check(features: torch.Tensor, k: int) -> None:
    """Compare the similarities that the first window's graph keeps with the largest ones."""
    similarity = features[0] @ features[0].T
    index = build_key_graph(features, k).index[0].long()
    kept = similarity.gather(-1, index).sort(-1, descending=True).values
    largest = similarity.topk(k).values
    repeated = k > 1 and bool((index.sort(-1).values.diff(dim=-1) == 0).any())
    # Two orders of summation may swap neighbours that are equally similar but for rounding.
    if repeated or not torch.allclose(
        kept.float(), largest.float(), rtol=1e-2 if features.dtype.itemsize < 4 else 1e-4
    ):
        raise ValueError(f"the Key-Graph at N={features.shape[1]}, k={k} is wrong: a wrong result is not timed")
