"""Time, peak memory, and the machine they were taken on."""

import ctypes
import gc
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

Run = Callable[[], Any]

_STATUS = Path("/proc/self/status")


def median_ms(run: Run, *, device: torch.device, seconds: float) -> float:
    """Median time of a call in milliseconds; the caller has warmed up.

    Calls until the seconds are over, but at least 3 times, of calls that take 10 s or more once.
    """
    times: list[float] = []
    start = time.perf_counter()
    while len(times) < 3 or (time.perf_counter() - start < seconds and len(times) < 1000):
        if times and times[0] > 10:
            break
        before = time.perf_counter()
        run()
        _finish(device)
        times.append(time.perf_counter() - before)
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
    before = _status_bytes("VmRSS")
    run()
    return (_status_bytes("VmHWM") - before) / 1e6


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


def is_out_of_memory(error: BaseException) -> bool:
    """Whether PyTorch, Python or the kernel found no memory; PyTorch has no type of its own for that on the CPU."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)


def refuse_to_swap() -> None:
    """Limit this process to the memory that is free now, so that asking for more fails instead of killing it."""
    if sys.platform == "linux":
        # Unix only.
        import resource

        free = int(_field(Path("/proc/meminfo"), "MemAvailable")) * 1024
        limit = _status_bytes("VmSize") + free * 9 // 10
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def machine(device: torch.device) -> dict[str, Any]:
    """Processor or GPU, threads, memory, versions and commit."""
    described = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": platform.platform(terse=True),
        "commit": _commit(),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        described |= {
            "gpu": properties.name,
            "gpu_memory_gb": round(properties.total_memory / 1e9, 1),
            "cuda": torch.version.cuda or torch.version.hip,
        }
    return described


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _field(file: Path, name: str) -> str:
    """First word after ``name:``."""
    return next(line.split()[1] for line in file.read_text().splitlines() if line.startswith(f"{name}:"))


def _status_bytes(name: str) -> int:
    return int(_field(_STATUS, name)) * 1024


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip() + (", AVX-512" if torch.cpu._is_avx512_supported() else "")
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """Of the checkout this package lies in, or None if it is installed; marked where files have changed."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        described = subprocess.run(
            [*git, "describe", "--always", "--dirty"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()
