"""Models as plain modules: those that the package brings, folders of one's own, and those on the Hugging Face Hub."""

import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from hashlib import sha256 as digest_of
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from kgt_lightning import __version__
from kgt_lightning.models import NAMES, ModelInfo, model_file, model_info
from kgt_lightning.runs import hub
from kgt_lightning.runs.card import folder_card
from kgt_lightning.runs.checkpoint import Checkpoint, load_checkpoint
from kgt_lightning.runs.weights import portable, weights_content
from kgt_lightning.system.files import sha256, user_path, write_atomic
from kgt_lightning.training.module import RestorationModule


class Pretrained(nn.Module):
    """Restored images [B, channels, H*scale, W*scale] in [0, 1] of degraded ones [B, degraded_channels, H, W]."""

    def __init__(self, *, checkpoint: Checkpoint, restorer: RestorationModule, info: ModelInfo) -> None:
        super().__init__()
        self.checkpoint = checkpoint
        self.restorer = restorer
        self.info = info

    def forward(self, degraded: Tensor) -> Tensor:
        """Restored images; gradients flow where the caller allows them.

        Raises:
            ValueError: if the images have another number of channels.

        """
        if degraded.ndim != 4 or degraded.shape[1] != self.info.degraded_channels:
            raise ValueError(
                f"images have shape {list(degraded.shape)}; {self.info.name} takes"
                f" [B, {self.info.degraded_channels}, H, W] with values in 0..1"
            )
        return self.restorer(degraded).clamp(*self.info.range)

    def files(self) -> dict[str, bytes]:
        """Content of the files of a folder that :func:`from_pretrained` loads, by name.

        ``model.safetensors`` holds the weights as they are now and the configuration, ``config.json`` what a program
        has to know, ``README.md`` the card, with scores where this is a model of the package, unchanged.
        """
        state = {key: value.detach().cpu() for key, value in self.restorer.state_dict().items()}
        whole: Any = OmegaConf.to_container(self.checkpoint.config)
        config = portable(whole)
        weights = weights_content(state=state, config=whole, step=self.checkpoint.step)
        info = replace(self.info, sha256=digest_of(weights).hexdigest())
        kept = {section: config[section] for section in ("task", "model", "degradation")}
        known = None
        if self._is_of_the_package(state, kept):
            shipped = json.loads(model_file(info.name).with_suffix(".json").read_text(encoding="utf-8"))
            known = {**shipped, "bytes": len(weights), "sha256": info.sha256}
        return {
            hub.WEIGHTS: weights,
            hub.INFO: (json.dumps(asdict(info), indent=2) + "\n").encode(),
            hub.CARD: folder_card(info, kept, step=self.checkpoint.step, known=known).encode(),
        }

    def save_pretrained(self, folder: str | Path) -> Path:
        """The folder, made where it is missing, into which :meth:`files` were written."""
        folder = user_path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.files().items():
            write_atomic(folder / name, content)
        return folder

    def push_to_hub(self, repo_id: str, *, private: bool = True, message: str = "Upload a model") -> str:
        """Address of the model on the Hugging Face Hub, as whoever is logged in there (``hf auth login``).

        Args:
            repo_id: name there, ``owner/name``; it is made where it is missing.
            private: whether only its owner sees it, if it is made.
            message: of the commit.

        Raises:
            ValueError: if it cannot be sent.

        """
        with tempfile.TemporaryDirectory() as folder:
            return hub.push(self.save_pretrained(folder), repo_id, private=private, message=message)

    def _is_of_the_package(self, state: dict[str, Tensor], config: dict[str, Any]) -> bool:
        """Whether what is known of the model of this name holds for these weights and settings."""
        if self.info.name not in NAMES:
            return False
        own = load_checkpoint(self.info.name)
        same = all(own.config[section] == value for section, value in config.items())
        return same and all(torch.equal(value, state[key].to(value.dtype)) for key, value in own.state.items())


def pretrained(name: str) -> Pretrained:
    """The model of this name, ready to use.

    Raises:
        ValueError: if the package brings no such model, or its file is not the one of its card.

    """
    info, file = model_info(name), model_file(name)
    if sha256(file) != info.sha256:
        raise ValueError(f"{file} is not the file of its card: it is damaged, install the package anew")
    checkpoint = load_checkpoint(name)
    return Pretrained(checkpoint=checkpoint, restorer=checkpoint.module(), info=info)


def from_pretrained(
    source: str | Path, *, download: bool = False, revision: str | None = None, trust: Sequence[str] = ()
) -> Pretrained:
    """The model in a folder that was exported, or of this name on the Hugging Face Hub, ready to use.

    Args:
        source: the folder, or ``owner/name`` on the Hub.
        download: whether it may be fetched from the Hub; otherwise only what was fetched before is looked at.
        revision: branch, tag or commit on the Hub.
        trust: packages besides this one whose classes its configuration may name: their code is run.

    Raises:
        ValueError: if it is not there, is damaged, or names classes of other packages.

    """
    folder = user_path(source)
    if not folder.is_dir():
        folder = hub.fetch(str(source), download=download, revision=revision)
    weights, told = folder / hub.WEIGHTS, hub.read_info(folder)
    checkpoint = load_checkpoint(weights, trust=trust)
    if sha256(weights) != told["sha256"]:
        raise ValueError(f"{weights} is not the file of its card: it is damaged, copy it again")
    restorer = checkpoint.module()
    given = {key: told[key] for key in ("name", "version", "experimental")}
    info = replace(info_of(checkpoint, restorer, name=folder.name), **given)
    return Pretrained(checkpoint=checkpoint, restorer=restorer, info=info)


def info_of(checkpoint: Checkpoint, module: RestorationModule, *, name: str) -> ModelInfo:
    """What a program has to know to use the module of a checkpoint."""
    return ModelInfo(
        name=name,
        task=checkpoint.config.task,
        channels=module.network.backbone.channels,
        parameters=sum(weight.numel() for weight in module.parameters()),
        version=__version__,
        sha256=sha256(checkpoint.path),
        experimental=False,
        **sizes(module),
    )


def sizes(module: RestorationModule) -> dict[str, Any]:
    """What a program has to know to give the module its images: those fields of :class:`ModelInfo`."""
    multiple = math.lcm(module.network.backbone.multiple, module.grid)
    return {
        "scale": module.network.scale,
        "degraded_channels": module.degraded_channels,
        "multiple": multiple,
        "tile": max(256 - 256 % multiple, multiple),
        "range": (0.0, 1.0),
    }
