"""The keys of the files in conf/, each with its default and its comment, read without composing them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import yaml

_PACKAGED = Path(__file__).parents[1] / "conf"
CONF_DIR = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parents[3] / "conf"
"""The configuration: inside an installed package, or beside src/ in a checkout."""


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
    package = "" if _is_global(lines) else ".".join(file.relative_to(CONF_DIR).parts[:-1])
    own = dict(_keys(_root(lines), lines, prefix=f"{package}." if package else ""))
    based_on = [_base(file, entry) for entry, _ in _defaults(lines) if isinstance(entry, yaml.ScalarNode)]
    inherited = {name: key for base in based_on if base is not None for name, key in read_keys(base).items()}
    return merge(inherited, own)


def merge(earlier: Mapping[str, Key], later: Mapping[str, Key]) -> dict[str, Key]:
    """Keys of both: the later default counts, and the earlier comment where the later has none."""
    merged = dict(earlier)
    for name, key in later.items():
        comment = key.comment or merged.get(name, key).comment
        merged[name] = Key(key.default, comment)
    return merged


def read_groups(file: Path) -> dict[str, Group]:
    """Groups that a command's file composes, by their names."""
    lines = file.read_text().splitlines()
    groups = {}
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
        if not line.startswith(("# @package", "# yaml-language-server")):
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


def _is_global(lines: list[str]) -> bool:
    return any(line.startswith("# @package _global_") for line in lines[:3])


def _base(file: Path, entry: yaml.ScalarNode) -> Path | None:
    """File that an entry of the defaults list names, from the top, in the same folder, or in that of its group."""
    if entry.value == "_self_":
        return None
    name = f"{entry.value.lstrip('/')}.yaml"
    if entry.value.startswith("/"):
        return CONF_DIR / name
    group = CONF_DIR / file.relative_to(CONF_DIR).parts[0]
    return next((path for path in (file.parent / name, group / name) if path.is_file()), None)
