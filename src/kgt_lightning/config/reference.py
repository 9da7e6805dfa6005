"""Prints a page of all keys of the configuration in Markdown: comment, default, type and range, file by file.

python -m kgt_lightning.config.reference > reference.md
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kgt_lightning.config.comments import CONF_DIR, Key, head, read_keys
from kgt_lightning.config.help import RECIPES
from kgt_lightning.config.json_schema import content_of
from kgt_lightning.config.schema import in_words, signature
from kgt_lightning.config.types import COMMANDS


def reference() -> str:
    """The page: the commands first, then the groups of files that they are composed of."""
    lines = [
        "# Configuration",
        "",
        "Every value stands once, in a file of conf/; `kgt <command> --help` shows what one command reads. A key is set"
        " with `key=value`, a file of a group chosen with `group=file`. Lists are written `[a,b]`.",
        "",
    ]
    groups = [each for each in sorted(CONF_DIR.iterdir()) if each.is_dir() and each.name not in (*RECIPES, "hydra")]
    for file in (file for folder in (CONF_DIR, *groups) for file in sorted(folder.glob("*.yaml"))):
        rows = list(_rows(file))
        if not rows:
            continue
        group = file.parent.name
        title = f"kgt {file.stem}" if file.parent == CONF_DIR else f"{group}={file.stem}"
        if file.stem.startswith("_"):
            title = f"{group}: what several files share"
        about = [] if file.parent == CONF_DIR else head(file)
        lines += [f"## {title}", "", *map(_words, about), *[""] * bool(about)]
        lines += ["| key | default | what it may be | what it means |", "|---|---|---|---|", *rows, ""]
    return "\n".join(lines)


def _rows(file: Path) -> Iterator[str]:
    hints = dict(_hints(content_of(file), prefix=""))
    if file.parent == CONF_DIR:
        hints |= COMMANDS.get(file.stem, {})
    own = set(_dotted(content_of(file), prefix=""))
    for name, key in read_keys(file).items():
        if name in own and (key.default or key.comment):
            cells = f"`{name}`", _default(key), in_words(hints.get(name, Any)), _words(key.comment)
            yield f"| {' | '.join(map(_cell, cells))} |"


def _default(key: Key) -> str:
    return "needed" if key.default == "???" else f"`{key.default}`" if key.default else ""


def _words(text: str) -> str:
    """The text so that <file> is no tag."""
    return text.replace("<", "&lt;")


def _cell(text: str) -> str:
    return text.replace("|", "\\|") if text != "anything" else ""


def _hints(section: Mapping[Any, Any], *, prefix: str) -> Iterator[tuple[str, Any]]:
    """Types of all keys by their dotted names, as far as they are declared."""
    declared = signature(section["_target_"]) if "_target_" in section else {}
    for key, value in section.items():
        if key in declared:
            yield f"{prefix}{key}", declared[key]
        if isinstance(value, Mapping):
            yield from _hints(value, prefix=f"{prefix}{key}.")


def _dotted(section: Mapping[Any, Any], *, prefix: str) -> Iterator[str]:
    for key, value in section.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _dotted(value, prefix=f"{prefix}{key}.")


if __name__ == "__main__":
    print(reference())  # noqa: T201
