"""Peak memory sees every kind of memory; lack of memory is recognised."""

import ctypes
import subprocess
import sys
import time

import pytest
import torch

from kgt_lightning.benchmarks.measure import median_ms, peak_mb, time_and_memory
from kgt_lightning.system.hardware import is_out_of_memory, machine

CPU = torch.device("cpu")
linux = pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")


@linux
def test_peak_of_tensors():
    measured = peak_mb(lambda: torch.ones(40, 10**6).sum() + torch.ones(20, 10**6).sum(), device=CPU)
    assert 155 < measured < 250  # the larger one is freed only when the sum is there; 240 if both live


@linux
def test_peak_of_memory_that_pytorch_does_not_know():
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.free.argtypes = [ctypes.c_void_p]

    def take_and_free():
        memory = libc.malloc(ctypes.c_size_t(50 * 10**6))
        ctypes.memset(memory, 1, 50 * 10**6)
        libc.free(memory)

    assert 49 < peak_mb(take_and_free, device=CPU) < 60


@linux
def test_what_is_held_before_does_not_count():
    held = torch.ones(40, 10**6)
    assert peak_mb(lambda: held.add_(1), device=CPU) < 5


def test_time_is_a_median_of_several_calls():
    lengths = iter([0.03, *[0.0] * 10**7])  # the first call finds everything cold
    assert median_ms(lambda: time.sleep(next(lengths)), device=CPU, seconds=0.0) < 10
    slow = iter([0.25, 0.0, 0.0])  # long calls need no warm-up: three are all
    assert median_ms(lambda: time.sleep(next(slow)), device=CPU, seconds=0.0) < 100


def test_lack_of_memory_is_recorded():
    assert time_and_memory(lambda: torch.empty(2**60), device=CPU, seconds=0.0) == (None, None, "out of memory")
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shape mismatch"))


LIMIT = """
import torch
from kgt_lightning.benchmarks.measure import limit_memory
limit_memory()
try:
    torch.empty(2**41, dtype=torch.uint8)  # Linux would promise it, and kill the process when it is used
except RuntimeError as error:
    print("refused", "allocate memory" in str(error))
"""


@linux
def test_more_than_the_machine_has_is_refused():
    result = subprocess.run([sys.executable, "-c", LIMIT], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "refused True"


def test_the_machine_is_described():
    described = machine(CPU)
    assert described["torch"] == torch.__version__
    assert described["processor"] and described["threads"] == torch.get_num_threads()
