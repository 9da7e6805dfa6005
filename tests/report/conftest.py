"""Folders of runs as training leaves them, without training."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

PROTOCOL = "swinir: all channels of 8-bit images, crop 0, SSIM 11x11 Gaussian, valid region"
DEGRADED = 20.18


def make_config(*, k: int = 64, seed: int = 0, width: int = 64, crop: int = 0) -> dict[str, Any]:
    """A resolved configuration in small, its values copied to the places they are copied to."""
    model = {"_target_": "kgt_lightning.model.KGT", "width": width, "window": 16, "k": k, "train_k": None}
    return {
        "task": "denoise",
        "seed": seed,
        "run": f"k{k}-{seed}",
        "run_dir": f"outputs/denoise/k{k}-{seed}",
        "protocol": "swinir",
        "model": model,
        "module": {"backbone": model, "seed": seed, "scoring": {"protocol": "swinir", "crops": [crop]}},
        "data": {"root": "sets", "cache_dir": "cache", "sigma": [15, 25], "seed": seed},
    }


def make_results(
    gains: Mapping[str, Sequence[float]], *, protocol: str = PROTOCOL, task: str = "denoise", **facts: Any
) -> dict[str, Any]:
    """results.json with these gains in dB of the images of each test set."""
    images = [
        {
            "test_set": test_set,
            "image": f"{test_set.split()[0].lower()}_{number:02d}",
            "psnr": DEGRADED + gain,
            "ssim": 1 - 0.5 * math.exp(-gain / 8),
            "degraded_psnr": DEGRADED,
            "degraded_ssim": 0.5,
        }
        for test_set, of_set in gains.items()
        for number, gain in enumerate(of_set)
    ]
    means = {}
    for test_set in gains:
        own = [image for image in images if image["test_set"] == test_set]
        numbers = [name for name in own[0] if name not in ("test_set", "image")]
        means[test_set] = {name: float(np.mean([image[name] for image in own])) for name in numbers}
        means[test_set]["images"] = len(own)
    return {"task": task, "protocol": protocol, **facts, "means": means, "images": images}


def make_run(
    folder: Path,
    *,
    gains: Mapping[str, Sequence[float]] | None,
    configuration: dict[str, Any] | None = None,
    protocol: str = PROTOCOL,
    steps: int = 40,
    panels: int = 1,
    **facts: Any,
) -> Path:
    """A run written into a folder; what is None is not written."""
    folder.mkdir(parents=True)
    configuration = make_config() if configuration is None else configuration
    run = {
        "task": configuration.get("task", "denoise"),
        "status": "finished",
        "error": None,
        "overrides": [],
        "config": configuration,
        "key": "0",
        "started": "2026-03-01T10:00:00",
        "seconds": 100.0,
        "hardware": "2 cores of some processor",
        "commit": "abc1234",
        "version": "0.1.0",
        "parameters": 520_000,
        "flops": 12_300_000_000,
        "peak_memory_mb": None,
        **facts,
    }
    (folder / "run.json").write_text(json.dumps(run))
    if gains is not None:
        content = make_results(gains, protocol=protocol, task=run["task"], checkpoint=f"{folder}/checkpoints/best.ckpt")
        (folder / "results.json").write_text(json.dumps(content))
    if steps:
        lines: list[dict[str, float]] = [
            {"step": step, "train/loss": round(0.2 / math.sqrt(step), 5), "train/samples_per_second": 41 + step % 3}
            for step in range(1, steps + 1)
        ]
        lines += [{"step": step, "val/psnr": round(30 - 5 / step, 3)} for step in range(10, steps + 1, 10)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for number in range(panels):
        file = folder / "panels" / f"step_{steps:07d}" / f"photo_{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((40, 128, 3), 90 + number, np.uint8)).save(file)
    return folder


def make_sweep(root: Path) -> Path:
    """Four finished runs over k and seed on two test sets, one that failed, one out of memory and one that goes on."""
    for k, gain in ((16, 9.5), (64, 10.0), (256, 10.25)):
        gains = {"CBSD68 sigma=25": [gain, gain + 1, gain - 0.5], "Kodak sigma=25": [gain + 0.2, gain + 0.4]}
        make_run(root / f"k{k}", gains=gains, configuration=make_config(k=k), seconds=100.0 + k, flops=1e9 * k)
    worse = {"CBSD68 sigma=25": [9.0, 11.4, 9.0], "Kodak sigma=25": [9.0, 9.0]}
    make_run(root / "again", gains=worse, configuration=make_config(k=64, seed=1), seconds=500.0)
    broken: dict[str, Any] = {"gains": None, "steps": 0, "panels": 0, "seconds": 3.0}
    memory = "model.k=1024 needs 9.1 GB of 8.0 GB"
    failed = {"configuration": make_config(k=512), "status": "failed", "error": "the loss is nan at step 3"}
    make_run(root / "bad", **broken, **failed)
    make_run(root / "large", **broken, configuration=make_config(k=1024), status="out of memory", error=memory)
    make_run(root / "now", gains=None, configuration=make_config(k=128), status="running", seconds=None)
    return root


@pytest.fixture(scope="session")
def config() -> Callable[..., dict[str, Any]]:
    """Makes a resolved configuration in small."""
    return make_config


@pytest.fixture(scope="session")
def results() -> Callable[..., dict[str, Any]]:
    """Makes the content of results.json from gains."""
    return make_results


@pytest.fixture(scope="session")
def write_run() -> Callable[..., Path]:
    """Writes a run into a folder."""
    return make_run


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Seven runs that differ in k and seed."""
    return make_sweep(tmp_path / "sweep")


@pytest.fixture(scope="session")
def same_sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same runs, for tests that leave them as they are."""
    return make_sweep(tmp_path_factory.mktemp("runs") / "sweep")


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Two runs whose report has little to draw."""
    for name, gain in (("a", 9.0), ("b", 10.0)):
        make_run(tmp_path / "two" / name, gains={"Set12 sigma=25": [gain, gain]}, steps=0)
    return tmp_path / "two"
