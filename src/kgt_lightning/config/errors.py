"""What a user did wrong, said in one line: which key or file, what is allowed, and the fix."""

import difflib
import inspect
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, QuotedString, Sweep
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, MissingMandatoryValue, OmegaConfBaseException

from kgt_lightning.config.arguments import key_of
from kgt_lightning.system.ending import joined

_NO_NUMBER = "invalid literal for int() with base 10: "
"""How OmegaConf begins where a text stands behind the name of a list."""


def is_user_error(error: BaseException) -> bool:
    """Whether an error is put down to the user; any other is our own and keeps its traceback."""
    if isinstance(error, HydraException | OmegaConfBaseException | ValueError | OSError):
        return True
    if _is_out_of_memory(error):
        return True
    # Lightning is slow to import, and raises nothing before somebody has.
    lightning = sys.modules.get("lightning.fabric.utilities.exceptions")
    return lightning is not None and isinstance(error, lightning.MisconfigurationException)


def check_entry(mapping: Mapping[Any, Any], key: object, *, name: str) -> None:
    """See to it that a mapping of the configuration, of this dotted name, holds a key.

    Raises:
        ValueError: if it does not hold the key.

    """
    if key not in mapping:
        known = ", ".join(map(str, mapping)) or "nothing"
        raise ValueError(f"{name} lacks {key}, it has {known}: give all of it, '{name}={{{key}: ...}}'")


