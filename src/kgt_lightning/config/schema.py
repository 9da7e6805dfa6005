"""Signatures of the configured classes as schema: a value that does not fit is named by its key before all runs."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf

_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", NoneType: "null"}


def check_types(config: DictConfig) -> None:
    """Compare every value of every section that names a ``_target_`` with the annotation of its parameter.

    Numbers, texts, null, Literals, and lists, mappings and unions of them are checked; other annotations take anything.

    Raises:
        ValueError: for a value of another type, a key that is no parameter, or a class that cannot be imported.

    """
    task = config.get("task")
    if isinstance(task, DictConfig) and "task" in task:
        raise ValueError(
            f"the file of task={task.task} has to begin with the line '# @package _global_': without it its keys lie"
            " below task, where nothing looks for them"
        )
    for section, node in _sections(config, ""):
        target = _target(node["_target_"], section)
        parameters = inspect.signature(target).parameters
        open_ended = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values())
        hints = _hints(target)
        keys: list[Any] = list(node)
        for key in keys:
            name = f"{section}.{key}" if section else key
            if str(key).startswith("_") or OmegaConf.is_missing(node, key):
                continue
            if key not in parameters and not open_ended:
                known = ", ".join(each for each in parameters if each not in ("self", "args"))
                raise ValueError(f"{name} is no setting of {target.__name__}: it has {known}")
            # What is interpolated is checked, and named, where it is written.
            if key not in hints or OmegaConf.is_interpolation(node, key):
                continue
            value = node[key]
            plain = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            if not _fits(plain, hints[key]):
                raise ValueError(f"{name}={_shown(plain)} must be {_in_words(hints[key])}")


def _target(name: str, section: str) -> Any:
    try:
        return get_object(name)
    except (ImportError, AttributeError) as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise ValueError(
            f"{section}._target_={name} cannot be imported ({reason}): its folder must be in PYTHONPATH"
        ) from error


def _hints(target: Any) -> dict[str, Any]:
    try:
        return get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except NameError:  # a library's annotations that only its type checker can see
        return {}


def _sections(node: Any, name: str) -> Iterator[tuple[str, DictConfig]]:
    """Every section with a ``_target_``, by its dotted name."""
    if isinstance(node, ListConfig):
        for each in node:
            yield from _sections(each, name)
    if not isinstance(node, DictConfig):
        return
    if "_target_" in node:
        yield name, node
    keys: list[Any] = list(node)
    for key in keys:
        if not OmegaConf.is_missing(node, key) and not OmegaConf.is_interpolation(node, key):
            yield from _sections(node[key], f"{name}.{key}" if name else str(key))


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in (bool, str, NoneType):
        return isinstance(value, hint)
    if hint in (int, float):
        return isinstance(value, (int, float) if hint is float else int) and not isinstance(value, bool)
    if origin in (Union, UnionType):
        return any(_fits(value, each) for each in arguments)
    if origin is Literal:
        return value in arguments
    if origin in (Sequence, list, tuple):
        return isinstance(value, list) and all(_fits(each, arguments[0]) for each in value)
    if origin in (Mapping, dict):
        return isinstance(value, dict) and all(_fits(each, arguments[1]) for each in value.values())
    # Of a class, an instance is made from a section of its own.
    return not inspect.isclass(hint) or isinstance(value, dict) or hint.__module__ == "typing"


def _in_words(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in _WORDS:
        return _WORDS[hint]
    if origin in (Union, UnionType):
        literals = [value for each in arguments if get_origin(each) is Literal for value in get_args(each)]
        others = [_in_words(each) for each in arguments if get_origin(each) is not Literal]
        return " or ".join(dict.fromkeys([*([_in_words(Literal[tuple(literals)])] if literals else []), *others]))
    if origin is Literal:
        return "one of " + ", ".join(dict.fromkeys(str(each) for each in arguments))
    if origin in (Sequence, list, tuple):
        return f"a list [...], each {_in_words(arguments[0])}"
    if origin in (Mapping, dict):
        return f"a mapping {{...}}, each {_in_words(arguments[1])}"
    return "a section with a _target_"


def _shown(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
