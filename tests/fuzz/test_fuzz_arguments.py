"""Arguments that nobody thought of: any signs, and values of the wrong type and range for every key of the schema."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from invariants import run

from kgt_lightning import analyze, describe, evaluate, restore, train
from kgt_lightning.config.command import CONF_DIR
from kgt_lightning.config.types import COMMANDS

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00\n\r"), max_size=12)
NUMBERS = st.sampled_from(
    ["0", "-1", "1", "2", "0.5", "-0.5", "1e9", "1e-9", "nan", "inf", "-inf", "4294967296", "1e400"]
)
WORDS = st.sampled_from(
    ["null", "true", "no", "maybe", "[]", "{}", "[0]", "[[]]", "[null]", "{a:1}", "''", "???", "1,2"]
)
VALUES = st.one_of(
    TEXTS,
    NUMBERS,
    WORDS,
    st.integers().map(str),
    st.floats().map(str),
    st.lists(NUMBERS, max_size=3).map(lambda each: f"[{','.join(each)}]"),
)
MAINS = {"analyze": analyze.main, "describe": describe.main, "evaluate": evaluate.main, "restore": restore.main}


def leaves(schema, prefix=""):
    for name, node in schema.get("properties", {}).items():
        if node.get("properties"):
            yield from leaves(node, f"{prefix}{name}.")
        elif not name.startswith("_"):
            yield f"{prefix}{name}"


SCHEMA = json.loads((CONF_DIR / "schema.json").read_text())
MODEL = [
    key for key in leaves(SCHEMA) if key.startswith(("model.", "degradation.", "module.")) and "_convert_" not in key
]
TINY = ("model.width=8", "model.window=4", "model.k=4", "model.layout.depths=[1]", "model.layout.heads=2", "size=[8,8]")

GROUPS = sorted(each.name for each in CONF_DIR.iterdir() if each.is_dir() and each.name != "hydra")
# What is given besides is missed, where a group is another.
KEYS = [argument.partition("=")[0] for argument in TINY]
NEEDED = ("checkpoint", "input", "output")


def names(key, value):
    """What an error may name: the key, its last part with a value, or a value by which it is known."""
    return [key, key.replace("/", "."), f"{key.rpartition('.')[2]}=", *([value] if len(value) > 2 else [])]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One for all cases: what is written there stays the same."""
    folder = tmp_path_factory.mktemp("here")
    (folder / "photo.png").write_bytes(b"no image")
    (folder / "model.ckpt").write_bytes(b"no checkpoint")
    return folder


@given(key=st.sampled_from(MODEL), value=VALUES)
def test_any_value_for_any_key_of_a_model(folder, key, value):
    run(describe.main, *TINY, f"{key}={value}", folder=folder, named=names(key, value))


@given(data=st.data(), command=st.sampled_from(sorted(MAINS)))
def test_any_value_for_any_key_of_a_command(folder, data, command):
    key, value = data.draw(st.sampled_from(sorted(COMMANDS[command]))).removesuffix(".name"), data.draw(VALUES)
    # What is needed besides is missed by its name.
    named = [*names(key, value), *NEEDED]
    run(MAINS[command], f"{key}={value}", folder=folder, may_change=["outputs"], named=named)


@given(
    arguments=st.lists(st.one_of(TEXTS, VALUES.map("--output {}".format), VALUES.map("input={}".format)), max_size=4)
)
def test_any_arguments(folder, arguments):
    run(restore.main, *arguments, folder=folder, named=[*filter(None, map(str.strip, arguments)), *NEEDED])


@given(
    mark=st.sampled_from(["", "+", "++", "~"]),
    group=st.sampled_from([*GROUPS, "hydra/job_logging", "hydra/launcher", "other"]),
    value=VALUES,
)
def test_any_value_for_any_group_of_a_model(folder, mark, group, value):
    run(describe.main, *TINY, f"{mark}{group}={value}", folder=folder, named=[*names(group, value), *KEYS])


@given(key=st.sampled_from(MODEL))
def test_any_key_left_out(folder, key):
    run(describe.main, *TINY, f"~{key}", folder=folder, named=[key, key.rpartition(".")[2], *KEYS])


@given(key=st.sampled_from(sorted(set(leaves(SCHEMA)) - {"run", "run_dir"})), value=VALUES)
def test_any_value_for_any_key_of_a_training(folder, monkeypatch, key, value):
    """To the point where the run would begin; what was accepted is built."""
    monkeypatch.setattr(train, "run_in_ranks", lambda *_: True)
    monkeypatch.setattr(train, "read_score", lambda *_: None)
    run(train.main, f"{key}={value}", folder=folder, may_change=["outputs"], named=names(key, value))
