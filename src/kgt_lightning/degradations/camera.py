"""What a camera writes down of the light that reaches it."""

import numpy as np
import torch
from torch import Tensor

from kgt_lightning.images.color import quantize


def quantize_8bit(light: np.ndarray) -> Tensor:
    """Image, float32 [C, H, W] in [0, 1]: the light clipped and rounded to 8 bits, as in a file."""
    return quantize(torch.from_numpy(light)) / 255
