"""Prints a JSON schema of the configuration of a training, so that editors complete and explain keys.

python -m kgt_lightning.config.json_schema > conf/schema.json
"""

import inspect
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hydra.utils import get_object
from omegaconf import OmegaConf

from kgt_lightning.config.comments import CONF_DIR, package, read_keys
from kgt_lightning.config.help import RECIPES

_SIMPLE = {bool: "boolean", int: "integer", float: "number", str: "string", NoneType: "null"}
_INTERPOLATION = {"$ref": "#/$defs/interpolation"}

Schema = dict[str, Any]


def json_schema() -> Schema:
    """Schema of what ``conf/train.yaml`` composes, also of files that change a part of it."""
    root: Schema = {}
    # What experiments and the like change stands in the files of the other groups.
    groups = sorted(each for each in CONF_DIR.iterdir() if each.is_dir() and each.name not in (*RECIPES, "hydra"))
    for file in (CONF_DIR / "train.yaml", *(file for group in groups for file in sorted(group.glob("*.yaml")))):
        _add_file(root, file)
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Configuration of a training with kgt_lightning",
        "$defs": {"interpolation": {"type": "string", "pattern": r"\$\{.*\}", "description": "value of another key"}},
        "type": "object",
        **root,
    }


def _add_file(root: Schema, file: Path) -> None:
    """Add the keys of one file, with types by the signatures of the classes that it names, and with its comments."""
    content: Any = OmegaConf.to_container(OmegaConf.load(file))
    comments = read_keys(file)
    content.pop("defaults", None)
    content.pop("hydra", None)
    for name in reversed(package(file).split(".")):
        content = {name: content} if name else content
    _add(root, content, comments, prefix="")


def _add(node: Schema, section: Mapping[Any, Any], comments: Mapping[str, Any], *, prefix: str) -> None:
    properties = node.setdefault("properties", {})
    hints = dict(_parameters(section["_target_"])) if "_target_" in section else {}
    for name, hint in hints.items():
        _add_type(properties.setdefault(name, {}), _schema(hint))
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


def _parameters(target: str) -> Iterator[tuple[str, Any]]:
    """Parameters of a class or function, each with its annotation."""
    called = get_object(target)
    try:
        hints = get_type_hints(called.__init__ if inspect.isclass(called) else called)
    except NameError:  # a library's annotations that only its type checker can see
        hints = {}
    for name, parameter in inspect.signature(called).parameters.items():
        if parameter.kind not in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL):
            yield name, hints.get(name, Any)


def _add_type(entry: Schema, schema: Schema) -> None:
    """Allow what another file allows, too, and the value of another key."""
    if not schema or "properties" in entry:
        return
    allowed = {
        json.dumps(each, sort_keys=True): each for each in [*entry.get("anyOf", []), *schema.get("anyOf", [schema])]
    }
    allowed.pop(json.dumps(_INTERPOLATION), None)
    entry["anyOf"] = [*(allowed[key] for key in sorted(allowed)), _INTERPOLATION]


def _schema(hint: Any) -> Schema:
    """Schema of an annotation; empty for one that takes anything."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in _SIMPLE:
        return {"type": _SIMPLE[hint]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (Union, UnionType):
        parts = [_schema(each) for each in arguments]
        return {"anyOf": [each for part in parts for each in part.get("anyOf", [part])]} if all(parts) else {}
    if origin in (Sequence, list, tuple):
        return {"type": "array", "items": _schema(arguments[0])}
    if origin in (Mapping, dict):
        return {"type": "object", "additionalProperties": _schema(arguments[1])}
    return {"type": "object"} if inspect.isclass(hint) and hint.__module__ != "typing" else {}


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
