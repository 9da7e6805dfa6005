"""Signatures of the configured classes as schema: a value that does not fit is named by its key before all runs."""

import inspect
import math
import operator
import re
from collections.abc import Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Protocol, Union, get_args, get_origin, get_type_hints

from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf

from kgt_lightning.config.arguments import key_of
from kgt_lightning.config.comments import CONF_DIR
from kgt_lightning.config.types import COMMANDS, FOREIGN, PATH, Section, Sections

_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", NoneType: "null"}
_SIMPLE = {bool: "boolean", int: "integer", float: "number", str: "string", NoneType: "null"}
_MAPPINGS = (Mapping, dict)
_BOUNDS = {
    "ge": ("minimum", operator.ge, "of at least {}"),
    "gt": ("exclusiveMinimum", operator.gt, "above {}"),
    "le": ("maximum", operator.le, "of at most {}"),
    "lt": ("exclusiveMaximum", operator.lt, "below {}"),
    "min_length": ("min", operator.ge, "of at least {}"),
    "max_length": ("max", operator.le, "of at most {}"),
}
"""Bounds as annotated-types calls them: their names in JSON schemas, how they compare, and in words."""
_REST = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


def check_types(
    config: DictConfig, *, command: str = "", reads: Sequence[str] | None = None, given: Sequence[str] = ()
) -> None:
    """Compare the command's own keys, and every value below a ``_target_``, with the types that are declared for them.

    Numbers, texts, null, Literals, and lists, mappings and unions of them are checked, with the bounds of Annotated;
    other annotations take anything. No number may be infinite or not a number.

    Args:
        config: what was composed.
        command: whose own keys are checked.
        reads: the sections that the command makes objects of; None for all. Of the others those are left out that are
            classes of this package as no argument changes them: to import them would take seconds.
        given: the arguments, such as ``data.channels=1``.

    Raises:
        ValueError: for a value of another type or range, or none at all, a key that is no parameter, or a class that
            cannot be imported.

    """
    task = config.get("task")
    if isinstance(task, DictConfig) and "task" in task:
        raise ValueError(
            f"the file of task={task.task} has to begin with the line '# @package _global_': without it its keys lie"
            " below task, where nothing looks for them"
        )
    for name, hint in COMMANDS.get(command, {}).items():
        parent = OmegaConf.select(config, name.rpartition(".")[0]) if "." in name else config
        leaf = name.rpartition(".")[2]
        if isinstance(parent, DictConfig) and leaf in parent:
            _check(parent, leaf, hint, name=name)
    for argument in given:
        # +group@package=name is no key: it chooses a file, and Hydra looks for the group.
        if argument.startswith("+") and (key := argument.lstrip("+").partition("=")[0]).isidentifier():
            _check_read(config, key, command=command)
        if "${" in argument:  # what refers to nothing is an error that has the key
            OmegaConf.select(config, key_of(argument))
    changed = list(map(key_of, given))
    for section, node in _sections(config, ""):
        ours = str(node["_target_"]).startswith("kgt_lightning.")
        read = reads is None or any(_inside(section, each) for each in reads)
        touched = any(_inside(section, key) or _inside(key, section) for key in changed)
        if not read and not touched and ours:
            continue
        target = _target(node["_target_"], section)
        parameters = inspect.signature(target).parameters
        open_ended = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values())
        hints = signature(node["_target_"])
        keys: list[Any] = list(node)
        for key in keys:
            name = f"{section}.{key}" if section else key
            if str(key).startswith("_"):
                continue
            if key not in parameters and not open_ended:
                known = ", ".join(each for each in parameters if each not in ("self", "args"))
                raise ValueError(f"{name} is no setting of {target.__name__}: it has {known}")
            # What a factory lacks may be given to it later, but nobody types that.
            if OmegaConf.is_missing(node, key) and (name in changed or not node.get("_partial_")):
                raise ValueError(f"{name} is not given: add {name}=<value>")
            if key in hints:
                _check(node, key, hints[key], name=name, given=name in changed)
        whole = ours and not {"_partial_", "_args_"} & node.keys()
        if whole and (lacking := next((key for key in _needed(target) if key not in node), None)):
            raise ValueError(f"{section}.{lacking} is not given: add +{section}.{lacking}=<value>")


