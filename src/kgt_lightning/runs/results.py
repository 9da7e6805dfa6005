"""Scores of test images: as a table on the screen, and as JSON and CSV beside each other."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import lightning

from kgt_lightning.data.datamodule import RestorationData
from kgt_lightning.data.datasets import TestSet
from kgt_lightning.metrics.published import comparison
from kgt_lightning.metrics.scoring import Scoring
from kgt_lightning.system.files import write_atomic
from kgt_lightning.system.tables import Table, score_title, write_csv
from kgt_lightning.training.module import RestorationModule


@dataclass(frozen=True, kw_only=True)
class Score:
    """How one image was restored, and how good the baseline is; PSNR in dB."""

    test_set: TestSet
    image: str
    restored: Mapping[str, float]
    """By the names of the columns."""
    degraded: Mapping[str, float]

    def row(self) -> dict[str, Any]:
        """All numbers under one name each, those of the baseline under ``degraded_<name>``."""
        baseline = {f"degraded_{name}": value for name, value in self.degraded.items()}
        return {"test_set": str(self.test_set), "image": self.image, **self.restored, **baseline}


@dataclass(frozen=True, kw_only=True)
class Results:
    """Scores of all test images and how they were computed."""

    task: str
    channels: int
    """Of the clean images."""
    scoring: Scoring
    protocol: str
    """One line: how the images were drawn and the numbers computed."""
    versions: Mapping[TestSet, str]
    """Which version of each set was there."""
    scores: tuple[Score, ...]

    def means(self) -> dict[TestSet, dict[str, float]]:
        """Means over images for each test set, and their number."""
        means: dict[TestSet, dict[str, float]] = {}
        for test_set in dict.fromkeys(score.test_set for score in self.scores):
            rows = [score.row() for score in self.scores if score.test_set == test_set]
            numbers = [name for name, value in rows[0].items() if isinstance(value, float)]
            means[test_set] = {name: fmean(row[name] for row in rows) for name in numbers}
            means[test_set]["images"] = len(rows)
        return means

    def show(self) -> None:
        """Print the means as a table, then beside what is published for the same sets and settings."""
        first, *others = self.scores[0].restored
        columns = ["test set", "images", f"{score_title(first)} degraded", "restored", "gain"]
        columns += [title for name in others for title in (f"{score_title(name)} degraded", "restored")]
        rows = []
        for test_set, mean in self.means().items():
            gain = (mean[first] - mean[f"degraded_{first}"]) * (1 if self.scoring.columns[0].higher_is_better else -1)
            scores = [f"{gain:+.{_digits(first)}f}", *(cell for name in others for cell in _pair(name, mean))]
            rows.append([str(test_set), f"{mean['images']:.0f}", *_pair(first, mean), *scores])
        Table(title=f"{self.task}: mean over images", columns=columns, rows=rows, note=self.protocol).show()
        beside = comparison(
            task=self.task,
            channels=self.channels,
            means={(each.name, each.setting): mean for each, mean in self.means().items()},
            columns=self.scoring.columns,
            family=self.scoring.protocol,
        )
        if beside:
            beside.show()

    def write(self, folder: Path, **facts: Any) -> None:
        """Write results.json (means, protocol and the given facts, such as the checkpoint) and results.csv (images)."""
        folder.mkdir(parents=True, exist_ok=True)
        content = {
            "task": self.task,
            "protocol": self.protocol,
            **facts,
            "columns": [
                {"name": column.name, "unit": column.unit, "higher_is_better": column.higher_is_better}
                for column in self.scoring.columns
            ],
            "versions": {str(test_set): text for test_set, text in self.versions.items()},
            "means": {str(test_set): mean for test_set, mean in self.means().items()},
            "images": [score.row() for score in self.scores],
        }
        write_atomic(folder / "results.json", json.dumps(content, indent=2) + "\n")
        write_csv(folder / "results.csv", (score.row() for score in self.scores))


def run_test(trainer: lightning.Trainer, module: RestorationModule, data: RestorationData, *, task: str) -> Results:
    """Results of the module as it is on every test set of the data."""
    trainer.test(module, data, verbose=False)
    names = [column.name for column in module.scoring.columns]
    scores = [
        Score(
            test_set=test_set,
            image=images.entries[index].name,
            restored=dict(zip(names, values[: len(names)], strict=True)),
            degraded=dict(zip(names, values[len(names) :], strict=True)),
        )
        for (test_set, images), of_set in zip(data.test_sets.items(), module.test_scores(), strict=True)
        for index, values in sorted(of_set.items())
    ]
    rules = (module.scoring.describe(), data.test_rules, "self-ensemble of 8" if module.self_ensemble else "")
    return Results(
        task=task,
        channels=data.channels,
        scoring=module.scoring,
        protocol="; ".join(filter(None, rules)),
        versions=data.test_versions,
        scores=tuple(scores),
    )


def _digits(name: str) -> int:
    return 2 if name.startswith("psnr") else 4


def _pair(name: str, mean: Mapping[str, float]) -> list[str]:
    return [f"{mean[each]:.{_digits(name)}f}" for each in (f"degraded_{name}", name)]
