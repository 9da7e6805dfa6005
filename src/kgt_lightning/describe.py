"""Command: parameters, operations of one forward pass, and the size multiple of a composed model.

python -m kgt_lightning.describe task=sr model=kgt_small degradation.scale=2 size=[256,256]
"""

import json
from typing import Any

from omegaconf import DictConfig

from kgt_lightning.config.command import command
from kgt_lightning.runs.cost import count_flops
from kgt_lightning.system.tables import Table


def describe(config: DictConfig) -> dict[str, Any]:
    """Parameters, operations of one forward pass, and the multiple of height and width; see :func:`count_flops`."""
    height, width = config.size
    flops, module = count_flops(config, height=height, width=width)
    backbone = module.network.backbone
    return {
        "params": sum(p.numel() for p in module.parameters()),
        "flops": flops,
        "multiple": backbone.multiple,
        "size": [height, width],
        "k": getattr(backbone, "k", None),
        "window": getattr(backbone, "window", None),
    }


@command("describe")
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
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
