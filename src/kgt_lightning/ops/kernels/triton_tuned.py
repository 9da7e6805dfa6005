"""Warps and stages that a GPU was measured to like best, from a table in the user's cache folder."""

import json
from functools import cache
from pathlib import Path

import torch

from kgt_lightning.ops.kernels.native_build import NativeUnavailableError, cache_folder

Tuning = tuple[int, int]
"""Warps of a program, and stages in which its loop loads ahead."""


def table_file(gpu: str) -> Path:
    """Where the table of a GPU of this name lies; :mod:`kgt_lightning.benchmarks.tune` writes it."""
    return cache_folder() / f"triton-{gpu.replace(' ', '-')}.json"


def entry_name(kernel: str, dtype: torch.dtype, padded_width: int) -> str:
    """Name of a kernel's entry."""
    return f"{kernel} {str(dtype).removeprefix('torch.')} {padded_width}"


def tuned(kernel: str, dtype: torch.dtype, padded_width: int, usual: Tuning) -> Tuning:
    """What was measured best on this GPU, or else the usual.

    Raises:
        ValueError: if the table is damaged.

    """
    if not torch.cuda.is_available():
        return usual
    return _table(torch.cuda.get_device_name()).get(entry_name(kernel, dtype, padded_width), usual)


@cache
def _table(gpu: str) -> dict[str, Tuning]:
    try:
        file = table_file(gpu)
    except NativeUnavailableError:  # no home folder, so nothing was measured
        return {}
    if not file.exists():
        return {}
    try:
        return {name: (int(warps), int(stages)) for name, (warps, stages) in json.loads(file.read_text()).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} is no table of tuned kernels ({error}): delete it, or run make gpu again") from error
