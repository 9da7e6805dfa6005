"""Time and peak memory of a call."""

import ctypes
import gc
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from kgt_lightning.system.hardware import is_out_of_memory, proc_field, status_bytes

Run = Callable[[], Any]
Row = dict[str, Any]
"""What was measured with one setting, by the names of the columns of the table."""


WARM_UP_S = 0.2
"""Seconds of calls before those that are timed: the first ones find cold caches, clocks and memory."""


def median_ms(run: Run, *, device: torch.device, seconds: float) -> float:
    """Median time of a call in milliseconds, after calls that warm up.

    Calls until the seconds are over, but at least 3 times, of calls that take 10 s or more once.
    """

    def once() -> float:
        before = time.perf_counter()
        run()
        torch.get_device_module(device).synchronize()
        return time.perf_counter() - before

    times = [once()]
    if times[0] < WARM_UP_S:
        until = time.perf_counter() + WARM_UP_S
        while time.perf_counter() < until:
            once()
        times = [once()]
    while times[0] <= 10 and (len(times) < 3 or (sum(times) < seconds and len(times) < 1000)):
        times.append(once())
    return median(times) * 1e3


def peak_mb(run: Run, *, device: torch.device) -> float | None:
    """Megabytes (1e6 bytes) that a call needs at its peak on top of what is held before it, results included.

    On a GPU as PyTorch's allocator counts them. On the CPU as the kernel counts resident pages, so that memory taken by
    compiled code and libraries is seen too; freed pages are given back first, and one call has warmed up. None where
    the system does not tell, that is on the CPU outside Linux.
    """
    run()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        torch.cuda.synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 1e6
    if sys.platform != "linux" or device.type != "cpu":
        return None
    ctypes.CDLL(None).malloc_trim(0)
    # 5 resets the high-water mark of resident memory (proc(5)).
    Path("/proc/self/clear_refs").write_text("5")
    before = status_bytes("VmRSS")
    run()
    return (status_bytes("VmHWM") - before) / 1e6


def time_and_memory(run: Run, *, device: torch.device, seconds: float) -> tuple[float | None, float | None, str]:
    """Median milliseconds, peak megabytes and ``ok``; or None, None and ``out of memory``, which is a result too."""
    try:
        memory = peak_mb(run, device=device)
        return median_ms(run, device=device, seconds=seconds), memory, "ok"
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return None, None, "out of memory"


def limit_memory() -> None:
    """Limit this process to the memory that is free now, so that asking for more fails instead of killing it."""
    if sys.platform == "linux":
        # Unix only.
        import resource

        free = int(proc_field(Path("/proc/meminfo"), "MemAvailable")) * 1024
        limit = status_bytes("VmSize") + free * 9 // 10
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
