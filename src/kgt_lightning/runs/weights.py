"""Weights without anything to execute: a safetensors file that holds the configuration of the run as well."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

ENTRY = "kgt_lightning"
"""Of the metadata of the file, that holds configuration and step as JSON."""
LOCAL = {"root": None, "degraded": None, "clean": None, "cache_dir": "outputs/cache"}
"""Settings of the data that say where things lie on one machine, and what a file says instead."""


def weights_content(*, state: Mapping[str, Tensor], config: Mapping[str, Any], step: int) -> bytes:
    """Content of a file of weights, configuration and step of a run; the same ones give the same bytes.

    Args:
        state: weights of the module.
        config: whole resolved configuration; what only names places on this machine is left out.
        step: training steps that were done.

    """
    # One entry: safetensors writes several in an order that changes from run to run.
    metadata = {ENTRY: json.dumps({"config": portable(config), "step": step}, sort_keys=True)}
    return save({key: value.contiguous() for key, value in sorted(state.items())}, metadata=metadata)


def portable(config: Mapping[str, Any]) -> dict[str, Any]:
    """Sections of a run's configuration that a model needs, without what only names places on this machine."""
    kept = {
        key: config[key]
        for key in ("task", "protocol", "model", "degradation", "module", "data", "optim")
        if key in config
    }
    kept["data"] = {key: LOCAL.get(key, value) for key, value in kept["data"].items()}
    cleaned: dict[str, Any] = _without_root(kept, config["data"].get("root"))
    return cleaned


def _without_root(node: Any, root: str | None) -> Any:
    """The configuration without the folder of image sets, which a degradation may name too, also before files."""
    if isinstance(node, Mapping):
        return {key: None if key == "root" else _without_root(value, root) for key, value in node.items()}
    if isinstance(node, list):
        return [_without_root(value, root) for value in node]
    return node.removeprefix(f"{root}/") if root and isinstance(node, str) else node


def read_weights(file: Path) -> dict[str, Any]:
    """Content of a weights file under the names of a checkpoint: ``state_dict``, ``config`` and ``global_step``.

    Raises:
        ValueError: if it carries no configuration.

    """
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata() or {}
        if ENTRY not in metadata:
            raise ValueError("it carries no configuration of a run")
        state = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    run = json.loads(metadata[ENTRY], object_hook=_with_numbers)
    return {"state_dict": state, "config": run["config"], "global_step": run["step"]}


def _with_numbers(mapping: dict[str, Any]) -> dict[str | int, Any]:
    """The mapping with its numbers as keys again, such as of channels: JSON knows only texts."""
    return {int(key) if key.isdecimal() else key: value for key, value in mapping.items()}
