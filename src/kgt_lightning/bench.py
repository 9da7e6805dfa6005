"""Command: time and peak memory of the attention, the Key-Graph, whole models, or the input pipeline.

python -m kgt_lightning.bench what=attention attention.num_nodes=[256,1024] attention.k=[64,128]
python -m kgt_lightning.bench what=model model=kgt_small model.k=128 whole_model.sizes=[[64,64],[128,128]]
"""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from kgt_lightning.benchmarks.attention import bench_attention
from kgt_lightning.benchmarks.data import bench_data
from kgt_lightning.benchmarks.graph import bench_graph
from kgt_lightning.benchmarks.measure import limit_memory
from kgt_lightning.benchmarks.model import bench_model
from kgt_lightning.benchmarks.report import rounded, show, write
from kgt_lightning.config.command import command
from kgt_lightning.config.extras import require
from kgt_lightning.system.hardware import machine

log = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "float64": torch.float64}


def measure(config: DictConfig, device: torch.device) -> Iterator[dict[str, Any]]:
    """Rows of what the configuration asks for, as they are measured.

    Raises:
        ValueError: if ``what`` or ``dtype`` is unknown.

    """
    if config.dtype not in DTYPES:
        raise ValueError(f"dtype={config.dtype} is unknown: choose one of {', '.join(DTYPES)}")
    common = {"device": device, "seconds": config.seconds}
    settings = {"dtype": DTYPES[config.dtype], **common}
    options: Callable[[DictConfig], Any] = OmegaConf.to_object
    match config.what:
        case "attention":
            return bench_attention(**options(config.attention), **settings)
        case "graph":
            return bench_graph(**options(config.graph), **settings)
        case "model":
            return bench_model(
                make_backbone=partial(instantiate, config.model), **options(config.whole_model), **common
            )
        case "data":
            return bench_data(make_data=partial(instantiate, config.data), **options(config.pipeline))
    raise ValueError(f"what={config.what} is unknown: choose attention, graph, model or data")


@command("bench")
def main(config: DictConfig) -> None:
    require("kgt bench", "report", "matplotlib")
    usual = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(usual if config.device == "auto" else config.device)
    if config.threads:
        torch.set_num_threads(config.threads)
    if device.type == "cpu":
        limit_memory()
    rows = []
    for row in measure(config, device):
        rows.append(row)
        log.info("%s", rounded(row))
    described = machine(device)
    show(rows, title=f"{config.what} on {described.get('gpu', described['processor'])}")
    folder = Path(config.run_dir)
    write(rows, folder, what=config.what, facts={"machine": described, "settings": OmegaConf.to_container(config)})
    log.info("%s.csv, %s.json and %s.png are in %s", *[config.what] * 3, folder)


if __name__ == "__main__":
    main()
