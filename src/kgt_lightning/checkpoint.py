"""From a checkpoint back to a module: weights only, and none but our own classes."""

import inspect
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from kgt_lightning.restoration import RestorationModule

PACKAGE = "kgt_lightning"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What was saved in training."""

    path: Path
    config: DictConfig
    """The whole resolved configuration of the run."""
    state: dict[str, Any]
    """Weights of the module; the averaged ones where training kept an average."""

    def change(self, sections: Mapping[str, Any]) -> None:
        """Change settings of the run, for example {"model": {"k": 64}}.

        Raises:
            ValueError: if the checkpoint has no such setting.

        """
        for section, values in sections.items():
            for key, value in values.items():
                if key not in self.config[section]:
                    known = ", ".join(str(each) for each in self.config[section] if not str(each).startswith("_"))
                    raise ValueError(f"{section}.{key} is no setting of checkpoint={self.path}; it has {known}")
                OmegaConf.update(self.config, f"{section}.{key}", value)
        self.config.module.backbone = self.config.model

    def module(self) -> RestorationModule:
        """Build the module with its weights, ready to evaluate."""
        module: RestorationModule = instantiate(self.config.module)
        module.load_state_dict(self.state)
        return module.eval()


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Checkpoint at the path, on the CPU; nothing in it is executed.

    Raises:
        ValueError: if the file is missing, damaged, carries no configuration, or its configuration names a class
            outside this package.

    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise ValueError(
            f"checkpoint={path} does not exist: name a .ckpt file, as below outputs/<task>/<run>/checkpoints"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"checkpoint={path} cannot be read, it is damaged or no checkpoint ({reason})") from error
    if not isinstance(content, dict) or not {"config", "state_dict"} <= content.keys():
        raise ValueError(f"checkpoint={path} carries no configuration: it was not written by {PACKAGE}.train")
    for target in _targets(content["config"]["module"]):
        _check_target(target, path)
    return Checkpoint(path=path, config=DictConfig(content["config"]), state=content["state_dict"])


def _targets(node: Any) -> Iterator[str]:
    """Every ``_target_`` in the configuration."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == "_target_":
                yield str(value)
            yield from _targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from _targets(value)


def _check_target(target: str, path: Path) -> None:
    """Only classes that this package defines may be named: a checkpoint may come from anyone."""
    module_name, _, name = target.rpartition(".")
    inside = module_name == PACKAGE or module_name.startswith(f"{PACKAGE}.")
    try:
        found = getattr(import_module(module_name), name) if inside else None
    except (ImportError, AttributeError):
        found = None
    if not inspect.isclass(found) or not found.__module__.startswith(f"{PACKAGE}."):
        raise ValueError(f"checkpoint={path} names {target}, which is no class of {PACKAGE}: it is not loaded")
