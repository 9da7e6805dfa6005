"""Every Triton kernel compiles for GPUs that are not here, within their registers and shared memory."""

import os
import subprocess
import sys

import pytest
import torch

pytest.importorskip("triton")

from kgt_lightning.benchmarks.compile_kernels import (
    Setting,
    Usage,
    count_instructions,
    main,
    plan_launches,
    problems,
)


@pytest.mark.slow
@pytest.mark.parametrize(("target", "width"), [("sm_90", 30), ("gfx942", 128)])
def test_kernels_fit(target, width):
    """The command without arguments compiles for every target.

    In a process of its own: here triton may have been imported for its interpreter, which compiles nothing.
    """
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "kgt_lightning.benchmarks.compile_kernels", target, str(width)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for dtype in ("fp32", "fp16", "bf16"):
        for kernel in plan_launches(Setting(dtype=torch.float32)):
            assert f"| {kernel} | {dtype} |" in done.stdout


def test_spills_and_too_much_shared_memory_are_problems():
    usage = Usage(registers=255, spilled=0, shared=163 * 1024, once=1, each=1, warps=1)
    assert problems("a kernel", "sm_80", usage) == []
    assert "spills 8 bytes" in problems("a kernel", "sm_80", usage._replace(spilled=8))[0]
    assert "the limit is 65536" in problems("a kernel", "gfx942", usage._replace(shared=65537))[0]


def test_instructions_are_counted_outside_and_in_the_longest_loop():
    nvidia = """
        /*0000*/                   MOV R1, c[0x0][0x28] ;
.L_x_1:
        /*0010*/                   IADD3 R2, R2, 0x1, RZ ;
        /*0020*/                   FADD R3, R3, R2 ;
        /*0030*/              @!P0 BRA `(.L_x_1) ;
        /*0040*/                   EXIT ;
.L_x_2:
        /*0050*/                   BRA `(.L_x_2);
        /*0060*/                   NOP;
"""
    amd = "\ts_load_dword s0, s[0:1]\n.LBB0_1:\n\tv_add_f32 v0, v0, v1\n\ts_cbranch_scc1 .LBB0_1\n\ts_endpgm\n"
    assert count_instructions(nvidia) == (3, 3)
    assert count_instructions(amd) == (2, 2)


def test_unknown_target(capsys):
    assert main(["sm_70"]) == 2
    assert "target 'sm_70' is unknown; choose from sm_80, sm_90, sm_100, gfx942" in capsys.readouterr().err
