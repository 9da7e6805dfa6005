"""What a Triton kernel is launched with, as data: the same plan is run on a GPU or compiled ahead without one."""

import math
import os
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from kgt_lightning.ops.kernels.constant import assume_constant_result

MAX_WIDTH = 128
"""Widest head that the attention kernels keep in registers."""

MAX_NODES = 2**16
"""Most nodes of a window: a tile's list names them in 16 bits."""

DTYPES = (torch.float32, torch.float16, torch.bfloat16)

_DIMENSIONS = {"w": 0, "h": 1, "n": -2}


@dataclass(frozen=True)
class Launch:
    """One kernel, what its arguments may name, and its tuning."""

    kernel: Any
    programs: int
    values: dict[str, Any]
    """Tensors and numbers by name; more than the kernel takes may be here."""
    num_warps: int = 4
    num_stages: int = 2

    @property
    def arguments(self) -> dict[str, Any]:
        """The kernel's arguments: values, and strides, of which ``q_w``, ``q_h``, ``q_n`` are those of tensor ``q``."""
        return {name: self._argument(name) for name in self.kernel.arg_names}

    def _argument(self, name: str) -> Any:
        if name in self.values:
            return self.values[name]
        tensor, dimension = name.rsplit("_", 1)
        return self.values[tensor].stride(_DIMENSIONS[dimension])

    def run(self) -> None:
        """Start the kernel; outputs among the arguments are written."""
        if self.programs:
            self.kernel[(self.programs,)](**self.arguments, num_warps=self.num_warps, num_stages=self.num_stages)


@assume_constant_result
def interpreting() -> bool:
    """Whether Triton's interpreter, which runs kernels on CPU tensors, is on (TRITON_INTERPRET=1)."""
    return os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "on", "yes", "y")


@assume_constant_result
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


def window_side(num_nodes: int) -> int:
    """Nodes of a row of the window; where it is no square, and so has no position bias, they are taken 4 by 4."""
    side = math.isqrt(num_nodes)
    return side if side * side == num_nodes else 4


def rows(tensor: Tensor) -> Tensor:
    """The tensor itself if it lies in memory as the kernels read it, or else a copy.

    Its last dimension is dense, and a window spans less than 2**31 elements: the kernels compute the place of a head
    and of a node in 32 bits, for want of registers.
    """
    span = sum((size - 1) * stride for size, stride in zip(tensor.shape[1:], tensor.stride()[1:], strict=True))
    return tensor if tensor.stride(-1) == 1 and span < 2**31 else tensor.contiguous()


def dot_precision(tensor: Tensor) -> str:
    """How products of such tensors are made: three in TF32 give float32 accuracy where TF32 exists."""
    if tensor.dtype == torch.bfloat16 and interpreting():
        return "upcast"
    return "tf32x3" if tensor.dtype == torch.float32 and torch.version.hip is None else "ieee"


def alignment(*row_tensors: Tensor) -> int:
    """Bytes, at most 16, that divide the address of every row of every tensor: how wide a load may be."""
    align = 16
    for tensor in row_tensors:
        addresses = (tensor.data_ptr(), *(stride * tensor.element_size() for stride in tensor.stride()[:-1]))
        align = math.gcd(align, *addresses)
    return align
