"""Decoded images in one memory-mapped file, kept between runs."""

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kgt_lightning.data.image_sets import Source
from kgt_lightning.images.color import to_uint8

log = logging.getLogger(__name__)

_MIRRORED = 4


class PixelCache:
    """Images decoded once into one memory-mapped file of 8-bit pixels, so that a crop costs a copy of the crop.

    The file is named after everything it was made from; when a image changes, a new one is made. Images of
    16 bits are rounded to 8.
    """

    def __init__(self, sources: Sequence[Source], *, channels: int, folder: Path) -> None:
        key = hashlib.sha256(repr((channels, [each.fingerprint for each in sources])).encode()).hexdigest()[:16]
        self._pixels_file = folder / f"{key}.uint8"
        self._shapes_file = folder / f"{key}.json"
        if not self._is_complete():
            log.info("decoding %d images into %s", len(sources), self._pixels_file)
            self._write(sources)
        shapes = json.loads(self._shapes_file.read_text())
        self._shapes = [tuple(shape) for shape in shapes]
        self._offsets = np.concatenate([[0], np.cumsum([np.prod(shape) for shape in shapes])])
        self._pixels: np.memmap | None = None

    def __len__(self) -> int:
        return len(self._shapes)

    def __getitem__(self, index: int) -> np.ndarray:
        """Pixels uint8 [H, W, C] of a image, still on disk."""
        if self._pixels is None:  # mapped anew in each worker process
            self._pixels = np.memmap(self._pixels_file, dtype=np.uint8, mode="r")
        return self._pixels[self._offsets[index] : self._offsets[index + 1]].reshape(self._shapes[index])

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_pixels": None}

    def check_patch(self, side: int, *, number: int) -> None:
        """Say how many of the first images are smaller than a patch, and thus mirrored.

        Raises:
            ValueError: if the patch is hardly more than mirrored copies of any of them.

        """
        sizes = [shape[:2] for shape in self._shapes[:number]]
        height, width = max(sizes, key=max)
        if side > _MIRRORED * max(height, width):
            raise ValueError(
                f"data.patch={side} is more than {_MIRRORED} times the sides of the largest image, {height} x {width}"
                " pixels, of which it would be mirrored copies: choose a smaller patch, or add larger images"
            )
        if smaller := sum(min(size) < side for size in sizes):
            log.warning("%d of %d images are smaller than data.patch=%d: mirrored", smaller, number, side)

    def _is_complete(self) -> bool:
        """Whether both files are there and fit each other: a run may have been killed, or a disk full."""
        try:
            shapes = json.loads(self._shapes_file.read_text())
            return self._pixels_file.stat().st_size == sum(int(np.prod(shape)) for shape in shapes)
        except (OSError, ValueError):
            return False

    def _write(self, sources: Sequence[Source]) -> None:
        # Written aside and renamed: other processes see a whole file or none.
        self._pixels_file.parent.mkdir(parents=True, exist_ok=True)
        shapes: list[tuple[int, ...]] = []
        with tempfile.NamedTemporaryFile(dir=self._pixels_file.parent, delete=False) as pixels_file:
            shapes_file = Path(pixels_file.name + ".json")
            try:
                for source in sources:
                    pixels = to_uint8(source.read()).permute(1, 2, 0).contiguous().numpy()
                    shapes.append(pixels.shape)
                    pixels_file.write(pixels.tobytes())
                pixels_file.close()
                shapes_file.write_text(json.dumps(shapes))
                os.replace(pixels_file.name, self._pixels_file)
                os.replace(shapes_file, self._shapes_file)
            except BaseException:
                Path(pixels_file.name).unlink(missing_ok=True)
                shapes_file.unlink(missing_ok=True)
                raise
