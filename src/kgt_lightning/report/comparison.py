"""Runs whose scores may be compared: in what they differ, the best of them, and those that nothing beats."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from kgt_lightning.config.keys import BOOKKEEPING, lies_in
from kgt_lightning.report.runs import Metric, Run, select
from kgt_lightning.system.files import run_of
from kgt_lightning.system.tables import score_title

LONGEST_NAME = 4
"""Settings in a name; of runs that differ in more, the overrides that were typed say it shorter, or the folder does."""

CHECKPOINT = "checkpoint"
"""Setting of a run that tested what another one trained."""

_PLACES = re.compile(r"(.*\.)?(root|cache_dir|folder|dirpath|save_dir|_partial_)$")


class Difference(NamedTuple):
    """Score of an image in two runs."""

    image: str
    first: float
    second: float
    gain: float
    """How much better the second is."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Runs of one task, scored under one protocol, in the order of their names; those without a configuration last."""

    task: str
    protocol: str
    runs: Sequence[Run]
    names: Sequence[str]
    settings: Mapping[str, Sequence[Any]]
    """What differs: by dotted key, the value in every run."""

    @cached_property
    def test_sets(self) -> list[str]:
        """Test sets and settings, as the runs name them."""
        return list(dict.fromkeys(test_set for run in self.runs for test_set in run.means))

    @cached_property
    def metrics(self) -> dict[str, list[str]]:
        """For each test set the scores of restored images, such as psnr and ssim."""
        names = {s: dict.fromkeys(name for run in self.runs for name in run.means.get(s, {})) for s in self.test_sets}
        return {
            test_set: [name for name in of_set if name != "images" and not name.startswith("degraded_")]
            for test_set, of_set in names.items()
        }

    def metric(self, name: str) -> Metric:
        """What a score means, as the results say; older ones did not, and had PSNR and SSIM alone."""
        told = next((told for run in self.runs for told in run.columns if told["name"] == name), {})
        unit = told.get("unit", "dB" if name.startswith("psnr") else "")
        return Metric(score_title(name), unit, 1 if told.get("higher_is_better", True) else -1)

    def edition(self, test_set: str) -> tuple[float | None, Any] | None:
        """Number of images and version of a test set that most runs were scored on, of equals the larger."""
        editions = [_edition(run, test_set) for run in self.runs if test_set in run.means]
        return max(editions, key=lambda edition: (editions.count(edition), edition[0] or 0), default=None)

    def counts(self, run: Run, test_set: str) -> bool:
        """Whether scores of the run on this set may be ranked: it has ended, and saw the same images as the others."""
        return run.ranked and test_set in run.means and _edition(run, test_set) == self.edition(test_set)

    def odd(self) -> list[str]:
        """One line for each score that is not ranked because it is of other images."""
        return [
            f"{name}: {test_set} over {_said(_edition(run, test_set))} instead of {_said(self.edition(test_set))}"
            for name, run in zip(self.names, self.runs, strict=True)
            for test_set in run.means
            if run.ranked and not self.counts(run, test_set)
        ]

    def scored(self, test_set: str, metric: str) -> dict[int, float]:
        """Scores that count, by the index of the run."""
        return {
            index: value
            for index, run in enumerate(self.runs)
            if self.counts(run, test_set) and (value := finite(run.means[test_set].get(metric))) is not None
        }

    def ranking(self, test_set: str, metric: str) -> list[int]:
        """Indices of the runs that count, the best first."""
        scored, sign = self.scored(test_set, metric), self.metric(metric).sign
        return sorted(scored, key=lambda index: -sign * scored[index])

    @cached_property
    def best(self) -> int | None:
        """Index of the run with the best first score on the first test set that has one."""
        firsts = (self.ranking(test_set, names[0]) for test_set, names in self.metrics.items() if names)
        return next((ranking[0] for ranking in firsts if ranking), None)

    def pair(self, wanted: Sequence[str]) -> tuple[int, int] | None:
        """Indices of two runs whose images are compared, None if there are no such two.

        Args:
            wanted: two names, paths or numbers in the table; empty for the first run and the best, or, where these are
                the same, the last.

        """
        if wanted:
            named = list(enumerate(zip(self.names, self.runs, strict=True), start=1))
            keys = {i: (name, run.path, str(i)) for i, (name, run) in named if run.images}
            found = [i - 1 for each in wanted for i, of_run in keys.items() if each in of_run]
            return (found[0], found[1]) if len(found) == len(wanted) == 2 else None
        scored = [index for index, run in enumerate(self.runs) if run.ranked and run.images]
        if len(scored) < 2:
            return None
        best = self.best if self.best in scored else scored[-1]
        return (scored[0] if best != scored[0] else scored[-1]), best

    def differences(self, first: int, second: int, *, test_set: str, metric: str) -> list[Difference]:
        """A score of the images that both runs were scored on, from the largest gain to the largest loss."""
        before, after = (self.runs[index].images.get(test_set, {}) for index in (first, second))
        sign = self.metric(metric).sign
        found = [
            Difference(image, a, b, sign * (b - a))
            for image in before
            if (a := finite(before[image].get(metric))) is not None
            and (b := finite(after.get(image, {}).get(metric))) is not None
        ]
        return sorted(found, key=lambda difference: (-difference.gain, difference.image))


