"""Command: compile every Triton kernel ahead of time, for GPUs that need not be here, and tell what it takes of them.

python -m kgt_lightning.benchmarks.compile_kernels [target ...] [head width ...]

Prints a Markdown table: registers and shared memory on every target, and instructions of one program and of one turn of
its loop. Fails if a kernel spills registers or needs more shared memory than a target has. What is compiled is what
:func:`triton_attention` and :func:`build_key_graph` would launch, planned on tensors without memory.
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
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from kgt_lightning.ops import KeyGraph
from kgt_lightning.ops.attention.triton_attention import plan_backward, plan_forward
from kgt_lightning.ops.kernels.triton_launch import Launch
from kgt_lightning.ops.key_graph.triton_graph import plan_choice
from kgt_lightning.ops.key_graph.triton_unions import plan_unions
from kgt_lightning.system.tables import Table

TYPES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16", torch.int32: "i32", torch.int64: "i64"}
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
WIDTH = 30
"""Head width of the published models: 180 channels, 6 heads."""


TARGETS = {
    "sm_80": (GPUTarget("cuda", 80, 32), 163 * 1024),
    "sm_90": (GPUTarget("cuda", 90, 32), 227 * 1024),
    "sm_100": (GPUTarget("cuda", 100, 32), 227 * 1024),
    "gfx942": (GPUTarget("hip", "gfx942", 64), 64 * 1024),
}
"""GPUs to compile for, and the bytes of shared memory that one program may use there."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Sizes that the kernels are compiled for: one layer of the published models."""

    dtype: torch.dtype
    width: int = WIDTH
    windows: int = 4
    heads: int = 6
    num_nodes: int = 1024
    channels: int = 180
    k: int = 64
    large: int = 2304
    """Nodes of a window whose similarities do not fit into registers."""


class Usage(NamedTuple):
    """What a compiled kernel takes."""

    registers: int
    """Per thread."""
    spilled: int
    """Bytes per thread that did not fit into registers."""
    shared: int
    """Bytes per program."""
    once: int
    """Instructions of a warp outside the loop."""
    each: int
    """Instructions of a warp in one turn of the longest loop."""
    warps: int
    """Per program."""


def problems(kernel: str, target: str, usage: Usage) -> list[str]:
    """What keeps a kernel from running well on a target, in words."""
    _, limit = TARGETS[target]
    spills = f"{kernel} on {target} spills {usage.spilled} bytes of registers per thread"
    too_much = f"{kernel} on {target} needs {usage.shared} bytes of shared memory, the limit is {limit}"
    return [spills] * (usage.spilled > 0) + [too_much] * (usage.shared > limit)


def plan_launches(setting: Setting) -> dict[str, Launch]:
    """Every launch that attention and constructor make, of both backward passes."""
    windows, heads, width = setting.windows, setting.heads, setting.width
    num_nodes, k = setting.num_nodes, setting.k
    # The views of one projection that a model passes on.
    qkv = torch.empty(windows, num_nodes, 3, heads, width, dtype=setting.dtype, device="meta")
    q, key, v = qkv.permute(2, 0, 3, 1, 4)
    bits = torch.empty(windows, -(-num_nodes // 32), num_nodes, dtype=torch.int32, device="meta")
    graph = KeyGraph(torch.empty(windows, num_nodes, k, dtype=torch.int32, device="meta"), bits)
    table = torch.empty(heads, (2 * math.isqrt(num_nodes) - 1) ** 2, device="meta")
    forward, call = plan_forward(q, key, v, table, graph.unions, scale=0.2)
    given = (call, torch.empty_like(call.out), graph.transposed_unions, bits)
    backward, *_ = plan_backward(*given, deterministic=True)
    atomic, *_ = plan_backward(*given, deterministic=False)
    names = ("forward", "dq", "dk, dv", "dbias")
    launches = dict(zip(names, [*forward, *backward], strict=True)) | {"dq, dbias by atomics": atomic[0]}

    def constructor(num_nodes: int) -> list[Launch]:
        nodes = torch.empty(windows, num_nodes, setting.channels, dtype=setting.dtype, device="meta")
        return plan_choice(nodes, k)[0]

    launches["graph: choice"], launches["graph: list"] = constructor(setting.num_nodes)
    launches["graph: choice, large window"] = constructor(setting.large)[0]
    launches["graph: unions"] = plan_unions(bits, 16 * k, transposed=False)[0]
    launches["graph: transposed unions"] = plan_unions(bits, num_nodes, transposed=True)[0]
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
    once, each = count_instructions(compiled.asm["amdgcn"] if hip else _disassembled(compiled.asm["cubin"]))
    registers, spilled = usage
    return Usage(registers, spilled, compiled.metadata.shared, once, each, launch.num_warps)


def count_instructions(assembly: str) -> tuple[int, int]:
    """Instructions outside the longest loop and in it, of NVIDIA's disassembly or AMD's assembly.

    A loop is what lies between a label and the last branch back to it.
    """
    labels: dict[str, int] = {}
    loops = {(0, 0)}
    number = 0
    for line in assembly.splitlines():
        if label := re.match(r"\s*(\.L\w+):", line):
            labels[label[1]] = number
        elif re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(?!NOP)\S|\t[sv_]\w*_|\t(global|buffer|flat|ds)_", line):
            number += 1
            target = re.search(r"BRA.*`\((\.L\w+)\)|s_c?branch\w* +(\.L\w+)", line)
            start = labels.get(target[1] or target[2]) if target else None
            # The last instruction of a program is a branch to itself, which is never reached.
            if start is not None and start < number - 1:
                loops.add((start, number))
    start, end = max(loops, key=lambda loop: loop[1] - loop[0])
    return number - (end - start), end - start


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
        cells = [f"{usage.registers} / {usage.shared / 1024:.0f} / {usage.once} + {usage.each}" for usage in used]
        spilled = str(max(usage.spilled for usage in used))
        rows.append([name, TYPES[setting.dtype], str(used[0].warps), *cells, spilled])
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
    heads = [f"{target}: registers / shared KiB / instructions once + each turn" for target in targets]
    columns = ["kernel", "type", "warps", *heads, "spilled bytes"]
    for width, group in itertools.groupby(settings, lambda setting: setting.width):
        usages = [(setting, {target: results[setting, target] for target in targets}) for setting in group]
        rows = [row for usage in usages for row in render(*usage)]
        table = Table(columns=columns, rows=rows)
        print(f"Head width {width}:\n\n{table.markdown()}")
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
    fields = dict(re.findall(r"(REG|STACK|LOCAL):(\d+)", _told_by("cuobjdump", "-res-usage", cubin)))
    return int(fields["REG"]), int(fields["STACK"]) + int(fields["LOCAL"])


def _disassembled(cubin: bytes) -> str:
    return _told_by("nvdisasm", "-c", cubin)


def _told_by(tool: str, option: str, cubin: bytes) -> str:
    """What a tool that comes with Triton says of compiled code."""
    path = Path(triton.__file__).parent / "backends/nvidia/bin" / tool
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        return subprocess.run([path, option, file.name], check=True, capture_output=True, text=True).stdout


def _usage_of_amdgcn(assembly: str) -> tuple[int, int]:
    # A spilled register lies in the private segment, which nothing else uses here.
    found = (re.search(rf"\.{name}:\s+(\d+)", assembly) for name in ("vgpr_count", "private_segment_fixed_size"))
    registers, spilled = (int(match[1]) for match in found if match)
    return registers, spilled


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
