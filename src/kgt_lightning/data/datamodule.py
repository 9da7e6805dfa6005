"""From folders of images to batches of (degraded, clean), the same for every task."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal

import lightning
import torch
from annotated_types import Interval, MinLen
from torch import Tensor
from torch.utils.data import DataLoader

from kgt_lightning.config.errors import check_entry
from kgt_lightning.config.types import Count, FilePath, MetricProtocol, NotNegative, Seed, Share, Size
from kgt_lightning.data.catalogue import read_catalogue
from kgt_lightning.data.datasets import Patches, Sample, StepSampler, TestSet, WholeImages, batch_of_one, ignore_signals
from kgt_lightning.data.image_sets import ImageEntry, ImageSet, folder_set, image_set, version
from kgt_lightning.data.named_sets import bundled_instead, held_out, named_sets, without
from kgt_lightning.data.pairs import named_pairs
from kgt_lightning.degradations.degradation import Degradation, check_degradation
from kgt_lightning.images.color import gray, luma
from kgt_lightning.images.files import read_shape
from kgt_lightning.images.formats import list_images
from kgt_lightning.system.files import user_path

log = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False)
class RestorationData(lightning.LightningDataModule):
    """Loaders of a task: endless random patches to train on, whole images to validate and test on.

    Raises:
        ValueError: if a folder is missing or empty, or the patch is no multiple of the degradation's scale.

    """

    degradation: Degradation
    """Makes the degraded images of sets that bring none."""
    root: FilePath | None
    """Folder that holds the image sets; None takes the images that ship with scikit-image and scikit-learn."""
    degraded: FilePath | None
    """Folder of the user's own degraded images, partners of those in ``clean``; they take the place of ``train``."""
    clean: FilePath | None
    """Folder of clean images of the same names, or of those that ``pair_names`` tells."""
    pair_names: str = "%"  # as in checkpoints of before there was a choice
    """Names of the degraded images, without suffix: % is the name of the clean one, * any text."""
    train: Annotated[Sequence[str], MinLen(1)] | None
    """Names of the folders below root to train on; None trains on nothing, for evaluation."""
    exclude: Sequence[str] = ()  # as in checkpoints of before there was a choice
    """Photographs of the training folders to leave out, such as BSD400/302003.jpg: they are in a test set too."""
    test: Annotated[Sequence[str], MinLen(1)] | None
    """Names of the folders below root to test on; None takes own pairs, of those only what training holds out, or the
    usual sets."""
    default_test: Mapping[int, Sequence[str]]
    """Names of the folders that results are usually given for, by the number of channels."""
    channels: Literal[3, 1]
    """Of the clean images: 3 for colour, 1 for gray."""
    repeat_gray: bool
    """Whether gray files in a colour set are read as three equal channels, instead of being refused."""
    test_gray: Literal["gray", "luma"]
    """How colour files of test sets become gray: full-range, or as MATLAB's Y, rounded to 8 bits."""
    patch: Annotated[int, Interval(ge=1, le=2**12)]
    """Side of the clean training patches in pixels."""
    min_detail: NotNegative = 0  # as in checkpoints of before there was a choice
    """Training patches that are flatter are drawn anew, see :class:`Patches`; 0 takes every patch."""
    flat: Share = 0  # as in checkpoints of before there was a choice
    """Share of the training patches, from 0 to 1, that are even colours instead of parts of photographs."""
    batch_size: Size
    """Patches of one step, over all devices and accumulated batches."""
    workers: Annotated[int, Interval(ge=0, le=1024)]
    """Processes that prepare batches; 0 prepares them in the training process."""
    seed: Seed
    """Of everything random in training."""
    validation_images: Count
    """Images of the training folders kept for validation, at most an eighth of them."""
    validation_size: Size
    """Side in pixels of the central part of them that is used; smaller images are taken whole."""
    cache_dir: FilePath
    """Where decoded images are kept between runs."""
    protocol: MetricProtocol
    """Family of papers whose way to crop and degrade test images is followed."""
    modulo: Mapping[MetricProtocol, Count]
    """Clean test images are cropped, top left, to multiples of this under each protocol."""

    def __post_init__(self) -> None:
        super().__init__()
        check_degradation(self.degradation)
        if self.channels not in self.degradation.clean_channels:
            known = " or ".join(map(str, self.degradation.clean_channels))
            kind = type(self.degradation).__name__
            raise ValueError(f"data.channels={self.channels} must be {known}: {kind} takes no other images")
        check_entry(self.modulo, self.protocol, name="data.modulo")
        if self.test is None and self.degraded is None:
            check_entry(self.default_test, self.channels, name="data.default_test")
        if self.patch % self.degradation.scale:
            raise ValueError(f"data.patch={self.patch} must be a multiple of scale={self.degradation.scale}")
        if self.validation_size < self.degradation.scale:
            raise ValueError(f"data.validation_size={self.validation_size} must be at least {self.degradation.scale}")
        if (self.degraded is None) != (self.clean is None):
            missing = "degraded" if self.degraded is None else "clean"
            raise ValueError(f"data.{missing} is not given: pairs need data.degraded=<folder> data.clean=<folder>")

    @property
    def degraded_channels(self) -> int:
        """Of the degraded images."""
        return self.degradation.channels or self.channels

    @property
    def test_rules(self) -> str:
        """How test images are cropped and degraded under the protocol, for tables; empty where nothing is special.

        Of the user's own pairs nothing is degraded by the protocol.
        """
        modulo = self.modulo[self.protocol]
        cropped = f"cropped to multiples of {modulo}" if modulo > 1 else ""
        luma_taken = self.test_gray == "luma" and self.channels == 1 and self.root is not None
        own = self.user_pairs is not None and self.test is None
        degraded = "degraded images as given" if own else self.degradation.rules
        return ", ".join(filter(None, [cropped, "MATLAB's Y of colour files" * luma_taken, degraded]))

    @property
    def prepare_test(self) -> Callable[[Tensor], Tensor]:
        """Picklable; applied to both images of given test pairs as they are read, here leaving them unchanged."""
        return torch.nn.Identity()

    def images_in(self, folder: Path, *, training: bool) -> ImageSet:
        """Images of a set to train or to test on.

        A task overrides it if its sets have a layout of their own, give degraded images, or are read in another way for
        training than for tests.
        """
        to_gray = luma if self.test_gray == "luma" and not training else gray
        return image_set(folder, channels=self.channels, repeat_gray=self.repeat_gray, to_gray=to_gray)

    def degraded_in(self, folder: Path) -> ImageSet:
        """Degraded images in a folder.

        Raises:
            ValueError: if one has other channels than the degradation makes.

        """
        made = self.degradation.channels
        for path in list_images(folder) if made else ():
            if (found := read_shape(path)[0]) != made:
                raise ValueError(
                    f"{path} has {found} channels, degraded images of this task have {made}: save what was measured"
                )
        return folder_set(folder, channels=self.degraded_channels, repeat_gray=self.repeat_gray)

    @cached_property
    def user_pairs(self) -> ImageSet | None:
        """The user's own pairs of a degraded and a clean image, matched by name."""
        if self.degraded is None or self.clean is None:
            return None
        degraded, clean = (user_path(each) for each in (self.degraded, self.clean))
        whole = folder_set(clean, channels=self.channels, repeat_gray=self.repeat_gray)
        return named_pairs(self.degraded_in(degraded), whole, names=self.pair_names)

    @cached_property
    def train_and_validation(self) -> tuple[tuple[ImageEntry, ...], tuple[ImageEntry, ...]]:
        """Images to train on and those held out for validation."""
        if self.user_pairs:
            sets, where = [self.user_pairs], f"data.degraded={self.degraded}"
        else:
            if self.train is None:
                raise ValueError("data.train=null leaves nothing to train on: name folders below data_root")
            sets, where = self._sets("train", self.train), f"data.train={list(self.train)} below data_root={self.root}"
        entries = without([entry for each in sets for entry in each.entries], self.exclude)
        return held_out(entries, number=self.validation_images, where=where)

    @cached_property
    def test_sets(self) -> dict[TestSet, WholeImages]:
        """Every test set in every setting."""
        if self.user_pairs and self.test is None:
            pairs = self.user_pairs.entries
            if self.train is not None:
                pairs = self.train_and_validation[1]
                log.info("testing on the pairs that are held out for validation too: data.test names other sets")
            return {TestSet(self.user_pairs.name, self.degradation.given_setting): self._whole(pairs)}
        sets = self._sets("test", self.test or self.default_test[self.channels])
        found = {}
        if twice := [each.name for each, another in combinations(sets, 2) if each.name == another.name]:
            raise ValueError(f"data.test names two sets called {twice[0]}: rename the folder of one")
        for each in sets:
            given = all(entry.degraded is not None for entry in each.entries)
            settings = {self.degradation.given_setting: None} if given else self.degradation.test_settings()
            for setting, degrade in settings.items():
                found[TestSet(each.name, setting)] = self._whole(each.entries, degrade=degrade)
        return found

    @cached_property
    def test_versions(self) -> dict[TestSet, str]:
        """Which version of each test set is there, by a look at every image; raises as :meth:`scan`."""
        sets = {test_set: images.entries for test_set, images in self.test_sets.items()}
        versions = {each: version(each, scale=self.degradation.scale) for each in dict.fromkeys(sets.values())}
        return {test_set: versions[entries] for test_set, entries in sets.items()}

    def scan(self) -> None:
        """Look at all folders and test images, so that what is wrong is named before the training and not after it.

        Raises:
            ValueError: naming the folder or the file, and the fix.

        """
        _ = self.train_and_validation, self.test_versions

    def train_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        """Batches of (degraded, clean) patches from the step at which the trainer stands to its last."""
        trainer = self._trainer()
        train, kept = self.train_and_validation
        log.info("training on %d images, validating on %s", len(train), ", ".join(each.name for each in kept))
        accumulated, processes = trainer.accumulate_grad_batches, trainer.world_size
        if self.batch_size % (accumulated * processes):
            raise ValueError(
                f"data.batch_size={self.batch_size} must be a multiple of {processes} devices x"
                f" trainer.accumulate_grad_batches={accumulated}: it is shared among them"
            )
        sampler = StepSampler(
            batch_size=self.batch_size // (accumulated * processes),
            first=trainer.global_step * accumulated,
            total=trainer.max_steps * accumulated,
            rank=trainer.global_rank,
            processes=processes,
        )
        patches = Patches(
            entries=train,
            degradation=self.degradation,
            channels=self.channels,
            patch=self.patch,
            grid=self.degradation.grid,
            min_detail=self.min_detail,
            flat=self.flat,
            seed=self.seed,
            cache_dir=user_path(self.cache_dir),
        )
        return DataLoader(patches, batch_sampler=sampler, **self._loading())

    def val_dataloader(self) -> DataLoader[Sample]:
        """Central parts of the held-out images in the first test setting, one at a time."""
        _, kept = self.train_and_validation
        degrade = next(iter(self.degradation.test_settings().values()))
        if self.validation_size > max(largest := max((each.clean.shape()[1:] for each in kept), key=max)):
            said = "data.validation_size=%d is more than %d x %d, the largest of validation: all are taken whole"
            log.info(said, self.validation_size, *largest)
        return self._one_by_one(self._whole(kept, degrade=degrade, largest=self.validation_size))

    def test_dataloader(self) -> list[DataLoader[Sample]]:
        """Whole images of every test set in every setting, one at a time."""
        return [self._one_by_one(images) for images in self.test_sets.values()]

    def _whole(
        self,
        entries: tuple[ImageEntry, ...],
        *,
        degrade: Callable[[Tensor, str], Tensor] | None = None,
        largest: int | None = None,
    ) -> WholeImages:
        return WholeImages(
            entries=entries,
            degrade=degrade,
            scale=self.degradation.scale,
            modulo=self.modulo[self.protocol],
            grid=self.degradation.grid,
            prepare=self.prepare_test,
            largest=largest,
        )

    def _sets(self, key: str, names: Sequence[str]) -> list[ImageSet]:
        if self.root:
            return named_sets(names, root=self.root, key=key, read=partial(self.images_in, training=key == "train"))
        usual = {*read_catalogue(), *(name for test in self.default_test.values() for name in test)}
        asked = key == "test" and self.test is not None
        return [bundled_instead(names, key=key, usual=() if asked else usual, channels=self.channels)]

    def _one_by_one(self, images: WholeImages) -> DataLoader[Sample]:
        trainer = self._trainer()
        # Every process takes as many, or those that share weights wait for ever; one given twice is counted once.
        rounds = math.ceil(len(images) / trainer.world_size)
        given = range(trainer.global_rank, rounds * trainer.world_size, trainer.world_size)
        own = [position % len(images) for position in given]
        return DataLoader(images, sampler=own, batch_size=1, collate_fn=batch_of_one, **self._loading())

    def _loading(self) -> dict[str, Any]:
        return {
            "num_workers": self.workers,
            "persistent_workers": self.workers > 0,
            "pin_memory": torch.cuda.is_available(),
            "worker_init_fn": ignore_signals,
        }

    def _trainer(self) -> lightning.Trainer:
        assert self.trainer is not None, "loaders are made by a Trainer"
        return self.trainer
