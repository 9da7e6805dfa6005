"""Command: what the Triton attention costs on GPUs that are not here, reasoned from a photograph and compiled code.

python -m kgt_lightning.benchmarks.gpu_design > tables.md

Lengths of the lists are counted in Key-Graphs: of a photograph, whose nodes are patches of 3 x 3 pixels, and of the
packaged models, whose nodes are what comes to their stages. Instructions are counted in code compiled ahead of time.
Times are bounds: what the busiest part of a GPU needs at its peak rate. Nothing here is measured on a GPU.
"""

import math
import sys
from typing import NamedTuple

import skimage.data
import torch
import torch.nn.functional as F
from torch import Tensor

from kgt_lightning.benchmarks.compile_kernels import TARGETS, Setting, Usage, compile_launch, plan_launches
from kgt_lightning.model.stage import Stage
from kgt_lightning.ops import build_key_graph, split_windows
from kgt_lightning.ops.key_graph.triton_unions import STEP
from kgt_lightning.runs.pretrained import pretrained
from kgt_lightning.system.tables import Table

NODES = 65536
"""Of all windows together: 64 windows of 1024, an image of 256 x 256."""

HEADS, WIDTH, ITEM = 6, 30, 2

FORWARD = {"forward": (4, 2)}
BACKWARD = {"dq, dbias by atomics": (6, 3), "dk, dv": (6, 4)}
"""Launches by name: vectors of a node that are read or written, products of two vectors for each pair."""


class GPU(NamedTuple):
    """Peak rates per second."""

    name: str
    target: str
    memory: float
    """Bytes."""
    cache: float
    """Bytes, of the second-level cache."""
    tensor: float
    """Operations on 16-bit numbers."""
    issue: float
    """Instructions of a warp of 32 (AMD: a wave of 64)."""
    exponentials: float


def gpu(
    name: str, target: str, units: int, clock: float, *, memory: float, cache: float, tensor: float, turns: int = 1
) -> GPU:
    """GPU with so many units of four schedulers, each of which issues an instruction every so many turns."""
    return GPU(name, target, memory, cache, tensor, units * 4 * clock / turns, units * 16 * clock)


GPUS = (
    # Data sheets (SXM and OAM models, dense rates). Bytes a cycle of the second-level cache: 5120 as measured on A100
    # and taken for H100; twice that for the two dies of B200; MI300X: 128 for each of 304 units, whose SIMDs
    # have 16 lanes and take 4 turns for a wave of 64.
    gpu("A100", "sm_80", 108, 1.41e9, memory=2.04e12, cache=5120 * 1.41e9, tensor=312e12),
    gpu("H100", "sm_90", 132, 1.75e9, memory=3.35e12, cache=5120 * 1.75e9, tensor=989e12),
    gpu("B200", "sm_100", 148, 1.85e9, memory=8.0e12, cache=10240 * 1.85e9, tensor=2250e12),
    gpu("MI300X", "gfx942", 304, 2.1e9, memory=5.3e12, cache=304 * 128 * 2.1e9, tensor=1307e12, turns=4),
)


class Lists(NamedTuple):
    """Over all tiles, and means of them."""

    shortest: int
    longest: int
    union: float
    """Nodes of a list."""
    turns: float
    """Of the loop over a list."""
    transposed_turns: float


class Work(NamedTuple):
    """Of one or more launches."""

    memory: float
    cache: float
    tensor: float
    exponentials: float


def photograph() -> Tensor:
    """[1, 3, 256, 256] in [0, 1]."""
    return torch.from_numpy(skimage.data.astronaut()[:256, 64:320]).permute(2, 0, 1)[None] / 255


