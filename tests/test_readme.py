"""Every command in the README and in docs/ is one that works."""

import re
import shlex
from pathlib import Path

import pytest

from kgt_lightning.data import __main__ as data
from kgt_lightning.report import __main__ as report

ROOT = Path(__file__).parents[1]
TEXT = "\n".join(file.read_text() for file in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))))
COMMANDS = re.findall(r"^\s*(?:\S*/)?python -m kgt_lightning\.(\w+)[ \t]*(.*)$", TEXT, re.MULTILINE)


def test_the_readme_shows_every_command():
    assert {name for name, _ in COMMANDS} >= {"train", "evaluate", "restore", "describe", "data", "report"}


@pytest.mark.parametrize(("name", "arguments"), COMMANDS, ids=[" ".join(each) for each in COMMANDS])
def test_commands_compose(composed, name, arguments):
    if name in ("data", "report"):  # take words, not settings
        {"data": data, "report": report}[name].parser().parse_args(shlex.split(arguments, comments=True))
        return
    given = shlex.split(arguments, comments=True)
    if "-m" in given:  # the first job of the sweep
        given.remove("-m")
        given = [each for each in given if "(" not in each]  # spaces of a search
        given = [each if "[" in each or "{" in each else each.partition(",")[0] for each in given]
    if name in ("evaluate", "restore"):  # changes to what a checkpoint holds
        given = [f"+{each}" if re.match(r"(data|degradation|model|module)\.", each) else each for each in given]
    composed(name, *given)
