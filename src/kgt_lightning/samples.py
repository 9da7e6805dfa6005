"""Samples of photographs: random patches to train on, whole images to test on, and which process takes which.

Everything random about training sample i, its photograph, crop, flips and degradation, is drawn from a generator seeded
by (seed, i). The samples of a step therefore do not depend on workers, processes, or on whether the run was resumed.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from kgt_lightning.images import modcrop
from kgt_lightning.photographs import Photograph, PixelCache


class Degradation(Protocol):
    """What happened to the clean image; picklable, and without a memory."""

    @property
    def scale(self) -> int:
        """How many times smaller the degraded image is."""
        ...

    def __call__(self, clean: Tensor, rng: np.random.Generator) -> Tensor:
        """Degraded image [C, H/scale, W/scale] of a clean one [C, H, W] in [0, 1]; all chance comes from ``rng``."""
        ...

    def test_settings(self) -> Mapping[str, Callable[[Tensor], Tensor]]:
        """Settings to test, by name such as ``sigma=25``: degraded image of a clean one, the same at every call."""
        ...


class Sample(NamedTuple):
    """One image to validate or test on, or a batch of one."""

    degraded: Tensor
    clean: Tensor
    position: int
    """In the data set: an image that several processes were given is counted once."""
    name: str


@dataclass(frozen=True, kw_only=True)
class Patches(Dataset[tuple[Tensor, Tensor]]):
    """Endless training samples: the i-th is a (degraded, clean) pair of random patches, the same whenever asked for."""

    cache: PixelCache
    degradation: Degradation
    patch: int
    """Side of the clean patch in pixels; smaller photographs are mirrored at their edges."""
    seed: int

    def __getitem__(self, sample: int) -> tuple[Tensor, Tensor]:
        """Degraded [C, patch/scale, patch/scale] and clean [C, patch, patch]."""
        rng = np.random.Generator(np.random.Philox(key=[self.seed, sample]))
        pixels = self.cache[int(rng.integers(len(self.cache)))]
        missing = [max(self.patch - side, 0) for side in pixels.shape[:2]]
        if any(missing):
            pixels = np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")
        top, left = (int(rng.integers(side - self.patch + 1)) for side in pixels.shape[:2])
        crop = pixels[top : top + self.patch, left : left + self.patch]
        # The eight ways to lay a square patch.
        if rng.random() < 0.5:
            crop = crop[::-1]
        if rng.random() < 0.5:
            crop = crop[:, ::-1]
        if rng.random() < 0.5:
            crop = crop.swapaxes(0, 1)
        clean = torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1))).float() / 255
        return self.degradation(clean, rng), clean


@dataclass(frozen=True, kw_only=True)
class WholeImages(Dataset[Sample]):
    """The photographs of a set, or their central parts, each with its degraded image, the same at every call."""

    photographs: tuple[Photograph, ...]
    degrade: Callable[[Tensor], Tensor]
    """Makes the degraded image where the set does not give it."""
    scale: int
    largest: int | None = None
    """Side in pixels that the central part may have."""

    def __len__(self) -> int:
        return len(self.photographs)

    def __getitem__(self, index: int) -> Sample:
        """Degraded and clean image; the clean one is cropped at bottom and right to a multiple of the scale.

        Raises:
            ValueError: if the degraded image that the set gives is not smaller by the scale.

        """
        photograph = self.photographs[index]
        clean = modcrop(photograph.read(), self.scale).contiguous()
        degraded = None if photograph.read_degraded is None else photograph.read_degraded()
        expected = tuple(side // self.scale for side in clean.shape[-2:])
        if degraded is not None and degraded.shape[-2:] != expected:
            height, width = degraded.shape[-2:]
            raise ValueError(
                f"{photograph.name}: its degraded image has {height} x {width} pixels,"
                f" {expected[0]} x {expected[1]} are expected at scale={self.scale}: replace or remove it"
            )
        if self.largest is not None:
            # In pixels of the degraded image, so that both are cropped alike.
            side = self.largest // self.scale
            top, left = (max(each - side, 0) // 2 for each in expected)
            clean = _part(clean, top * self.scale, left * self.scale, side * self.scale)
            degraded = None if degraded is None else _part(degraded, top, left, side)
        return Sample(self.degrade(clean) if degraded is None else degraded, clean, index, photograph.name)


class StepSampler(Sampler[list[int]]):
    """The batches of one process: step by step, from the first step that is still to do.

    Of the global batch of every step each process takes its own part; numbers go on where the last step ended.
    """

    def __init__(self, *, batch_size: int, first: int, total: int, rank: int, processes: int) -> None:
        self.batch_size = batch_size
        self.first = first
        self.total = total
        self.rank = rank
        self.processes = processes

    def __iter__(self) -> Iterator[list[int]]:
        for batch in range(self.first, self.total):
            start = (batch * self.processes + self.rank) * self.batch_size
            yield list(range(start, start + self.batch_size))

    def __len__(self) -> int:
        # All batches of the run, also after a resume: Lightning counts on from the ones already done.
        return self.total


def _part(image: Tensor, top: int, left: int, side: int) -> Tensor:
    return image[:, top : top + side, left : left + side].contiguous()
