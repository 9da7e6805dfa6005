"""Noise of real cameras: what the sensor adds, and what the way from its mosaic to a picture makes of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt, Le, MinLen
from torch import Tensor
from torch.nn import functional as F

from kgt_lightning.config.types import Share
from kgt_lightning.degradations.bayer import malvar, mosaic
from kgt_lightning.degradations.degradation import Degradation, rng_for
from kgt_lightning.degradations.jpeg import BLOCK, compress
from kgt_lightning.degradations.noise_profiles import Camera, Cameras, Profile, read_cameras
from kgt_lightning.images.color import quantize, to_linear, to_srgb
from kgt_lightning.images.resize import imresize
from kgt_lightning.system.files import user_path

Range = Mapping[str, float]
"""{low, high}, drawn evenly."""

_REACH = 2
"""Pixels around one that Malvar's filters look at."""

_RESIZED = 4
"""Pixels around one that the bicubic kernel looks at, there and back."""


@dataclass(frozen=True, kw_only=True)
class CameraNoise(Degradation):
    """degraded = develop(expose(clean) + n), n ~ N(0, slope x + constant) at each pixel x of the mosaic.

    ``expose`` takes a picture back to what a sensor measured: linear light, saturation and white balance undone, an
    RGGB mosaic; ``develop`` goes the same way forward, with Malvar's filters, and in part of the cases makes the
    picture smaller, or ends in a JPEG file. After Brooks et al., "Unprocessing images for learned raw denoising" (CVPR
    2019, arXiv 1811.11127), without a tone curve; slope and constant are those that were measured of a camera at an
    ISO, see :func:`read_cameras`.
    """

    root: str | None = None  # as in checkpoints of before there was a choice
    """Folder of the image sets, below which ``kgt data fetch-noise`` puts measured noise."""
    profiles: Sequence[str]
    """Files with measured noise, below the root or anywhere, of which the first that is there is read."""
    iso: Range
    """Of the profiles that training draws: first a camera, then one of its profiles."""
    test_iso: Annotated[Sequence[Annotated[float, Ge(1)]], MinLen(1)]
    """To test: of a camera that was kept from the training, drawn by the name of the image, the nearest profile."""
    red: Range
    """Gain of red in the white balance, 1 is that of green."""
    blue: Range
    """Gain of blue."""
    saturation: Range
    """s of the matrix (1 + s) I - s/3 that stands for the way from the sensor's colours to those of sRGB."""
    artifacts: Range
    """Part of the errors of the demosaicking that is left: 1 is all that Malvar's filters make of a picture which is
    sharp to the pixel, 0 leaves the noise alone. Lenses blur, and cameras interpolate with more care."""
    test_artifacts: Share
    quality: Range
    """Of JPEG files, whole numbers in 1..100."""
    jpeg: Share
    """Of the pictures, that become JPEG files."""
    smaller: Share = 0.0  # as in checkpoints of before there was a choice, like the two below
    """Of the training patches, whose noise is that of a picture made smaller: finer, and less of it."""
    size: Range = field(default_factory=lambda: {"low": 1.0, "high": 1.0})
    """Of those: 0.5 is half the width and height, by bicubic interpolation."""
    test_size: Annotated[float, Gt(0), Le(1)] = 1.0
    untouched: Share
    """Of the training patches, that are left as they are."""
    clean_channels = (3,)
    context = BLOCK + _REACH + _RESIZED

    def __post_init__(self) -> None:
        limits = {"iso": (1, 10**7), "red": (1, 10), "blue": (1, 10), "saturation": (0, 10), "artifacts": (0, 1)}
        for name, (least, most) in {**limits, "quality": (1, 100), "size": (0.1, 1)}.items():
            given = getattr(self, name)
            if set(given) != {"low", "high"} or not least <= given["low"] <= given["high"] <= most:
                raise ValueError(
                    f"degradation.{name}={dict(given)} must be a range {{low:..,high:..}} within {least}..{most}"
                )

    @cached_property
    def cameras(self) -> Cameras:
        """Read when they are needed: a model restores without."""
        return read_cameras([user_path(self.root or "") / each for each in self.profiles])

    @cached_property
    def to_train(self) -> tuple[Camera, ...]:
        """Cameras to train on, with those of their profiles whose ISO lies in the range.

        Raises:
            ValueError: if there is none, or the file of profiles is missing.

        """
        low, high = self.iso["low"], self.iso["high"]
        limited = (
            Camera(camera.name, tuple(each for each in camera.profiles if low <= each.iso <= high))
            for camera in self.cameras.train
        )
        if found := tuple(camera for camera in limited if camera.profiles):
            return found
        raise ValueError(f"degradation.iso={dict(self.iso)}: no camera was measured there, most were at 100 to 6400")

    @property
    def rules(self) -> str:
        """Where the noise comes from."""
        return "noise that darktable's users measured of cameras unseen in training, drawn by name"

    def __call__(self, clean: Tensor, rng: np.random.Generator) -> Tensor:
        """Noisy picture [3, H, W], 8 bits, of a clean one in [0, 1]."""
        camera = self.to_train[int(rng.integers(len(self.to_train)))]
        profile = camera.profiles[int(rng.integers(len(camera.profiles)))]
        if rng.random() < self.untouched:
            return clean
        size = _draw(self.size, rng) if rng.random() < self.smaller else 1
        return self._taken(clean, profile, rng, artifacts=_draw(self.artifacts, rng), size=size)

    def test_settings(self) -> dict[str, Callable[[Tensor, str], Tensor]]:
        """The settings to test, such as ``iso=3200``."""
        assert self.cameras.test
        size = f" size={self.test_size:g}" if self.test_size < 1 else ""
        return {f"iso={iso:g}{size}": partial(self._tested, iso=iso) for iso in self.test_iso}

    def _tested(self, clean: Tensor, name: str, *, iso: float) -> Tensor:
        rng = rng_for(name)
        camera = self.cameras.test[int(rng.integers(len(self.cameras.test)))]
        return self._taken(clean, camera.nearest(iso), rng, artifacts=self.test_artifacts, size=self.test_size)

    def _taken(
        self, clean: Tensor, profile: Profile, rng: np.random.Generator, *, artifacts: float, size: float
    ) -> Tensor:
        """Picture that a camera with such noise would have written, ``size`` times as large as it was taken."""
        small = clean
        if size < 1:
            clean = imresize(small, 1 / size).clamp_(0, 1)
        gains = torch.tensor([_draw(self.red, rng), 1.0, _draw(self.blue, rng)])[:, None, None]
        saturation = _draw(self.saturation, rng)
        light = to_linear(clean)
        raw = (light + saturation * light.mean(0)) / (1 + saturation) / gains
        measured = mosaic(raw)
        deviation = (profile.slope * measured + profile.constant).clamp_min_(0).sqrt_()
        noise = deviation * torch.from_numpy(rng.standard_normal(measured.shape, dtype=np.float32))
        # Demosaicking is linear: the part of the picture that goes without its errors goes around it.
        colours = gains * (malvar(noise + artifacts * measured) + (1 - artifacts) * raw)
        seen = to_srgb((1 + saturation) * colours - saturation * colours.mean(0))
        if size < 1:
            # The difference alone: enlarging and making smaller again would blur what is to be restored.
            error = imresize(quantize(seen) / 255 - clean, size)[:, : small.shape[-2], : small.shape[-1]]
            seen = (small + error).clamp_(0, 1)
        if rng.random() >= self.jpeg:
            return quantize(seen) / 255
        quality = int(rng.integers(int(self.quality["low"]), int(self.quality["high"]), endpoint=True))
        top, left = (int(phase) for phase in rng.integers(BLOCK, size=2))
        return compress(F.pad(seen, (left, 0, top, 0), mode="replicate"), quality)[:, top:, left:]


def _draw(given: Range, rng: np.random.Generator) -> float:
    return float(rng.uniform(given["low"], given["high"]))
