"""Reasoned costs by hand, and that photographs have short lists."""

import pytest
import torch

pytest.importorskip("triton")

from kgt_lightning.benchmarks.compile_kernels import Usage
from kgt_lightning.benchmarks.gpu_design import (
    FORWARD,
    GPUS,
    HEADS,
    NODES,
    Lists,
    instructions,
    least_ms,
    measure_lists,
    photograph_nodes,
    work_of,
)

LISTS_OF_THEIR_OWN = (4 * 384 / 4, 4 * 603 / 128)
"""Instructions of a warp on sm_90 (16 bits, width 30), for each query and for each of its neighbours, of the kernels
that gathered the neighbours of every query by themselves, before tiles of queries shared a list."""


def used(once, each):
    return {"forward": Usage(registers=0, spilled=0, shared=0, once=once, each=each, warps=1)}


def test_work_of_the_forward_by_hand():
    lists = Lists(64, 64, 64.0, 2.0, 2.0)
    tiles = NODES * HEADS / 16
    work = work_of(FORWARD, lists)
    assert work.exponentials == tiles * 16 * 64
    assert work.tensor == 2 * 2 * 32 * tiles * 16 * 64
    assert work.cache == tiles * 64 * (2 * 30 * 2 + 4)
    assert instructions(FORWARD, lists, used(100, 10)) == tiles * 120


def test_the_busiest_part_sets_the_time():
    work = work_of(FORWARD, Lists(64, 64, 64.0, 2.0, 2.0))._replace(memory=GPUS[0].memory)
    assert least_ms(GPUS[0], work, 0.0) == (1e3, "memory")


def test_a_fifth_of_the_instructions_of_lists_of_their_own():
    """At k=64 of 1024 nodes, by the instructions of sm_90 that experiments/kernels/gpu_design.md tells."""
    lists = measure_lists(photograph_nodes(32), 64)
    assert lists.shortest >= 64 and lists.longest < 512
    ours = instructions(FORWARD, lists, used(814, 447))
    assert ours < NODES * HEADS * (LISTS_OF_THEIR_OWN[0] + 64 * LISTS_OF_THEIR_OWN[1]) / 5


def test_lists_of_nodes_that_are_all_alike_are_short():
    lists = measure_lists([torch.ones(1, 64, 4)], 8)
    assert (lists.shortest, lists.longest, lists.turns) == (8, 8, 1.0)
    assert lists.transposed_turns == pytest.approx(2 * 2 / 4)