def _check_read(config: DictConfig, key: str, *, command: str) -> None:
    """See to it that a key which an argument adds is one of the command's, or that another value refers to it."""
    known = {
        *OmegaConf.load(CONF_DIR / f"{command}.yaml"),
        *(each.name for each in CONF_DIR.iterdir() if each.is_dir()),
    }
    if key not in known and not re.search(rf"\$\{{[^}}]*\b{key}\b", OmegaConf.to_yaml(config)):
        raise ValueError(f"{key} is no setting: nothing reads it")


def _inside(name: str, section: str) -> bool:
    """Whether a dotted name is that of the section, or lies in it."""
    return f"{name}.".startswith(f"{section}.")


def _check(node: DictConfig, key: str, hint: Any, *, name: str, given: bool = False) -> None:
    # What a file interpolates is checked, and named, where it is written.
    if OmegaConf.is_missing(node, key) or (OmegaConf.is_interpolation(node, key) and not given):
        return
    value = node[key]
    resolve = hint not in (Section, Sections)
    plain = OmegaConf.to_container(value, resolve=resolve) if OmegaConf.is_config(value) else value
    if not _fits(plain, hint):
        raise ValueError(_misfit(plain, hint, name=name))
    if not isinstance(plain, dict) or not (later := _given_later(hint)):
        return
    if taken := sorted(later.intersection(plain)):
        raise ValueError(f"{name}.{taken[0]} follows from other settings and is no setting: leave it out")
    if plain.get("_partial_") or "_target_" not in plain:
        return
    if awaited := [key for key in _needed(_target(plain["_target_"], name)) if key in later]:
        raise ValueError(f"{name} is made later, with {', '.join(awaited)}: add {name}._partial_=true")


def _misfit(value: Any, hint: Any, *, name: str) -> str:
    """What is wrong with a value, by the innermost key that is."""
    parts = [each for part in _parts(hint) for each in _parts(part)]
    keys, values = next((get_args(each) for each in parts if get_origin(each) in _MAPPINGS), (None, None))
    for key, each in value.items() if keys and isinstance(value, dict) else ():
        if not _fits(key, keys):
            return f"{name}.{key} is no setting: a key of {name} must be {in_words(keys)}"
        if not _fits(each, values):
            return _misfit(each, values, name=f"{name}.{key}")
    return f"{name}={_shown(value)} must be {in_words(hint)}"


def _parts(hint: Any) -> tuple[Any, ...]:
    """What a union is made of, and what is annotated; else the annotation."""
    if get_origin(hint) is Annotated:
        return get_args(hint)[:1]
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _given_later(hint: Any) -> set[str]:
    """Arguments that the program itself gives to what such a section makes: it would pass over the user's."""
    hints = get_args(hint) or (hint,)
    factories = [each for each in hints if Protocol in getattr(each, "__mro__", ()) and "__call__" in vars(each)]
    return {name for each in factories for name in inspect.signature(each.__call__).parameters} - {"self"}


def _needed(target: Any) -> Iterator[str]:
    """Parameters without a default."""
    for key, each in inspect.signature(target).parameters.items():
        if each.default is each.empty and each.kind not in _REST:
            yield key


def _target(name: str, section: str) -> Any:
    try:
        return get_object(name)
    except (ImportError, AttributeError) as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise ValueError(
            f"{section}._target_={name} cannot be imported ({reason}): its folder must be in PYTHONPATH"
        ) from error


def signature(name: str) -> dict[str, Any]:
    """Parameters of a class or function by its name, each with its annotation."""
    target = get_object(name)
    try:
        hints = get_type_hints(target.__init__ if inspect.isclass(target) else target, include_extras=True)
    except NameError:  # a library's annotations that only its type checker can see
        hints = {}
    parameters = [key for key, each in inspect.signature(target).parameters.items() if each.kind not in _REST]
    return {key: hints.get(key, Any) for key in parameters} | FOREIGN.get(name, {})


