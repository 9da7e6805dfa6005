"""Image files in and out, colour, MATLAB's resizing, tiled restoring."""

from kgt_lightning.images.files import luma
from kgt_lightning.images.resize import imresize

__all__ = ["imresize", "luma"]
