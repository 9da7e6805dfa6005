"""Test images that occur in a training set: the same pixels, or the same picture resized, compressed, noisy, cut."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kgt_lightning.data.audit.fingerprint import Fingerprint, fingerprint, mirrored, resized

_SUSPICIOUS = 0.55
"""Correlation of two spectra from which the pictures are compared closely."""
_SAME = 0.7
"""Correlation of the details from which two pictures are the same one."""
_SCALES = (0.8, 0.87, 0.93, 1.0, 1.07, 1.15, 1.25)
_AT_ONCE = 256
"""Test images that are compared with all training images in one matrix product."""


class Leak(NamedTuple):
    """A picture that is in both sets."""

    kind: Literal["exact", "near"]
    distance: float
    """0 for equal details, 1 for unrelated ones."""
    mirrored: bool
    train: Path
    test: Path


def leaks(train: Sequence[Path], test: Sequence[Path]) -> list[Leak]:
    """Pairs of a training and a test image that show the same picture, in the order of the test images.

    Two stages: spectra of the whole images and of their parts, of all pairs at once (a perceptual hash with real values
    instead of bits), then the details of the few pairs that resemble each other. Found are copies in another format or
    size, compressed, noisy, mirrored, or with about a tenth of their sides cut off; not rotated ones, nor small parts.

    Raises:
        ValueError: naming all files that cannot be read.

    """
    with ThreadPoolExecutor() as threads:
        taken = [list(threads.map(_fingerprint_or_reason, files)) for files in (train, test)]
    if damaged := [found for files in taken for found in files if isinstance(found, str)]:
        raise ValueError(f"{len(damaged)} files cannot be compared: {'; '.join(damaged)}")
    trained, tested = ([found for found in files if isinstance(found, Fingerprint)] for files in taken)
    by_digest = defaultdict(list)
    for image in trained:
        by_digest[image.digest].append(image.file)
    found = []
    for image, resembling in zip(tested, _resembling(trained, tested), strict=True):
        found += [Leak("exact", 0.0, False, file, image.file) for file in by_digest[image.digest]]
        for position, mirror in resembling:
            other = trained[position]
            if other.digest == image.digest:
                continue
            similarity = _similarity(other.thumbnail, image.thumbnail.flip(-1) if mirror else image.thumbnail)
            if similarity >= _SAME:
                found.append(Leak("near", 1 - similarity, mirror, other.file, image.file))
    return found


def _fingerprint_or_reason(file: Path) -> Fingerprint | str:
    try:
        return fingerprint(file)
    except ValueError as error:
        return str(error)


def _resembling(train: Sequence[Fingerprint], test: Sequence[Fingerprint]) -> Iterator[list[tuple[int, bool]]]:
    """For every test image the positions of the training images that resemble it, and whether mirrored."""
    windows = torch.stack([image.windows for image in train])
    for start in range(0, len(test), _AT_ONCE):
        views = torch.stack([image.windows for image in test[start : start + _AT_ONCE]])
        for plain, flipped in zip(_best(views, windows), _best(mirrored(views), windows), strict=True):
            positions = torch.maximum(plain, flipped).ge(_SUSPICIOUS).nonzero().flatten().tolist()
            yield [(position, bool(flipped[position] > plain[position])) for position in positions]


def _best(views: Tensor, windows: Tensor) -> Tensor:
    """Largest correlation, [test, train], of each whole test image with a part of a training image, and vice versa."""
    best = (views @ windows[:, 0].T).amax(1)
    for window in windows.unbind(1):
        best = torch.maximum(best, views[:, 0] @ window.T)
    return best


def _similarity(thumbnail: Tensor, other: Tensor) -> float:
    """Largest normalised correlation of the centre of one thumbnail, uint8 [h, w], with any place of another one."""
    centre = _details(thumbnail)
    height, width = centre.shape
    top, left = height // 4, width // 4
    template = centre[None, None, top : height - top, left : width - left]
    template = template - template.mean()
    template = template / template.norm().clamp_min(1e-3)
    best = 0.0
    for scale in _SCALES:
        details = _details(resized(other[None].float(), *(max(1, round(side * scale)) for side in other.shape))[0])
        kernel = template.shape[-2:]
        if details.shape[0] >= kernel[0] and details.shape[1] >= kernel[1]:
            mean, square = (F.avg_pool2d(values[None, None], kernel, stride=1) for values in (details, details**2))
            norms = ((square - mean**2) * template.numel()).clamp_min(1e-3).sqrt()
            best = max(best, float((F.conv2d(details[None, None], template) / norms).max()))
    return best


def _details(thumbnail: Tensor) -> Tensor:
    """What is left of a thumbnail [h, w] without the mean of its surroundings: shading does not make pictures equal."""
    image = thumbnail.float()[None, None]
    mean = F.avg_pool2d(image, 5, stride=1, padding=2, count_include_pad=False)
    return (image - mean)[0, 0]
