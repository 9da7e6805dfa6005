"""The k most similar nodes of every node: one set on every machine, equal similarities decided for the smaller index.

Shapes: W windows, N nodes, K neighbours, C channels, R rows.
"""

import torch
from torch import Tensor

from kgt_lightning.ops.kernels.derivatives import one_by_one
from kgt_lightning.ops.kernels.native_build import library, why_unavailable


def most_similar(nodes: Tensor, k: int) -> Tensor:
    """Index [W, N, K], int32, rising along K: the k largest of each row of the inner products of nodes [W, N, C].

    NaN counts as the least similar. Products of 16-bit nodes are summed and compared in float32, as on a GPU.
    """
    if nodes.dtype in (torch.float16, torch.bfloat16):
        nodes = nodes.float()
    # One operation whatever is installed, so that a traced graph is the same everywhere.
    return _most_similar_cpu(nodes, k) if nodes.device.type == "cpu" else _most_similar_plain(nodes, k)


def _most_similar_plain(nodes: Tensor, k: int) -> Tensor:
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


@torch.library.custom_op("kgt::most_similar", mutates_args=(), device_types="cpu")
def _most_similar_cpu(nodes: Tensor, k: int) -> Tensor:
    return _most_similar_plain(nodes, k) if why_unavailable() else _most_similar_native(nodes, k)


@_most_similar_cpu.register_fake
def _(nodes: Tensor, k: int) -> Tensor:
    return nodes.new_empty(*nodes.shape[:2], k, dtype=torch.int32)


_most_similar_cpu.register_vmap(one_by_one(_most_similar_cpu))


def _most_similar_native(nodes: Tensor, k: int) -> Tensor:
    """The same by the compiled kernel, which holds a few rows of the similarity at once."""
    nodes = nodes.contiguous()
    windows, num_nodes, channels = nodes.shape
    index_WNK = torch.empty(windows, num_nodes, k, dtype=torch.int32)
    choose, threads = library(double=nodes.dtype == torch.float64).kgt_neighbours, torch.get_num_threads()
    if choose(nodes.data_ptr(), windows, num_nodes, channels, k, index_WNK.data_ptr(), threads):
        raise MemoryError("native selection: no memory left for the nodes of a window and a block of similarities")
    return index_WNK
