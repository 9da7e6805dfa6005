"""The settings in which runs differ, and names of the runs that say them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from kgt_lightning.report.runs import Run

LONGEST_NAME = 4
"""Settings in a name; of runs that differ in more, the overrides that were typed say it shorter."""

CHECKPOINT = "checkpoint"
"""Setting of a run that tested what another one trained."""

# Where a run is kept, not what it computes.
_BOOKKEEPING = re.compile(
    r"(run|run_dir|sweep|resume|retry|data_root|hydra|logger|experiment|callbacks\.pruning)(\.|$)"
    r"|.*(^|\.)(root|cache_dir|folder|dirpath|save_dir)$"
    r"|(.*\.)?_partial_$"
)


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by dotted key, without those that say where a run is kept; a list is one value."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if _BOOKKEEPING.match(name):
            continue
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def differing(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """For each setting in which the runs differ, its value in every run, None where it is missing.

    Runs without a configuration do not take part. Of a setting that is copied to other places of the configuration
    under the same name, such as model.k to module.backbone.k, the shortest key stands for all. Where all runs tested
    checkpoints, these stand for what they were trained with.
    """
    flat = [flatten(run.config) for run in runs]
    keys = dict.fromkeys(key for each in flat for key in each)
    values = {key: [each.get(key) for each in flat] for key in keys}
    found: dict[tuple[str, str], str] = {}
    for key, of_key in values.items():
        if len({repr(value) for value, each in zip(of_key, flat, strict=True) if each}) < 2:
            continue
        copies = (_leaf(key), repr(of_key))
        if copies not in found or key.count(".") < found[copies].count("."):
            found[copies] = key
    own = {key: values[key] for key in values if key in found.values()}
    tested = own.get(CHECKPOINT, [None])
    if not all(tested):
        return own
    return {key: each for key, each in own.items() if key == CHECKPOINT or not _follows(each, tested)}


def shared(runs: Sequence[Run]) -> dict[str, Any]:
    """The settings that are the same in all runs that have a configuration."""
    flat = [flatten(run.config) for run in runs if run.config]
    if not flat:
        return {}
    return {key: value for key, value in flat[0].items() if all(key in each and each[key] == value for each in flat)}


def names(runs: Sequence[Run], settings: Mapping[str, Sequence[Any]]) -> list[str]:
    """A name for each run, all different: the settings in which it differs, else its path."""
    typed = _differing_overrides(runs)
    found = []
    for index, run in enumerate(runs):
        parts = [
            f"{short(key, settings)}={text(of_key[index])}" for key, of_key in settings.items() if key != CHECKPOINT
        ]
        if len(parts) > LONGEST_NAME and typed[index]:
            parts = typed[index]
        if not run.config:
            parts = [run.path] if run.k is None else [run.path, f"k={text(run.k)}"]
        if CHECKPOINT in settings and settings[CHECKPOINT][index]:
            parts = [text(settings[CHECKPOINT][index]), *(["at"] if parts else []), *parts]
        found.append(" ".join(parts) or run.path)
    return [name if found.count(name) == 1 else f"{name} ({run.path})" for name, run in zip(found, runs, strict=True)]


def short(key: str, keys: Mapping[str, Any]) -> str:
    """Last part of a key, with the part before it where another of the keys ends the same."""
    leaf = _leaf(key)
    if sum(_leaf(each) == leaf for each in keys) > 1:
        return ".".join(key.removesuffix("._target_").split(".")[-2:])
    return leaf


def text(value: Any) -> str:
    """A value as it would be typed; a class by its name, a checkpoint by its run."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{','.join(text(each) for each in value)}]"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, str) and value.startswith("kgt_lightning."):
        return value.rpartition(".")[2]
    if isinstance(value, str) and value.endswith(".ckpt"):
        parts = [part for part in re.split(r"[/\\]", value) if part]
        return parts[-3] if len(parts) > 2 and parts[-2] == "checkpoints" else parts[-1]
    return str(value)


def natural(name: str) -> list[tuple[int, float, str]]:
    """Key to sort names so that k=64 comes before k=128."""
    parts = re.findall(r"\d+\.?\d*(?:e[+-]?\d+)?|\D+", name)
    return [(0, float(part), "") if part[0].isdigit() else (1, 0.0, part) for part in parts]


def _follows(values: Sequence[Any], others: Sequence[Any]) -> bool:
    """Whether each of the others always comes with the same value."""
    pairs = {(repr(other), repr(value)) for value, other in zip(values, others, strict=True)}
    return len(pairs) == len({other for other, _ in pairs})


def _leaf(key: str) -> str:
    return key.removesuffix("._target_").rpartition(".")[2]


def _differing_overrides(runs: Sequence[Run]) -> list[list[str]]:
    """Of each run the overrides that not all runs were given, without those that say where it is kept."""
    given = [
        [each for each in run.overrides if not _BOOKKEEPING.match(each.lstrip("+~").partition("=")[0])] for run in runs
    ]
    common = set.intersection(*(set(each) for each in given)) if given else set()
    return [[each for each in own if each not in common] for own in given]
