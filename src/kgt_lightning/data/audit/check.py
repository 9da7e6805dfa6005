"""What is wrong with the files of an image set, found by decoding every one of them."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from kgt_lightning.data.audit.fingerprint import pixel_digest
from kgt_lightning.data.catalogue import DataSet, Members, members
from kgt_lightning.images.files import read_image

Shapes = Mapping[str, Sequence[int]]
"""[C, H, W] of the images that can be read, by their names."""


class Fault(NamedTuple):
    """One thing that is wrong."""

    kind: str
    """missing, extra, count, unreadable, channels, size, pair or duplicate."""
    name: str
    """The file below the folder of its set, or the name of a missing one."""
    what: str


def check(data_set: DataSet | None, folder: Path) -> tuple[int, list[Fault]]:
    """How many images of the set there are, and everything that is wrong with them; None expects nothing of a folder.

    Raises:
        ValueError: if the folder is missing or holds no image.

    """
    found = members(data_set, folder)
    files = {**found.entries, **found.clean, **found.small}
    with ThreadPoolExecutor() as threads:
        results = dict(zip(files, threads.map(_decode, files.values()), strict=True))
    shapes = {name: result[0] for name, result in results.items() if not isinstance(result, str)}
    digests = {name: results[name][1] for name in found.entries if name in shapes}
    faults = [
        *(_names(data_set, found) if data_set else ()),
        *(Fault("unreadable", name, result) for name, result in results.items() if isinstance(result, str)),
        *(_shapes(data_set, found, shapes) if data_set else ()),
        *_pairs(found, shapes),
        *_small(found, shapes),
        *_duplicates(digests),
    ]
    return len(found.entries), faults


def _decode(file: Path) -> tuple[Sequence[int], str] | str:
    """Shape and digest of the image in the file, or why it cannot be read."""
    try:
        pixels = read_image(file).pixels
    except ValueError as error:
        return str(error)
    return pixels.shape, pixel_digest(pixels)


def _names(data_set: DataSet, found: Members) -> Iterator[Fault]:
    own = {name.removeprefix("HR/"): name for name in found.entries}
    listed = data_set.files or ()
    if own.keys() & set(listed):
        yield from (Fault("missing", name, "is in the list of the set") for name in listed if name not in own)
        yield from (Fault("extra", own[name], "is not in the list of the set") for name in own.keys() - set(listed))
    elif listed:
        yield Fault("missing", listed[0], f"and all other names of the list, such as here {next(iter(own))}: renamed?")
    if len(own) != data_set.images:
        yield Fault("count", ".", f"{len(own)} images, {data_set.images} expected")


def _shapes(data_set: DataSet, found: Members, shapes: Shapes) -> Iterator[Fault]:
    colour = {1: "gray", 3: "colour"}
    for name, (channels, *sides) in shapes.items():
        if channels != data_set.channels:
            yield Fault("channels", name, f"{colour[channels]}, {colour[data_set.channels]} expected")
        sides.sort(reverse=True)
        if data_set.size and name not in found.small and sides != list(data_set.size):
            yield Fault("size", name, f"{_size(sides)} pixels, {_size(data_set.size)} expected")


def _pairs(found: Members, shapes: Shapes) -> Iterator[Fault]:
    for name, partner in found.partners.items():
        if partner not in found.clean:
            yield Fault("pair", name, f"without its clean image {partner}")
        elif name in shapes and partner in shapes and shapes[name][1:] != shapes[partner][1:]:
            sizes = _size(shapes[name][1:]), _size(shapes[partner][1:])
            yield Fault("size", name, "{} pixels, its clean image {}".format(*sizes))
    for name in found.clean.keys() - set(found.partners.values()):
        yield Fault("pair", name, "without a degraded image")


def _small(found: Members, shapes: Shapes) -> Iterator[Fault]:
    """Small versions are named as the image, or with x<scale> after it, and each scale has all of them."""
    own = {name.removeprefix("HR/"): name for name in found.entries}
    there = defaultdict(set)
    for name in found.small:
        place = re.fullmatch(r"LR_bicubic/X(\d+)/(.+)", name)
        if place is None:
            yield Fault("extra", name, "small versions lie in LR_bicubic/X<scale>")
            continue
        scale, partner = int(place[1]), place[2]
        partner = partner if partner in own else partner.removesuffix(f"x{scale}")
        if partner not in own:
            yield Fault("extra", name, "small version of no image")
            continue
        there[scale].add(partner)
        if name in shapes and own[partner] in shapes:
            expected = [side // scale for side in shapes[own[partner]][1:]]
            if list(shapes[name][1:]) != expected:
                yield Fault("size", name, f"{_size(shapes[name][1:])} pixels, {_size(expected)} expected")
    for scale, partners in there.items():
        for name in own.keys() - partners:
            yield Fault("missing", f"LR_bicubic/X{scale}/{name}x{scale}", f"small version of {own[name]}")


def _duplicates(digests: Mapping[str, str]) -> Iterator[Fault]:
    first: dict[str, str] = {}
    for name, digest in digests.items():
        if (before := first.setdefault(digest, name)) != name:
            yield Fault("duplicate", name, f"same pixels as {before}")


def _size(sides: Sequence[int]) -> str:
    return " x ".join(map(str, sides))
