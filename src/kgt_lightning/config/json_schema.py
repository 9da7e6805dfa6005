"""Prints a JSON schema of the configuration of a training, so that editors complete and explain keys.

python -m kgt_lightning.config.json_schema > conf/schema.json
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from kgt_lightning.config.comments import CONF_DIR, package, read_keys
from kgt_lightning.config.help import RECIPES
from kgt_lightning.config.schema import schema_of, signature
from kgt_lightning.config.types import COMMANDS

_SIMPLE = {bool: "boolean", int: "integer", str: "string"}
_INTERPOLATION = {"$ref": "#/$defs/interpolation"}

Schema = dict[str, Any]


def json_schema() -> Schema:
    """Schema of what ``conf/train.yaml`` composes, also of files that change a part of it."""
    root: Schema = {}
    # What experiments and the like change stands in the files of the other groups.
    groups = sorted(each for each in CONF_DIR.iterdir() if each.is_dir() and each.name not in (*RECIPES, "hydra"))
    for file in (CONF_DIR / "train.yaml", *(file for group in groups for file in sorted(group.glob("*.yaml")))):
        # types by the signatures of the classes that it names
        _add(root, content_of(file), read_keys(file), prefix="")
    for name, hint in COMMANDS["train"].items():
        entry = root
        for part in name.split("."):
            entry = entry["properties"][part]
        entry.pop("anyOf", None)
        _add_type(entry, schema_of(hint))
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Configuration of a training with kgt_lightning",
        "$defs": {"interpolation": {"type": "string", "pattern": r"\$\{.*\}", "description": "value of another key"}},
        "type": "object",
        **root,
    }


def content_of(file: Path) -> dict[Any, Any]:
    """What a file adds to the configuration, in its place there."""
    content: Any = OmegaConf.to_container(OmegaConf.load(file))
    content.pop("defaults", None)
    content.pop("hydra", None)
    for name in reversed(package(file).split(".")):
        content = {name: content} if name else content
    return content


def _add(node: Schema, section: Mapping[Any, Any], comments: Mapping[str, Any], *, prefix: str) -> None:
    properties = node.setdefault("properties", {})
    hints = signature(section["_target_"]) if "_target_" in section else {}
    for name, hint in hints.items():
        _add_type(properties.setdefault(name, {}), schema_of(hint))
    for key, value in section.items():
        name = str(key)
        entry = properties.setdefault(name, {})
        comment = comments.get(f"{prefix}{name}")
        if comment is not None and comment.comment:
            entry.setdefault("description", comment.comment)
        if isinstance(value, Mapping) and (not hints or "_target_" in value):
            _add(entry, value, comments, prefix=f"{prefix}{name}.")
        elif name.startswith("_"):
            _add_type(entry, {"type": _SIMPLE.get(type(value), "string")})
        elif name not in hints and value is not None and not _is_interpolation(value):
            _add_type(entry, _of_value(value))


def _add_type(entry: Schema, schema: Schema) -> None:
    """Allow what another file allows, too, and the value of another key."""
    if not schema or "properties" in entry:
        return
    allowed = {
        json.dumps(each, sort_keys=True): each for each in [*entry.get("anyOf", []), *schema.get("anyOf", [schema])]
    }
    allowed.pop(json.dumps(_INTERPOLATION), None)
    entry["anyOf"] = [*(allowed[key] for key in sorted(allowed)), _INTERPOLATION]


def _of_value(value: Any) -> Schema:
    """Schema of values like a default."""
    if isinstance(value, list):
        return {"type": "array"}
    if isinstance(value, dict):
        return {"type": "object"}
    return {"type": "number" if type(value) is float else _SIMPLE[type(value)]}


def _is_interpolation(value: Any) -> bool:
    return isinstance(value, str) and "${" in value


if __name__ == "__main__":
    json.dump(json_schema(), sys.stdout, indent=1, sort_keys=True)
    print()  # noqa: T201
