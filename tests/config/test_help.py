import re
from pathlib import Path

import pytest

from kgt_lightning.config.comments import CONF_DIR, head, options, read_groups, read_keys
from kgt_lightning.config.help import NOT_READ, command_help, summary

COMMANDS = ("analyze", "bench", "describe", "evaluate", "restore", "train")
SOURCES = Path(__file__).parents[2] / "src" / "kgt_lightning"


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")


def shown(text):
    """Keys in a help text, with what stands beside them."""
    return dict(re.findall(r"^  (\w[\w.]*)  +(.*)$", text, re.MULTILINE))


def test_a_key_is_shown_with_its_default_and_its_comment():
    keys = shown(command_help("restore", [], about=""))
    assert re.match(r"256 +side in pixels of what is restored at once", keys["tile"])
    assert keys["input"].startswith("needed ")


def test_chosen_groups_are_shown():
    assert "data.gopro_blur" in shown(command_help("train", ["task=deblur"], about=""))
    chosen = shown(command_help("train", ["task=sr", "optim=multistep", "model.k=3"], about=""))
    assert "data.gopro_blur" not in chosen
    assert chosen["data.patch"].startswith("${times:32,${degradation.scale}}")
    assert "optim.milestones" not in chosen
    assert chosen["optim.schedule.milestones"].startswith("[0.5, 0.8, 0.9, 0.95]")
    assert all(name in chosen["model"] for name in ("kgt_nano", "kgt_unet"))
    assert "_shared" not in chosen["model"]


def test_a_recipe_changes_what_is_shown():
    text = shown(command_help("train", ["experiment=quick/sr"], about=""))
    assert text["task"].startswith("sr ")
    assert text["degradation.scale"].startswith("2 ")
    assert text["trainer.max_steps"].split()[0] != "200"
    assert shown(command_help("train", ["experiment=quick/sr", "task=jpeg"], about=""))["task"].startswith("jpeg ")


def test_groups_that_others_bring_are_shown():
    text = shown(command_help("train", ["loss=charbonnier"], about=""))
    assert text["loss"].startswith("charbonnier ")
    assert text["module.loss.eps"].startswith("1e-3 ")


def test_a_comment_is_inherited_from_the_file_that_is_changed():
    keys = read_keys(CONF_DIR / "task" / "sr.yaml")
    assert keys["module.scoring.crops"].default == '["${degradation.scale}"]'
    shared = read_keys(CONF_DIR / "task" / "_shared.yaml")["module.scoring.crops"]
    assert keys["module.scoring.crops"].comment == shared.comment


def test_comments_stand_behind_or_above(tmp_path):
    file = CONF_DIR / "train.yaml"
    keys = read_keys(file)
    assert keys["retry"].comment == "With -m: whether jobs that failed before are tried again."
    assert keys["seed"].comment.startswith("of everything")
    assert read_groups(file)["experiment"].comment.startswith("a recipe")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_setting_of_a_command_is_explained(command):
    """What stands in the file of a command is what its user sees first."""
    file = CONF_DIR / f"{command}.yaml"
    assert head(file)[0].startswith(f"python -m kgt_lightning.{command}")
    keys = read_keys(file)
    groups = read_groups(file)
    own = [name for name in keys if name.partition(".")[0] not in (*groups, *NOT_READ.get(command, ()))]
    explained = {name for name in own if keys[name].comment}
    # The last of several keys below one comment, and what only repeats another key, need none.
    assert {name for name in own if keys[name].default not in ("", "{}")} - explained <= {"run_dir"}


@pytest.mark.parametrize("command", COMMANDS)
def test_no_key_is_shown_that_nothing_reads(command):
    source = "\n".join(file.read_text() for file in SOURCES.rglob("*.py"))
    conf = "\n".join(file.read_text() for file in CONF_DIR.rglob("*.yaml"))
    for name in read_keys(CONF_DIR / f"{command}.yaml"):
        top = name.partition(".")[0]
        assert re.search(
            rf"config\.{top}\b|\$\{{{top}\}}|SECTIONS = \(.*\"{top}\"|hydra:runtime.choices.{top}", source + conf
        ), name


@pytest.mark.parametrize("command", NOT_READ)
def test_what_is_left_out_is_there(command):
    file = CONF_DIR / f"{command}.yaml"
    keys = set(read_keys(file))
    for group, found in read_groups(file).items():
        chosen = CONF_DIR / group / f"{found.choice}.yaml"
        keys |= set(read_keys(chosen)) if chosen.is_file() else set()
    text = shown(command_help(command, [], about=""))
    for name in NOT_READ[command]:
        assert any(f"{key}.".startswith(f"{name}.") for key in keys), name
        assert name not in text


def test_options_are_the_files_that_may_be_chosen():
    assert "quick/denoise" in options("experiment")
    assert not any(name.rpartition("/")[2][0] == "_" for name in options("experiment"))


def test_a_command_is_summed_up_by_its_own_file():
    assert summary(SOURCES / "restore.py") == "restore an image file, or every image in a folder"
