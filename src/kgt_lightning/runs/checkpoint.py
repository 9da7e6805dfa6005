"""From a checkpoint back to a module: weights only, and none but classes that are trusted."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kgt_lightning.config.errors import one_line
from kgt_lightning.config.schema import check_types
from kgt_lightning.model.growth import grow
from kgt_lightning.models import NAMES as MODEL_NAMES
from kgt_lightning.models import model_file, model_info
from kgt_lightning.runs.checkpoint_file import first_difference, read_content
from kgt_lightning.runs.trust import check_target, check_trust
from kgt_lightning.runs.upgrade import upgrade
from kgt_lightning.system.files import user_path
from kgt_lightning.training.module import RestorationModule

log = logging.getLogger(__name__)

INSTANTIATED = ("model", "degradation", "module", "data")
"""Sections of the configuration that objects are made from."""


MOVED = {
    "kgt_lightning.optim": "kgt_lightning.training.optim",
    "kgt_lightning.scoring": "kgt_lightning.metrics.scoring",
}
"""Modules that checkpoints of earlier versions name, and where their classes are now."""


COPIES = {"module.backbone": "model", "module.degradation": "degradation", "data.degradation": "degradation"}
"""Keys that hold another section."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What was saved in training."""

    path: Path
    config: DictConfig
    """The whole resolved configuration of the run."""
    state: dict[str, Any]
    """Weights of the module; the averaged ones where training kept an average."""
    step: int
    """Training steps that were done."""
    trust: Sequence[str] = ()
    """Packages besides this one whose classes its configuration may name."""

    def change(self, sections: Mapping[str, Any]) -> None:
        """Change settings of the run, for example {"model": {"k": 64}}.

        Raises:
            ValueError: if the checkpoint has no such setting, or the value is of the wrong type.

        """
        for section, values in sections.items():
            for key, value in values.items():
                if key not in self.config[section] or str(key).startswith("_"):
                    known = ", ".join(str(each) for each in self.config[section] if not str(each).startswith("_"))
                    raise ValueError(f"{section}.{key} is no setting of checkpoint={self.path}; it has {known}")
                if whole := COPIES.get(f"{section}.{key}"):
                    raise ValueError(
                        f"{section}.{key} of checkpoint={self.path} is what {whole} says: change {whole}.<key>"
                    )
                try:
                    OmegaConf.update(self.config, f"{section}.{key}", value)
                except OmegaConfBaseException as error:  # a mapping for a list in it
                    now = f"checkpoint={self.path}, {section}.{key}={self.config[section][key]}"
                    raise ValueError(f"{section}.{key}={value} is of another kind than in {now}") from error
        self.config.module.backbone = self.config.model
        self.config.module.degradation = self.config.data.degradation = self.config.degradation
        with self._named():
            check_types(OmegaConf.create({section: self.config[section] for section in INSTANTIATED}))

    def load_pretrained(self, module: RestorationModule) -> tuple[list[str], list[str]]:
        """Load the weights into the module of another run; say which parts keep their own, and which blocks it lacks.

        The head may be that of another scale, task or number of channels, and for another number of channels the stem
        too. Stages may have more layers or blocks, which begin as the identity. All other weights must be there and
        fit.

        Raises:
            ValueError: if the backbone is another one, naming the first weight that does not fit.

        """
        keep: list[str] = []
        added = grow(module, self.state.keys())
        blocks = tuple(f"{block}." for block in added)
        given: dict[str, Any] = {}
        channels = self.config.model.channels, module.network.backbone.channels
        # of a backbone without a stem all weights must fit
        may_differ = {"network.backbone.stem.": channels[0] != channels[1], "network.": False, "network.head.": True}

        def part_of(key: str) -> str | None:
            return max((part for part in may_differ if key.startswith(part)), key=len, default=None)

        for part, may in may_differ.items():
            there = {key: value for key, value in self.state.items() if part_of(key) == part}
            ours = {
                key: list(value.shape)
                for key, value in module.state_dict().items()
                if part_of(key) == part and not key.startswith(blocks)
            }
            theirs = {key: list(value.shape) for key, value in there.items()}
            if ours == theirs:
                given |= there
            elif may:
                keep.append(part.split(".")[-2])
            else:
                first = next(key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key))
                raise ValueError(f"{first} has shape {theirs.get(first)} there and {ours.get(first)} here")
        module.load_state_dict(given, strict=False)
        return keep, added

    def build(self, section: str) -> Any:
        """What a section of the configuration describes.

        Raises:
            ValueError: if it cannot be built, naming the file: others may have written anything there.

        """
        with self._named():
            return instantiate(self.config[section])

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise ValueError(f"checkpoint={self.path}: {one_line(error)}") from error

    def module(self) -> RestorationModule:
        """Build the module with its weights, ready to evaluate.

        Raises:
            ValueError: as :meth:`build`, or if the weights do not fit the configuration, because a setting that shapes
                them was changed.

        """
        module: RestorationModule = self.build("module")
        # a loss may have weights of its own
        state = {name: value for name, value in self.state.items() if not name.startswith("loss.")}
        if difference := first_difference(state, module.state_dict()):
            raise ValueError(
                f"checkpoint={self.path}: the weights do not fit the settings, leave those that shape them as they were"
                f" ({difference})"
            )
        module.load_state_dict(state)
        return module.eval()


