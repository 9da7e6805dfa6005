"""Command: compile every Triton kernel ahead of time, for GPUs that need not be here, and tell what it takes of them.

python -m kgt_lightning.benchmarks.compile_kernels [target ...] [head width ...]

Prints a Markdown table: registers and shared memory on every target, bytes and operations of one launch, and the time
that an A100 and an H100 need for them at least. Fails if a kernel spills registers or needs more shared memory than a
target has. What is compiled is what :func:`triton_attention` and :func:`build_key_graph` would launch, planned on
tensors without memory.
"""

import itertools
import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from kgt_lightning.benchmarks.roofline import GPUS, Setting, least_time, work_of
from kgt_lightning.ops import KeyGraph
from kgt_lightning.ops.attention.triton_attention import choose_schedule, plan_backward, plan_forward
from kgt_lightning.ops.kernels.triton_launch import Launch
from kgt_lightning.ops.key_graph.triton_graph import plan_choice
from kgt_lightning.system.tables import Table

TYPES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16", torch.int32: "i32", torch.int64: "i64"}
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
SIZES = (
    "{windows} windows, {heads} heads, N = {num_nodes} ({large} in the large window),"
    " k = {few} in lists and {many} in blocks, {channels} channels"
)
WIDTH = 30
"""Head width of the published models: 180 channels, 6 heads."""


TARGETS = {
    "sm_80": (GPUTarget("cuda", 80, 32), 163 * 1024),
    "sm_90": (GPUTarget("cuda", 90, 32), 227 * 1024),
    "sm_100": (GPUTarget("cuda", 100, 32), 227 * 1024),
    "gfx942": (GPUTarget("hip", "gfx942", 64), 64 * 1024),
}
"""GPUs to compile for, and the bytes of shared memory that one program may use there."""


class Usage(NamedTuple):
    """What a compiled kernel takes."""

    registers: int
    """Per thread."""
    spilled: int
    """Bytes per thread that did not fit into registers."""
    shared: int
    """Bytes per program."""


def problems(kernel: str, target: str, usage: Usage) -> list[str]:
    """What keeps a kernel from running well on a target, in words."""
    _, limit = TARGETS[target]
    spills = f"{kernel} on {target} spills {usage.spilled} bytes of registers per thread"
    too_much = f"{kernel} on {target} needs {usage.shared} bytes of shared memory, the limit is {limit}"
    return [spills] * (usage.spilled > 0) + [too_much] * (usage.shared > limit)


