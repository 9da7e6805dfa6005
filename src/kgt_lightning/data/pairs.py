"""Sets that bring their degraded images: in two subfolders, once or in the folder of every sequence, or by a list."""

import os
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from kgt_lightning.data.image_sets import FileSource, ImageEntry, ImageSet, folder_set, paired_set
from kgt_lightning.images.color import gray

Names = tuple[str, str]
"""Of the subfolder of degraded images and of that of the clean ones, such as ("input", "target")."""


def pairs_in(
    folder: Path,
    *,
    names: Sequence[Names],
    channels: int,
    degraded_channels: int,
    repeat_gray: bool,
    partner: Callable[[str], str] = str,
) -> ImageSet | None:
    """The pairs in a folder and in the folders below it, or None if no subfolder has one of the names.

    The pair of ``input/1.png`` and ``target/1.png`` is called 1, that of ``seq/input/1.png`` and ``seq/target/1.png``
    is called seq/1. Files beside the two subfolders are left out.

    Args:
        folder: its name is that of the set.
        names: of the two subfolders; any of them may occur, but in one folder only one.
        channels: of the clean images.
        degraded_channels: of the degraded images.
        repeat_gray: as in :func:`folder_set`.
        partner: as in :func:`paired_set`.

    Raises:
        ValueError: if one of two subfolders is missing, the choice is not clear, or an image has no partner.

    """
    entries: list[ImageEntry] = []
    for parent, below, _ in os.walk(folder):
        below[:] = sorted(each for each in below if not each.startswith("."))
        pair = _pair_among(below, names, parent)
        if pair is None:
            continue
        below[:] = [each for each in below if each not in pair]
        where = PurePosixPath(Path(parent).relative_to(folder).as_posix())
        degraded, clean = (
            replace(
                folder_set(Path(parent, subfolder), channels=number, repeat_gray=repeat_gray),
                name=(folder.name / where / subfolder).as_posix(),
            )
            for subfolder, number in zip(pair, (degraded_channels, channels), strict=True)
        )
        entries += [
            replace(each, name=(where / each.name).as_posix(), listed=(folder.name / where / each.listed).as_posix())
            for each in paired_set(degraded, clean, partner=partner).entries
        ]
    return ImageSet(name=folder.name, entries=tuple(entries)) if entries else None


def named_pairs(degraded: ImageSet, clean: ImageSet, *, names: str) -> ImageSet:
    """The pairs of two folders whose files are named after each other.

    Args:
        degraded: what is to be restored.
        clean: a clean image may be the partner of several.
        names: of the degraded images, without suffix: % is the name of the clean one, * any text. ``%x2`` makes 0x2 and
            0 a pair, ``%_*`` makes 0_a and 0_b two pairs with 0. Of several names that fit, the longest is taken.

    Raises:
        ValueError: for a pattern without %, or as :func:`paired_set`, with a pattern that may be meant.

    """
    if names.count("%") != 1:
        raise ValueError(
            f"data.pair_names={names} must have one %, for the name of the clean image, such as %x2 or %_*"
        )
    known = {each.name for each in clean.entries}
    before, after = (".*".join(map(re.escape, part.split("*"))) for part in names.split("%"))

    def partner(name: str) -> str:
        ends = range(len(name) + 1)
        found = [
            name[start:end]
            for start in ends
            if re.fullmatch(before, name[:start])
            for end in ends[start + 1 :]
            if name[start:end] in known and re.fullmatch(after, name[end:])
        ]
        return max(found, key=len, default=name)

    try:
        return paired_set(degraded, clean, partner=partner)
    except ValueError as error:
        meant = _names_meant([each.name for each in degraded.entries], known) if names == "%" else None
        if meant is None:
            raise
        raise ValueError(f"{error}; or are they named after each other? Then add data.pair_names={meant}") from None


def _names_meant(degraded: Sequence[str], clean: Collection[str]) -> str | None:
    """A pattern by which the first degraded image, and all others, may be named after a clean one."""
    within = sorted((name for name in clean if name in degraded[0]), key=lambda name: (-len(name), name))
    parts = [degraded[0].partition(name) for name in within]
    for names in (
        *(f"{before}%{after}" for before, _, after in parts),
        *(f"{before}%{after[:1]}*" for before, _, after in parts),
        *(f"{before}%*" for before, _, _ in parts),
    ):
        fit = re.compile("(.+)".join(".*".join(map(re.escape, part.split("*"))) for part in names.split("%")))
        if all(map(fit.fullmatch, degraded)):
            return names
    return None


def pairs_listed(file: Path, *, name: str, channels: int, degraded_channels: int, repeat_gray: bool) -> ImageSet:
    """The pairs in a text file with lines ``<clean> <degraded> ...``, paths below the folder of the file.

    Raises:
        ValueError: naming the line of which an image is missing, or that has no two paths.

    """
    entries = []
    for number, line in enumerate(file.read_text().splitlines(), 1):
        paths = line.split()[:2]
        if not paths:
            continue
        missing = [each for each in paths if not (file.parent / each).is_file()]
        if missing or len(paths) < 2:
            problem = f"{', '.join(missing)} is not there" if missing else "one path, <clean> <degraded> are two"
            raise ValueError(
                f"{file}, line {number}: {problem}: correct the line, or put the image below {file.parent}"
            )
        clean, degraded = (
            FileSource(path=file.parent / path, channels=each, repeat_gray=repeat_gray, to_gray=gray)
            for path, each in zip(paths, (channels, degraded_channels), strict=True)
        )
        shown = PurePosixPath(paths[1])
        entries.append(
            ImageEntry(
                name=shown.with_suffix("").as_posix(), listed=(name / shown).as_posix(), clean=clean, degraded=degraded
            )
        )
    if not entries:
        raise ValueError(f"{file} is empty: it must have lines <clean> <degraded>")
    return ImageSet(name=name, entries=tuple(entries))


def part_in(folder: Path, *, training: bool) -> Path:
    """The subfolder ``train`` or ``test`` of a set that keeps the two apart; the folder itself of one that does not.

    Raises:
        ValueError: if only the other one is there.

    """
    wanted, other = ("train", "test") if training else ("test", "train")
    if (folder / wanted).is_dir():
        return folder / wanted
    if (folder / other).is_dir():
        raise ValueError(f"{folder} has a folder {other} and none called {wanted}: add it, or name another set")
    return folder


def _pair_among(subfolders: Collection[str], names: Sequence[Names], parent: str) -> Names | None:
    """The names that two of the subfolders have."""
    whole = [pair for pair in names if pair[0] in subfolders and pair[1] in subfolders]
    if len(whole) > 1:
        raise ValueError(
            f"{parent} holds {' and '.join(map('/'.join, whole))}: keep one of them there, or give one with"
            " data.degraded=<folder> data.clean=<folder>"
        )
    if whole:
        return whole[0]
    for subfolder in subfolders:
        missing = [each for pair in names if subfolder in pair for each in pair if each != subfolder]
        if missing:
            raise ValueError(f"{parent} holds {subfolder}, but no {' or '.join(missing)} beside it: add or rename it")
    return None
