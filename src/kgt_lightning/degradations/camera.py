"""What a camera writes down of the light that reaches it."""

import numpy as np
import torch
from torch import Tensor

from kgt_lightning.images.files import quantise


def photographed(light: np.ndarray) -> Tensor:
    """Image, float32 [C, H, W] in [0, 1]: the light clipped and rounded to 8 bits, as in a file."""
    return quantise(torch.from_numpy(light)) / 255
