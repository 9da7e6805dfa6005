"""Writes sets/photos to train on and sets/valley to test on: parts of the images inside scikit-image and scikit-learn.

python make_sets.py
"""

from pathlib import Path

from kgt_lightning.data.image_sets import BUNDLED_TEST, BUNDLED_TRAIN, bundled_set
from kgt_lightning.images.files import Picture, write_image

SIDE = 128

for name, photographs in (("photos", BUNDLED_TRAIN), ("valley", BUNDLED_TEST)):
    for entry in bundled_set(name, photographs, channels=3).entries:
        pixels = entry.clean.read()
        top, left = ((side - SIDE) // 2 for side in pixels.shape[1:])
        part = pixels[:, top : top + SIDE, left : left + SIDE]
        write_image(Path("sets", name, f"{entry.name}.png"), Picture(pixels=part))
