"""What a Triton kernel is launched with, as data: the same plan is run on a GPU or compiled ahead without one."""

import math
import os
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

MAX_WIDTH = 128
"""Widest head that the attention kernels keep in registers."""

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Launch:
    """One kernel, its arguments and its tuning."""

    kernel: Any
    programs: int
    arguments: dict[str, Tensor | int | float | None]
    constants: dict[str, Any]
    num_warps: int = 4
    num_stages: int = 2

    def run(self) -> None:
        """Start the kernel; outputs among the arguments are written."""
        if self.programs:
            self.kernel[(self.programs,)](
                **self.arguments, **self.constants, num_warps=self.num_warps, num_stages=self.num_stages
            )


def interpreting() -> bool:
    """Whether Triton's interpreter, which runs kernels on CPU tensors, is on (TRITON_INTERPRET=1)."""
    return os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "on", "yes", "y")


def why_unavailable() -> str | None:
    """Why the kernels cannot run on this machine, in words, or None."""
    if find_spec("triton") is None:
        return "triton is not installed"
    if interpreting():
        return None
    if not torch.cuda.is_available():
        return "there is no CUDA device"
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        return "there is no C compiler (gcc or clang), with which Triton builds its driver"
    return None


def next_power(number: int) -> int:
    """The smallest power of two that is not below the number."""
    return 1 << (number - 1).bit_length()


def rows(tensor: Tensor) -> Tensor:
    """The tensor itself if it lies in memory as the kernels read it, or else a copy.

    Its last dimension is dense, and the second, that of the heads, spans less than 2**31 elements: the kernels compute
    the place of a head in 32 bits, for want of registers.
    """
    fits = tensor.stride(-1) == 1 and (tensor.shape[1] - 1) * abs(tensor.stride(1)) < 2**31
    return tensor if fits else tensor.contiguous()


def padded_width(q: Tensor) -> int:
    """Width of the tiles that hold heads: tensor cores take powers of two from 16."""
    return max(16, next_power(q.shape[-1]))


def count_programs(q: Tensor, block: int) -> int:
    """Programs that cover q [W, H, N, D] with one block of nodes each."""
    windows, heads, num_nodes, _ = q.shape
    return windows * heads * -(-num_nodes // block)


def dot_precision(tensor: Tensor) -> str:
    """How products of such tensors are made: three in TF32 give float32 accuracy where TF32 exists."""
    if tensor.dtype == torch.bfloat16 and interpreting():
        return "upcast"
    return "tf32x3" if tensor.dtype == torch.float32 and torch.version.hip is None else "ieee"


def strides(**tensors: Tensor) -> dict[str, int]:
    """Arguments stride_<name>w, stride_<name>h and stride_<name>n of each [W, H, N, D] tensor."""
    return {f"stride_{name}{axis}": t.stride(i) for name, t in tensors.items() for i, axis in enumerate("whn")}


def sizes(q: Tensor, scale: float) -> dict[str, int | float]:
    """Arguments scale, H, N and the window's side M, which only square windows with a bias use."""
    _, heads, num_nodes, _ = q.shape
    return {"scale": scale, "H": heads, "N": num_nodes, "M": math.isqrt(num_nodes)}


def alignment(*row_tensors: Tensor) -> int:
    """Bytes, at most 16, that divide the address of every row of every tensor: how wide a load may be."""
    align = 16
    for tensor in row_tensors:
        addresses = (tensor.data_ptr(), *(stride * tensor.element_size() for stride in tensor.stride()[:-1]))
        align = math.gcd(align, *addresses)
    return align


def constants(*row_tensors: Tensor, bias: bool) -> dict[str, Any]:
    """Constants D, BD, BIAS and ALIGN of kernels that read or write rows of these tensors."""
    first = row_tensors[0]
    return {"D": first.shape[-1], "BD": padded_width(first), "BIAS": bias, "ALIGN": alignment(*row_tensors)}
