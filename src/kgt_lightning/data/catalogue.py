"""The image sets that the tasks train and test on: what belongs into their folders, and where they come from."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
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
    if name not in catalogue:
        hint = _similar(name, catalogue) or f"choose one of {', '.join(catalogue)}"
        raise ValueError(f"{name} is not in the catalogue: {hint}")
    return catalogue[name]


def describe_missing(name: str) -> str:
    """One line about a set that was not found: what it is and its page, or similar names; empty if unknown."""
    catalogue = read_catalogue()
    return str(catalogue[name]) if name in catalogue else _similar(name, catalogue)


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
                partners={
                    name: layout["clean"].replace("*", "{}").format(*match.groups()) for name, match in matches.items()
                },
                clean={name: file for name, file in named.items() if clean.fullmatch(name) and name not in matches},
                small={},
            )
    small = {name: file for name, file in named.items() if name.startswith("LR_bicubic/")}
    large = {name: file for name, file in named.items() if name.startswith("HR/")}
    entries = large or {name: file for name, file in named.items() if name not in small}
    return Members(entries=entries, partners={}, clean={}, small=small)


def expanded(names: Iterable[str]) -> list[str]:
    """The names, with each range such as img_01..12 written out."""
    listed = []
    for name in names:
        if span := re.fullmatch(r"(.*?)(\d+)\.\.(\d+)", name):
            prefix, first, last = span.groups()
            listed += [f"{prefix}{i:0{len(first)}d}" for i in range(int(first), int(last) + 1)]
        else:
            listed.append(name)
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
    known = {field.name: field.default is MISSING for field in fields(DataSet) if field.name != "name"}
    if unknown := next((key for key in entry if key not in known), None):
        raise ValueError(f"{file}: {name} has the unknown field {unknown}: choose of {', '.join(known)}")
    if missing := [key for key, needed in known.items() if needed and key not in entry]:
        raise ValueError(f"{file}: {name} lacks {', '.join(missing)}: add it")
    if entry["channels"] not in (1, 3):
        raise ValueError(f"{file}: {name} has channels={entry['channels']}: it must be 3 (colour) or 1 (gray)")
    files = entry.get("files")
    return DataSet(name=name, **{**entry, "files": None if files is None else expanded(map(str, files))})


def _similar(name: str, catalogue: Mapping[str, DataSet]) -> str:
    by_lower = {known.lower(): known for known in catalogue}
    meant = [by_lower[known] for known in difflib.get_close_matches(name.lower(), by_lower, n=3)]
    return f"did you mean {' or '.join(meant)}?" if meant else ""


def _regex(pattern: str) -> re.Pattern[str]:
    return re.compile("(.+?)".join(map(re.escape, pattern.split("*"))))
