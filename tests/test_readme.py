"""Every command in the README and in docs/ is one that works, pasted into a shell."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from kgt_lightning.config.command import CONF_DIR
from kgt_lightning.data import __main__ as data
from kgt_lightning.report import __main__ as report

ROOT = Path(__file__).parents[1]
FOLDERS = ("docs", "examples", "experiments")
PAGES = [ROOT / "README.md", *(page for folder in FOLDERS for page in sorted((ROOT / folder).rglob("*.md")))]
# What is no command of ours does nothing. bash is told to refuse a pattern that matches nothing, as zsh does.
SHELL = """
PATH=/nowhere
[ -z "${BASH_VERSION-}" ] || shopt -s failglob
command_not_found_handle() { :; }
command_not_found_handler() { :; }
cd() { :; }; source() { :; }; exit() { :; }
python() { printf '%s\\037' "$@"; printf '\\036'; }
kgt() { python -m "kgt_lightning.$@"; }
"""


def blocks(page: Path) -> list[str]:
    """The blocks of the page that are to be pasted into a shell; one that begins with #! is a file."""
    found = re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    return [block for block in found if not block.startswith("#!")]


def arguments_in(shell: str, page: Path, folder: str | Path = "/") -> list[list[str]]:
    """Of every command of ours on the page what the shell hands to Python."""
    script = SHELL + "\n".join(blocks(page))
    done = subprocess.run([shell, "-c", script], capture_output=True, text=True, cwd=folder, timeout=30)
    assert not done.stderr, f"{page.relative_to(ROOT)} in {shell}: {done.stderr}"
    return [command.split("\037")[:-1] for command in done.stdout.split("\036")[:-1]]


def our_commands() -> list[tuple[str, tuple[str, ...]]]:
    """Name and arguments of each command of README and docs/, once."""
    pages = [page for page in PAGES if page.parent == ROOT or ROOT / "docs" in page.parents]
    given = [command for page in pages for command in arguments_in("bash", page)]
    ours = [
        (name.partition(".")[2], tuple(rest))
        for dash_m, name, *rest in (c for c in given if len(c) > 1)
        if dash_m == "-m"
    ]
    return list(dict.fromkeys(ours))


COMMANDS = our_commands()


def test_the_pages_show_every_command():
    assert {name for name, _ in COMMANDS} >= {
        "train",
        "evaluate",
        "restore",
        "describe",
        "data",
        "report",
        "analyze",
        "bench",
    }


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_survive_the_shell(page, tmp_path):
    """No brackets that zsh takes for a pattern, no braces that expand, no comment, which a zsh prompt refuses."""
    in_bash = arguments_in("bash", page, tmp_path)
    words = [word for command in in_bash for word in command]
    assert not [word for word in words if re.search(r"=\w+:[^{}]*$|^\w+:.*}$", word) and "://" not in word], (
        "quote {...}"
    )
    assert not re.search(r"(^|\s)#", "\n".join(blocks(page))), "comments go beside the block"
    if shutil.which("zsh"):
        assert arguments_in("zsh", page, tmp_path) == in_bash


@pytest.mark.parametrize(("name", "arguments"), COMMANDS, ids=[" ".join([name, *words]) for name, words in COMMANDS])
def test_commands_compose(composed, name, arguments):
    if name in ("data", "report"):  # take words, not settings
        {"data": data, "report": report}[name].parser().parse_args(arguments)
        return
    given = list(arguments)
    assert (CONF_DIR / f"{name}.yaml").exists()
    if "-m" in given:  # the first job of the sweep
        given.remove("-m")
        given = [word for word in given if "(" not in word]  # spaces of a search
        given = [word if "[" in word or "{" in word else word.partition(",")[0] for word in given]
    if name in ("evaluate", "restore"):  # changes to what a checkpoint holds, and the name of a task
        given = [f"+{word}" if re.match(r"(data|degradation|model|module)\.", word) else word for word in given]
        given = [re.sub("^task=", "task.name=", word) for word in given]
    composed(name, *(word for word in given if word != "--help"))
