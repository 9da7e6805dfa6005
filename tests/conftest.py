"""Photographs and reference data that several tests use; nothing is downloaded."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from torch import Tensor

REFERENCE = Path(__file__).parent / "data" / "reference"


@pytest.fixture(scope="session")
def reference() -> Path:
    """Folder of golden vectors; its README names the public implementations that computed them."""
    return REFERENCE


@pytest.fixture(scope="session")
def read_reference() -> Callable[[str], Tensor]:
    """Reads a reference PNG or NPY file, such as "inputs/color_a.png", as [1, C, H, W]; PNG is scaled to [0, 1]."""

    def read(name: str) -> Tensor:
        array = np.load(REFERENCE / name) if name.endswith(".npy") else np.asarray(Image.open(REFERENCE / name)) / 255
        image = torch.from_numpy(np.atleast_3d(array).astype(np.float32))
        return image.permute(2, 0, 1)[None].contiguous()

    return read


@pytest.fixture(scope="session")
def photo() -> Tensor:
    """A photograph, [1, 3, 300, 451] in [0, 1]."""
    return torch.from_numpy(skimage.data.chelsea()).permute(2, 0, 1)[None].float() / 255
