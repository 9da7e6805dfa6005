"""Removal of motion blur, of the benchmarks' pairs or of synthetic camera shake."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from kgt_lightning.data.datamodule import RestorationData
from kgt_lightning.data.datasets import rng_for
from kgt_lightning.data.image_sets import ImageSet, paired_set
from kgt_lightning.data.pairs import pairs_in, pairs_listed, part_in
from kgt_lightning.degradations.camera import quantize_8bit
from kgt_lightning.degradations.camera_shake import blur, kernel_size, shake_kernel, shake_path, to_linear, to_srgb
from kgt_lightning.degradations.levels import Level, Levels
from kgt_lightning.model import KGT, ResidualHead
from kgt_lightning.training.module import RestorationModule

log = logging.getLogger(__name__)

PACKAGED = (("input", "target"), ("input_crops", "target_crops"))
"""Subfolders of blurred and of sharp images."""


Shake = partial(Levels, name="shake", what="0 or more pixels", usual=(4, 8, 12), least=0)
"""Lengths of the path in pixels."""


@dataclass(frozen=True, kw_only=True)
class CameraShake:
    """degraded = round8(srgb(kernel * linear(clean)) + n), n ~ N(0, (noise/255)^2): one blur for the whole image.

    The sensor adds up light, so that the blur is a convolution in linear light; the result is clipped and rounded to 8
    bits, as in a camera's file. The kernel is that of a random path of the camera, see :func:`shake_path`.
    """

    shake: Levels
    """Lengths of the path in pixels."""
    tremor: float
    """How much the hand trembles, at most: radians over the exposure."""
    pull: float
    """How strongly it comes back, at most."""
    jerks: float
    """How often it is thrown back, at most: expected number during the exposure."""
    noise: float
    """Standard deviation in 8-bit values."""
    linear_light: bool
    """Whether light is convolved; otherwise the sRGB values, as most synthetic sets do."""
    scale: ClassVar[int] = 1

    def __post_init__(self) -> None:
        for name in ("tremor", "pull", "jerks", "noise"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"data.{name}={getattr(self, name)} must be 0 or more")

    @property
    def context(self) -> int:
        """Radius of the largest kernel."""
        return kernel_size(self.shake.largest()) // 2

    def __call__(self, clean: Tensor, rng: np.random.Generator) -> Tensor:
        """Blurred image [C, H, W] of a clean one in [0, 1]."""
        return self.shaken(clean, length=self.shake.draw(rng), rng=rng)

    def test_settings(self) -> dict[str, Callable[[Tensor, str], Tensor]]:
        """The lengths to test, such as ``shake=8``: path and noise are drawn from the listed name."""
        return {f"shake={length:g}": partial(self._shaken_by_name, length=length) for length in self.shake.to_test()}

    def shaken(self, clean: Tensor, *, length: float, rng: np.random.Generator) -> Tensor:
        """Image [C, H, W] of a clean one, blurred by a random path of the length."""
        path = shake_path(length=length, tremor=self.tremor, pull=self.pull, jerks=self.jerks, rng=rng)
        kernel = shake_kernel(path, kernel_size(length))
        image = to_srgb(blur(to_linear(clean), kernel)) if self.linear_light else blur(clean, kernel)
        if self.noise > 0:
            image += torch.from_numpy(rng.standard_normal(tuple(image.shape), dtype=np.float32)) * (self.noise / 255)
        return quantize_8bit(image.numpy())

    def _shaken_by_name(self, clean: Tensor, name: str, *, length: float) -> Tensor:
        return self.shaken(clean, length=length, rng=rng_for(name))


@dataclass(kw_only=True, eq=False)
class DeblurData(RestorationData):
    """Pairs of a blurred and a sharp image; fields as in :class:`CameraShake`.

    A set brings its pairs in one of these layouts, in its folder or in a part ``train`` or ``test`` of it:

    - ``input`` and ``target``, or ``input_crops`` and ``target_crops``: GoPro, HIDE and RealBlur as Restormer packages
      them;
    - ``<sequence>/blur`` and ``<sequence>/sharp``: GoPro as published;
    - ``train`` and ``test``, all their partners in ``GT`` beside them: HIDE as published;
    - lines ``<sharp> <blurred>`` in ``RealBlur_J_train_list.txt``, ``RealBlur_J_test_list.txt``: RealBlur as published.

    Another folder holds sharp images; synthetic camera shake blurs them.
    """

    gopro_blur: Literal["blur", "blur_gamma"]
    """Which of the two subfolders of blurred frames in GoPro's sequences is read."""
    shake: Level
    """In training: fixed, drawn from a list, or drawn uniformly from {low, high}; in pixels."""
    test_shake: float | Sequence[float] | None
    """Lengths to test, see :class:`Levels`."""
    tremor: float
    pull: float
    jerks: float
    noise: float
    linear_light: bool

    def make_degradation(self) -> CameraShake:
        """Synthetic camera shake."""
        return CameraShake(
            shake=Shake(training=self.shake, test=self.test_shake),
            tremor=self.tremor,
            pull=self.pull,
            jerks=self.jerks,
            noise=self.noise,
            linear_light=self.linear_light,
        )

    @property
    def test_rules(self) -> str:
        """What synthetic blur does."""
        light = "linear light" if self.linear_light else "sRGB values"
        shaken = f"synthetic shake of {light}, drawn by file name, 8 bits"
        return ", ".join(filter(None, [super().test_rules, shaken]))

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
            log.info("%s brings no blurred images: synthetic camera shake blurs its images", part)
            pairs = super().images_in(part, training=training)
        return replace(pairs, name=name)


class DeblurModule(RestorationModule):
    """KGT with a residual head."""

    def make_head(self, backbone: KGT, scale: int) -> ResidualHead:
        """Restored = degraded + conv(features)."""
        return ResidualHead(width=backbone.width, stride=backbone.stride, channels=backbone.channels)


def _partners_among(clean: ImageSet, degraded: ImageSet, *, name: str) -> ImageSet:
    """Pairs by file name; clean images without partner belong to another part of the set."""
    wanted = {_last(each.name) for each in degraded.entries}
    own = tuple(each for each in clean.entries if each.name in wanted)
    return paired_set(degraded, replace(clean, entries=own), partner=_last, name=name)


def _last(name: str) -> str:
    """File name in a path."""
    return name.rpartition("/")[2]
