"""Command: compile every Triton kernel ahead of time, for GPUs that need not be here, and tell what it takes of them.

python -m kgt_lightning.benchmarks.compile_kernels [target ...] [head width ...]

Prints a Markdown table: registers and shared memory on every target, bytes and operations of one launch, and the time
that an A100 and an H100 need for them at least. Fails if a kernel spills registers or needs more shared memory than a
target has. What is compiled is what :func:`triton_attention` and :func:`build_key_graph` would launch, planned on
tensors without memory.
"""

import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

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

TYPES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16", torch.int32: "i32", torch.int64: "i64"}
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
WIDTH = 30
"""Head width of the published models: 180 channels, 6 heads."""


@dataclass(frozen=True)
class Target:
    """A GPU to compile for."""

    triton: GPUTarget
    shared_limit: int
    """Bytes of shared memory that one program may use."""


TARGETS = {
    "sm_80": Target(GPUTarget("cuda", 80, 32), 163 * 1024),
    "sm_90": Target(GPUTarget("cuda", 90, 32), 227 * 1024),
    "sm_100": Target(GPUTarget("cuda", 100, 32), 227 * 1024),
    "gfx942": Target(GPUTarget("hip", "gfx942", 64), 64 * 1024),
}


@dataclass(frozen=True)
class Usage:
    """What a compiled kernel takes."""

    registers: int
    """Per thread."""
    spilled: int
    """Bytes per thread that did not fit into registers."""
    shared: int
    """Bytes per program."""


def problems(kernel: str, target: str, usage: Usage) -> list[str]:
    """What keeps a kernel from running well on a target, in words."""
    found = []
    if usage.spilled:
        found.append(f"{kernel} on {target} spills {usage.spilled} bytes of registers per thread")
    limit = TARGETS[target].shared_limit
    if usage.shared > limit:
        found.append(f"{kernel} on {target} needs {usage.shared} bytes of shared memory, the limit is {limit}")
    return found