def photograph_nodes(side: int) -> list[Tensor]:
    """Nodes [W, side*side, 27] of every fourth window at most: patches of 3 x 3 pixels, less their mean."""
    patches = F.unfold(F.pad(photograph(), (1, 1, 1, 1), "reflect"), 3).view(1, 27, 256, 256)
    nodes = split_windows(patches - patches.mean((2, 3), keepdim=True), side)
    return [nodes[:: max(1, min(4, len(nodes) // 8))]]


@torch.no_grad()
def model_nodes(name: str, side: int) -> list[Tensor]:
    """Nodes [W, side*side, C] before each stage of a packaged model, for a photograph that it has to restore."""
    model = pretrained(name).eval()
    image = photograph()
    if name == "denoise":
        image = image + torch.randn(image.shape, generator=torch.Generator().manual_seed(0)) * 25 / 255
    features: list[Tensor] = []
    for module in model.modules():
        if isinstance(module, Stage):
            module.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))
    model(image)
    return [split_windows(found, side) for found in features if found.shape[-1] % side == 0]


def measure_lists(nodes: list[Tensor], k: int) -> Lists:
    """How long the lists of tiles are in the Key-Graphs of these nodes."""
    lengths: list[Tensor] = []
    transposed: list[Tensor] = []
    for windows in nodes:
        neighbours = build_key_graph(windows, k).mask
        for found, mask in ((lengths, neighbours), (transposed, neighbours.mT)):
            side = math.isqrt(mask.shape[1])
            tiles = mask.reshape(len(mask), side // 4, 4, side // 4, 4, -1).any(4).any(2)
            found.append(tiles.sum(-1).flatten())
    union, other = torch.cat(lengths).float(), torch.cat(transposed).float()
    turns = [(t / STEP).ceil().mean().item() for t in (union, other)]
    return Lists(int(union.min()), int(union.max()), union.mean().item(), *turns)


def work_of(launches: dict[str, tuple[int, int]], lists: Lists) -> Work:
    """Bytes and operations of launches over all windows."""
    rows, tiles = NODES * HEADS, NODES * HEADS / 16
    memory = cache = tensor = exponentials = 0.0
    for name, (vectors, products) in launches.items():
        turns = lists.transposed_turns if name == "dk, dv" else lists.turns
        pairs = tiles * turns * STEP * 16
        memory += rows * (vectors * WIDTH * ITEM + 8) + NODES / 16 * turns * STEP * 4
        cache += tiles * turns * STEP * (2 * WIDTH * ITEM + 4)
        tensor += 2 * products * 32 * pairs
        exponentials += pairs
    return Work(memory, cache, tensor, exponentials)


def instructions(launches: dict[str, tuple[int, int]], lists: Lists, used: dict[str, Usage]) -> float:
    """Instructions of a warp that launches over all windows issue."""
    programs = NODES * HEADS / 16
    turns = {name: lists.transposed_turns if name == "dk, dv" else lists.turns for name in launches}
    return sum(programs * used[name].warps * (used[name].once + used[name].each * turns[name]) for name in launches)


def least_ms(gpu: GPU, work: Work, issued: float) -> tuple[float, str]:
    """Milliseconds that the busiest part of the GPU needs at its peak rate, and its name."""
    times = {
        "memory": work.memory / gpu.memory,
        "cache": work.cache / gpu.cache,
        "tensor": work.tensor / gpu.tensor,
        "exp": work.exponentials / gpu.exponentials,
        "issue": issued / gpu.issue,
    }
    busiest = max(times, key=times.__getitem__)
    return times[busiest] * 1e3, busiest


def dense_ms(gpu: GPU, num_nodes: int) -> float:
    """Milliseconds of the forward of dense attention at peak rates: products, and exponentials after them."""
    pairs = NODES * HEADS * num_nodes
    return (4 * 32 * pairs / gpu.tensor + pairs / gpu.exponentials) * 1e3


def main() -> int:
    """Print the tables."""
    used: dict[str, dict[str, Usage]] = {}
    for name, (target, _) in TARGETS.items():
        launches = plan_launches(Setting(dtype=torch.float16))
        used[name] = {launch: compile_launch(launches[launch], target) for launch in FORWARD | BACKWARD}
    kinds = ("memory MB", "cache MB", "tensor GFLOP", "exponentials M", "instructions M (sm_90)")
    times = [f"{gpu.name} ms: forward; dense; backward" for gpu in GPUS]
    columns = ["nodes", "N", "k", "list: mean (range)", *kinds, *times]
    graphs = [("photograph", side, side**2 // part) for side in (16, 32, 64) for part in (16, 8, 4, 2)]
    graphs += [(name, 32, k) for name in ("sr-x2", "jpeg", "denoise") for k in (64, 256)]
    rows = []
    for name, side, k in graphs:
        lists = measure_lists(photograph_nodes(side) if name == "photograph" else model_nodes(name, side), k)
        forward, backward = work_of(FORWARD, lists), work_of(BACKWARD, lists)
        cells = [f"{forward.memory / 1e6:.0f}", f"{forward.cache / 1e6:.0f}", f"{forward.tensor / 1e9:.1f}"]
        cells.append(f"{forward.exponentials / 1e6:.0f}")
        cells.append(f"{instructions(FORWARD, lists, used['sm_90']) / 1e6:.0f}")
        for gpu in GPUS:
            ahead, what = least_ms(gpu, forward, instructions(FORWARD, lists, used[gpu.target]))
            back, _ = least_ms(gpu, backward, instructions(BACKWARD, lists, used[gpu.target]))
            cells.append(f"{ahead:.3f} ({what}); {dense_ms(gpu, side**2):.3f}; {back:.3f}")
        length = f"{lists.union:.0f} ({lists.shortest} to {lists.longest})"
        rows.append([name, str(side**2), str(k), length, *cells])
    print(Table(columns=columns, rows=rows).markdown())
    return 0


if __name__ == "__main__":
    sys.exit(main())
