"""Named sets of images: folders of the user's, or those that ship inside scikit-image and scikit-learn."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from kgt_lightning.images.color import gray, quantize, to_uint8
from kgt_lightning.images.files import read_image, read_shape
from kgt_lightning.images.formats import list_images

BUNDLED_TRAIN = ("astronaut", "camera", "china", "coins", "rocket", "brick", "flower", "grass", "gravel")
BUNDLED_TEST = ("chelsea", "coffee")


class Source(Protocol):
    """Where one image comes from; picklable, since data loader workers that are spawned receive it."""

    @property
    def fingerprint(self) -> str:
        """Changes when the picture changes."""
        ...

    def read(self) -> Tensor:
        """Image, float32 [C, H, W] in [0, 1], with the channels asked for."""
        ...

    def shape(self) -> tuple[int, int, int]:
        """Shape [C, H, W] of what will be read, found without decoding the file."""
        ...

    def bytes(self) -> int:
        """Size of the file, 0 if there is none."""
        ...


@dataclass(frozen=True, kw_only=True)
class ImageEntry:
    """One image, read when it is needed."""

    name: str
    """Path below the folder of its set, without suffix where that is unique."""
    listed: str
    """Folder of the set, path and suffix, such as Set12/01.png: the name that GRL seeds its noise with."""
    clean: Source
    degraded: Source | None = None
    """The degraded image that its set gives with it, if any."""

    def shapes(self, scale: int) -> list[tuple[int, int, int]]:
        """Shapes [C, H, W] of the clean image and, if its set gives one, of the degraded image.

        Raises:
            ValueError: if the degraded image has not the size of the clean one, divided by the scale.

        """
        found = [self.clean.shape()]
        if self.degraded is not None:
            found.append(self.degraded.shape())
            height, width = (side // scale for side in found[0][1:])
            if found[1][1:] != (height, width):
                raise ValueError(
                    f"{self.name}: its degraded image has {found[1][1]} x {found[1][2]} pixels,"
                    f" {height} x {width} are expected at scale={scale}: replace or remove it"
                )
        return found


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Images under one name."""

    name: str
    entries: tuple[ImageEntry, ...]


def folder_set(
    folder: Path, *, channels: int, repeat_gray: bool = False, to_gray: Callable[[Tensor], Tensor] = gray
) -> ImageSet:
    """The images in a folder and below it, to be read with 3 channels or with 1.

    A gray file among colour is refused when it is read, unless ``repeat_gray`` makes three equal channels of it; of
    colour files ``to_gray`` makes gray ones, rounded to the bits of the file.

    Raises:
        ValueError: if the folder is missing or holds no image.

    """
    files = list_images(folder)
    stems = Counter(path.with_suffix("") for path in files)

    def entry(path: Path) -> ImageEntry:
        name = path if stems[path.with_suffix("")] > 1 else path.with_suffix("")
        return ImageEntry(
            name=name.relative_to(folder).as_posix(),
            listed=(folder.name / path.relative_to(folder)).as_posix(),
            clean=FileSource(path=path, channels=channels, repeat_gray=repeat_gray, to_gray=to_gray),
        )

    return ImageSet(name=folder.name, entries=tuple(entry(path) for path in files))


SMALL = "LR_bicubic"
"""Folder of the small versions inside an image set for super-resolution; they are no images of it."""


def image_set(
    folder: Path, *, channels: int, repeat_gray: bool = False, to_gray: Callable[[Tensor], Tensor] = gray
) -> ImageSet:
    """The images of an image set: those in its folder ``HR`` if it has one, else all but their small versions.

    Arguments and errors as of :func:`folder_set`.
    """
    within = folder / "HR" if (folder / "HR").is_dir() else folder
    found = folder_set(within, channels=channels, repeat_gray=repeat_gray, to_gray=to_gray)
    entries = tuple(each for each in found.entries if not each.name.startswith(f"{SMALL}/"))
    if not entries:
        raise ValueError(f"{folder} holds small versions only: put the images into {folder / 'HR'}")
    return ImageSet(name=folder.name, entries=entries)


