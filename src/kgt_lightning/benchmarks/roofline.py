"""Bytes and operations of the Triton kernels, and the least time that a GPU needs for them."""

from dataclasses import dataclass

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
    """Nodes of the large window of the constructor."""

    def describe(self) -> str:
        """The sizes that all kernels share, in words."""
        return (
            f"{self.windows} windows, {self.heads} heads, N = {self.num_nodes} ({self.large} in the large window),"
            f" k = {self.few} in lists and {self.many} in blocks, {self.channels} channels"
        )


@dataclass(frozen=True)
class Work:
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


@dataclass(frozen=True)
class GPU:
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


def least_time(work: Work, gpu: GPU) -> tuple[float, str]:
    """Seconds that the busiest part of the GPU needs for the work at its peak rate, and the name of that part."""
    tensor = work.tensor / gpu.tensor_half if work.half else 3 * work.tensor / gpu.tensor_tf32
    times = {
        "memory": work.memory / gpu.memory,
        "cache": work.cache / gpu.cache,
        "tensor cores": tensor,
        "vector units": work.vector / gpu.vector,
        "exponentials": work.exponentials / gpu.exponentials,
    }
    busiest = max(times, key=lambda part: times[part])
    return times[busiest], busiest


def work_of(kernel: str, setting: Setting) -> Work:
    """Work of the kernel of that name, as :func:`kgt_lightning.benchmarks.compile_kernels.plan_launches` calls it."""
    item = torch.finfo(setting.dtype).bits // 8
    rows = setting.windows * setting.heads * setting.num_nodes
    row = setting.width * item
    edges = rows * setting.few
    pairs = rows * setting.num_nodes
    bits = setting.windows * setting.num_nodes**2 / 8
    index = 4 * setting.windows * setting.num_nodes * setting.few
    padded = max(16, 1 << (setting.width - 1).bit_length())
    half = item == 2

    def lists(vectors: int, products: int, *, atomics: int = 0) -> Work:
        # Per neighbour: two gathered vectors, its index, its bias; an atomic addition reads and writes four bytes.
        cache = edges * (2 * row + 4 + 4 + 8 * atomics)
        # Two operations per product and entry, and about 20 for softmax, bias and addresses.
        vector = edges * (2 * products * setting.width + 20 + atomics)
        return Work(vectors * rows * row + 8 * rows + index, cache, 0, vector, edges, half)

    def blocks(vectors: int, products: int) -> Work:
        # Each program of 64 nodes loads the rows of all others, and their bits; softmax, mask and bias take about
        # 12 operations a pair.
        cache = pairs / 64 * (2 * row + 8) + 4 * pairs
        return Work(
            vectors * rows * row + 8 * rows + bits, cache, 2 * products * pairs * padded, 12 * pairs, pairs, half
        )

    def table_gradient(num_nodes: int) -> Work:
        rows = setting.windows * setting.heads * num_nodes
        pairs = rows * num_nodes
        # Each tile of 32 x 32 pairs loads 4 x 32 rows, and a word of bits a pair.
        cache = pairs * (4 / 32 * row + 4)
        memory = 4 * rows * row + 8 * rows + setting.windows * num_nodes**2 / 8
        return Work(memory, cache, 2 * 2 * pairs * padded, 12 * pairs, pairs, half)

    def choice(num_nodes: int, *, in_registers: bool) -> Work:
        scores = setting.windows * num_nodes**2
        # In registers one product and at most 32 rounds of a comparison and a sum, and a last one; else, at worst,
        # 9 products and 8 rounds of 15 comparisons and sums.
        products, comparisons = (1, 33) if in_registers else (9, 121)
        nodes = setting.windows * num_nodes * setting.channels * item
        cache = products * scores / 16 * setting.channels * item
        channels = -(-setting.channels // 16) * 16
        return Work(nodes + scores / 8, cache, 2 * products * scores * channels, 2 * comparisons * scores, 0, half)

    works = {
        "lists: forward": lists(4, 2),
        "lists: dq": lists(6, 3),
        "lists: dk, dv": lists(6, 4),
        "lists: dq, dbias by atomics": lists(6, 3, atomics=1),
        "blocks: forward": blocks(4, 2),
        "blocks: dq": blocks(6, 3),
        "blocks: dk, dv": blocks(6, 4),
        "dbias": table_gradient(setting.num_nodes),
        "dbias, large window": table_gradient(setting.large),
        "graph: choice": choice(setting.num_nodes, in_registers=True),
        "graph: choice, large window": choice(setting.large, in_registers=False),
        "graph: list": Work(
            setting.windows * setting.num_nodes**2 / 8 + index,
            4 * pairs / setting.heads,
            0,
            8 * pairs / setting.heads,
            0,
            half,
        ),
    }
    return works[kernel]
