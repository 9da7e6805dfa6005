"""Named sets of photographs: folders of the user's, or those that ship inside scikit-image and scikit-learn."""

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage.data
import torch
from sklearn.datasets import load_sample_image
from torch import Tensor

from kgt_lightning.images import gray, list_images, read_image, to_uint8

log = logging.getLogger(__name__)

BUNDLED_TRAIN = ("astronaut", "camera", "china", "coins", "rocket", "brick", "flower", "grass", "gravel")
BUNDLED_TEST = ("chelsea", "coffee")


@dataclass(frozen=True, kw_only=True)
class Photograph:
    """One photograph that is read when it is needed."""

    name: str
    """File name without suffix, below its folder; unique in its set."""
    fingerprint: str
    """Changes when the picture changes."""
    read: Callable[[], Tensor]
    """Reads it: float32 [C, H, W] in [0, 1], with the channels asked for."""


@dataclass(frozen=True, kw_only=True)
class PhotographSet:
    """Photographs under one name, all with the same number of channels."""

    name: str
    channels: int
    photographs: tuple[Photograph, ...]


def folder_set(folder: Path, *, channels: int) -> PhotographSet:
    """The photographs in a folder and below it.

    Raises:
        ValueError: if the folder is missing or holds no image.

    """

    def photograph(path: Path) -> Photograph:
        status = path.stat()
        return Photograph(
            name=path.relative_to(folder).with_suffix("").as_posix(),
            fingerprint=f"{path.resolve()}:{status.st_size}:{status.st_mtime_ns}",
            read=_FileReader(path=path, channels=channels),
        )

    photographs = tuple(photograph(path) for path in list_images(folder))
    return PhotographSet(name=folder.name, channels=channels, photographs=photographs)


def bundled_set(name: str, photographs: Sequence[str], *, channels: int) -> PhotographSet:
    """The named photographs of scikit-image, and china and flower of scikit-learn."""
    return PhotographSet(
        name=name,
        channels=channels,
        photographs=tuple(
            Photograph(name=photo, fingerprint=f"bundled:{photo}", read=_BundledReader(name=photo, channels=channels))
            for photo in photographs
        ),
    )


# Readers are classes, because data loader workers that are spawned receive them pickled.
@dataclass(frozen=True, kw_only=True)
class _FileReader:
    path: Path
    channels: int

    def __call__(self) -> Tensor:
        return read_image(self.path, channels=3 if self.channels == 3 else 1).pixels


@dataclass(frozen=True, kw_only=True)
class _BundledReader:
    name: str
    channels: int

    def __call__(self) -> Tensor:
        if self.name in ("china", "flower"):
            pixels = load_sample_image(f"{self.name}.jpg")
        else:
            pixels = getattr(skimage.data, self.name)()
        image = torch.from_numpy(np.atleast_3d(pixels).copy()).permute(2, 0, 1).float() / 255
        if self.channels == 1 and len(image) == 3:
            return to_uint8(gray(image[None])[0]) / 255
        return image.expand(self.channels, -1, -1)


class PixelCache:
    """Photographs decoded once into one memory-mapped file of 8-bit pixels, so that a crop costs a copy of the crop.

    The file is named after everything it was made from; when a photograph changes, a new one is made. Photographs of
    16 bits are rounded to 8.
    """

    def __init__(self, photographs: Sequence[Photograph], *, channels: int, folder: Path) -> None:
        key = hashlib.sha256(repr((channels, [p.fingerprint for p in photographs])).encode()).hexdigest()[:16]
        self._pixels_file = folder / f"{key}.uint8"
        self._shapes_file = folder / f"{key}.json"
        if not self._is_complete():
            log.info("decoding %d photographs into %s", len(photographs), self._pixels_file)
            self._write(photographs)
        shapes = json.loads(self._shapes_file.read_text())
        self._shapes = [tuple(shape) for shape in shapes]
        self._offsets = np.concatenate([[0], np.cumsum([np.prod(shape) for shape in shapes])])
        self._pixels: np.memmap | None = None

    def __len__(self) -> int:
        return len(self._shapes)

    def __getitem__(self, index: int) -> np.ndarray:
        """Pixels uint8 [H, W, C] of a photograph, still on disk."""
        if self._pixels is None:  # mapped anew in each worker process
            self._pixels = np.memmap(self._pixels_file, dtype=np.uint8, mode="r")
        return self._pixels[self._offsets[index] : self._offsets[index + 1]].reshape(self._shapes[index])

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_pixels": None}

    def _is_complete(self) -> bool:
        """Whether both files are there and fit each other: a run may have been killed, or a disk full."""
        try:
            shapes = json.loads(self._shapes_file.read_text())
            return self._pixels_file.stat().st_size == sum(int(np.prod(shape)) for shape in shapes)
        except (OSError, ValueError):
            return False

    def _write(self, photographs: Sequence[Photograph]) -> None:
        # Written aside and renamed: other processes see a whole file or none.
        self._pixels_file.parent.mkdir(parents=True, exist_ok=True)
        shapes = []
        with tempfile.NamedTemporaryFile(dir=self._pixels_file.parent, delete=False) as pixels_file:
            try:
                for photograph in photographs:
                    pixels = to_uint8(photograph.read()).permute(1, 2, 0).contiguous().numpy()
                    shapes.append(pixels.shape)
                    pixels_file.write(pixels.tobytes())
                pixels_file.close()
                shapes_file = Path(pixels_file.name + ".json")
                shapes_file.write_text(json.dumps(shapes))
                os.replace(pixels_file.name, self._pixels_file)
                os.replace(shapes_file, self._shapes_file)
            except BaseException:
                Path(pixels_file.name).unlink(missing_ok=True)
                raise
