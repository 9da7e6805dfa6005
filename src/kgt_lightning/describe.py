"""Command: parameters, operations and time of one forward pass, by part, and the size multiple of a composed model.

python -m kgt_lightning.describe task=sr model=kgt_small degradation.scale=2 size=[256,256]
"""

import json
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig

from kgt_lightning.config.command import command
from kgt_lightning.runs.cost import by_part, count_flops, measure_seconds, parameters_by_part
from kgt_lightning.system.tables import Table


def describe(config: DictConfig) -> dict[str, Any]:
    """Parameters, operations of one forward pass, and the multiple of height and width; see :func:`count_flops`.

    Of each part too what is its own, and with ``config.timed`` its milliseconds.
    """
    height, width = config.size
    flops, module = count_flops(config, height=height, width=width)
    backbone = module.network.backbone
    columns: dict[str, Mapping[str, float]] = {"params": parameters_by_part(module), "flops": by_part(module, flops)}
    if config.timed:
        seconds = measure_seconds(config, height=height, width=width)
        columns["ms"] = {part: 1e3 * own for part, own in by_part(module, seconds).items()}
    parts = [{"part": part, **{name: own[part] for name, own in columns.items()}} for part in columns["params"]]
    return {
        "params": sum(p.numel() for p in module.parameters()),
        "flops": flops[""],
        "multiple": backbone.multiple,
        "size": [height, width],
        "k": getattr(backbone, "k", None),
        "window": getattr(backbone, "window", None),
        "parts": [part for part in parts if any(part[name] for name in columns)],
    }


@command("describe", reads=("model", "degradation", "module.head"))
def main(config: DictConfig) -> None:
    facts = describe(config)
    height, width = facts["size"]
    rows = [
        ["parameters", f"{facts['params'] / 1e6:.2f} million"],
        [f"one forward pass of {height} x {width} pixels", f"{facts['flops'] / 1e9:.2f} GFLOPs"],
        ["height and width are padded to multiples of", str(facts["multiple"])],
    ]
    if facts["k"] is not None:
        rows.append(["neighbours k of each node", f"{facts['k']} of {facts['window'] ** 2} in a window"])
    Table(columns=[f"{config.task} with {config.model_name}", ""], rows=rows).show()
    Table(columns=["part", *_UNITS][: 4 if config.timed else 3], rows=[_cells(part) for part in facts["parts"]]).show()
    print(json.dumps(facts))


_UNITS = {"params, thousand": ("params", 1e3), "MFLOPs": ("flops", 1e6), "ms": ("ms", 1)}


def _cells(part: dict[str, Any]) -> list[str]:
    numbers = [f"{part[name] / unit:.1f}" for name, unit in _UNITS.values() if name in part]
    return [part["part"] or "network", *numbers]


if __name__ == "__main__":
    main()
