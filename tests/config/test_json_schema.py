"""What the schema knows is what the classes take, and editors find it current."""

import json
from pathlib import Path
from typing import Literal

import pytest
from omegaconf import OmegaConf

from kgt_lightning.config.comments import CONF_DIR, read_keys
from kgt_lightning.config.json_schema import json_schema
from kgt_lightning.config.schema import schema_of

SCHEMA = json.loads((CONF_DIR / "schema.json").read_text())


def allows(schema, value):
    """Whether a value fits a schema, as far as this one goes."""
    if "$ref" in schema:
        return isinstance(value, str) and "${" in value
    if "anyOf" in schema and not any(allows(each, value) for each in schema["anyOf"]):
        return False
    if "enum" in schema:
        return value in schema["enum"]
    kinds = {"integer": int, "number": (int, float), "string": str, "boolean": bool, "array": list, "object": dict}
    if schema.get("type") == "null":
        return value is None
    if "type" in schema and not isinstance(value, kinds[schema["type"]]):
        return False
    if schema.get("type") == "array":
        return all(allows(schema.get("items", {}), each) for each in value)
    if isinstance(value, dict):
        return all(allows(each, value[key]) for key, each in schema.get("properties", {}).items() if key in value)
    return True


def test_it_is_current():
    assert json_schema() == SCHEMA, "python -m kgt_lightning.config.json_schema > conf/schema.json"


@pytest.mark.parametrize("file", sorted((CONF_DIR / "experiment").rglob("*.yaml")), ids=lambda file: file.stem)
def test_every_experiment_fits(file):
    content = OmegaConf.to_container(OmegaConf.load(file))
    content = {key: value for key, value in content.items() if key not in ("defaults", "hydra")}
    assert allows(SCHEMA, content)


def test_every_key_is_known_and_explained():
    for group in ("loss", "task", "model", "optim", "trainer", "logger", "callbacks"):
        for file in (CONF_DIR / group).glob("*.yaml"):
            for name, key in read_keys(file).items():
                node = SCHEMA
                for part in name.split("."):
                    node = node.get("properties", {}).get(part)
                    if node is None:
                        break
                assert node is not None or "default_test" in name or "modulo" in name, name
                if node is not None and key.comment:
                    assert node["description"]


def test_values_that_do_not_fit_are_seen():
    assert allows(SCHEMA, {"model": {"k": 3}, "degradation": {"sigma": [15, 25]}, "optim": {"lr": "${other}"}})
    assert not allows(SCHEMA, {"model": {"k": "many"}})
    assert not allows(SCHEMA, {"model": {"layout": {"depths": ["a"]}}})
    assert not allows(SCHEMA, {"trainer": {"max_steps": "many"}})


@pytest.mark.parametrize(
    ("hint", "schema"),
    [
        (Literal["a", 3], {"enum": ["a", 3]}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (
            dict[str, float] | None,
            {"anyOf": [{"type": "object", "additionalProperties": {"type": "number"}}, {"type": "null"}]},
        ),
        (Path, {"type": "object"}),
    ],
)
def test_annotations(hint, schema):
    assert schema_of(hint) == schema