def plan_launches(setting: Setting) -> dict[str, Launch]:
    """Every launch that ``auto`` may choose, of both schedules and both backward passes, and of the constructor."""
    windows, heads, num_nodes, width = setting.windows, setting.heads, setting.num_nodes, setting.width

    def attention(schedule: str, k: int, num_nodes: int = num_nodes, *, deterministic: bool) -> list[Launch]:
        # The views of one projection that a model passes on.
        qkv = torch.empty(windows, num_nodes, 3, heads, width, dtype=setting.dtype, device="meta")
        q, key, v = qkv.permute(2, 0, 3, 1, 4)
        index = torch.empty(windows, num_nodes, k, dtype=torch.int32, device="meta")
        graph = KeyGraph(index, torch.empty(windows, -(-num_nodes // 32), num_nodes, dtype=torch.int32, device="meta"))
        table = torch.empty(heads, (2 * math.isqrt(num_nodes) - 1) ** 2, device="meta")
        forward, out, lse = plan_forward(q, key, v, graph, table, scale=0.2, schedule=schedule)
        inputs = (q, key, v, graph, table, out, lse, torch.empty_like(out))
        backward = plan_backward(*inputs, scale=0.2, schedule=schedule, deterministic=deterministic)
        return [forward, *backward.launches]

    def constructor(num_nodes: int) -> list[Launch]:
        nodes = torch.empty(windows, num_nodes, setting.channels, dtype=setting.dtype, device="meta")
        return plan_choice(nodes, setting.few)[0]

    launches = dict(
        zip(
            ("lists: forward", "lists: dq", "lists: dk, dv", "dbias"),
            attention("lists", setting.few, deterministic=True),
            strict=True,
        )
    )
    launches["lists: dq, dbias by atomics"] = attention("lists", setting.few, deterministic=False)[1]
    if choose_schedule(setting.many, num_nodes, setting.dtype, width) == "blocks":
        names = ("blocks: forward", "blocks: dq", "blocks: dk, dv", "dbias")
        launches |= zip(names, attention("blocks", setting.many, deterministic=True), strict=True)
    launches["dbias, large window"] = attention("lists", setting.few, setting.large, deterministic=True)[3]
    launches["graph: choice"], launches["graph: list"] = constructor(num_nodes)
    launches["graph: choice, large window"] = constructor(setting.large)[0]
    return launches


def compile_launch(launch: Launch, target: Target) -> Usage:
    """What the kernel takes when it is compiled on the target as this launch would have it compiled."""
    hip = target.triton.backend == "hip"
    signature: dict[str, str] = {}
    constants = dict(launch.constants)
    attributes: dict[tuple[int], list[list[object]]] = {}
    for position, name in enumerate(launch.kernel.arg_names):
        if name in launch.constants:
            signature[name] = "constexpr"
            continue
        value = launch.arguments[name]
        if value is None or (isinstance(value, int) and value == 1):
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
    compiled = triton.compile(source, target=target.triton, options=options)
    if hip:
        return _usage_of_amdgcn(compiled.asm["amdgcn"], compiled.metadata.shared)
    return _usage_of_cubin(compiled.asm["cubin"], compiled.metadata.shared)


def measure(setting: Setting, target_name: str) -> dict[str, Usage]:
    """What every kernel takes on the target, by name."""
    target = TARGETS[target_name]
    with _planning_for_amd(target.triton.backend == "hip"):
        launches = plan_launches(setting)
    return {name: compile_launch(launch, target) for name, launch in launches.items()}


def render(setting: Setting, usages: dict[str, dict[str, Usage]]) -> list[str]:
    """Rows of the table for one setting, from what every kernel takes on each target."""
    lines = []
    for name in next(iter(usages.values())):
        work = work_of(name, setting)
        cells = [name, TYPES[setting.dtype]]
        cells += [f"{u[name].registers} / {u[name].shared / 1024:.0f}" for u in usages.values()]
        cells += [str(max(u[name].spilled for u in usages.values()))]
        cells += [f"{work.memory / 1e6:.1f}", f"{work.cache / 1e6:.0f}", f"{work.tensor / 1e9:.2f}"]
        cells += [f"{work.vector / 1e9:.2f}"]
        for gpu in GPUS:
            seconds, busiest = least_time(work, gpu)
            cells.append(f"{seconds * 1e6:.0f} ({busiest})")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def header(targets: list[str]) -> list[str]:
    """First two lines of the table."""
    cells = ["kernel", "type", *(f"{t}: registers / shared KiB" for t in targets), "spilled bytes"]
    cells += ["memory MB", "cache MB", "tensor GFLOP", "other GFLOP", *(f"{gpu.name} at least, µs" for gpu in GPUS)]
    return ["| " + " | ".join(cells) + " |", "|" + "---|" * len(cells)]


def main(arguments: list[str]) -> int:
    """Command-line entry; the exit status is 1 if a kernel has a problem on a target."""
    widths = [int(a) for a in arguments if a.isdigit()] or [WIDTH]
    targets = [a for a in arguments if not a.isdigit()] or list(TARGETS)
    unknown = [t for t in targets if t not in TARGETS]
    if unknown:
        print(f"error: target {unknown[0]!r} is unknown; choose from {', '.join(TARGETS)}", file=sys.stderr)  # noqa: T201
        return 2
    settings = [Setting(dtype=dtype, width=width) for width in widths for dtype in DTYPES]
    tasks = [(setting, target) for setting in settings for target in targets]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        results = dict(zip(tasks, pool.map(measure, *zip(*tasks, strict=True)), strict=True))
    found = []
    for width in widths:
        print(f"Head width {width}, {settings[0].describe()}:\n")  # noqa: T201
        print("\n".join(header(targets)))  # noqa: T201
        for setting in settings:
            if setting.width != width:
                continue
            usages = {target: results[setting, target] for target in targets}
            print("\n".join(render(setting, usages)))  # noqa: T201
            for target, usage in usages.items():
                for name, used in usage.items():
                    found += problems(f"{name} ({TYPES[setting.dtype]}, width {width})", target, used)
        print()  # noqa: T201
    for problem in found:
        print(f"error: {problem}", file=sys.stderr)  # noqa: T201
    return 1 if found else 0


@contextmanager
def _planning_for_amd(amd: bool) -> Iterator[None]:
    """Plans ask torch whose GPUs it was built for."""
    built_for = torch.version.hip
    torch.version.hip = "any" if amd else None
    try:
        yield
    finally:
        torch.version.hip = built_for


def _usage_of_cubin(cubin: bytes, shared: int) -> Usage:
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run([tool, "-res-usage", file.name], check=True, capture_output=True, text=True).stdout
    fields = dict(re.findall(r"(REG|STACK|LOCAL):(\d+)", text))
    return Usage(int(fields["REG"]), int(fields["STACK"]) + int(fields["LOCAL"]), shared)


def _usage_of_amdgcn(assembly: str, shared: int) -> Usage:
    def field(name: str) -> int:
        return int(re.findall(rf"\.{name}:\s+(\d+)", assembly)[0])

    # A spilled register lies in the private segment, which nothing else uses here.
    return Usage(field("vgpr_count"), field("private_segment_fixed_size"), shared)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
