"""What one forward pass costs: operations without computing it, and by part, with the time if it is to be measured."""

import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from kgt_lightning.training.restoration import Restoration

Inside = Mapping[str, float]
"""What was counted inside each module that was called, with all that it calls, by name; the whole is named ""."""


_TRAINED = "kgt_lightning.training.module.RestorationModule"


def count_flops(config: DictConfig, *, height: int, width: int) -> tuple[Inside, Restoration]:
    """Operations for one degraded image (two for each multiply-add, padding included), and the module without weights.

    They are counted on the meta device: nothing is computed and no memory is taken. Attention counts as its neighbours
    only, whatever implementation ``config.model`` names, and the Key-Graph of each stage as its similarity product.
    """
    with torch.device("meta"):
        # ``gather`` multiplies exactly the neighbours, so that counting its products counts the method's.
        module = _make(config, {"attention": "gather", "compile": False})
        image = torch.empty(1, module.degraded_channels, height, width)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module(image)
    root = type(module).__name__
    counts = {name: sum(by_operator.values()) for name, by_operator in counter.get_flop_counts().items()}
    inside = {name.removeprefix(root).removeprefix("."): flops for name, flops in counts.items() if name != "Global"}
    return inside | {"": counter.get_total_flops()}, module


@torch.no_grad()
def measure_seconds(config: DictConfig, *, height: int, width: int) -> Inside:
    """Seconds on the CPU for one degraded image, by random weights; one before has warmed up."""
    module = _make(config, {"compile": False}).eval()
    image = torch.rand(1, module.degraded_channels, height, width)
    module(image)
    inside: dict[str, float] = defaultdict(float)
    for name, part in module.named_modules():
        started: list[float] = []
        part.register_forward_pre_hook(lambda *_, started=started: started.append(time.perf_counter()))
        part.register_forward_hook(_add_to(inside, name, started))
    module(image)
    return inside


def by_part(module: nn.Module, inside: Inside) -> dict[str, float]:
    """What was counted in each part without the parts inside it; parts that differ by a number alone are one."""
    own: dict[str, float] = defaultdict(float)

    def total(name: str, part: nn.Module) -> float:
        children = sum(total(f"{name}.{child}".removeprefix("."), each) for child, each in part.named_children())
        # A list of modules is not called itself.
        here = inside.get(name, children)
        own[part_name(name)] += here - children
        return here

    total("", module)
    return own


def parameters_by_part(module: nn.Module) -> dict[str, int]:
    """Parameters of each part itself."""
    own: dict[str, int] = defaultdict(int)
    for name, part in module.named_modules():
        own[part_name(name)] += sum(parameter.numel() for parameter in part.parameters(recurse=False))
    return own


def part_name(module: str) -> str:
    """Name of a module without numbers: ``backbone.layout.stages.conv`` of all stages."""
    return ".".join(word for word in module.split(".") if not word.isdigit()).removeprefix("network").strip(".")


def _make(config: DictConfig, changes: Mapping[str, Any]) -> Restoration:
    section = config.module
    known = {key: value for key, value in changes.items() if key in section.backbone}
    if section["_target_"] != _TRAINED:
        return instantiate(section, backbone=known, loss=None, optim=None)
    # Without what trains: Lightning alone takes longer to import than torch.
    return Restoration(
        backbone=instantiate(section.backbone, **known),
        degradation=instantiate(section.degradation),
        head=instantiate(section.head),
        self_ensemble=section.self_ensemble,
    )


def _add_to(inside: dict[str, float], name: str, started: list[float]) -> Any:
    def end(part: nn.Module, inputs: Any, output: Tensor) -> None:
        inside[name] += time.perf_counter() - started.pop()

    return end
