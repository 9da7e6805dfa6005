"""Arguments as people type them, made into those that Hydra reads: names of files as they are, ``--key value``."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from omegaconf import OmegaConf

from kgt_lightning.config.types import COMMANDS, PATHS

_SWITCHES = ("-h", "--help", "--hydra-help", "--version", "-m", "--multirun", "-r", "--run", "--resolve")
_OPTIONS = (
    *("-c", "--cfg", "-p", "--package", "-i", "--info", "-sc", "--shell-completion", "--experimental-rerun"),
    *("-cd", "--config-dir", "-cn", "--config-name", "-cp", "--config-path"),
)
"""Hydra's own, without and with a value."""
_KEY = re.compile(r"[+~]*[A-Za-z_][\w./@:-]*")
_SIMPLE = re.compile(r"(?!(null|true|false|nan|inf)$)[a-z_/.][\w/.-]*", re.ASCII | re.IGNORECASE)
"""Text that Hydra's grammar takes as it is, and as text."""
_CHECKPOINTS = (".ckpt", ".safetensors")


def readable(arguments: Sequence[str], *, command: str) -> list[str]:
    """The arguments as Hydra reads them.

    ``--key value``, ``--key=value`` and, where true or false is wanted, ``--key`` are key=value. Files and folders that
    are given alone are ``checkpoint`` by their suffix, or else ``input``. The value of a key that takes text is all
    that stands behind the ``=``; with ``-m`` commas part it, unless there is a file of that name.

    Raises:
        ValueError: for an option without its value, a key that is given twice, or a folder without a name.

    """
    types = COMMANDS.get(command, {})
    sweeps = bool({"-m", "--multirun"}.intersection(arguments))
    found: list[str] = []
    plain: dict[str, list[str]] = {}
    for argument in _without_dashes(arguments, types):
        if isinstance(argument, tuple) or argument.startswith("-"):
            found += [argument] if isinstance(argument, str) else argument
            continue
        key, _, value = argument.partition("=")
        if key_of_files := _taken_as_file(argument, types):
            plain.setdefault(key_of_files, []).append(argument)
        elif key.startswith("hydra.") and key in PATHS and not value:
            raise ValueError(f"{key}= names no folder: {key}=<folder>")
        elif key in PATHS or _takes_text(types.get(key)):
            found.append(f"{key}={_as_typed(value, sweeps=sweeps)}")
        else:
            found.append(argument)
    for key, files in plain.items():
        if any(argument.startswith(f"{key}=") for argument in found):
            raise ValueError(f"{files[0]} stands alone, and {key}= is given too: name all files in one way")
        quoted = ",".join(map(_quoted, files))
        found.append(f"{key}={quoted}" if len(files) == 1 or sweeps else f"{key}=[{quoted}]")
    return found


def key_of(argument: str) -> str:
    """Key or group of an argument of Hydra, without its marks and package."""
    return re.split("[=@]", argument.lstrip("+~"), maxsplit=1)[0]


def as_given(arguments: Sequence[str]) -> list[str]:
    """Arguments as they were typed: read from Hydra's own list, references in them would be resolved."""
    return OmegaConf.to_container(arguments, resolve=False)  # type: ignore[return-value]


def _without_dashes(arguments: Sequence[str], types: Mapping[str, Any]) -> Iterator[str | tuple[str, str]]:
    """The arguments, ``--key value`` as key=value, options of Hydra with their value."""
    left = list(arguments)
    while left:
        argument = left.pop(0)
        if argument in _OPTIONS and left:
            yield argument, left.pop(0)
        elif not argument.startswith("-") or argument.partition("=")[0] in (*_SWITCHES, *_OPTIONS):
            yield argument
        elif not argument.startswith("--") or len(argument) == 2:
            raise ValueError(f"{argument} is no option: --help shows the keys, a file of this name is ./{argument}")
        elif "=" in argument:
            yield argument[2:]
        else:
            key = argument[2:].replace("-", "_")
            if types.get(key) is bool and (not left or left[0] not in ("true", "false")):
                yield f"{key}=true"
            elif not left:
                raise ValueError(f"{argument} needs a value: {argument} <value>")
            else:
                yield f"{key}={left.pop(0)}"


def _taken_as_file(argument: str, types: Mapping[str, Any]) -> str:
    """Key whose value an argument is that stands alone; empty for key=value, and for commands that take no files."""
    key, equals, _ = argument.partition("=")
    if _KEY.fullmatch(key) and (equals or argument.startswith("~")) and (key in types or not _is_there(argument)):
        return ""
    names = ["checkpoint", "input"] if argument.endswith(_CHECKPOINTS) else ["input", "checkpoint"]
    return next((name for name in names if name in types), "")


def _takes_text(hint: Any) -> bool:
    if get_origin(hint) is Annotated or not get_args(hint):
        return hint is str or (bool(get_args(hint)) and _takes_text(get_args(hint)[0]))
    return get_origin(hint) not in (list, dict) and any(_takes_text(each) for each in get_args(hint))


def _as_typed(value: str, *, sweeps: bool) -> str:
    if not _is_there(value):
        ends = value[:1] + value[-1:] if len(value) > 1 else ""
        if value in ("", "null") or "${" in value or ends in ("''", '""', "[]"):
            return value  # as Hydra's grammar writes it
        if sweeps:
            return ",".join(map(_quoted, value.split(",")))
    return _quoted(value)


def _is_there(name: str) -> bool:
    try:
        return Path(name).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # too long for a name, of nobody's home, or with a zero byte
        return False


def _quoted(value: str) -> str:
    if _SIMPLE.fullmatch(value):
        return value
    # Backslashes count where a quote follows, here also the last one.
    escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value)
    return f"'{escaped.replace('${', chr(92) + '${')}'"
