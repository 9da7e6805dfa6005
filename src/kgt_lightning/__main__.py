"""kgt <command> ...: the commands under one name; only the one asked for is imported."""

import difflib
import os
import runpy
import sys
from pathlib import Path

from kgt_lightning import __version__
from kgt_lightning.config.comments import CONF_DIR
from kgt_lightning.config.help import command_help, summary
from kgt_lightning.system.ending import ended_by_interrupt, exit_with

COMMANDS = (
    "train",
    "evaluate",
    "restore",
    "serve",
    "export",
    "describe",
    "analyze",
    "bench",
    "report",
    "data",
    "publish",
)


def main() -> None:
    """Start the command that the first argument names, as ``python -m kgt_lightning.<command>`` does."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        _say(overview())
    elif name == "--version":
        _say(__version__)
    elif name not in COMMANDS:
        meant = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {meant[0]}?" if meant else f"choose one of {', '.join(COMMANDS)}"
        exit_with(f"{name} is no command: {hint}")
    elif {"-h", "--help"} & set(arguments) and (CONF_DIR / f"{name}.yaml").is_file():
        _say(command_help(name, arguments, about=summary(module_file(name))))
    else:
        sys.argv[1:] = arguments
        # Like python -m: processes that the command starts find the module under its name.
        with ended_by_interrupt():  # what a command imports takes seconds
            runpy.run_module(f"kgt_lightning.{name}", run_name="__main__", alter_sys=True)


def overview() -> str:
    """What every command does, in a line."""
    lines = [f"  {name:<10} {summary(module_file(name))}" for name in COMMANDS]
    return "\n".join(["usage: kgt <command> ...", "", *lines, "", "kgt <command> --help shows its keys or arguments."])


def module_file(name: str) -> Path:
    """File of a command."""
    file = Path(__file__).with_name(f"{name}.py")
    return file if file.is_file() else Path(__file__).parent / name / "__main__.py"


def _say(text: str) -> None:
    try:
        print(text, flush=True)  # noqa: T201
    except BrokenPipeError:
        # A reader such as head has seen enough; what is flushed at the end goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
