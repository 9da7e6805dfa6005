"""What a command says when asked for help: its keys, with their defaults and comments, as they stand in conf/."""

import ast
import re
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from kgt_lightning.config.comments import CONF_DIR, Key, head, merge, options, package, read_groups, read_keys

NOT_READ = {
    "evaluate": (
        "trainer.accumulate_grad_batches",
        "trainer.check_val_every_n_epoch",
        "trainer.gradient_clip_val",
        "trainer.log_every_n_steps",
        "trainer.max_steps",
        "trainer.num_sanity_val_steps",
        "trainer.plugins",
        "trainer.val_check_interval",
    ),
    "describe": ("data", "data_root", "model_name", "module", "optim", "protocol", "seed"),
    "bench": ("module", "optim", "protocol", "run_dir"),
}
"""Of the commands that compose files written for another one: keys that are composed, and change nothing here."""

RECIPES = ("experiment", "debug")
"""Groups whose files change the others."""

_MISSING = "???"
_OPTIONS = """\
  -m                            one job for every combination of the values a,b given to keys
  --cfg job                     print the configuration as composed, and do nothing
  --hydra-help                  Hydra's own options
"""


def summary(module_file: Path) -> str:
    """What a command does, the first line of its file, without importing it."""
    docstring = ast.get_docstring(ast.parse(module_file.read_text())) or ""
    return docstring.partition("\n")[0].removeprefix("Command: ").rstrip(".")


def command_help(command: str, arguments: Sequence[str], *, about: str) -> str:
    """Help of the command whose configuration is ``conf/<command>.yaml``, with the groups that the arguments choose."""
    file = CONF_DIR / f"{command}.yaml"
    given = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    lines = [f"kgt {command}: {about}", "", f"usage: kgt {command} key=value ...", ""]
    lines += [f"  {line.replace('python -m kgt_lightning.', 'kgt ')}" for line in head(file)]
    chosen = _chosen(file, given, not_read=NOT_READ.get(command, ()))
    recipes = [path for group, (path, _) in chosen.items() if group in RECIPES and path.is_file()]
    changed = read_keys(file)
    for recipe in recipes:
        changed = merge(changed, read_keys(recipe))
    changed = _read_here(command, changed)
    sections: dict[str, dict[str, Key]] = {}
    rows = []
    for group, (path, comment) in chosen.items():
        name = path.relative_to(CONF_DIR / group).with_suffix("").as_posix()
        if names := options(group):
            rows += _row(group, name, "; ".join(filter(None, ["one of " + ", ".join(names), comment])))
        if path.is_file() and path not in recipes:
            keys = _read_here(command, read_keys(path))
            title = f"{group}={name}: {' '.join(head(path))}".rstrip(": ")
            sections[title] = merge(keys, {key: changed[key] for key in keys if key in changed})
    if rows:
        lines += ["", "groups: each names a file of conf/", *rows]
    composed = {*chosen, *(key for keys in sections.values() for key in keys)}
    own = {key: each for key, each in changed.items() if key not in composed}
    for title, keys in {"keys": own, **sections}.items():
        rows = [row for key, each in keys.items() if key not in chosen for row in _key_row(key, each)]
        if rows:
            lines += ["", title, *rows]
    return "\n".join([*lines, "", "options", _OPTIONS])


def _chosen(file: Path, given: Mapping[str, str], *, not_read: Sequence[str]) -> dict[str, tuple[Path, str]]:
    """Groups that a command composes, each with its file and comment, those that other groups bring too."""
    groups = {name: each for name, each in read_groups(file).items() if name not in not_read}
    recipes = [CONF_DIR / name / f"{given[name]}.yaml" for name in RECIPES if name in groups and name in given]
    choices = {name: each.choice for path in recipes if path.is_file() for name, each in read_groups(path).items()}
    chosen: dict[str, tuple[Path, str]] = {}
    left = list(groups.items())
    while left:
        name, group = left.pop(0)
        choice = given.get(name) or choices.get(name) or group.choice
        path = CONF_DIR / name / f"{choice}.yaml"
        if path.is_file() and package(path).partition(".")[0] in not_read:
            continue
        chosen[name] = (path, group.comment)
        if path.is_file() and name not in RECIPES:
            left = [*read_groups(path).items(), *left]
    return chosen


def _read_here(command: str, keys: Mapping[str, Key]) -> dict[str, Key]:
    """The keys that a command reads."""
    left_out = tuple(f"{name}." for name in NOT_READ.get(command, ()))
    return {name: key for name, key in keys.items() if not f"{name}.".startswith(left_out)} if left_out else dict(keys)


def _key_row(name: str, key: Key) -> list[str]:
    # What only repeats another key is set there.
    if not key.comment and (not key.default or key.default.startswith("${")):
        return []
    default = re.sub(r"^\$\{oc\.env:(\w+),.*", r"$\1", key.default)
    return _row(name, "needed" if default == _MISSING else default, key.comment)


def _row(name: str, default: str, comment: str) -> list[str]:
    """A key, its default and its comment, wrapped to the width of the terminal."""
    width = min(shutil.get_terminal_size((120, 0)).columns, 140)
    left = f"  {name:<28}  {default:<16}"
    if len(left) > 48:
        # a long default has a line of its own
        return [left.rstrip(), *textwrap.wrap(comment, width, initial_indent=" " * 50, subsequent_indent=" " * 50)]
    return textwrap.wrap(comment, width, initial_indent=f"{left:<50}", subsequent_indent=" " * 50) or [left.rstrip()]