def plan_launches(setting: Setting) -> dict[str, Launch]:
    """Every launch that ``auto`` may choose, of both schedules and both backward passes, and of the constructor."""
    windows, heads, width = setting.windows, setting.heads, setting.width

    def attention(schedule: str, k: int, num_nodes: int, *, deterministic: bool) -> list[Launch]:
        # The views of one projection that a model passes on.
        qkv = torch.empty(windows, num_nodes, 3, heads, width, dtype=setting.dtype, device="meta")
        q, key, v = qkv.permute(2, 0, 3, 1, 4)
        index = torch.empty(windows, num_nodes, k, dtype=torch.int32, device="meta")
        graph = KeyGraph(index, torch.empty(windows, -(-num_nodes // 32), num_nodes, dtype=torch.int32, device="meta"))
        table = torch.empty(heads, (2 * math.isqrt(num_nodes) - 1) ** 2, device="meta")
        forward, call = plan_forward(q, key, v, graph, table, scale=0.2, schedule=schedule)
        backward, *_ = plan_backward(call, torch.empty_like(call.out), schedule=schedule, deterministic=deterministic)
        return [*forward, *backward]

    def constructor(num_nodes: int) -> list[Launch]:
        nodes = torch.empty(windows, num_nodes, setting.channels, dtype=setting.dtype, device="meta")
        return plan_choice(nodes, setting.few)[0]

    def passes(schedule: str, k: int) -> dict[str, Launch]:
        names = (f"{schedule}: forward", f"{schedule}: dq", f"{schedule}: dk, dv", "dbias")
        return dict(zip(names, attention(schedule, k, setting.num_nodes, deterministic=True), strict=True))

    launches = passes("lists", setting.few)
    atomic = attention("lists", setting.few, setting.num_nodes, deterministic=False)
    launches["lists: dq, dbias by atomics"] = atomic[1]
    if choose_schedule(setting.many, setting.num_nodes, setting.dtype, width) == "blocks":
        launches |= passes("blocks", setting.many)
    launches["dbias, large window"] = attention("lists", setting.few, setting.large, deterministic=True)[3]
    launches["graph: choice"], launches["graph: list"] = constructor(setting.num_nodes)
    launches["graph: choice, large window"] = constructor(setting.large)[0]
    return launches


def compile_launch(launch: Launch, target: GPUTarget) -> Usage:
    """What the kernel takes when it is compiled on the target as this launch would have it compiled."""
    hip = target.backend == "hip"
    signature: dict[str, str] = {}
    constants: dict[str, object] = {}
    attributes: dict[tuple[int], list[list[object]]] = {}
    arguments = launch.arguments
    for position, parameter in enumerate(launch.kernel.params):
        name, value = parameter.name, arguments[parameter.name]
        if parameter.is_constexpr or value is None or (isinstance(value, int) and value == 1):
            signature[name], constants[name] = "constexpr", value
        elif isinstance(value, Tensor):
            signature[name] = "*" + TYPES[value.dtype]
            if value.data_ptr() % 16 == 0:
                attributes[(position,)] = [["tt.divisibility", 16], *([["tt.pointer_range", 32]] if hip else [])]
        elif isinstance(value, float):
            signature[name] = "fp32"
        else:
            signature[name] = "i32" if -(2**31) <= value < 2**31 else "i64"
            if value % 16 == 0:
                attributes[(position,)] = [["tt.divisibility", 16]]
    source = ASTSource(launch.kernel, signature, constants, attributes)
    options = {"num_warps": launch.num_warps, "num_stages": launch.num_stages}
    compiled = triton.compile(source, target=target, options=options)
    usage = _usage_of_amdgcn(compiled.asm["amdgcn"]) if hip else _usage_of_cubin(compiled.asm["cubin"])
    return Usage(*usage, compiled.metadata.shared)


def measure(setting: Setting, target_name: str) -> dict[str, Usage]:
    """What every kernel takes on the target, by name."""
    target, _ = TARGETS[target_name]
    # Plans ask torch whose GPUs it was built for.
    with patch.object(torch.version, "hip", "any" if target.backend == "hip" else None):
        launches = plan_launches(setting)
    return {name: compile_launch(launch, target) for name, launch in launches.items()}


def render(setting: Setting, usages: Mapping[str, Mapping[str, Usage]]) -> list[list[str]]:
    """Rows of the table for one setting, from what every kernel takes on each target."""
    rows = []
    for name in next(iter(usages.values())):
        used = [usage[name] for usage in usages.values()]
        work = work_of(name, setting)
        times = [least_time(work, gpu) for gpu in GPUS]
        rows.append(
            [
                name,
                TYPES[setting.dtype],
                *(f"{usage.registers} / {usage.shared / 1024:.0f}" for usage in used),
                str(max(usage.spilled for usage in used)),
                f"{work.memory / 1e6:.1f}",
                f"{work.cache / 1e6:.0f}",
                f"{work.tensor / 1e9:.2f}",
                f"{work.vector / 1e9:.2f}",
                *(f"{seconds * 1e6:.0f} ({busiest})" for seconds, busiest in times),
            ]
        )
    return rows


def main(arguments: list[str]) -> int:
    """Exit status: 1 if a kernel has a problem on a target, 2 if a target is unknown."""
    widths = [int(argument) for argument in arguments if argument.isdigit()] or [WIDTH]
    targets = [argument for argument in arguments if not argument.isdigit()] or list(TARGETS)
    if unknown := next((target for target in targets if target not in TARGETS), None):
        print(f"error: target {unknown!r} is unknown; choose from {', '.join(TARGETS)}", file=sys.stderr)
        return 2
    settings = [Setting(dtype=dtype, width=width) for width in widths for dtype in DTYPES]
    tasks = [(setting, target) for setting in settings for target in targets]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        results = dict(zip(tasks, pool.map(measure, *zip(*tasks, strict=True)), strict=True))
    columns = ["kernel", "type", *(f"{target}: registers / shared KiB" for target in targets), "spilled bytes"]
    columns += ["memory MB", "cache MB", "tensor GFLOP", "other GFLOP", *(f"{gpu.name} at least, µs" for gpu in GPUS)]
    for width, group in itertools.groupby(settings, lambda setting: setting.width):
        usages = [(setting, {target: results[setting, target] for target in targets}) for setting in group]
        rows = [row for usage in usages for row in render(*usage)]
        table = Table(columns=columns, rows=rows)
        print(f"Head width {width}, {SIZES.format(**vars(settings[0]))}:\n\n{table.markdown()}")
    found = [
        problem
        for (setting, target), usages in results.items()
        for name, usage in usages.items()
        for problem in problems(f"{name} ({TYPES[setting.dtype]}, width {setting.width})", target, usage)
    ]
    for problem in found:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if found else 0


def _usage_of_cubin(cubin: bytes) -> tuple[int, int]:
    """Registers and spilled bytes."""
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run([tool, "-res-usage", file.name], check=True, capture_output=True, text=True).stdout
    fields = dict(re.findall(r"(REG|STACK|LOCAL):(\d+)", text))
    return int(fields["REG"]), int(fields["STACK"]) + int(fields["LOCAL"])


def _usage_of_amdgcn(assembly: str) -> tuple[int, int]:
    # A spilled register lies in the private segment, which nothing else uses here.
    found = (re.search(rf"\.{name}:\s+(\d+)", assembly) for name in ("vgpr_count", "private_segment_fixed_size"))
    registers, spilled = (int(match[1]) for match in found if match)
    return registers, spilled


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