def load_checkpoint(path: str | Path, *, trust: Sequence[str] = ()) -> Checkpoint:
    """Checkpoint at the path, whose module and data may be built; it may come from anyone.

    What only training needs is left out of ``config.module``: loss and optimiser are None, whatever they were.

    Args:
        path: of the file.
        trust: packages besides this one whose classes it may name.

    Raises:
        ValueError: as :func:`read_checkpoint`, or if its configuration names what is no class of these packages.

    """
    check_trust(trust)
    checkpoint = read_checkpoint(path)
    checkpoint.config.module.update({"loss": None, "optim": None})
    for name, value in _leaves({section: checkpoint.config[section] for section in INSTANTIATED}):
        if name == "_target_":
            check_target(str(value), where=f"checkpoint={path}", trust=trust)
    return replace(checkpoint, trust=tuple(trust))


def read_checkpoint(path: str | Path, *, key: str = "checkpoint") -> Checkpoint:
    """Checkpoint at the path, on the CPU; nothing in it is executed, and none of its classes is imported.

    For its weights and settings. Objects are made from what :func:`load_checkpoint` gives.

    Args:
        path: of the file, or the name of a model that the package brings.
        key: that names it in the configuration, for errors.

    Raises:
        ValueError: if the file is missing, damaged, or carries no configuration that is resolved.

    """
    if (name := str(path)) in MODEL_NAMES:
        path = model_file(name)
        if model_info(name).experimental:
            log.warning("%s is experimental: better than its input in its tests, none to rely on", name)
    path = user_path(path)
    if not path.is_file():
        raise ValueError(
            f"{key}={path} does not exist: name a .ckpt file, as below outputs/<task>/<run>/checkpoints, or one of the"
            f" package's own models: {', '.join(MODEL_NAMES)}"
        )
    content = read_content(path, where=f"{key}={path}")
    config = content["config"]
    config = upgrade({name: _with_new_names(value) for name, value in config.items()})
    if "degradation" not in config:
        raise ValueError(f"{key}={path} carries no degradation: its task is of an earlier version that is not known")
    for name, value in _leaves({section: config[section] for section in INSTANTIATED}):
        # It was resolved when it was saved; what would be looked up now could become a target.
        if isinstance(value, str) and "${" in value:
            raise ValueError(f"{key}={path} holds {name}={value}, which is to be looked up: it is not loaded")
    return Checkpoint(
        path=path, config=OmegaConf.create(config), state=content["state_dict"], step=content["global_step"]
    )


def _with_new_names(node: Any) -> Any:
    """The configuration with the classes of :data:`MOVED` under their present names."""
    if isinstance(node, Mapping):
        return {key: _new_name(value) if key == "_target_" else _with_new_names(value) for key, value in node.items()}
    return [_with_new_names(value) for value in node] if isinstance(node, list) else node


def _new_name(target: Any) -> Any:
    module_name, _, name = str(target).rpartition(".")
    return f"{MOVED[module_name]}.{name}" if module_name in MOVED else target


def _leaves(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value in the configuration that is no mapping or list, and its key."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from _leaves(value, str(name))
    elif isinstance(node, list | tuple | ListConfig):
        for value in node:
            yield from _leaves(value, key)
    else:
        yield key, node