def compare(runs: Sequence[Run]) -> list[Comparison]:
    """Comparisons of the runs, the largest first: one for each task and protocol.

    A run without scores, because it goes on or has failed, stands with those that would have been scored as it.
    """
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        if run.protocol is not None:
            groups.setdefault((run.task or "unknown task", run.protocol), []).append(run)
    like = {(key[0], _scoring(run)): key for key, members in reversed(groups.items()) for run in members if run.config}
    for run in runs:
        if run.protocol is None:
            task = run.task or "unknown task"
            key = like.get((task, _scoring(run)), (task, "nothing scored yet"))
            groups.setdefault(key, []).append(run)
    comparisons = [_comparison(task, protocol, members) for (task, protocol), members in groups.items()]
    return sorted(comparisons, key=lambda each: (-len(each.runs), each.task, each.protocol))


def front(points: Mapping[int, tuple[float, float]]) -> list[int]:
    """Of points (cost, quality) those that no other beats in one without losing in the other, by rising cost."""
    best, found = -math.inf, []
    for index, (_, quality) in sorted(points.items(), key=lambda point: (point[1][0], -point[1][1])):
        if quality > best:
            best = quality
            found.append(index)
    return found


def finite(value: float | None) -> float | None:
    """The value unless it is infinite or not a number."""
    return value if value is not None and math.isfinite(value) else None


