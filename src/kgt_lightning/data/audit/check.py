"""What is wrong with the files of an image set, found by decoding every one of them."""

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from kgt_lightning.data.audit.fingerprint import pixel_digest
from kgt_lightning.data.catalogue import DataSet, Members, members
from kgt_lightning.images.files import read_image


class Fault(NamedTuple):
    """One thing that is wrong."""

    kind: str
    """missing, extra, count, unreadable, channels, size, pair or duplicate."""
    name: str
    """The file below the folder of its set, or the name of a missing one."""
    what: str


class _Decoded(NamedTuple):
    shape: tuple[int, int, int]
    digest: str


def check(data_set: DataSet, folder: Path) -> tuple[int, list[Fault]]:
    """How many images of the set there are, and everything that is wrong with them.

    Raises:
        ValueError: if the folder is missing or holds no image.

    """
    found = members(data_set, folder)
    groups = (found.entries, found.clean, found.small)
    files = {name: file for group in groups for name, file in group.items()}
    with ThreadPoolExecutor() as threads:
        results = dict(zip(files, threads.map(_decode, files.values()), strict=True))
    decoded = {name: result for name, result in results.items() if isinstance(result, _Decoded)}
    faults = list(_names(data_set, found))
    for name, result in results.items():
        if isinstance(result, str):
            faults.append(Fault("unreadable", name, result))
    faults += _shapes(data_set, found, decoded)
    faults += _pairs(found, decoded)
    faults += _small(found, decoded)
    faults += _duplicates(found, decoded)
    return len(found.entries), faults


def _decode(file: Path) -> _Decoded | str:
    """What is in the file, or why it cannot be read."""
    try:
        pixels = read_image(file).pixels
    except ValueError as error:
        return str(error)
    channels, height, width = pixels.shape
    return _Decoded((channels, height, width), pixel_digest(pixels))


def _names(data_set: DataSet, found: Members) -> Iterator[Fault]:
    own = {name.removeprefix("HR/"): name for name in found.entries}
    listed = data_set.files or ()
    if any(name in own for name in listed):
        for name in listed:
            if name not in own:
                yield Fault("missing", name, "is in the list of the set")
        for name in own.keys() - set(listed):
            yield Fault("extra", own[name], "is not in the list of the set")
    elif listed:
        yield Fault("missing", listed[0], f"and all other names of the list, such as here {next(iter(own))}: renamed?")
    if len(own) != data_set.images:
        yield Fault("count", ".", f"{len(own)} images, {data_set.images} expected")


def _shapes(data_set: DataSet, found: Members, decoded: Mapping[str, _Decoded]) -> Iterator[Fault]:
    colour = {1: "gray", 3: "colour"}
    for name, (shape, _) in decoded.items():
        if shape[0] != data_set.channels:
            yield Fault("channels", name, f"{colour[shape[0]]}, {colour[data_set.channels]} expected")
        longer, shorter = sorted(shape[1:], reverse=True)
        if data_set.size and name not in found.small and [longer, shorter] != list(data_set.size):
            wanted = " x ".join(map(str, data_set.size))
            yield Fault("size", name, f"{longer} x {shorter} pixels, {wanted} expected")


def _pairs(found: Members, decoded: Mapping[str, _Decoded]) -> Iterator[Fault]:
    for name, partner in found.partners.items():
        if partner not in found.clean:
            yield Fault("pair", name, f"without its clean image {partner}")
        elif name in decoded and partner in decoded and decoded[name].shape[1:] != decoded[partner].shape[1:]:
            sizes = (" x ".join(map(str, decoded[each].shape[1:])) for each in (name, partner))
            yield Fault("size", name, "{} pixels, its clean image {}".format(*sizes))
    for name in found.clean.keys() - set(found.partners.values()):
        yield Fault("pair", name, "without a degraded image")


def _small(found: Members, decoded: Mapping[str, _Decoded]) -> Iterator[Fault]:
    """Small versions are named as the image, or with x<scale> after it, and each scale has all of them."""
    own = {name.removeprefix("HR/"): name for name in found.entries}
    there: dict[int, set[str]] = {}
    for name in found.small:
        place = re.fullmatch(r"LR_bicubic/X(\d+)/(.+)", name)
        if place is None:
            yield Fault("extra", name, "small versions lie in LR_bicubic/X<scale>")
            continue
        scale = int(place.group(1))
        partner = next((each for each in (place.group(2), place.group(2).removesuffix(f"x{scale}")) if each in own), "")
        if not partner:
            yield Fault("extra", name, "small version of no image")
            continue
        there.setdefault(scale, set()).add(partner)
        if name in decoded and own[partner] in decoded:
            expected = [side // scale for side in decoded[own[partner]].shape[1:]]
            if list(decoded[name].shape[1:]) != expected:
                sizes = [" x ".join(map(str, sides)) for sides in (decoded[name].shape[1:], expected)]
                yield Fault("size", name, "{} pixels, {} expected".format(*sizes))
    for scale, partners in there.items():
        for name in own.keys() - partners:
            yield Fault("missing", f"LR_bicubic/X{scale}/{name}x{scale}", f"small version of {own[name]}")


def _duplicates(found: Members, decoded: Mapping[str, _Decoded]) -> Iterator[Fault]:
    first: dict[str, str] = {}
    for name in found.entries:
        if name in decoded:
            before = first.setdefault(decoded[name].digest, name)
            if before != name:
                yield Fault("duplicate", name, f"same pixels as {before}")
