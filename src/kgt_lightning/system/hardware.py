"""The machine that something ran on, and the memory it took there."""

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch


def machine(device: torch.device) -> dict[str, Any]:
    """Processor or GPU, threads, memory, versions and commit."""
    described = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": platform.platform(terse=True),
        "commit": commit(),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        described |= {
            "gpu": properties.name,
            "gpu_memory_gb": round(properties.total_memory / 1e9, 1),
            "cuda": torch.version.cuda or torch.version.hip,
        }
    return described


def hardware(device: torch.device, *, devices: int) -> str:
    """One line: how many processes compute on what."""
    if device.type == "cuda":
        return f"{devices} x {torch.cuda.get_device_name(device)}"
    where = processor() if device.type == "cpu" else f"{processor()} ({device.type})"
    return f"{where}, {os.cpu_count()} cores, {devices} x {torch.get_num_threads()} threads"


def processor() -> str:
    """Name of the processor, with its vector extension."""
    if sys.platform == "linux":
        capability = torch.backends.cpu.get_cpu_capability()
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip() + (", AVX-512" if "AVX512" in capability else "")
    return platform.processor() or platform.machine()


def commit() -> str | None:
    """Of the checkout this package lies in, or None if it is installed; marked where files have changed."""
    describe = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def process_peak_mb() -> float:
    """Megabytes (1e6 bytes) that this process had at its peak: on its GPUs if it used any, else resident."""
    if torch.cuda.is_initialized():
        return max(torch.cuda.max_memory_allocated(i) for i in range(torch.cuda.device_count())) / 1e6
    if sys.platform == "linux":
        # Not ru_maxrss, which begins with that of the process that started this one.
        return status_bytes("VmHWM") / 1e6
    # Unix only.
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def status_bytes(name: str) -> int:
    """One of the sizes in /proc/self/status (Linux)."""
    return int(proc_field(Path("/proc/self/status"), name)) * 1024


def proc_field(file: Path, name: str) -> str:
    """First word after ``name:`` in a file of /proc (Linux)."""
    return next(line.split()[1] for line in file.read_text().splitlines() if line.startswith(f"{name}:"))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether PyTorch, Python or the kernel found no memory; PyTorch has no type of its own for that on the CPU."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)


def pick_device(name: str) -> torch.device:
    """The named device; auto takes CUDA, then MPS, then the CPU."""
    usable = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    names = [device for device, available in usable.items() if available]
    if name not in ("auto", *names):
        raise ValueError(f"device={name} is not available: choose auto or one of {', '.join(names)}")
    return torch.device(names[0] if name == "auto" else name)