def one_line(error: BaseException) -> str:
    """The message on one line, that of the cause where Hydra only wraps it."""
    cause = error.__cause__
    for each in (cause, error):
        if each is not None and _is_out_of_memory(each):
            return f"there is not enough memory ({joined(each)[:200]}): smaller images, batches or models take less"
    if isinstance(error, HydraException) and cause is not None and not isinstance(error, ConfigCompositionException):
        if isinstance(cause, TypeError | AttributeError):
            return f"a value is of the wrong type: {joined(error)}"
        if is_user_error(cause):
            return one_line(cause)
    if isinstance(error, MissingMandatoryValue) and error.full_key:
        return f"{error.full_key} is not given: add {error.full_key}=<value>"
    if isinstance(error, InterpolationResolutionError):
        said = str(error).splitlines()[0]
        # A resolver of ours names the key that was typed; OmegaConf keeps no cause.
        ours = said.removeprefix("ValueError raised while resolving interpolation: ")
        return ours if ours != said else f"{error.full_key}: {said}"
    return joined(error)


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether memory is full."""
    if "torch" not in sys.modules:  # which is slow to import, and takes no memory before
        return isinstance(error, MemoryError)
    from kgt_lightning.system.hardware import is_out_of_memory

    return is_out_of_memory(error)


def wrong_argument(error: Exception, *, conf: Path, config_name: str, arguments: Mapping[str, str]) -> str:
    """The message for arguments that Hydra could not compose into the configuration ``conf/<config_name>.yaml``.

    Args:
        error: of Hydra, or what is none of the arguments' doing and only said on one line.
        conf: folder of configurations.
        config_name: the file in it.
        arguments: as Hydra was given them, each with what was typed.

    """
    keys = list(map(key_of, arguments))
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        groups = [key for key in keys if error.missing_cfg_file.startswith(f"{key}/")]
        group = max(groups, key=len, default=error.missing_cfg_file.partition("/")[0])
        # Hydra knows more than what stands in conf/: its own groups, and folders of hydra.searchpath.
        return _no_choice(group, error.missing_cfg_file.removeprefix(f"{group}/"), conf=conf, known=error.options or ())
    if isinstance(error, OverrideParseException):
        refused = arguments.get(str(error.override), str(error.override)) if error.override else joined(error)
        name, _, value = refused.partition("=")
        return (
            f"{refused} cannot be read: write key=value, and quote brackets and spaces, as in"
            f" 'degradation.sigma=[15,25]', and text with other signs twice, \"{name}='{value}'\""
        )
    if isinstance(error, ValueError) and (part := str(error).removeprefix(_NO_NUMBER)) != str(error):
        for key in keys:
            section, found, _ = f"{key}.".partition(f".{part[1:-1]}.")
            if found:
                return f"{key} is no setting: {section} is a list, to be given whole, '{section}=[...]'"
    if not isinstance(error, HydraException):
        return one_line(error)
    if isinstance(error.__cause__, OmegaConfBaseException) and error.__cause__.full_key:
        missing = error.__cause__.full_key
        key = next((each for each in keys if f"{each}.".startswith(f"{missing}.")), missing)
        typed = dict(zip(keys, arguments.values(), strict=True))
        if key in typed and (conf / key).is_dir():  # a mapping was given that is no section of the configuration
            return _no_choice(key, typed[key].partition("=")[2], conf=conf)
        return _unknown_key(key, _composed(conf, config_name, [*arguments], of_hydra=key.startswith("hydra.")))
    cause = f" ({joined(error.__cause__)})" if error.__cause__ is not None else ""
    return joined(error) + cause


def check_choices(arguments: Mapping[str, str], *, conf: Path) -> None:
    """See to it that files of groups are chosen by their names, and that no whole key is left out.

    Hydra fails over other values, and the command over what it lacks.

    Args:
        arguments: as Hydra is given them, each with what was typed.
        conf: folder of configurations.

    Raises:
        ValueError: if a number, null, an empty list or the like is given, or a key is left out.

    """
    parser = OverridesParser.create()
    for argument, typed in arguments.items():
        try:
            (override,) = parser.parse_overrides([argument])
        except OverrideParseException:  # an option, or what Hydra will say it cannot read
            continue
        group, value = override.key_or_group, override.value()
        if override.is_delete() and group and not set(group) & set("./"):
            raise ValueError(f"{typed} leaves out what is needed: only what lies below can be, as by ~callbacks.panels")
        # Only groups have slashes, also those of Hydra that conf/ lacks.
        is_group = bool(group) and ("/" in group or (conf / group).is_dir())
        # Of a section a mapping changes some keys; the task is a name.
        if not is_group or override.is_delete() or (isinstance(value, dict) and group != "task"):
            continue
        choices = value.list if isinstance(value, ChoiceSweep) else value
        names = choices if isinstance(choices, list) else [choices]
        if not names or not all(isinstance(name, str | QuotedString | Sweep | Glob) for name in names):
            raise ValueError(_no_choice(group, typed.partition("=")[2], conf=conf))


def _no_choice(group: str, name: str, *, conf: Path, known: Iterable[str] = ()) -> str:
    files = {file.relative_to(conf / group).with_suffix("").as_posix() for file in (conf / group).rglob("[!_]*.yaml")}
    options = sorted(files | {each for each in known if each[0] != "_"})
    return f"{group}={name} does not exist: choose one of {', '.join(options) or 'its files'}"


def _unknown_key(key: str, config: DictConfig) -> str:
    """Which keys are meant, or at least known: the same name elsewhere, a similar one, all of the section."""
    parent, _, leaf = key.rpartition(".")
    section = OmegaConf.select(config, parent) if parent else config
    numbered = isinstance(section, DictConfig) and any(isinstance(each, int) for each in section)
    if numbered and leaf.isdigit():  # arguments write no keys that are numbers
        return f"{key} cannot be given alone: give all of it, '{parent}={{{leaf}: ...}}'"
    # Launchers and sweepers are named to Hydra by names that cannot be imported; their files leave no key out.
    if isinstance(section, DictConfig) and "_target_" in section and not key.startswith("hydra."):
        target = get_object(section["_target_"])
        if leaf in inspect.signature(target).parameters:
            return f"{key} is left to its default by the file: set it with +{key}=<value>"
    known = _keys(config)
    meant = [each for each in known if each.rpartition(".")[2] == leaf]
    if not meant:
        # Of a section that exists, its own keys are meant; the name of the section would make all of them similar.
        siblings = {each.rpartition(".")[2]: each for each in known if each.rpartition(".")[0] == parent}
        meant = [siblings[each] for each in difflib.get_close_matches(leaf, siblings, n=1)]
    if not meant and section is None:
        meant = difflib.get_close_matches(key, known, n=1)
    if meant:
        return f"{key} is no setting: did you mean {' or '.join(meant[:3])}?"
    while parent and not isinstance(OmegaConf.select(config, parent), DictConfig):
        parent = parent.rpartition(".")[0]
    section = OmegaConf.select(config, parent) if parent else config
    names = ", ".join(str(each) for each in section if not str(each).startswith("_"))
    return f"{key} is no setting: {parent or 'there'} {'has' if parent else 'are'} {names}"


def _composed(conf: Path, config_name: str, arguments: Sequence[str], *, of_hydra: bool) -> DictConfig:
    """The configuration with the chosen groups, from wherever they are, and nothing else."""
    # Of a sweep over a group no choice is the configuration's.
    pairs = [(argument.partition("=")[0], argument) for argument in arguments if not set(argument) & set(",{")]
    chosen = [argument for key, argument in pairs if key == "hydra.searchpath" or (conf / key).is_dir()]
    with initialize_config_dir(version_base="1.3", config_dir=str(conf)):
        return compose(config_name, overrides=chosen, return_hydra_config=of_hydra)


def _keys(node: DictConfig, prefix: str = "") -> list[str]:
    """Dotted names of all settings; what is interpolated is named where it is written."""
    names = []
    keys: list[Any] = list(node)
    for key in keys:
        if str(key).startswith("_"):
            continue
        names.append(f"{prefix}{key}")
        if not OmegaConf.is_missing(node, key) and not OmegaConf.is_interpolation(node, key):
            child = node[key]
            if isinstance(child, DictConfig):
                names += _keys(child, f"{prefix}{key}.")
    return names
