"""How noisy cameras are: what darktable's users measured, and which cameras are kept for tests."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

GREEN_BAND = 0.08575
"""Variance of green in the finest diagonal band of a Haar transform, ((a + d) - (b + c))/4 of 2 x 2 pixels, where
:func:`malvar` was given white noise of variance 1."""


class Profile(NamedTuple):
    """Noise of a sensor at one ISO: variance = slope x + constant at light x, 1 where the sensor is full."""

    iso: float
    slope: float
    constant: float


class Camera(NamedTuple):
    """What was measured of a camera, by ISO."""

    name: str
    profiles: tuple[Profile, ...]

    def nearest(self, iso: float) -> Profile:
        """The profile whose ISO is the fewest stops away."""
        return min(self.profiles, key=lambda profile: abs(math.log(profile.iso / iso)))


class Cameras(NamedTuple):
    """Cameras to train on, and others to test on."""

    train: tuple[Camera, ...]
    test: tuple[Camera, ...]


def read_cameras(files: Sequence[Path]) -> Cameras:
    """The cameras in the first of the files that is there, in darktable's format (noiseprofiles.json).

    Its table was measured after demosaicking, as the variance in a band that holds little of such noise
    (``tools/noise/noiseprofile.c``), so that it is divided by :data:`GREEN_BAND`: a Nikon D750 then has 71,000
    electrons at ISO 100, near what others measured. As in darktable itself (``denoiseprofile.c``) green stands for all
    colours: all pixels of a sensor are alike, and red and blue were measured after an unknown white balance.

    Every eighth camera is kept for tests, by the SHA-256 of maker and model; others whose values are those of a kept
    one, the same sensor under another name, are left out of the training.

    Raises:
        ValueError: if none of the files is there, or the first is none of this format.

    """
    file = next((each for each in files if each.is_file()), None)
    if file is None:
        looked = ", ".join(map(str, files))
        raise ValueError(
            f"degradation.profiles: none of {looked} is there: kgt data fetch-noise --root=<folder of the sets> gets"
            " the file of Debian's package darktable, or name yours with degradation.profiles=[<file>]"
        )
    try:
        makers = json.loads(file.read_text(encoding="utf-8"))["noiseprofiles"]
        cameras = [
            Camera(f"{maker['maker']} {model['model']}", _usable(model["profiles"]))
            for maker in makers
            for model in maker["models"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is not in the format of darktable's noiseprofiles.json: {error!r}") from error
    measured = [camera for camera in cameras if camera.profiles]
    kept = tuple(camera for camera in measured if _digest(camera.name) % 8 == 0)
    seen = {profile for camera in kept for profile in camera.profiles}
    train = tuple(camera for camera in measured if camera not in kept and not seen.intersection(camera.profiles))
    if not kept or not train:
        raise ValueError(f"{file} holds {len(measured)} cameras: too few to keep some for tests")
    return Cameras(train, kept)


def _usable(profiles: Iterable[Mapping[str, Any]]) -> tuple[Profile, ...]:
    green = [(each["iso"], each["a"][1], each["b"][1]) for each in profiles if not each.get("skip")]
    return tuple(Profile(iso, a / GREEN_BAND, b / GREEN_BAND) for iso, a, b in green if a > 0)


def _digest(name: str) -> int:
    return int(hashlib.sha256(name.encode()).hexdigest(), 16)
