"""Bytes and operations of the Triton kernels, and the least time that a GPU needs for them."""

from dataclasses import dataclass
from typing import NamedTuple

import torch


@dataclass(frozen=True)
class Setting:
    """Sizes that the kernels are compiled and counted for."""

    dtype: torch.dtype
    width: int
    """Of a head, D."""
    windows: int = 4
    heads: int = 6
    num_nodes: int = 1024
    """Of a window, N."""
    channels: int = 180
    """Of the nodes that the constructor compares."""
    few: int = 64
    """Neighbours in the schedule of lists, and of the constructor."""
    many: int = 512
    """Neighbours in the schedule of blocks."""
    large: int = 2304
    """Nodes of the large window."""


class Work(NamedTuple):
    """What one launch has to do."""

    memory: float
    """Bytes that must come from or go to the GPU's memory once."""
    cache: float
    """Bytes that programs load from the second-level cache or above."""
    tensor: float
    """Floating-point operations on the tensor cores, the padding of the width included."""
    vector: float
    """Other floating-point and integer operations."""
    exponentials: float
    half: bool
    """Whether the tensor cores multiply 16-bit numbers; else every float32 product is made of three in TF32."""


class GPU(NamedTuple):
    """Peak rates per second."""

    name: str
    memory: float
    cache: float
    tensor_half: float
    tensor_tf32: float
    vector: float
    exponentials: float


GPUS = (
    # Data sheets of the 80 GB SXM models; cache: 5120 bytes a cycle; exponentials: 16 a cycle and multiprocessor.
    GPU("A100", 2.04e12, 5120 * 1.41e9, 312e12, 156e12, 19.5e12, 108 * 16 * 1.41e9),
    GPU("H100", 3.35e12, 5120 * 1.75e9, 989e12, 494e12, 66.9e12, 132 * 16 * 1.75e9),
)

_ATTENTION = {
    # kernel: vectors of a node that are read or written, products of two vectors for each pair, atomic additions
    "lists: forward": (4, 2, 0),
    "lists: dq": (6, 3, 0),
    "lists: dk, dv": (6, 4, 0),
    "lists: dq, dbias by atomics": (6, 3, 1),
    "blocks: forward": (4, 2, 0),
    "blocks: dq": (6, 3, 0),
    "blocks: dk, dv": (6, 4, 0),
    "dbias": (4, 2, 0),
}


def least_time(work: Work, gpu: GPU) -> tuple[float, str]:
    """Seconds that the busiest part of the GPU needs for the work at its peak rate, and the name of that part."""
    times = {
        "memory": work.memory / gpu.memory,
        "cache": work.cache / gpu.cache,
        "tensor cores": work.tensor / gpu.tensor_half if work.half else 3 * work.tensor / gpu.tensor_tf32,
        "vector units": work.vector / gpu.vector,
        "exponentials": work.exponentials / gpu.exponentials,
    }
    busiest = max(times, key=times.__getitem__)
    return times[busiest], busiest


def work_of(kernel: str, setting: Setting) -> Work:
    """Work of the kernel of that name, as :func:`kgt_lightning.benchmarks.compile_kernels.plan_launches` calls it."""
    name = kernel.removesuffix(", large window")
    num_nodes = setting.num_nodes if name == kernel else setting.large
    item = setting.dtype.itemsize
    half = item == 2
    row = setting.width * item
    nodes = setting.windows * num_nodes
    rows = setting.heads * nodes
    scores, pairs = nodes * num_nodes, rows * num_nodes
    bits, index = scores / 8, 4 * nodes * setting.few
    if name == "graph: list":
        return Work(bits + index, 4 * scores, 0, 8 * scores, 0, half)
    if name == "graph: choice":
        # In registers one product and at most 32 rounds of a comparison and a sum, and a last one; else, at worst,
        # 9 products and 8 rounds of 15 comparisons and sums.
        products, comparisons = (1, 33) if name == kernel else (9, 121)
        node = setting.channels * item
        padded = -(-setting.channels // 16) * 16
        cache = products * scores / 16 * node
        return Work(nodes * node + bits, cache, 2 * products * scores * padded, 2 * comparisons * scores, 0, half)
    vectors, products, atomics = _ATTENTION[name]
    memory = vectors * rows * row + 8 * rows
    if name.startswith("lists"):
        edges = rows * setting.few
        # Per neighbour: two gathered vectors, its index, its bias; an atomic addition reads and writes four bytes.
        cache = edges * (2 * row + 4 + 4 + 8 * atomics)
        # Two operations per product and entry, and about 20 for softmax, bias and addresses.
        return Work(memory + index, cache, 0, edges * (2 * products * setting.width + 20 + atomics), edges, half)
    # A program of blocks loads the rows of all other nodes and their bits for its 64 nodes; one of dbias 4 x 32 rows
    # for each tile of 32 x 32 pairs. Both load a word a pair; softmax, mask and bias take about 12 operations a pair.
    cache = pairs * ((4 / 32 * row if name == "dbias" else (2 * row + 8) / 64) + 4)
    padded = max(16, 1 << (setting.width - 1).bit_length())
    return Work(memory + bits, cache, 2 * products * pairs * padded, 12 * pairs, pairs, half)
