"""Removal of motion blur, of the benchmarks' pairs or of synthetic camera shake."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from kgt_lightning.data.datamodule import RestorationData
from kgt_lightning.data.image_sets import ImageSet, paired_set
from kgt_lightning.data.pairs import pairs_in, pairs_listed, part_in

log = logging.getLogger(__name__)

PACKAGED = (("input", "target"), ("input_crops", "target_crops"))
"""Subfolders of blurred and of sharp images."""


@dataclass(kw_only=True, eq=False)
class DeblurData(RestorationData):
    """Pairs of a blurred and a sharp image.

    A set brings its pairs in one of these layouts, in its folder or in a part ``train`` or ``test`` of it:

    - ``input`` and ``target``, or ``input_crops`` and ``target_crops``: GoPro, HIDE and RealBlur as Restormer packages
      them;
    - ``<sequence>/blur`` and ``<sequence>/sharp``: GoPro as published;
    - ``train`` and ``test``, all their partners in ``GT`` beside them: HIDE as published;
    - lines ``<sharp> <blurred>`` in ``RealBlur_J_train_list.txt``, ``RealBlur_J_test_list.txt``: RealBlur as published.

    Another folder holds sharp images, which the degradation blurs.
    """

    gopro_blur: Literal["blur", "blur_gamma"]
    """Which of the two subfolders of blurred frames in GoPro's sequences is read."""

    def images_in(self, folder: Path, *, training: bool) -> ImageSet:
        """Pairs of a set, or its sharp images.

        Raises:
            ValueError: if a part of a layout is missing, or it is not clear which is meant.

        """
        key = "train" if training else "test"
        lists = [folder] if folder.is_file() else sorted(folder.glob(f"*_{key}_list.txt"))
        if len(lists) > 1:
            raise ValueError(
                f"{folder} holds {', '.join(each.name for each in lists)}: name one of them,"
                f" such as data.{key}=[{folder.name}/{lists[0].name}]"
            )
        if lists:
            return pairs_listed(
                lists[0],
                name=lists[0].stem.removesuffix("_list").removesuffix(f"_{key}"),
                channels=self.channels,
                degraded_channels=self.degraded_channels,
                repeat_gray=self.repeat_gray,
            )
        part = part_in(folder, training=training)
        divided = part.name in ("train", "test")
        name = part.parent.name if divided else part.name
        if divided and (part.parent / "GT").is_dir():
            clean = super().images_in(part.parent / "GT", training=training)
            return _partners_among(clean, self.degraded_in(part), name=name)
        pairs = pairs_in(
            part,
            names=[*PACKAGED, (self.gopro_blur, "sharp")],
            channels=self.channels,
            degraded_channels=self.degraded_channels,
            repeat_gray=self.repeat_gray,
        )
        if pairs is None:
            log.info("%s brings no blurred images: its images are blurred synthetically", part)
            pairs = super().images_in(part, training=training)
        return replace(pairs, name=name)


def _partners_among(clean: ImageSet, degraded: ImageSet, *, name: str) -> ImageSet:
    """Pairs by file name; clean images without partner belong to another part of the set."""
    wanted = {_last(each.name) for each in degraded.entries}
    own = tuple(each for each in clean.entries if each.name in wanted)
    return paired_set(degraded, replace(clean, entries=own), partner=_last, name=name)


def _last(name: str) -> str:
    """File name in a path."""
    return name.rpartition("/")[2]
