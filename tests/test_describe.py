"""Parameters and operations are those that a hand counts."""

import json
import subprocess
import sys
from itertools import pairwise

import pytest

from kgt_lightning.describe import describe

TINY = (
    "task=denoise",
    "model=kgt_nano",
    "model.width=8",
    "model.window=4",
    "model.stride=1",
    "model.layout.depths=[2]",
    "model.layout.heads=2",
    "size=[8,8]",
)
PIXELS, WINDOWS, NODES, WIDTH, HEADS, DEPTH = 64, 4, 16, 8, 2, 2


def test_operations_of_a_tiny_model(composed):
    k = 5
    layer = (
        PIXELS * WIDTH * 3 * WIDTH  # queries, keys, values
        + 2 * PIXELS * k * WIDTH  # scores and weighted sum
        + PIXELS * WIDTH * WIDTH  # projection
        + 2 * PIXELS * WIDTH * 2 * WIDTH  # feed-forward network
        + 7 * 7 * 512 * HEADS  # position bias, beside sums over offsets
    )
    graph = WINDOWS * NODES * NODES * WIDTH
    convolutions = PIXELS * 9 * (3 * WIDTH + 2 * WIDTH * WIDTH + WIDTH * 3)
    assert describe(composed("describe", *TINY, f"model.k={k}"))["flops"] == 2 * (DEPTH * layer + graph + convolutions)


def test_each_part_has_what_is_its_own(composed):
    facts = describe(composed("describe", *TINY, "model.k=5", "timed=true"))
    parts = {part["part"]: part for part in facts["parts"]}
    assert parts["backbone.layout.stages.layers.attention"]["flops"] == DEPTH * 2 * 2 * PIXELS * 5 * WIDTH
    assert parts["backbone.layout.stages"]["flops"] == 2 * WINDOWS * NODES * NODES * WIDTH  # the Key-Graph
    assert parts["backbone.layout.stages.layers.attention.qkv"]["params"] == DEPTH * 3 * WIDTH * (WIDTH + 1)
    assert all(part["ms"] > 0 for part in facts["parts"])
    for name in ("params", "flops"):
        assert sum(part[name] for part in facts["parts"]) == facts[name]


def test_operations_grow_linearly_in_k(composed):
    flops = [describe(composed("describe", *TINY, f"model.k={k}"))["flops"] for k in (3, 6, 9, 12)]
    differences = {after - before for before, after in pairwise(flops)}
    assert differences == {2 * DEPTH * 2 * PIXELS * 3 * WIDTH}


def test_padding_is_counted(composed):
    whole = describe(composed("describe", *TINY, "model.k=5", "size=[8,8]"))
    padded = describe(composed("describe", *TINY, "model.k=5", "size=[5,7]"))
    assert padded["flops"] == whole["flops"]
    assert padded["multiple"] == 4


@pytest.mark.parametrize("attention", ["mask", "reference"])
def test_operations_are_those_of_the_method_whatever_computes_it(composed, attention):
    expected = describe(composed("describe", *TINY, "model.k=5"))
    assert describe(composed("describe", *TINY, "model.k=5", f"model.attention={attention}")) == expected


@pytest.mark.slow
def test_command_ends_with_a_json_object():
    arguments = ["task=sr", "model=kgt_small", "degradation.scale=3"]
    command = [sys.executable, "-X", "importtime", "-m", "kgt_lightning.describe", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    facts = json.loads(done.stdout.splitlines()[-1])
    assert round(facts["params"] / 1e6, 2) == 12.05
    assert facts["multiple"] == 32
    assert facts["flops"] > 0
    assert "12.05 million" in done.stdout
    # What trains and scores takes longer to import than all that is asked for.
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "torch" in imported
    assert not imported & {"lightning", "torchmetrics", "kornia"}