def bounds(hint: Any) -> dict[str, Any]:
    """Bounds of an Annotated, as annotated-types calls them."""
    named = ((name, getattr(each, name, None)) for each in hint.__metadata__ for name in _BOUNDS)
    return {name: limit for name, limit in named if limit is not None}


def schema_of(hint: Any) -> dict[str, Any]:
    """JSON schema of an annotation; empty for one that takes anything."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        schema = schema_of(arguments[0])
        unit = {"string": "Length", "array": "Items"}.get(schema.get("type", ""), "")
        return schema | {_BOUNDS[name][0] + unit: limit for name, limit in bounds(hint).items()}
    if hint in _SIMPLE:
        return {"type": _SIMPLE[hint]}
    if hint is None:
        return {"type": "null"}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (Union, UnionType):
        parts = [schema_of(each) for each in arguments]
        return {"anyOf": [each for part in parts for each in part.get("anyOf", [part])]} if all(parts) else {}
    if origin in (Sequence, list, tuple):
        return {"type": "array", "items": schema_of(arguments[0])}
    if origin in _MAPPINGS:
        return {"type": "object", "additionalProperties": schema_of(arguments[1])}
    return {"type": "object"} if inspect.isclass(hint) and hint.__module__ != "typing" else {}


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
    if origin is Annotated:
        size = len(value) if isinstance(value, str | list) else value
        # bounds compare what is of the type
        return _fits(value, arguments[0]) and all(_BOUNDS[name][1](size, limit) for name, limit in bounds(hint).items())
    if hint is None:
        return value is None
    if hint in (bool, str, NoneType):
        return isinstance(value, hint)
    if hint in (int, float):
        number = isinstance(value, (int, float) if hint is float else int) and not isinstance(value, bool)
        return number and math.isfinite(value)
    if origin in (Union, UnionType):
        return any(_fits(value, each) for each in arguments)
    if origin is Literal:
        return any(value == each and type(value) is type(each) for each in arguments)  # true is no 1
    if origin in (Sequence, list, tuple):
        return isinstance(value, list) and all(_fits(each, arguments[0]) for each in value)
    if origin in _MAPPINGS:
        keys, values = arguments
        return isinstance(value, dict) and all(_fits(key, keys) and _fits(value[key], values) for key in value)
    # Of a class, an instance is made from a section of its own.
    section = isinstance(value, dict) and "_target_" in value
    return section or not inspect.isclass(hint) or hint.__module__ == "typing"


def in_words(hint: Any) -> str:
    """An annotation as what a value must be."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        if PATH in hint.__metadata__:
            return "a path"
        limits = bounds(hint)
        if limits.keys() == {"ge", "le"}:
            said = f"in {limits['ge']}..{limits['le']}"
        elif limits.keys() == {"min_length", "max_length"}:
            said = f"of {limits['max_length']}"
        else:
            said = " and ".join(_BOUNDS[name][2].format(limit) for name, limit in limits.items())
        what, comma, rest = in_words(arguments[0]).partition(",")
        return f"{what} {said}{comma}{rest}"
    if hint in _WORDS:
        return _WORDS[hint]
    if hint is None:
        return "null"
    if origin in (Union, UnionType):
        literals = [value for each in arguments if get_origin(each) is Literal for value in get_args(each)]
        others = [in_words(each) for each in arguments if get_origin(each) is not Literal]
        return " or ".join(dict.fromkeys([*([in_words(Literal[tuple(literals)])] if literals else []), *others]))
    if origin is Literal:
        return "one of " + ", ".join(dict.fromkeys(str(each) for each in arguments))
    if origin in (Sequence, list, tuple):
        return f"a list [...], each {in_words(arguments[0])}"
    if origin in _MAPPINGS:
        return f"a mapping {{...}}, each {in_words(arguments[1])}" if arguments[1] is not Any else "a section"
    return "anything" if hint is Any or not inspect.isclass(hint) else "a section with a _target_"


def _shown(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
