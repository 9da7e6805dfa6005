"""Compile every Triton kernel ahead of time, for GPUs that need not be here, and tell what it takes of them."""

import re
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from kgt_lightning.ops import KeyGraph
from kgt_lightning.ops.triton_attention import plan_backward, plan_forward
from kgt_lightning.ops.triton_graph import plan_choice
from kgt_lightning.ops.triton_launch import Launch

TYPE_NAMES = {
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.int32: "i32",
    torch.int64: "i64",
}


@dataclass(frozen=True)
class Target:
    """A GPU to compile for."""

    name: str
    triton: GPUTarget
    shared_limit: int
    """Bytes of shared memory that one program may use."""
    registers: int
    """Registers that one thread may use."""


TARGETS = {
    "sm_80": Target("sm_80", GPUTarget("cuda", 80, 32), 163 * 1024, 255),
    "sm_90": Target("sm_90", GPUTarget("cuda", 90, 32), 227 * 1024, 255),
    "sm_100": Target("sm_100", GPUTarget("cuda", 100, 32), 227 * 1024, 255),
    "gfx942": Target("gfx942", GPUTarget("hip", "gfx942", 64), 64 * 1024, 512),
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


def compile_launch(launch: Launch, target: Target) -> Usage:
    """What the kernel takes when it is compiled as this launch would compile it on the target."""
    hip = target.triton.backend == "hip"
    if hip and launch.constants.get("PRECISION") == "tf32x3":
        launch = replace(launch, constants=launch.constants | {"PRECISION": "ieee"})
    signature: dict[str, str] = {}
    constants = dict(launch.constants)
    attributes = {}
    for position, name in enumerate(launch.kernel.arg_names):
        if name in launch.constants:
            signature[name] = "constexpr"
            continue
        value = launch.arguments[name]
        if value is None or (isinstance(value, int) and value == 1):
            signature[name], constants[name] = "constexpr", value
        elif isinstance(value, Tensor):
            signature[name] = "*" + TYPE_NAMES[value.dtype]
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

    spilled = 4 * (field("vgpr_spill_count") + field("sgpr_spill_count"))
    return Usage(field("vgpr_count"), max(spilled, field("private_segment_fixed_size")), shared)
