"""Freed memory is kept, so that the next step does not ask the kernel for it page by page."""

import multiprocessing
import platform
import resource

import pytest
import torch

from kgt_lightning.system.memory import keep_freed_memory

VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another library of C")


def faults(kept, answer):
    """Pages that the kernel gives to ten steps of three tensors of 40 MB, which are freed after each."""
    if kept:
        assert keep_freed_memory()
    for step in range(15):
        if step == 5:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        tensors = [torch.ones(10 * 2**20) for _ in range(3)]
        del tensors
    answer.put(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)


def test_steps_use_the_memory_of_the_step_before(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    fork = multiprocessing.get_context("fork")
    found = []
    for kept in (False, True):
        answer = fork.SimpleQueue()
        process = fork.Process(target=faults, args=(kept, answer))
        process.start()
        process.join(60)
        found.append(answer.get())
    as_shipped, kept = found
    assert kept < as_shipped / 10


@pytest.mark.parametrize("name", VARIABLES)
def test_what_the_user_has_set_stays(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    assert not keep_freed_memory()
