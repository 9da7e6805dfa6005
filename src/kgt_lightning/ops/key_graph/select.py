"""The k most similar nodes of every node: one set on every machine, equal similarities decided for the smaller index.

Shapes: W windows, N nodes, K neighbours, C channels, R rows worked on at once.
"""

import torch
from torch import Tensor

from kgt_lightning.ops.kernels.native_build import library, why_unavailable
from kgt_lightning.ops.linear import is_convolved, linear

# Similarity held at once: small enough to stay in the processor's caches between the product and the choice.
BLOCK_BYTES = 4 * 2**20

# Below this number a product of a single window is too small to gain by being a convolution.
FEW_NODES = 512


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


def largest_of_rows_native(similarity_RN: Tensor, k: int) -> Tensor:
    """Index [R, K] as :func:`largest_of_rows`, by the compiled kernel; the rows lie on the CPU."""
    index_RK = torch.empty(len(similarity_RN), k, dtype=torch.int32)
    _select(similarity_RN, index_RK)
    return index_RK


@torch.library.custom_op("kgt::most_similar", mutates_args=(), device_types="cpu")
def _most_similar_cpu(nodes: Tensor, k: int) -> Tensor:
    return _most_similar_plain(nodes, k) if why_unavailable() else _most_similar_native(nodes, k)


@_most_similar_cpu.register_fake
def _(nodes: Tensor, k: int) -> Tensor:
    return nodes.new_empty(*nodes.shape[:2], k, dtype=torch.int32)


def _most_similar_native(nodes: Tensor, k: int) -> Tensor:
    windows, num_nodes, _ = nodes.shape
    index_WNK = torch.empty(windows, num_nodes, k, dtype=torch.int32)
    rows = max(1, BLOCK_BYTES // (num_nodes * nodes.element_size()))
    if num_nodes >= FEW_NODES and is_convolved(nodes, nodes):
        for nodes_NC, index_NK in zip(nodes, index_WNK, strict=True):
            for nodes_RC, part_RK in zip(nodes_NC.split(rows), index_NK.split(rows), strict=True):
                _select(linear(nodes_RC, nodes_NC), part_RK)
    elif rows >= num_nodes:
        some = rows // num_nodes
        # One block for all, or the allocator would look for a new place each time.
        block = nodes.new_empty(some, num_nodes, num_nodes)
        for nodes_WNC, part_WNK in zip(nodes.split(some), index_WNK.split(some), strict=True):
            similarity_WNN = torch.bmm(nodes_WNC, nodes_WNC.mT, out=block[: len(nodes_WNC)])
            _select(similarity_WNN.flatten(0, 1), part_WNK.flatten(0, 1))
    else:
        block = nodes.new_empty(rows, num_nodes)
        for nodes_NC, index_NK in zip(nodes, index_WNK, strict=True):
            for nodes_RC, part_RK in zip(nodes_NC.split(rows), index_NK.split(rows), strict=True):
                _select(torch.mm(nodes_RC, nodes_NC.T, out=block[: len(nodes_RC)]), part_RK)
    return index_WNK


def _select(similarity_RN: Tensor, index_RK: Tensor) -> None:
    """Fill the index, which is contiguous, with the k largest of each row."""
    double = similarity_RN.dtype == torch.float64
    similarity_RN = similarity_RN.to(torch.float64 if double else torch.float32).contiguous()
    rows, num_nodes = similarity_RN.shape
    select, threads = library(double=double).kgt_select, torch.get_num_threads()
    if select(similarity_RN.data_ptr(), rows, num_nodes, index_RK.shape[1], index_RK.data_ptr(), threads):
        raise MemoryError("native selection: no memory left for one row of similarities per thread")
