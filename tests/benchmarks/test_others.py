"""The benchmarks of the constructor, of whole models and of the input pipeline."""

from functools import partial

import pytest
import torch

from kgt_lightning.benchmarks import graph as graph_bench
from kgt_lightning.benchmarks.data import bench_data
from kgt_lightning.benchmarks.graph import bench_graph
from kgt_lightning.benchmarks.model import bench_model
from kgt_lightning.data.datamodule import RestorationData
from kgt_lightning.degradations.noise import GaussianNoise
from kgt_lightning.model import KGT, Columnar
from kgt_lightning.ops import KeyGraph
from kgt_lightning.ops.attention import dispatch as attention

CPU = torch.device("cpu")


def small(*, attention="auto", k=5):
    layout = partial(Columnar, depths=[1, 1], heads=2)
    options = {"window": 4, "train_k": None, "stride": 1, "ffn_ratio": 2, "shift": False, "checkpointing": False}
    options |= {"share_graph": True, "mixer": None}
    return KGT(channels=3, width=8, layout=layout, k=k, attention=attention, compile=False, **options)


def test_graph_rows():
    rows = list(
        bench_graph(num_nodes=[16, 25], k=[3, 20], windows=2, channels=7, dtype=torch.float32, device=CPU, seconds=0.0)
    )
    assert [(row["num_nodes"], row["k"]) for row in rows] == [(16, 3), (25, 3), (25, 20)]
    assert all(row["ratio"] == row["graph_ms"] / row["product_ms"] for row in rows)


@pytest.mark.parametrize("wrong", ["others", "repeated"])
def test_a_wrong_graph_is_not_timed(monkeypatch, wrong):
    def build(nodes, k):
        index = (nodes @ nodes.mT).topk(k, largest=wrong == "repeated").indices
        return KeyGraph(index if wrong == "others" else index[..., :1].expand(-1, -1, k))

    monkeypatch.setattr(graph_bench, "build_key_graph", build)
    with pytest.raises(ValueError, match="N=16, k=3 is wrong"):
        list(bench_graph(num_nodes=[16], k=[3], windows=1, channels=4, dtype=torch.float32, device=CPU, seconds=0.0))


@pytest.mark.parametrize("scale", [1, 2])
def test_model_rows(scale):
    rows = list(
        bench_model(
            make_backbone=small,
            scale=scale,
            sizes=[[8, 8], [9, 12]],
            dense=True,
            baselines=True,
            training_batch=2,
            device=CPU,
            seconds=0.0,
        )
    )
    models = [("sparse", 5), ("dense", 16), ("SwinIR", None), ("DnCNN", None)][: 5 - scale]
    assert [(row["height"], row["width"], row["model"], row["k"]) for row in rows] == [
        (*size, *model) for size in ((8, 8), (9, 12)) for model in models
    ]
    assert all(row["sparse_over_this"] == rows[0]["ms"] / row["ms"] for row in rows[: len(models)])
    steps = [row["step_ms"] for row in rows[: len(models)]]
    assert [row["sparse_step_over_this"] for row in rows[: len(models)]] == [steps[0] / step for step in steps]
    assert rows[0]["us_per_pixel"] == pytest.approx(rows[0]["ms"] * 1e3 / 64)


def test_a_wrong_model_is_not_timed(monkeypatch):
    monkeypatch.setitem(attention.IMPLEMENTATIONS, "gather", lambda q, k, v, *_, **__: v)

    with pytest.raises(ValueError, match=r"differs by .* from itself with attention=reference"):
        list(
            bench_model(
                make_backbone=lambda **changes: small(**{"attention": "gather"} | changes),
                scale=1,
                sizes=[[8, 8]],
                dense=False,
                baselines=False,
                training_batch=0,
                device=CPU,
                seconds=0.0,
            )
        )


def test_data_rows(tmp_path):
    options = {"root": None, "train": [], "test": None, "default_test": {3: []}, "channels": 3, "patch": 16, "seed": 0}
    options |= {"degraded": None, "clean": None, "repeat_gray": False, "protocol": "swinir", "modulo": {"swinir": 1}}
    options |= {"batch_size": 4, "validation_images": 1, "validation_size": 32, "cache_dir": str(tmp_path)}
    options["min_detail"] = 0
    options |= {"degradation": GaussianNoise(sigma=25, test_sigma=None, protocol="swinir"), "test_gray": "gray"}
    make = partial(RestorationData, **options)
    rows = list(bench_data(make_data=make, workers=[0], batches=3))
    assert [row["workers"] for row in rows] == [0]
    assert rows[0]["patches_per_s"] == pytest.approx(4 * 1e3 / rows[0]["ms_per_batch"])
