"""The keys of the files in conf/, each with its default and its comment, read without composing them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import yaml

_PACKAGED = Path(__file__).parents[1] / "conf"
CONF_DIR = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parents[3] / "conf"
"""The configuration: inside an installed package, or beside src/ in a checkout."""


_PACKAGE = "# @package "
_OF_HYDRA = ("defaults", "hydra")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The fast one where PyYAML was built with it."""


class Key(NamedTuple):
    """One key of the configuration."""

    default: str
    """As it is written; empty for a section."""
    comment: str
    """What stands behind it, or else in the lines above."""


class Group(NamedTuple):
    """A group of files that a file composes, one of them chosen."""

    choice: str
    comment: str


def read_keys(file: Path) -> dict[str, Key]:
    """Keys of a file of conf/ by their dotted names, those of the files it is based on before its own.

    Left out are the sections that Hydra keeps for itself, and what begins with an underscore.
    """
    lines = file.read_text().splitlines()
    section = package(file)
    keys: dict[str, Key] = {}
    for base in _bases(file, lines):
        keys = merge(keys, read_keys(base))
    return merge(keys, dict(_keys(_root(lines), lines, prefix=f"{section}." if section else "")))


def package(file: Path) -> str:
    """Section of the configuration that a file of conf/ fills; empty for the whole."""
    for line in file.read_text().splitlines()[:2]:
        if line.startswith(_PACKAGE):
            return line.removeprefix(_PACKAGE).strip().replace("_global_", "")
    return ".".join(_group(file))


def merge(earlier: Mapping[str, Key], later: Mapping[str, Key]) -> dict[str, Key]:
    """Keys of both: the later default counts, and the earlier comment where the later has none."""
    merged = dict(earlier)
    for name, key in later.items():
        comment = key.comment or merged.get(name, key).comment
        merged[name] = Key(key.default, comment)
    return merged


def read_groups(file: Path) -> dict[str, Group]:
    """Groups that a file composes, also by the files it is based on, by their names."""
    lines = file.read_text().splitlines()
    groups: dict[str, Group] = {}
    for base in _bases(file, lines):
        groups |= read_groups(base)
    for entry, comment in _defaults(lines):
        if isinstance(entry, yaml.MappingNode):
            key, value = entry.value[0]
            groups[key.value.removeprefix("override ").lstrip("/")] = Group(value.value, comment)
    return groups


def options(group: str) -> list[str]:
    """Names that may be chosen from a group."""
    folder = CONF_DIR / group
    return sorted(file.relative_to(folder).with_suffix("").as_posix() for file in folder.rglob("[!_]*.yaml"))


def head(file: Path) -> list[str]:
    """The comment that a file begins with, without the line that is meant for Hydra."""
    found = []
    for line in file.read_text().splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith((_PACKAGE, "# yaml-language-server")):
            found.append(line.lstrip("# "))
    return found


def _root(lines: list[str]) -> yaml.MappingNode:
    node = yaml.compose("\n".join(lines), Loader=_LOADER)
    return node if isinstance(node, yaml.MappingNode) else yaml.MappingNode("tag:yaml.org,2002:map", [])


def _defaults(lines: list[str]) -> list[tuple[yaml.Node, str]]:
    """Entries of the defaults list, each with its comment."""
    for key, value in _root(lines).value:
        if key.value == "defaults":
            return [(entry, _comment(lines, _last(entry))) for entry in value.value]
    return []


def _last(entry: yaml.Node) -> yaml.Node:
    """The value of ``group: value``."""
    return entry.value[0][1] if isinstance(entry, yaml.MappingNode) else entry


def _keys(node: yaml.MappingNode, lines: list[str], *, prefix: str) -> Iterator[tuple[str, Key]]:
    for key, value in node.value:
        if key.value.startswith("_") or key.value in _OF_HYDRA:
            continue
        name = f"{prefix}{key.value}"
        is_section = isinstance(value, yaml.MappingNode) and not value.flow_style
        default = "" if is_section else _text(value, lines)
        yield name, Key(default, _comment(lines, key if is_section else value) or _above(lines, key))
        if is_section:
            yield from _keys(value, lines, prefix=f"{name}.")


def _text(value: yaml.Node, lines: list[str]) -> str:
    """The value as it is written, on one line."""
    start, end = value.start_mark, value.end_mark
    if start.line == end.line:
        return lines[start.line][start.column : end.column]
    written = [lines[start.line][start.column :], *lines[start.line + 1 : end.line]]
    if end.column:
        written.append(lines[end.line][: end.column])
    return " ".join(line.partition(" #")[0].strip() for line in written)


def _comment(lines: list[str], node: yaml.Node) -> str:
    """What stands behind a node on its line."""
    rest = lines[node.end_mark.line][node.end_mark.column :].lstrip(": ")
    return rest.lstrip("# ") if rest.startswith("#") else ""


def _above(lines: list[str], key: yaml.Node) -> str:
    """The lines of comment right above a key, but not those that the file begins with."""
    start = key.start_mark.line
    while start > 0 and lines[start - 1].lstrip().startswith("#"):
        start -= 1
    return " ".join(line.strip("# ") for line in lines[start : key.start_mark.line]) if start > 0 else ""


def _bases(file: Path, lines: list[str]) -> Iterator[Path]:
    """Files that a file is based on: named from the top, in the same folder, or in that of its group."""
    for entry, _ in _defaults(lines):
        if isinstance(entry, yaml.ScalarNode) and entry.value != "_self_":
            name = f"{entry.value}.yaml"
            folders = (CONF_DIR,) if name[0] == "/" else (file.parent, CONF_DIR.joinpath(*_group(file)[:1]))
            yield from [folder / name.lstrip("/") for folder in folders if (folder / name.lstrip("/")).is_file()][:1]


def _group(file: Path) -> tuple[str, ...]:
    return file.relative_to(CONF_DIR).parts[:-1]
