"""What is measured of a model on one machine: its answer to a fixed picture, and the time it takes."""

import copy
import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import skimage.data
import torch
from torch import Tensor

from kgt_lightning.images.color import gray
from kgt_lightning.runs.checkpoint import Checkpoint
from kgt_lightning.system.hardware import processor
from kgt_lightning.training.module import RestorationModule

SHOWN = slice(None, None, 16)
"""Rows and columns of the answer whose values are kept."""


def fixed_picture(channels: int) -> Tensor:
    """Part of scikit-image's cat, [1, channels, 64, 64] in [0, 1], gray or in colour."""
    image = torch.from_numpy(skimage.data.chelsea()[100:164, 120:184].copy()).permute(2, 0, 1)[None].float() / 255
    return image if channels == 3 else gray(image)


def answer(checkpoint: Checkpoint) -> dict[str, Any]:
    """What the model makes of the fixed picture: the bits of the machine and versions it names, some values for others.

    By the reference attention in one thread: no other implementation, which may be made faster, changes it.
    """
    own = replace(checkpoint, config=copy.deepcopy(checkpoint.config))
    if "attention" in own.config.model:
        own.change({"model": {"attention": "reference"}})
    module = own.module()
    with _one_thread(), torch.no_grad():
        restored = module(fixed_picture(module.degraded_channels)).float()
    return {
        "machine": {"processor": processor(), "torch": torch.__version__, "numpy": np.__version__},
        "sha256": hashlib.sha256(restored.numpy().tobytes()).hexdigest(),
        "values": [[round(value, 6) for value in row] for row in restored[0, :, SHOWN, SHOWN].flatten(1).tolist()],
    }


def seconds_per_megapixel(module: RestorationModule) -> float:
    """CPU seconds in one thread for a million pixels of degraded images, in parts of 256 x 256; the least of three."""
    image = torch.rand(1, module.degraded_channels, 256, 256)
    spent = []
    with _one_thread(), torch.no_grad():
        module(image)
        for _ in range(3):
            before = time.process_time()
            module(image)
            spent.append(time.process_time() - before)
    return min(spent) * 1e6 / image[0, 0].numel()


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