def differing(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """For each setting in which the runs differ, its value in every run, None where it is missing.

    Runs without a configuration do not take part. Of a setting that is copied to other places of the configuration
    under the same name, such as model.k to module.backbone.k, the shortest key stands for all. Where all runs tested
    checkpoints, these stand for what they were trained with.
    """
    flat = [dict(_flat(run.config)) for run in runs]
    values = {key: [config.get(key) for config in flat] for key in dict.fromkeys(key for each in flat for key in each)}
    varying = [key for key in values if len({repr(x) for x, own in zip(values[key], flat, strict=True) if own}) > 1]
    shortest: dict[tuple[str, str], str] = {}
    for key in sorted(varying, key=lambda key: key.count(".")):
        shortest.setdefault((_leaf(key), repr(values[key])), key)
    own = {key: values[key] for key in varying if key in shortest.values()}
    tested = own.get(CHECKPOINT, [None])
    if not all(tested):
        return own
    return {key: each for key, each in own.items() if key == CHECKPOINT or not _follows(each, tested)}


def shared(runs: Sequence[Run]) -> dict[str, Any]:
    """The settings that are the same in all runs that have a configuration."""
    flat = [dict(_flat(run.config)) for run in runs if run.config] or [{}]
    return {key: value for key, value in flat[0].items() if all(key in each and each[key] == value for each in flat)}


def names(runs: Sequence[Run], settings: Mapping[str, Sequence[Any]]) -> list[str]:
    """A name for each run, all different: the settings in which it differs, else its path."""
    typed = [[each for each in run.overrides if not _is_bookkeeping(each.partition("=")[0])] for run in runs]
    own = [(short(key, settings), values) for key, values in settings.items() if key != CHECKPOINT]
    found = []
    for index, run in enumerate(runs):
        parts = [f"{name}={text(values[index])}" for name, values in own]
        if len(parts) > LONGEST_NAME:
            parts = [each for each in typed[index] if not all(each in others for others in typed)] or parts
        if len(parts) > LONGEST_NAME:
            parts = [run.path]
        if not run.config:
            parts = [run.path] if run.k is None else [run.path, f"k={text(run.k)}"]
        if CHECKPOINT in settings and settings[CHECKPOINT][index]:
            parts = [text(settings[CHECKPOINT][index]), *(["at"] if parts else []), *parts]
        found.append(" ".join(parts) or run.path)
    return [name if found.count(name) == 1 else f"{name} ({run.path})" for name, run in zip(found, runs, strict=True)]


def short(key: str, keys: Mapping[str, Any]) -> str:
    """Last part of a key, with the part before it where another of the keys ends the same."""
    parts = 1 if sum(_leaf(other) == _leaf(key) for other in keys) < 2 else 2
    return ".".join(key.removesuffix("._target_").split(".")[-parts:])


def text(value: Any) -> str:
    """A value as it would be typed; a class by its name, a checkpoint by its run or model."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(text, value))}]"
    if isinstance(value, float):
        return f"{value:g}"
    if not isinstance(value, str):
        return json.dumps(value)
    if value.startswith("kgt_lightning."):
        return value.rpartition(".")[2]
    return run_of(value) if value.endswith((".ckpt", ".safetensors")) else value


def natural(name: str) -> list[tuple[int, float, str]]:
    """Key to sort names so that k=64 comes before k=128."""
    parts = re.findall(r"\d+\.?\d*(?:e[+-]?\d+)?|\D+", name)
    return [(0, float(part), "") if part[0].isdigit() else (1, 0.0, part) for part in parts]


def _comparison(task: str, protocol: str, runs: Sequence[Run]) -> Comparison:
    named = zip(names(runs, differing(runs)), runs, strict=True)
    ordered = sorted(named, key=lambda pair: (not pair[1].config, natural(pair[0]), pair[1].path))
    members = [run for _, run in ordered]
    own_names = [name for name, _ in ordered]
    return Comparison(task=task, protocol=protocol, runs=members, names=own_names, settings=differing(members))


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Values by dotted key, without those that say where a run is kept; a list is one value."""
    for key, value in config.items():
        if _is_bookkeeping(f"{prefix}{key}"):
            continue
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _follows(values: Sequence[Any], others: Sequence[Any]) -> bool:
    """Whether each of the others always comes with the same value."""
    pairs = {(repr(other), repr(value)) for value, other in zip(values, others, strict=True)}
    return len(pairs) == len({other for other, _ in pairs})


def _leaf(key: str) -> str:
    return key.removesuffix("._target_").rpartition(".")[2]


def _edition(run: Run, test_set: str) -> tuple[float | None, Any]:
    return run.means[test_set].get("images"), run.versions.get(test_set)


def _said(edition: tuple[float | None, Any] | None) -> str:
    images, version = edition or (None, None)
    return f"{images or 'unknown'} images" + (f" of version {version}" if version is not None else "")


def _scoring(run: Run) -> str:
    """What of the configuration says how the run is scored."""
    keys = ("protocol", "module.protocol", "module.scoring", "module.self_ensemble")
    return json.dumps([select(run.config, key) for key in keys], sort_keys=True, default=str)


def _is_bookkeeping(key: str) -> bool:
    """Whether a key says where a run is kept, not what it computes."""
    return lies_in(key, (*BOOKKEEPING, "data_root", "experiment")) or _PLACES.match(key) is not None
