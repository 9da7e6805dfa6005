"""The image sets that the tasks train and test on: what belongs into their folders, and where they come from."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from kgt_lightning.images.formats import list_images

CATALOGUE = Path(__file__).with_name("catalogue.yaml")
"""The sets that are known; its first lines explain the fields."""


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """One set; the fields are explained in ``catalogue.yaml``."""

    name: str
    tasks: Sequence[str]
    use: Sequence[str]
    images: int
    channels: int
    layout: str
    licence: str
    size: Sequence[int] | None = None
    files: Sequence[str] | None = None
    pairs: Sequence[Mapping[str, str]] | None = None
    home: str | None = None
    notes: str | None = None
    unverified: Sequence[str] = ()

    def __str__(self) -> str:
        what = "pairs of images" if self.pairs else "images"
        colour = "colour" if self.channels == 3 else "gray"
        where = f", see {self.home}" if self.home else ""
        return f"{self.name} is {self.images} {colour} {what} ({self.layout}){where}"


@dataclass(frozen=True, kw_only=True)
class Members:
    """The image files of a set by their names: paths below its folder, without suffix."""

    entries: Mapping[str, Path]
    """What is counted: all but small versions, or the degraded images of a set of pairs."""
    partners: Mapping[str, str]
    """Name of the clean image that belongs to each degraded one."""
    clean: Mapping[str, Path]
    small: Mapping[str, Path]
    """Small versions for super-resolution, in LR_bicubic/X2, X3, X4."""


def read_catalogue(*extra: Path) -> dict[str, DataSet]:
    """Every known set by its name, with those of further files of the same form.

    Raises:
        ValueError: naming the file, the set and the field that is wrong.

    """
    return {name: _data_set(file, name, entry) for file in (CATALOGUE, *extra) for name, entry in _read(file).items()}


def find(name: str, catalogue: Mapping[str, DataSet]) -> DataSet:
    """The set of that name.

    Raises:
        ValueError: naming similar ones if there is none.

    """
    if name in catalogue:
        return catalogue[name]
    meant = _similar(name, catalogue)
    hint = f"did you mean {' or '.join(meant)}?" if meant else f"choose one of {', '.join(catalogue)}"
    raise ValueError(f"{name} is not in the catalogue: {hint}")


def describe_missing(name: str) -> str:
    """One line about a set that was not found: what it is and its page, or similar names; empty if unknown."""
    catalogue = read_catalogue()
    if name in catalogue:
        return str(catalogue[name])
    meant = _similar(name, catalogue)
    return f"did you mean {' or '.join(meant)}?" if meant else ""


def members(data_set: DataSet | None, folder: Path) -> Members:
    """The image files in the folder of a set, sorted by what they are; None takes any folder of images.

    Raises:
        ValueError: if the folder is missing or holds no image.

    """
    named = {file.relative_to(folder).with_suffix("").as_posix(): file for file in list_images(folder)}
    for layout in (data_set.pairs or ()) if data_set else ():
        pattern, clean = _regex(layout["degraded"]), _regex(layout["clean"])
        matches = {name: match for name in named if (match := pattern.fullmatch(name))}
        if matches:
            return Members(
                entries={name: named[name] for name in matches},
                partners={name: _filled(layout["clean"], match.groups()) for name, match in matches.items()},
                clean={name: file for name, file in named.items() if clean.fullmatch(name) and name not in matches},
                small={},
            )
    small = {name: file for name, file in named.items() if name.startswith("LR_bicubic/")}
    entries = {name: file for name, file in named.items() if name not in small}
    if any(name.startswith("HR/") for name in entries):
        entries = {name: file for name, file in entries.items() if name.startswith("HR/")}
    return Members(entries=entries, partners={}, clean={}, small=small)


def expanded(names: Iterable[str]) -> list[str]:
    """The names, with each range such as img_01..12 written out."""
    listed = []
    for name in names:
        span = re.fullmatch(r"(.*?)(\d+)\.\.(\d+)", name)
        if span is None:
            listed.append(name)
        else:
            prefix, first, last = span.groups()
            listed += [f"{prefix}{i:0{len(first)}d}" for i in range(int(first), int(last) + 1)]
    return listed


def _read(file: Path) -> dict[str, Any]:
    try:
        entries = OmegaConf.to_container(OmegaConf.load(file))
    except (OSError, YAMLError, OmegaConfBaseException) as error:
        raise ValueError(f"{file} cannot be read as YAML ({' '.join(str(error).split())}): correct it") from error
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise ValueError(f"{file} must map names of sets to their fields, as {CATALOGUE.name} does")
    return {str(name): entry for name, entry in entries.items()}


def _data_set(file: Path, name: str, entry: Mapping[str, Any]) -> DataSet:
    known = [field.name for field in fields(DataSet)][1:]
    unknown = [key for key in entry if key not in known]
    if unknown:
        raise ValueError(f"{file}: {name} has the unknown field {unknown[0]}: choose of {', '.join(known)}")
    missing = [key for key in ("tasks", "use", "images", "channels", "layout", "licence") if key not in entry]
    if missing:
        raise ValueError(f"{file}: {name} lacks {', '.join(missing)}: add it")
    if entry["channels"] not in (1, 3):
        raise ValueError(f"{file}: {name} has channels={entry['channels']}: it must be 3 (colour) or 1 (gray)")
    if entry.get("files") is None:
        return DataSet(name=name, **entry)
    return DataSet(name=name, **{**entry, "files": expanded(map(str, entry["files"]))})


def _similar(name: str, catalogue: Mapping[str, DataSet]) -> list[str]:
    by_lower = {each.lower(): each for each in catalogue}
    return [by_lower[each] for each in difflib.get_close_matches(name.lower(), by_lower, n=3)]


def _regex(pattern: str) -> re.Pattern[str]:
    return re.compile("(.+?)".join(map(re.escape, pattern.split("*"))))


def _filled(pattern: str, parts: Sequence[str]) -> str:
    """The pattern, each * replaced by the next part."""
    rest = iter(parts)
    return re.sub(r"\*", lambda _: next(rest), pattern)
