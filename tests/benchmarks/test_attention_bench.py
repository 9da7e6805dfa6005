"""The benchmark of the attention: what it records, and that it times nothing wrong."""

import pytest
import torch

from kgt_lightning.benchmarks.attention import bench_attention, flex_attention_over
from kgt_lightning.ops import build_key_graph
from kgt_lightning.ops.attention import dispatch as attention
from kgt_lightning.ops.attention import mask
from kgt_lightning.ops.attention.reference import reference_attention

SETTINGS = {
    "num_nodes": [16, 64],
    "k": [4, 32],
    "impl": ["mask", "gather"],
    "windows": 2,
    "heads": 2,
    "width": 6,
    "bias": True,
    "backward": True,
    "dtype": torch.float32,
    "device": torch.device("cpu"),
    "seconds": 0.0,
}


@pytest.mark.slow
def test_one_row_for_each_setting_and_one_for_dense():
    rows = list(bench_attention(**SETTINGS))
    assert [(row["num_nodes"], row["k"], row["impl"]) for row in rows] == [
        (nodes, k, impl) for nodes, k in [(16, 4), (64, 4), (64, 32)] for impl in ("dense", "mask", "gather")
    ]
    for row in rows:
        assert row["forward_ms"] > 0 and row["forward_backward_ms"] > 0 and row["status"] == "ok"
        if row["impl"] != "dense":
            dense = next(
                r for r in rows if r["impl"] == "dense" and (r["num_nodes"], r["k"]) == (row["num_nodes"], row["k"])
            )
            assert row["forward_speedup"] == dense["forward_ms"] / row["forward_ms"]


def test_auto_marks_the_implementation_that_auto_takes():
    rows = list(bench_attention(**SETTINGS | {"impl": None, "num_nodes": [16], "backward": False}))
    [chosen] = [row["impl"] for row in rows if row["auto"]]
    assert chosen == attention.choose_implementation(4, 16, torch.device("cpu"))[0]
    assert "reference" not in [row["impl"] for row in rows]


@pytest.mark.parametrize("what", ["output", "gradient"])
def test_a_wrong_result_is_not_timed(monkeypatch, what):
    def wrong(q, k, v, graph, *, scale, bias_table=None):
        out = mask.mask_attention(q, k, v, graph, scale=scale, bias_table=bias_table)
        return out * 1.001 if what == "output" else out.detach() + 1.001 * (out - out.detach())

    monkeypatch.setitem(attention.IMPLEMENTATIONS, "gather", wrong)
    error = "output" if what == "output" else "dq"
    with pytest.raises(ValueError, match=rf"impl=gather: {error} differs from the reference.*N=16, k=4"):
        list(bench_attention(**SETTINGS))


def test_nan_is_wrong_too(monkeypatch):
    monkeypatch.setitem(attention.IMPLEMENTATIONS, "gather", lambda q, *_, **__: q * torch.nan)
    with pytest.raises(ValueError, match="output differs from the reference by nan"):
        list(bench_attention(**SETTINGS | {"backward": False}))


def test_out_of_memory_is_a_result(monkeypatch):
    def greedy(q, k, v, graph, *, scale, bias_table=None):
        return q.new_empty(2**60)

    monkeypatch.setitem(attention.IMPLEMENTATIONS, "gather", greedy)
    rows = list(bench_attention(**SETTINGS | {"num_nodes": [16]}))
    assert [row["status"] for row in rows] == ["ok", "ok", "out of memory"]
    assert rows[-1]["forward_ms"] is None


def test_another_error_is_not_taken_for_lack_of_memory(monkeypatch):
    def broken(q, k, v, graph, *, scale, bias_table=None):
        raise RuntimeError("device-side assert")

    monkeypatch.setitem(attention.IMPLEMENTATIONS, "gather", broken)
    with pytest.raises(RuntimeError, match="device-side assert"):
        list(bench_attention(**SETTINGS))


def test_windows_are_square():
    with pytest.raises(ValueError, match=r"num_nodes=\[50\]: windows are square"):
        list(bench_attention(**SETTINGS | {"num_nodes": [50, 64]}))


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_is_the_same_attention():
    q, k, v = torch.randn(3, 2, 2, 64, 12, generator=torch.Generator().manual_seed(0))
    table = torch.linspace(-1, 1, 2 * 225).view(2, 225)
    graph = build_key_graph(torch.randn(2, 64, 5, generator=torch.Generator().manual_seed(1)), 9)
    ours = flex_attention_over(graph, scale=0.3, compiled=False)(q, k, v, table)
    torch.testing.assert_close(ours, reference_attention(q, k, v, graph, scale=0.3, bias_table=table))
