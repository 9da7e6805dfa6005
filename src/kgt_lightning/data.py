"""From folders of photographs to batches of (degraded, clean), the same for every task."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from kgt_lightning.photographs import (
    BUNDLED_TEST,
    BUNDLED_TRAIN,
    Photograph,
    PhotographSet,
    PixelCache,
    bundled_set,
    folder_set,
)
from kgt_lightning.samples import Degradation, Patches, Sample, StepSampler, WholeImages

log = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False)
class RestorationData(lightning.LightningDataModule, ABC):
    """Loaders of a task: endless random patches to train on, whole images to validate and test on.

    Raises:
        ValueError: if a folder is missing or empty, or the patch is no multiple of the degradation's scale.

    """

    root: str | None
    """Folder that holds the image sets; None takes the photographs that ship with scikit-image and scikit-learn."""
    train: Sequence[str]
    """Names of the folders below root to train on."""
    test: Sequence[str] | None
    """Names of the folders below root to test on; None takes the usual ones."""
    usual_test: Mapping[int, Sequence[str]]
    """Names of the folders that results are usually given for, by the number of channels."""
    channels: int
    """3 for colour, 1 for gray."""
    patch: int
    """Side of the clean training patches in pixels."""
    batch_size: int
    """Patches of one step on each device."""
    workers: int
    """Processes that prepare batches; 0 prepares them in the training process."""
    seed: int
    """Of everything random in training."""
    validation_images: int
    """Photographs of the training folders kept for validation, at most an eighth of them."""
    validation_size: int
    """Side in pixels of the central part of them that is used."""
    cache_dir: str
    """Where decoded photographs are kept between runs."""

    def __post_init__(self) -> None:
        super().__init__()
        self.degradation = self.make_degradation()
        if self.channels not in (1, 3):
            raise ValueError(f"data.channels={self.channels} must be 3 (colour) or 1 (gray)")
        if self.patch < 1 or self.patch % self.degradation.scale:
            raise ValueError(f"data.patch={self.patch} must be a positive multiple of scale={self.degradation.scale}")
        at_least = {"batch_size": 1, "workers": 0, "validation_images": 1, "validation_size": self.degradation.scale}
        for name, least in at_least.items():
            if getattr(self, name) < least:
                raise ValueError(f"data.{name}={getattr(self, name)} must be at least {least}")

    @abstractmethod
    def make_degradation(self) -> Degradation:
        """Make what degrades the clean images of this task."""

    def photographs_in(self, folder: Path) -> PhotographSet:
        """Photographs of a set; a task overrides it if its sets have a layout of their own or give degraded images."""
        return folder_set(folder, channels=self.channels)

    @cached_property
    def train_and_validation(self) -> tuple[tuple[Photograph, ...], tuple[Photograph, ...]]:
        """Photographs to train on and those held out: evenly spaced over the sorted names, so that both are varied."""
        sets = self._sets("train", self.train, BUNDLED_TRAIN)
        photographs = [photograph for each in sets for photograph in each.photographs]
        if len(photographs) < 2:
            raise ValueError(
                f"data.train={list(self.train)} below data_root={self.root} holds one photograph: two are the least,"
                " one to train on and one to validate"
            )
        number = max(1, min(self.validation_images, len(photographs) // 8))
        kept = {len(photographs) * (2 * i + 1) // (2 * number) for i in range(number)}
        train = tuple(p for i, p in enumerate(photographs) if i not in kept)
        return train, tuple(p for i, p in enumerate(photographs) if i in kept)

    @cached_property
    def test_sets(self) -> dict[str, WholeImages]:
        """Every test set in every setting, by a name such as ``CBSD68 sigma=25``."""
        return {
            f"{each.name} {setting}": WholeImages(
                photographs=each.photographs, degrade=degrade, scale=self.degradation.scale
            )
            for each in self._sets("test", self.test or self.usual_test[self.channels], BUNDLED_TEST)
            for setting, degrade in self.degradation.test_settings().items()
        }

    def find_photographs(self) -> None:
        """Look at all folders, so that one that is missing is named before the training and not after it."""
        assert self.train_and_validation
        assert self.test_sets

    def train_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        """Batches of (degraded, clean) patches from the step at which the trainer stands to its last."""
        trainer = self._trainer()
        train, held_out = self.train_and_validation
        log.info("training on %d photographs, validating on %s", len(train), ", ".join(p.name for p in held_out))
        cache = PixelCache(train, channels=self.channels, folder=Path(self.cache_dir).expanduser())
        accumulated = trainer.accumulate_grad_batches
        sampler = StepSampler(
            batch_size=self.batch_size,
            first=trainer.global_step * accumulated,
            total=trainer.max_steps * accumulated,
            rank=trainer.global_rank,
            processes=trainer.world_size,
        )
        patches = Patches(cache=cache, degradation=self.degradation, patch=self.patch, seed=self.seed)
        return DataLoader(patches, batch_sampler=sampler, **self._loading())

    def val_dataloader(self) -> DataLoader[Sample]:
        """Central parts of the held-out photographs in the first test setting, one at a time."""
        _, held_out = self.train_and_validation
        degrade = next(iter(self.degradation.test_settings().values()))
        images = WholeImages(
            photographs=held_out, degrade=degrade, scale=self.degradation.scale, largest=self.validation_size
        )
        return self._one_by_one(images)

    def test_dataloader(self) -> list[DataLoader[Sample]]:
        """Whole images of every test set in every setting, one at a time."""
        return [self._one_by_one(images) for images in self.test_sets.values()]

    def _sets(self, key: str, names: Sequence[str], bundled: Sequence[str]) -> list[PhotographSet]:
        if not self.root:
            log.info("data_root is not set: %s takes photographs that ship with scikit-image and scikit-learn", key)
            return [bundled_set("bundled", bundled, channels=self.channels)]
        root = Path(self.root).expanduser()
        if not root.is_dir():
            raise ValueError(f"data_root={root} is no folder: name the folder that holds {', '.join(names)}")
        missing = [name for name in names if not (root / name).is_dir()]
        if missing:
            there = ", ".join(sorted(each.name for each in root.iterdir() if each.is_dir())) or "no folders"
            raise ValueError(
                f"data_root={root} lacks {', '.join(missing)}, it holds {there}: choose folders with data.{key}=[...]"
            )
        return [self.photographs_in(root / name) for name in names]

    def _one_by_one(self, images: WholeImages) -> DataLoader[Sample]:
        trainer = self._trainer()
        # Every process needs an image, or Lightning stops; one that several were given is counted once.
        given = range(trainer.global_rank, max(len(images), trainer.world_size), trainer.world_size)
        own = [position % len(images) for position in given]
        return DataLoader(images, sampler=own, batch_size=1, collate_fn=_single, **self._loading())

    def _loading(self) -> dict[str, Any]:
        return {
            "num_workers": self.workers,
            "persistent_workers": self.workers > 0,
            "pin_memory": torch.cuda.is_available(),
        }

    def _trainer(self) -> lightning.Trainer:
        assert self.trainer is not None, "loaders are made by a Trainer"
        return self.trainer


def _single(samples: list[Sample]) -> Sample:
    """Sample whose images carry a batch dimension of one."""
    [sample] = samples
    return sample._replace(degraded=sample.degraded[None], clean=sample.clean[None])
