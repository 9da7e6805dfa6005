"""Scores of test images: as a table on the screen, and as JSON and CSV beside each other."""

import csv
import json
import os
import sys
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import fmean
from typing import Any

import lightning
from rich.console import Console
from rich.table import Table

from kgt_lightning.data import RestorationData
from kgt_lightning.metrics import describe_protocol
from kgt_lightning.restoration import RestorationModule


@dataclass(frozen=True, kw_only=True)
class Score:
    """How one image was restored; PSNR in dB."""

    test_set: str
    image: str
    psnr: float
    ssim: float
    degraded_psnr: float
    degraded_ssim: float


@dataclass(frozen=True, kw_only=True)
class Results:
    """Scores of all test images and how they were computed."""

    task: str
    protocol: str
    scores: tuple[Score, ...]

    def means(self) -> dict[str, dict[str, float]]:
        """Means over images for each test set, and their number."""
        means = {}
        for test_set in dict.fromkeys(score.test_set for score in self.scores):
            of_set = [score for score in self.scores if score.test_set == test_set]
            numbers = [field.name for field in fields(Score) if field.type is float]
            means[test_set] = {name: fmean(getattr(score, name) for score in of_set) for name in numbers}
            means[test_set]["images"] = len(of_set)
        return means

    def show(self) -> None:
        """Print the means as a table."""
        table = Table(title=f"{self.task}: mean over images", caption=self.protocol, title_justify="left")
        for column in (
            "test set",
            "images",
            "PSNR degraded",
            "restored",
            "gain",
            "SSIM degraded",
            "restored",
        ):
            table.add_column(column, justify="left" if column == "test set" else "right")
        for test_set, mean in self.means().items():
            table.add_row(
                test_set,
                f"{mean['images']:.0f}",
                f"{mean['degraded_psnr']:.2f}",
                f"{mean['psnr']:.2f}",
                f"{mean['psnr'] - mean['degraded_psnr']:+.2f}",
                f"{mean['degraded_ssim']:.4f}",
                f"{mean['ssim']:.4f}",
            )
        # In a file or a pipe no line is broken.
        Console(width=None if sys.stdout.isatty() else 100).print(table)

    def write(self, folder: Path, **facts: Any) -> None:
        """Write results.json (means, protocol and the given facts, such as the checkpoint) and results.csv (images)."""
        folder.mkdir(parents=True, exist_ok=True)
        summary = {"task": self.task, "protocol": self.protocol, **facts, "means": self.means()}
        content = {**summary, "images": [asdict(score) for score in self.scores]}
        _replace(folder / "results.json", json.dumps(content, indent=2) + "\n")
        with (folder / "results.csv.part").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, [field.name for field in fields(Score)])
            writer.writeheader()
            writer.writerows(asdict(score) for score in self.scores)
        os.replace(folder / "results.csv.part", folder / "results.csv")


def run_test(trainer: lightning.Trainer, module: RestorationModule, data: RestorationData, *, task: str) -> Results:
    """Results of the module as it is on every test set of the data."""
    trainer.test(module, data, verbose=False)
    scores = []
    for (test_set, images), of_set in zip(data.test_sets.items(), module.test_scores(), strict=True):
        for index, (psnr, ssim, degraded_psnr, degraded_ssim) in sorted(of_set.items()):
            scores.append(
                Score(
                    test_set=test_set,
                    image=images.photographs[index].name,
                    psnr=psnr,
                    ssim=ssim,
                    degraded_psnr=degraded_psnr,
                    degraded_ssim=degraded_ssim,
                )
            )
    protocol = describe_protocol(crop=module.crop, luma=module.luma, protocol=module.protocol)
    return Results(task=task, protocol=protocol, scores=tuple(scores))


def _replace(file: Path, text: str) -> None:
    part = file.with_name(file.name + ".part")
    part.write_text(text)
    os.replace(part, file)
