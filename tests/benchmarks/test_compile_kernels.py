"""Every Triton kernel compiles for GPUs that are not here, within their registers and shared memory."""

import os
import subprocess
import sys

import pytest
import torch

pytest.importorskip("triton")

from kgt_lightning.benchmarks.compile_kernels import TARGETS, Usage, main, plan_launches, problems
from kgt_lightning.benchmarks.roofline import GPUS, Setting, least_time, work_of


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_kernels_fit(target):
    """In a process of its own: here triton may have been imported for its interpreter, which compiles nothing."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "kgt_lightning.benchmarks.compile_kernels", target]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for dtype in ("fp32", "fp16", "bf16"):
        for kernel in plan_launches(Setting(dtype=torch.float32, width=30)):
            assert f"| {kernel} | {dtype} |" in done.stdout


def test_spills_and_too_much_shared_memory_are_problems():
    assert problems("a kernel", "sm_80", Usage(registers=255, spilled=0, shared=163 * 1024)) == []
    assert "spills 8 bytes" in problems("a kernel", "sm_80", Usage(registers=255, spilled=8, shared=0))[0]
    assert "the limit is 65536" in problems("a kernel", "gfx942", Usage(registers=1, spilled=0, shared=65537))[0]


def test_unknown_target(capsys):
    assert main(["sm_70"]) == 2
    assert "target 'sm_70' is unknown; choose from sm_80, sm_90, sm_100, gfx942" in capsys.readouterr().err


def test_work_of_the_forward_by_hand():
    setting = Setting(dtype=torch.float16, width=30, windows=1, heads=1, num_nodes=64, few=8)
    lists, blocks = work_of("lists: forward", setting), work_of("blocks: forward", setting)
    assert lists.memory == 4 * 64 * 60 + 8 * 64 + 4 * 64 * 8
    assert lists.cache == 64 * 8 * (2 * 60 + 8)
    assert blocks.tensor == 2 * 2 * 64 * 64 * 32
    assert blocks.exponentials == 64 * 64


def test_the_busiest_part_sets_the_time():
    work = work_of("lists: forward", Setting(dtype=torch.float16, width=30))
    seconds, busiest = least_time(work, GPUS[0])
    assert busiest == "cache" and seconds == work.cache / GPUS[0].cache
