"""Removal of adverse weather: rain with its veil, falling snow, drops on the lens."""

import math
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from kgt_lightning.data.datamodule import RestorationData
from kgt_lightning.data.image_sets import ImageSet
from kgt_lightning.data.pairs import pairs_in, part_in
from kgt_lightning.images.color import to_uint8

SUBFOLDERS = (("in", "gt"), ("input", "gt"), ("synthetic", "gt"), ("data", "gt"))
"""Of degraded and clean images: Outdoor-Rain, TransWeather's packages, Snow100K, RainDrop."""
LISTS = ("allweather.txt", "test1.txt", "snowtest100k_L.txt", "raindroptesta.txt")
"""Files of TransWeather that name the degraded images of a set."""


@dataclass(kw_only=True, eq=False)
class WeatherData(RestorationData):
    """Pairs of an image taken in adverse weather and a clean one.

    A set is a plain folder of clean images, to which the weather is added, or brings its own pairs as they are
    published: ``in`` or ``input`` (Outdoor-Rain, TransWeather's packages), ``synthetic`` (Snow100K) or ``data``
    (RainDrop) beside ``gt``. Partners have the same name, or im_0001_s80_a04 has im_0001, and 0_rain has 0_clean. Where
    one of TransWeather's lists lies in the folder, the set is what it names. The two may lie in ``train`` and ``test``,
    or ``test_a`` (RainDrop), of which training and tests take their own.

    Training patches of given pairs are flipped and turned as those of every task; TransWeather does neither.
    """

    resize_test: bool
    """Whether both images of given test pairs are resized as TransWeather does, see :func:`resize_to_16`."""

    @property
    def prepare_test(self) -> Callable[[Tensor], Tensor]:
        """The resizing of TransWeather's test, if it is asked for."""
        return resize_to_16 if self.resize_test else super().prepare_test

    @property
    def test_rules(self) -> str:
        """Says whether given pairs are resized."""
        resized = "given pairs resized to multiples of 16 of at most 1024 pixels" if self.resize_test else ""
        return ", ".join(filter(None, [super().test_rules, resized]))

    def images_in(self, folder: Path, *, training: bool) -> ImageSet:
        """Images of a set, with their degraded images if it gives them.

        Raises:
            ValueError: if images lack a partner, or a list names an image that is not there.

        """
        part = _part(folder, training=training)
        pairs = pairs_in(
            part,
            names=SUBFOLDERS,
            channels=self.channels,
            degraded_channels=self.degraded_channels,
            repeat_gray=self.repeat_gray,
            partner=partial(clean_name, there={path.stem for path in part.rglob("gt/*")}),
        )
        if pairs is None:
            return super().images_in(folder, training=training)
        lists = [part / name for name in LISTS if (part / name).is_file()]
        if len(lists) > 1:
            raise ValueError(
                f"{part} holds {' and '.join(each.name for each in lists)}: keep one, or move each into the folder"
                " of its own set"
            )
        return replace(listed(pairs, lists[0]) if lists else pairs, name=folder.name)


def _part(folder: Path, *, training: bool) -> Path:
    """Part of a set to train or to test on; of RainDrop's tests the one that all papers report."""
    aligned = folder / "test_a"
    return aligned if aligned.is_dir() and not training else part_in(folder, training=training)


def clean_name(degraded: str, *, there: Collection[str]) -> str:
    """Name of the clean image of a degraded one, by the names of Outdoor-Rain and RainDrop.

    im_0001_s80_a04 has im_0001 and 0_rain has 0_clean, where no clean image among those that are there has the name of
    the degraded one.
    """
    path = PurePosixPath(degraded)
    if path.name in there:
        return degraded
    name = re.sub(r"_s\d+_a\d+$", "", path.name)
    return path.with_name(re.sub(r"_rain$", "_clean", name)).as_posix()


def listed(pairs: ImageSet, file: Path) -> ImageSet:
    """Those of the pairs that a list file of TransWeather names, in its order.

    Each line names a degraded image, such as ``input/0_rain.png``, below the folder of the list or the one above it.

    Raises:
        ValueError: if one is not among the pairs, or none is named.

    """
    lines = [line.strip().lstrip("/") for line in file.read_text().splitlines()]
    by_file = {entry.listed: entry for entry in pairs.entries}
    found = []
    for line in dict.fromkeys(PurePosixPath(line).as_posix() for line in lines if line):
        entry = by_file.get(f"{file.parent.name}/{line}") or by_file.get(line)
        if entry is None:
            raise ValueError(
                f"{file} names {line}, which is not in {file.parent}: it holds {', '.join(list(by_file)[:3])}, ..."
            )
        found.append(entry)
    if not found:
        raise ValueError(f"{file} names no image: fill it, or remove it to take all")
    return replace(pairs, entries=tuple(found))


def resize_to_16(image: Tensor) -> Tensor:
    """Image [C, H, W] in [0, 1], 8 bits, with sides that are multiples of 16 and at most 1024.

    As TransWeather prepares input and clean image for its test: Pillow's Lanczos, the longer side shrunk to 1024 if it
    is longer, then both sides up to the next multiple of 16. An image that needs neither stays as it is.
    """
    height, width = image.shape[1:]
    longer = max(height, width)
    if longer > 1024:
        height, width = (math.ceil(side * 1024 / longer) for side in (height, width))
    height, width = (math.ceil(side / 16) * 16 for side in (height, width))
    planes = [
        np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.LANCZOS))
        for plane in to_uint8(image).numpy()
    ]
    return torch.from_numpy(np.stack(planes)).float() / 255
