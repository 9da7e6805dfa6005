"""What every degradation is: the protocol, the generator that a name seeds, and the 8 bits of a camera's file."""

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from kgt_lightning.images.color import quantize


@runtime_checkable
class Degradation(Protocol):
    """What happened to the clean image; picklable, and without a memory.

    A class of your own that inherits from it has to say ``__call__`` alone; data and module ask it for all the rest.
    """

    scale: int = 1
    """How many times smaller the degraded image is."""
    channels: int | None = None
    """Of the degraded image; None is as many as the clean one has."""
    clean_channels: Sequence[int] = (1, 3)
    """Of the clean images that it takes: 1 gray, 3 colour."""
    grid: int = 1
    """Parts of a degraded image begin at multiples of it. Above 1 they are not laid in other positions: a mosaic that
    is turned, or mirrored, has another pattern."""

    @property
    def context(self) -> int:
        """Pixels around a patch of the clean image that its degraded version depends on, a multiple of the scale."""
        return 0

    @property
    def margin(self) -> tuple[int, int]:
        """Mirrored rows above and columns left of the image that the network is given; they are cut off afterwards."""
        return 0, 0

    @property
    def rules(self) -> str:
        """How test images are degraded, for tables; empty where the name of the setting says it."""
        return ""

    @property
    def given_setting(self) -> str:
        """Name of the setting of sets that bring their degraded images."""
        return "given"

    @abstractmethod
    def __call__(self, clean: Tensor, rng: np.random.Generator) -> Tensor:
        """Degraded image [C', H/scale, W/scale] of a clean one [C, H, W] in [0, 1]; all chance comes from ``rng``.

        The clean image has ``context`` pixels more on each side than are wanted; they are cut off afterwards.
        """

    def test_settings(self) -> Mapping[str, Callable[[Tensor, str], Tensor]]:
        """Settings to test, by name such as ``sigma=25``: degraded image of a clean one and its listed name.

        The same at every call; what is random is drawn from the name.
        """
        return {"synthetic": seeded_by_name(self)}

    def estimate(self, degraded: Tensor) -> Tensor:
        """What the restored image [B, C, H*scale, W*scale] is to beat: a simple estimate from [B, C', H, W].

        The network is given it where the degraded image has other channels than the restored one.
        """
        return degraded


def check_degradation(degradation: object) -> None:
    """Raise a ValueError for a class that is no degradation."""
    if not isinstance(degradation, Degradation):
        name = type(degradation).__name__
        raise ValueError(f"degradation={name} is no degradation: inherit from {Degradation.__module__}.Degradation")


def seeded_by_name(degrade: Callable[[Tensor, np.random.Generator], Tensor]) -> Callable[[Tensor, str], Tensor]:
    """Test setting that draws all chance from the listed name of the image; picklable."""
    return partial(_seeded_by_name, degrade=degrade)


def _seeded_by_name(clean: Tensor, name: str, *, degrade: Callable[[Tensor, np.random.Generator], Tensor]) -> Tensor:
    return degrade(clean, rng_for(name))


def rng_for(name: str) -> np.random.Generator:
    """Generator that a name seeds, the same on every machine."""
    return np.random.Generator(np.random.Philox(key=int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "big")))


def quantize_8bit(light: np.ndarray) -> Tensor:
    """Image, float32 [C, H, W] in [0, 1]: the light clipped and rounded to 8 bits, as in a file."""
    return quantize(torch.from_numpy(light)) / 255
