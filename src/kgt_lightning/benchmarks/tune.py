"""Command: measure warps and stages of the attention's kernels, and write the best to the table that they read.

python -m kgt_lightning.benchmarks.tune [small]

``small`` tries one tiny size under Triton's interpreter, and prints the table instead of writing it.
"""

import dataclasses
import json
import sys
from itertools import product

import torch

from kgt_lightning.benchmarks.measure import median_ms
from kgt_lightning.ops import build_key_graph
from kgt_lightning.ops.attention.triton_attention import plan_backward, plan_forward
from kgt_lightning.ops.kernels.triton_launch import Launch
from kgt_lightning.ops.kernels.triton_tuned import Tuning, entry_name, table_file
from kgt_lightning.system.files import write_atomic


def best(launch: Launch, device: torch.device, *, warps: tuple[int, ...], stages: tuple[int, ...]) -> Tuning:
    """Warps and stages with which the launch takes the least time."""

    def milliseconds(tuning: Tuning) -> float:
        tried = dataclasses.replace(launch, num_warps=tuning[0], num_stages=tuning[1])
        tried.run()
        return median_ms(tried.run, device=device, seconds=0.02)

    return min(product(warps, stages), key=milliseconds)


def tune(
    device: torch.device, *, dtypes: tuple[torch.dtype, ...], widths: tuple[int, ...], windows: int, side: int, k: int
) -> dict[str, Tuning]:
    """The best of every kernel, type and width, by name; nodes that lie together are alike, as in a photograph."""
    small = device.type == "cpu"
    table = {}
    grid = torch.nn.functional.interpolate(torch.randn(windows, 32, side // 4, side // 4), size=side, mode="bilinear")
    graph = build_key_graph(grid.flatten(2).mT.contiguous().to(device), k)
    for dtype, width in product(dtypes, widths):
        q, key, v = torch.randn(windows, side**2, 3, 2, width, device=device).to(dtype).permute(2, 0, 3, 1, 4)
        bias = torch.zeros(2, (2 * side - 1) ** 2, device=device)
        launches, call = plan_forward(q, key, v, bias, graph.unions, scale=width**-0.5)
        backward, *_ = plan_backward(
            call, torch.ones_like(call.out), graph.transposed_unions, graph.packed_bits, deterministic=False
        )
        for launch in [*launches, *backward]:
            tries = {"warps": (1,), "stages": (2,)} if small else {"warps": (1, 2, 4), "stages": (1, 2, 3)}
            name = entry_name(launch.kernel.__name__, dtype, call.padded_width)
            table[name] = best(launch, device, **tries)
    return table


def main(arguments: list[str]) -> int:
    """Print the table, and write it where there is a GPU."""
    if "small" in arguments:
        table = tune(torch.device("cpu"), dtypes=(torch.float32,), widths=(16,), windows=1, side=4, k=3)
        print(json.dumps(table, indent=1))
        return 0
    types = (torch.float32, torch.float16, torch.bfloat16)
    table = tune(torch.device("cuda"), dtypes=types, widths=(30, 64), windows=16, side=32, k=64)
    file = table_file(torch.cuda.get_device_name())
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomic(file, json.dumps(table, indent=1))
    print(f"{json.dumps(table, indent=1)}\n{file}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
