"""The k most similar nodes of every node: one set on every machine, equal similarities decided for the smaller index.

Shapes: W windows, N nodes, K neighbours, C channels, R rows worked on at once.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from kgt_lightning.ops.native_build import library, why_unavailable

# Similarity held at once: small enough to stay in the processor's caches between the product and the choice.
BLOCK_BYTES = 4 * 2**20


def most_similar(nodes: Tensor, k: int) -> Tensor:
    """Index [W, N, K], int32, rising along K: the k largest of each row of the inner products of nodes [W, N, C].

    NaN counts as the least similar.
    """
    if nodes.device.type == "cpu" and why_unavailable() is None:
        return _most_similar_native(nodes, k)
    return largest_of_rows((nodes @ nodes.mT).flatten(0, 1), k).view(*nodes.shape[:2], k)


def largest_of_rows(similarity_RN: Tensor, k: int) -> Tensor:
    """Index [R, K], int32, rising along K, in plain PyTorch for any device."""
    similarity_RN = similarity_RN.masked_fill(similarity_RN.isnan(), -torch.inf)
    least_R1 = similarity_RN.topk(k, sorted=False).values.amin(-1, keepdim=True)
    above, ties = similarity_RN > least_R1, similarity_RN == least_R1
    missing_R1 = k - above.sum(-1, keepdim=True)
    chosen = above | (ties & (ties.cumsum(-1) <= missing_R1))
    # Places instead of nonzero(), whose size depends on the data, so that the graph can be traced and exported.
    num_nodes = similarity_RN.shape[-1]
    places_RN = torch.arange(num_nodes, dtype=torch.int32, device=chosen.device).where(chosen, num_nodes)
    return places_RN.topk(k, largest=False, sorted=True).values


def largest_of_rows_native(similarity_RN: Tensor, k: int) -> Tensor:
    """Index [R, K] as :func:`largest_of_rows`, by the compiled kernel; the rows lie on the CPU."""
    double = similarity_RN.dtype == torch.float64
    similarity_RN = similarity_RN.to(torch.float64 if double else torch.float32).contiguous()
    rows, num_nodes = similarity_RN.shape
    index_RK = torch.empty(rows, k, dtype=torch.int32)
    select = library(double=double).kgt_select
    if select(similarity_RN.data_ptr(), rows, num_nodes, k, index_RK.data_ptr(), torch.get_num_threads()):
        raise MemoryError("native selection: no memory left for one row of similarities per thread")
    return index_RK


@torch.library.custom_op("kgt::most_similar", mutates_args=(), device_types="cpu")
def _most_similar_native(nodes: Tensor, k: int) -> Tensor:
    blocks = [largest_of_rows_native(rows, k) for rows in _similarity_blocks(nodes)]
    return torch.cat(blocks).view(*nodes.shape[:2], k)


@_most_similar_native.register_fake
def _(nodes: Tensor, k: int) -> Tensor:
    return nodes.new_empty(*nodes.shape[:2], k, dtype=torch.int32)


def _similarity_blocks(nodes_WNC: Tensor) -> Iterator[Tensor]:
    """Rows [R, N] of the similarity V V^T of every window, window after window."""
    num_nodes = nodes_WNC.shape[1]
    rows = max(1, BLOCK_BYTES // (num_nodes * nodes_WNC.element_size()))
    if rows >= num_nodes:
        for some_WNC in nodes_WNC.split(rows // num_nodes):
            yield (some_WNC @ some_WNC.mT).flatten(0, 1)
    else:
        for window_NC in nodes_WNC:
            for some_RC in window_NC.split(rows):
                yield some_RC @ window_NC.T
