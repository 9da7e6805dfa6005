"""Runs whose scores may be compared, the best of them, and those that nothing beats."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from kgt_lightning.report.runs import Run, select
from kgt_lightning.report.settings import differing, names, natural


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
        return {
            test_set: list(
                dict.fromkeys(
                    name
                    for run in self.runs
                    for name in run.means.get(test_set, {})
                    if name != "images" and not name.startswith("degraded_")
                )
            )
            for test_set in self.test_sets
        }

    def edition(self, test_set: str) -> tuple[float | None, Any] | None:
        """Number of images and version of a test set that most runs were scored on, of equals the larger."""
        editions = [_edition(run, test_set) for run in self.runs if test_set in run.means]
        return max(editions, key=lambda each: (editions.count(each), each[0] or 0), default=None)

    def score(self, run: Run, test_set: str, metric: str) -> float | None:
        """A mean over the images of a set."""
        return run.means.get(test_set, {}).get(metric)

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

    def ranking(self, test_set: str, metric: str) -> list[int]:
        """Indices of the runs that count, the best first."""
        scored = [
            (value, index)
            for index, run in enumerate(self.runs)
            if self.counts(run, test_set) and (value := finite(self.score(run, test_set, metric))) is not None
        ]
        return [index for _, index in sorted(scored, key=lambda each: (-each[0], each[1]))]

    @cached_property
    def best(self) -> int | None:
        """Index of the run with the best first score on the first test set that has one."""
        for test_set in self.test_sets:
            for metric in self.metrics[test_set][:1]:
                ranking = self.ranking(test_set, metric)
                if ranking:
                    return ranking[0]
        return None


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
    for index, (_, quality) in sorted(points.items(), key=lambda each: (each[1][0], -each[1][1])):
        if quality > best:
            best = quality
            found.append(index)
    return found


def finite(value: float | None) -> float | None:
    """The value unless it is infinite or not a number."""
    return value if value is not None and math.isfinite(value) else None


def _comparison(task: str, protocol: str, runs: list[Run]) -> Comparison:
    named = zip(names(runs, differing(runs)), runs, strict=True)
    ordered = sorted(named, key=lambda each: (not each[1].config, natural(each[0]), each[1].path))
    members = [run for _, run in ordered]
    return Comparison(
        task=task,
        protocol=protocol,
        runs=members,
        names=[name for name, _ in ordered],
        settings=differing(members),
    )


def _edition(run: Run, test_set: str) -> tuple[float | None, Any]:
    return run.means[test_set].get("images"), run.versions.get(test_set)


def _said(edition: tuple[float | None, Any] | None) -> str:
    images, version = edition or (None, None)
    return f"{images or 'unknown'} images" + (f" of version {version}" if version is not None else "")


def _scoring(run: Run) -> str:
    """What of the configuration says how the run is scored."""
    keys = ("protocol", "module.protocol", "module.scoring", "module.self_ensemble")
    return json.dumps([select(run.config, key) for key in keys], sort_keys=True, default=str)
