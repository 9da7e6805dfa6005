"""Freed memory is kept, so that the next step does not ask the kernel for it page by page."""

import platform
import subprocess
import sys

import pytest

from kgt_lightning.system.memory import keep_freed_memory

VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
FAULTS = """
import resource
from kgt_lightning.system.memory import keep_freed_memory
for kept in (False, True):
    if kept:
        assert keep_freed_memory()
    for step in range(6):
        if step == 2:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        blocks = [bytearray(b"1" * (40 * 2**20)) for _ in range(3)]
        del blocks
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
"""Pages that the kernel gives to steps of three blocks of 40 MB, before and after."""
pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another library of C")


def test_steps_use_the_memory_of_the_step_before(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    # A process of its own: in this one a command may have been run before.
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    as_shipped, kept = map(int, done.stdout.split())
    assert kept < as_shipped / 10


@pytest.mark.parametrize("name", VARIABLES)
def test_what_the_user_has_set_stays(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    assert not keep_freed_memory()
