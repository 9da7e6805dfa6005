"""What a command says when asked for help: its keys, with their defaults and comments, as they stand in conf/."""

import ast
import re
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from kgt_lightning.config.comments import CONF_DIR, Key, head, merge, options, read_groups, read_keys

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
    groups = {name: each for name, each in read_groups(file).items() if name not in NOT_READ.get(command, ())}
    own = _read_here(command, read_keys(file))
    # What the file changes of a group is shown with the group.
    sections = {"keys": {key: each for key, each in own.items() if "." not in key or key.split(".")[0] not in groups}}
    rows = []
    for group, (default, comment) in groups.items():
        choice = given.get(group, default)
        names = options(group)
        if names:
            rows += _row(group, choice, "; ".join(filter(None, ["one of " + ", ".join(names), comment])))
        chosen = CONF_DIR / group / f"{choice}.yaml"
        if chosen.is_file() and group not in ("experiment", "debug"):
            keys = _read_here(command, read_keys(chosen))
            keys = merge(keys, {key: own[key] for key in keys if key in own})
            title = f"{group}={choice}: {' '.join(head(chosen))}".rstrip(": ")
            sections[title] = {key: each for key, each in keys.items() if key != group}
    if rows:
        lines += ["", "groups: each names a file of conf/", *rows]
    for title, keys in sections.items():
        rows = [row for key, value in keys.items() for row in _key_row(key, value)]
        if rows:
            lines += ["", title, *rows]
    return "\n".join([*lines, "", "options", _OPTIONS])


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
