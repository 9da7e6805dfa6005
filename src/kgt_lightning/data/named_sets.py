"""Image sets by their names below the data root, and which images of them are held out."""

import logging
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from kgt_lightning.data.catalogue import describe_missing
from kgt_lightning.data.image_sets import BUNDLED_TEST, BUNDLED_TRAIN, ImageEntry, ImageSet, bundled_set
from kgt_lightning.system.files import user_path

log = logging.getLogger(__name__)


def named_sets(names: Sequence[str], *, root: str, key: str, read: Callable[[Path], ImageSet]) -> list[ImageSet]:
    """The sets of these names.

    Args:
        names: folders or files below the root, or paths.
        root: folder that holds the sets.
        key: what the names are for, train or test; errors name it.
        read: finds the images of one.

    Raises:
        ValueError: if the root or a set is missing; a known one is explained.

    """
    folder = user_path(root)
    if not folder.is_dir():
        raise ValueError(f"data_root={folder} is no folder: name the folder that holds {', '.join(names)}")
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        there = ", ".join(sorted(each.name for each in folder.iterdir() if each.is_dir())) or "no folders"
        about = [each for each in map(describe_missing, missing) if each]
        raise ValueError(
            f"data_root={folder} lacks {', '.join(missing)}, it holds {there}: "
            + "; ".join([f"choose folders with data.{key}=[...]", *about])
        )
    return [read(folder / name) for name in names]


def bundled_instead(names: Sequence[str], *, key: str, usual: Collection[str], channels: int) -> ImageSet:
    """Images that ship with other packages, in place of the sets of these names.

    Args:
        names: of the sets.
        key: what they are for, train or test.
        usual: sets that the images may stand in for; never for the user's own.
        channels: of the images.

    Raises:
        ValueError: if another set is named.

    """
    if not set(usual).issuperset(names):
        raise ValueError(f"data.{key}={list(names)} is named, but not where: add data_root=<its folder>")
    log.info("data_root is not set: %s takes images that ship with scikit-image and scikit-learn", key)
    return bundled_set("bundled", BUNDLED_TEST if key == "test" else BUNDLED_TRAIN, channels=channels)


def without(entries: Sequence[ImageEntry], names: Sequence[str]) -> list[ImageEntry]:
    """The images but for those listed under these names.

    Raises:
        ValueError: if there is none of such a name, which may be a mistake that lets a test image in.

    """
    listed = {each.listed for each in entries}
    if missing := [name for name in names if name not in listed]:
        raise ValueError(
            f"data.exclude names {', '.join(missing)}, which is not among the {len(listed)} training photographs:"
            f" write folder, path and suffix, as {entries[0].listed}"
        )
    return [each for each in entries if each.listed not in names]


def held_out(
    entries: Sequence[ImageEntry], *, number: int, where: str
) -> tuple[tuple[ImageEntry, ...], tuple[ImageEntry, ...]]:
    """The images to train on, and some to validate: evenly spaced, so that both are varied.

    Args:
        entries: in the order of their names.
        number: to hold out, but at least one and at most an eighth.
        where: they come from, for the error.

    Raises:
        ValueError: if there are fewer than two.

    """
    if len(entries) < 2:
        raise ValueError(f"{where} holds one image: two are the least, one to train on and one to validate")
    number = max(1, min(number, len(entries) // 8))
    kept = {len(entries) * (2 * i + 1) // (2 * number) for i in range(number)}
    train = tuple(each for i, each in enumerate(entries) if i not in kept)
    return train, tuple(each for i, each in enumerate(entries) if i in kept)
