"""An image file restored in its own kind of numbers, with all that it tells."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import torch

from kgt_lightning.degradations.bayer import BayerMosaic, Pattern
from kgt_lightning.degradations.noise import GaussianNoise
from kgt_lightning.images.files import is_raw, read_mosaic, read_raster, to_samples
from kgt_lightning.images.raster import Raster, alpha, colours
from kgt_lightning.images.raw import developed
from kgt_lightning.restoring.mixing import AS_RESTORED, Mixing
from kgt_lightning.restoring.noise import OF_COLOURS, noise_level
from kgt_lightning.restoring.picture import restored_tiles
from kgt_lightning.training.module import RestorationModule

Progress = Callable[[int, int], None]
"""Told after each tile how many there are so far, and in all."""


def restore_raster(
    module: RestorationModule, raster: Raster, *, tile: int, overlap: int, mixing: Mixing, progress: Progress
) -> Raster:
    """Restored image with the bit depth, alpha and metadata of the raster.

    Besides both rasters, memory holds one tile and two rows of tiles. Alpha is restored as a gray image where the model
    enlarges, and not mixed; else it is kept. Values of floating point outside [0, 1] are brought there for the model
    and back.

    Raises:
        ValueError: if the model does not take such an image, computes values that are not finite, or the values lie
            further apart than floating point reaches.

    """
    image = colours(raster)
    restored = _restored(module, image, tile=tile, overlap=overlap, mixing=mixing, progress=progress)
    opacity = alpha(raster)
    if is_restored(opacity, scale=module.network.scale):
        opacity = _restored(module, opacity, tile=tile, overlap=overlap, mixing=AS_RESTORED, progress=progress)
    return with_image(raster, restored, opacity)


def is_restored(opacity: np.ndarray, *, scale: int) -> bool:
    """Whether a model that enlarges `scale` times also restores this alpha [H, W, 0 or 1], as a gray image."""
    return opacity.size > 0 and scale > 1


def with_image(raster: Raster, image: np.ndarray, opacity: np.ndarray) -> Raster:
    """What a raster tells, of another image [H, W, C] and alpha [H, W, 0 or 1]."""
    # A profile for gray says nothing about colours.
    profile = raster.profile if image.shape[-1] == colours(raster).shape[-1] else None
    return raster._replace(array=np.concatenate([image, opacity], -1) if opacity.size else image, profile=profile)


def _restored(
    module: RestorationModule, array: np.ndarray, *, tile: int, overlap: int, mixing: Mixing, progress: Progress
) -> np.ndarray:
    scale, bits = module.network.scale, array.itemsize * 8
    low, span = _reach(array)
    brought = array if (low, span) == (0, 1) else (array - np.float32(low)) / np.float32(span)
    image = torch.from_numpy(brought).permute(2, 0, 1)
    restored = np.empty(0)
    for done in restored_tiles(module, image, tile=tile, overlap=overlap, mixing=mixing):
        progress(done.number, done.total)
        if done.rows is None:
            continue
        rows = done.rows[0]
        if restored.size == 0:
            restored = np.empty((array.shape[0] * scale, array.shape[1] * scale, len(rows)), array.dtype)
        samples = to_samples(rows, bits=bits)
        there = slice(done.first_row, done.first_row + len(samples))
        if brought is not array:
            # What the model changes is brought back: the values themselves would be rounded to steps of the span.
            same = samples.shape == brought[there].shape
            samples = array[there] + (samples - brought[there]) * span if same else samples * span + low
        restored[there] = samples
    return restored


def _reach(array: np.ndarray) -> tuple[float, float]:
    """Value that the model is given as 0, and how far above it 1 is: of floating point that lies outside [0, 1]."""
    if array.dtype != np.float32:
        return 0.0, 1.0
    low = min(float(array.min()), 0.0)
    span = max(float(array.max()), 1.0) - low
    if span > float(np.finfo(np.float32).max):
        raise ValueError(f"it holds values from {low:g} to {low + span:g}: scale them to 0..1")
    return low, span


def read_and_restore(
    module: RestorationModule, path: Path, *, tile: int, overlap: int, mixing: Mixing, progress: Progress
) -> tuple[Raster, str]:
    """What is restored of the image at the path, and what was found out about it, such as "JPEG quality 75"."""
    if is_raw(path):
        return _read_and_develop(module, path, tile=tile, overlap=overlap, mixing=mixing, progress=progress)
    raster = read_raster(path)
    found = [] if raster.quality is None else [f"JPEG quality {raster.quality}"]
    denoises = isinstance(module.degradation, GaussianNoise)
    if denoises or mixing.texture > 0:
        image = colours(raster)
        low, span = _reach(image)
        noise = noise_level(image, low=low, span=span)
        mixing = replace(mixing, noise=noise)
        found.append(f"noise of about sigma {noise * 255 / (OF_COLOURS if image.shape[-1] == 3 else 1):.0f}")
    restored = restore_raster(module, raster, tile=tile, overlap=overlap, mixing=mixing, progress=progress)
    return restored, ", ".join(found)


def _read_and_develop(
    module: RestorationModule, path: Path, *, tile: int, overlap: int, mixing: Mixing, progress: Progress
) -> tuple[Raster, str]:
    """Picture of a raw file; the model is given the mosaic in the file's own pattern."""
    trained = module.degradation
    if not isinstance(trained, BayerMosaic):
        raise ValueError(f"{path} is a raw file, this model restores pictures: take task=demosaic first")
    mosaic = read_mosaic(path)
    own = copy.copy(module)  # with the same weights
    own.degradation = replace(
        trained, pattern=cast(Pattern, mosaic.pattern), network_pattern=trained.network_pattern or trained.pattern
    )
    restored = restore_raster(own, mosaic.raster, tile=tile, overlap=overlap, mixing=mixing, progress=progress)
    return developed(mosaic, restored.array), f"mosaic {mosaic.pattern}"