def paired_set(
    degraded: ImageSet, clean: ImageSet, *, partner: Callable[[str], str] = str, name: str | None = None
) -> ImageSet:
    """The degraded images, each with its clean partner, in the order of the degraded ones.

    Args:
        degraded: what is to be restored.
        clean: a clean image may be the partner of several.
        partner: name of the clean image for the name of a degraded one; by default the same.
        name: of the set; by default that of the degraded one.

    Raises:
        ValueError: naming the images without partner, on either side.

    """
    by_name = {each.name: each for each in clean.entries}
    partners = {each.name: partner(each.name) for each in degraded.entries}
    lonely = [name for name, wanted in partners.items() if wanted not in by_name]
    if lonely:
        raise ValueError(
            f"{degraded.name}: {_some(lonely)} without a clean image in {clean.name} (expected"
            f" {_some(partners[each] for each in lonely)}, which holds {_some(by_name)}): add or remove them"
        )
    unused = sorted(by_name.keys() - set(partners.values()))
    if unused:
        raise ValueError(f"{clean.name}: {_some(unused)} without a degraded image in {degraded.name}: add or remove")
    entries = (
        ImageEntry(name=each.name, listed=each.listed, clean=by_name[partners[each.name]].clean, degraded=each.clean)
        for each in degraded.entries
    )
    return ImageSet(name=name or degraded.name, entries=tuple(entries))


def version(entries: Sequence[ImageEntry], *, scale: int) -> str:
    """Which version of a set this is, such as "24 images 1f0a93c2": number, and a hash of names, shapes and file sizes.

    It tells Kodak's 768 x 512 from its 500 x 500 without reading a pixel. Raises as :meth:`Image.shapes`.
    """
    content = [
        (each.name, shape, source.bytes())
        for each in entries
        for shape, source in zip(each.shapes(scale), filter(None, (each.clean, each.degraded)), strict=True)
    ]
    return f"{len(entries)} images {hashlib.sha256(repr(content).encode()).hexdigest()[:8]}"


def bundled_set(name: str, entries: Sequence[str], *, channels: int) -> ImageSet:
    """The named images of scikit-image, and china and flower of scikit-learn."""
    return ImageSet(
        name=name,
        entries=tuple(
            ImageEntry(name=photo, listed=f"{name}/{photo}", clean=BundledSource(name=photo, channels=channels))
            for photo in entries
        ),
    )


@dataclass(frozen=True, kw_only=True)
class FileSource:
    """A file; see :func:`folder_set`."""

    path: Path
    channels: int
    repeat_gray: bool
    to_gray: Callable[[Tensor], Tensor]

    @property
    def fingerprint(self) -> str:
        """Path, size, time, and how it is made gray."""
        status = self.path.stat()
        made = self.to_gray.__name__ if self.channels == 1 else "colour"
        return f"{self.path.resolve()}:{status.st_size}:{status.st_mtime_ns}:{made}"

    def read(self) -> Tensor:
        """Image, float32 [channels, H, W] in [0, 1].

        Raises:
            ValueError: if it cannot be read, or is gray where colour is asked for.

        """
        picture = read_image(self.path)
        if self.channels == 1 and len(picture.pixels) == 3:
            return quantize(self.to_gray(picture.pixels), bits=picture.bits) / (2**picture.bits - 1)
        self._check(len(picture.pixels))
        return picture.pixels.expand(self.channels, -1, -1)

    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width from the header of the file; raises as :meth:`read`."""
        channels, height, width = read_shape(self.path)
        self._check(channels)
        return self.channels, height, width

    def bytes(self) -> int:
        """Size of the file."""
        return self.path.stat().st_size

    def _check(self, found: int) -> None:
        if found < self.channels and not self.repeat_gray:
            raise ValueError(
                f"{self.path} is gray in a colour set: convert it to RGB, remove it, or set data.repeat_gray=true"
                " (data.channels=1 makes all images gray)"
            )


@dataclass(frozen=True, kw_only=True)
class BundledSource:
    """A image inside scikit-image or scikit-learn; gray ones are repeated to three channels."""

    name: str
    channels: int

    @property
    def fingerprint(self) -> str:
        """Its name."""
        return f"bundled:{self.name}"

    def read(self) -> Tensor:
        """Image, float32 [channels, H, W] in [0, 1]."""
        # Only readers need these two, and they are slow to import.
        import skimage.data
        from sklearn.datasets import load_sample_image

        if self.name in ("china", "flower"):
            pixels = load_sample_image(f"{self.name}.jpg")
        else:
            pixels = getattr(skimage.data, self.name)()
        image = torch.from_numpy(np.atleast_3d(pixels).copy()).permute(2, 0, 1).float() / 255
        if self.channels == 1 and len(image) == 3:
            return to_uint8(gray(image[None])[0]) / 255
        return image.expand(self.channels, -1, -1)

    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        channels, height, width = self.read().shape
        return channels, height, width

    def bytes(self) -> int:
        """Zero."""
        return 0


def _some(names: Iterable[str]) -> str:
    """The first few names and how many there are."""
    listed = list(names)
    shown = ", ".join(listed[:3])
    return f"{shown} and {len(listed) - 3} more" if len(listed) > 3 else shown
