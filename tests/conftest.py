"""Photographs and reference data that several tests use, nothing is downloaded; Triton without a GPU."""

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from torch import Tensor

# Without a GPU Triton's kernels run under its interpreter, which must be on when triton and the kernels are imported.
# It does not stay on, so that tests which do not ask for it see an ordinary machine without a GPU.
if find_spec("triton") is not None and not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
    from kgt_lightning.ops import triton_graph, triton_lists, triton_packed  # noqa: F401

    del os.environ["TRITON_INTERPRET"]

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
