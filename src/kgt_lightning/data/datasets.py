"""Samples of images: random patches to train on, whole images to test on, and which process takes which.

Everything random about training sample i, its image, crop, flips and degradation, is drawn from a generator seeded
by (seed, i). The samples of a step therefore do not depend on workers, processes, or on whether the run was resumed.
"""

import math
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from kgt_lightning.data.image_sets import ImageEntry
from kgt_lightning.data.pixel_cache import PixelCache
from kgt_lightning.degradations.degradation import Degradation
from kgt_lightning.images.color import modcrop


class Sample(NamedTuple):
    """One image to validate or test on, or a batch of one."""

    degraded: Tensor
    clean: Tensor
    position: int
    """In the data set: an image that several processes were given is counted once."""
    name: str


def batch_of_one(samples: list[Sample]) -> Sample:
    """Sample whose images carry a batch dimension of one."""
    [sample] = samples
    return sample._replace(degraded=sample.degraded[None], clean=sample.clean[None])


def ignore_signals(worker: int) -> None:
    """Ctrl+C reaches every process of a terminal; the training process decides when its workers end."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


@dataclass(frozen=True)
class TestSet:
    """A set of images and how they are degraded."""

    __test__: ClassVar[bool] = False  # no test case of pytest's

    name: str
    setting: str
    """Such as ``sigma=25``; ``given`` where the set brings its degraded images."""

    def __str__(self) -> str:
        return f"{self.name} {self.setting}"


class Patches(Dataset[tuple[Tensor, Tensor]]):
    """Endless training samples: the i-th is a (degraded, clean) pair of random patches, the same whenever asked for.

    Where a image comes with a degraded image, the patch is cut from both; elsewhere the clean patch is degraded.

    Args:
        images: to take patches from.
        degradation: of those that give no degraded image.
        channels: of the clean images; the cache is kept apart for each number.
        patch: side of the clean patch in pixels; smaller images are mirrored at their edges, which the log says.
        grid: patches of given degraded images begin at multiples of it. Above 1 they are not laid in other positions:
            a mosaic that is turned, or mirrored, has another pattern.
        min_detail: mean absolute step between neighbouring pixels in 8-bit values, below which a clean patch is drawn
            anew, at most 3 times: skies teach little. Patches with a degraded image of their own are all taken.
        flat: share of the patches, from 0 to 1, whose place :func:`flat_colours` takes: photographs hold no even and
            saturated colours, and a model that has never seen one tints it.
        seed: of everything random.
        cache_dir: where the decoded images are kept.

    Raises:
        ValueError: if a degraded image has not the size of the clean one divided by the scale, or would have to be
            mirrored although it has a grid.

    """

    REDRAWS = 3

    def __init__(
        self,
        *,
        entries: Sequence[ImageEntry],
        degradation: Degradation,
        channels: int,
        patch: int,
        grid: int,
        min_detail: float,
        flat: float,
        seed: int,
        cache_dir: Path,
    ) -> None:
        given = [each for each in entries if each.degraded is not None]
        for each in given:
            height, width = each.shapes(degradation.scale)[0][1:]
            if grid > 1 and min(height, width) < patch:
                raise ValueError(
                    f"{each.name} has {height} x {width} pixels, fewer than data.patch={patch}, and a mosaic is not"
                    " extended: choose a smaller patch, or remove it"
                )
        sources = [each.clean for each in entries] + [each.degraded for each in given if each.degraded]
        self.pixels = PixelCache(sources, channels=channels, folder=cache_dir)
        self.number = len(entries)
        self.pixels.check_patch(patch, number=self.number)
        places = iter(range(self.number, len(sources)))
        self.degraded_at = [None if each.degraded is None else next(places) for each in entries]
        self.degradable = [i for i, at in enumerate(self.degraded_at) if at is None]
        self.degradation = degradation
        self.patch = patch
        self.grid = grid
        self.min_detail = min_detail
        self.flat = flat
        self.seed = seed

    def __getitem__(self, sample: int) -> tuple[Tensor, Tensor]:
        """Degraded [C', patch/scale, patch/scale] and clean [C, patch, patch]."""
        rng = np.random.Generator(np.random.Philox(key=[self.seed, sample]))
        entry = int(rng.integers(self.number))
        clean, at = self.pixels[entry], self.degraded_at[entry]
        scale = self.degradation.scale
        if at is not None:
            # Both begin at a pixel of the degraded image.
            degraded = self.pixels[at]
            side, grid = self.patch // scale, self.grid
            top, left = (int(rng.integers(max(length - side, 0) // grid + 1)) * grid for length in degraded.shape[:2])
            turn = (rng.random(3) < 0.5) & (grid == 1)
            return (
                _dihedral(_square(degraded, top, left, side), turn),
                _dihedral(_square(clean, top * scale, left * scale, self.patch), turn),
            )
        top, left = self._corner(clean, rng)
        for _ in range(self.REDRAWS if self.min_detail else 0):
            if detail(_square(clean, top, left, self.patch)) >= self.min_detail:
                break
            clean = self.pixels[int(rng.choice(self.degradable))]
            top, left = self._corner(clean, rng)
        context = self.degradation.context
        square = _square(clean, top - context, left - context, self.patch + 2 * context)
        if self.flat and rng.random() < self.flat:
            square = flat_colours(rng, square.shape)
        around = _dihedral(square, rng.random(3) < 0.5)
        return _inner(self.degradation(around, rng), context // scale), _inner(around, context)

    def _corner(self, clean: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
        top, left = (int(rng.integers(max(length - self.patch, 0) + 1)) for length in clean.shape[:2])
        return top, left


def detail(pixels: np.ndarray) -> float:
    """Mean absolute step between neighbouring pixels [H, W, C], down and across, in their own unit.

    Every second column and row is looked at: enough to tell a sky from a wood.
    """
    steps = [np.diff(pixels[:, ::2].astype(np.int16), axis=0), np.diff(pixels[::2].astype(np.int16), axis=1)]
    return float(sum(np.abs(each).mean() for each in steps)) / 2


def flat_colours(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Pixels [H, W, C] in uint8 of one colour, or of two on either side of a straight edge.

    Each value of a colour is black or full in half of the cases: a corner of the colour cube is as likely as it is
    rare in photographs.
    """
    height, width, channels = shape
    inner, corners = rng.integers(256, size=(2, channels)), 255 * rng.integers(2, size=(2, channels))
    colours = np.where(rng.random((2, channels)) < 0.5, corners, inner).astype(np.uint8)
    angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-0.7, 0.7)
    down, across = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    beyond = (np.sin(angle) * down + np.cos(angle) * across > offset) & (rng.random() < 0.5)
    return colours[beyond.astype(int)]


def _square(pixels: np.ndarray, top: int, left: int, side: int) -> np.ndarray:
    """Part [side, side, C] of the pixels [H, W, C], mirrored where it reaches beyond an edge."""
    height, width = pixels.shape[:2]
    if min(top, left) >= 0 and top + side <= height and left + side <= width:
        return pixels[top : top + side, left : left + side]
    rows, columns = (
        np.minimum(place % (2 * length), 2 * length - 1 - place % (2 * length))
        for place, length in ((np.arange(top, top + side), height), (np.arange(left, left + side), width))
    )
    return pixels[rows[:, None], columns]


def _dihedral(pixels: np.ndarray, turn: np.ndarray) -> Tensor:
    """Image [C, S, S] in [0, 1] of the pixels [S, S, C], laid in one of the eight ways."""
    if turn[0]:
        pixels = pixels[::-1]
    if turn[1]:
        pixels = pixels[:, ::-1]
    if turn[2]:
        pixels = pixels.swapaxes(0, 1)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).float() / 255


def _inner(image: Tensor, border: int) -> Tensor:
    return image[:, border : image.shape[1] - border, border : image.shape[2] - border].contiguous()


@dataclass(frozen=True, kw_only=True)
class WholeImages(Dataset[Sample]):
    """The images of a set, or their central parts, each with its degraded image, the same at every call."""

    entries: tuple[ImageEntry, ...]
    degrade: Callable[[Tensor, str], Tensor] | None
    """Makes the degraded image of a clean one and its listed name, where the set does not give it."""
    scale: int
    modulo: int
    """The clean image is cropped, top left, to multiples of it and of the scale."""
    grid: int
    """Central parts of given degraded images begin at multiples of it."""
    prepare: Callable[[Tensor], Tensor]
    """Applied to both images of given pairs as they are read."""
    largest: int | None
    """Side in pixels that the central part may have."""

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Sample:
        """Degraded and clean image.

        Raises:
            ValueError: if the degraded image that the set gives is not smaller by the scale.

        """
        entry = self.entries[index]
        clean = entry.clean.read()
        if entry.degraded is not None:
            entry.shapes(self.scale)
            clean = self.prepare(clean)
        clean = modcrop(clean, math.lcm(self.scale, self.modulo)).contiguous()
        height, width = (side // self.scale for side in clean.shape[-2:])
        degraded = None
        if entry.degraded is not None:
            degraded = self.prepare(entry.degraded.read())[:, :height, :width].contiguous()
        if self.largest is not None:
            # In pixels of the degraded image, so that both are cropped alike; both begin at a multiple.
            grid = math.lcm(self.scale * self.grid, self.modulo) // self.scale
            side = max(self.largest // self.scale // grid, 1) * grid
            top, left = (max(each - side, 0) // (2 * grid) * grid for each in (height, width))
            clean = _part(clean, top * self.scale, left * self.scale, side * self.scale)
            degraded = None if degraded is None else _part(degraded, top, left, side)
        if degraded is None:
            assert self.degrade is not None, "the set gives no degraded image"
            degraded = self.degrade(clean, entry.listed)
        return Sample(degraded, clean, index, entry.name)


class StepSampler(Sampler[list[int]]):
    """The batches of one process: from the first that is still to do.

    Of every batch over all processes each takes its own part; numbers go on where the last batch ended. The samples of
    a step therefore do not depend on how many processes, or accumulated batches, share it.

    Args:
        batch_size: samples that one process takes at once.
        first: batch to begin with.
        total: batches of the whole run.
        rank: of this process.
        processes: of the run.

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
