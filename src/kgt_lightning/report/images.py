"""What a run did to single images: differences between two runs, and pictures for the page."""

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from kgt_lightning.report.comparison import Comparison, finite
from kgt_lightning.report.runs import Run

PANELS = 3
"""Panels on the page."""
WIDTH = 1080
"""Pixels across, to which panels are made smaller."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Score of an image in two runs."""

    image: str
    first: float
    second: float

    @property
    def gain(self) -> float:
        """How much better the second is."""
        return self.second - self.first


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A picture as a data URL, or why it cannot be shown."""

    name: str
    url: str
    problem: str


def differences(first: Run, second: Run, *, test_set: str, metric: str) -> list[Difference]:
    """A score of the images of a test set that both runs were scored on, from the largest gain to the largest loss."""
    before, after = (run.images.get(test_set, {}) for run in (first, second))
    found = [
        Difference(image=image, first=a, second=b)
        for image, scores in before.items()
        if (a := finite(scores.get(metric))) is not None and (b := finite(after.get(image, {}).get(metric))) is not None
    ]
    return sorted(found, key=lambda each: (-each.gain, each.image))


def first_and_best(comparison: Comparison) -> tuple[int, int] | None:
    """Indices of the two runs whose images are compared unless others are named.

    Where the best run is the first one, it is compared with the last. None if fewer than two runs have images.
    """
    scored = [index for index, run in enumerate(comparison.runs) if run.ranked and run.images]
    if len(scored) < 2:
        return None
    best = comparison.best if comparison.best in scored else scored[-1]
    return (scored[0] if best != scored[0] else scored[-1]), best


def named(comparison: Comparison, wanted: Sequence[str]) -> list[int]:
    """Indices of the runs with these names, paths or numbers in the table, without those that are not there."""
    return [
        index
        for each in wanted
        for index, (name, run) in enumerate(zip(comparison.names, comparison.runs, strict=True))
        if each in (name, run.path, str(index + 1))
    ]


def panels(run: Run) -> list[Panel]:
    """Some panels degraded | restored | clean of the last validation, or of the evaluation, small enough for a page."""
    folder = run.folder / "panels"
    steps = [each for each in folder.glob("step_*") if re.fullmatch(r"step_\d+", each.name)]
    newest = max(steps, key=lambda each: int(each.name.partition("_")[2]), default=folder)
    files = sorted(newest.rglob("*.png"))
    return [_panel(file, file.relative_to(newest).with_suffix("").as_posix()) for file in files[:PANELS]]


def _panel(file: Path, name: str) -> Panel:
    stream = io.BytesIO()
    try:
        with Image.open(file) as picture:
            shown = picture.convert("RGB")
        if shown.width > WIDTH:
            shown = shown.resize((WIDTH, max(1, round(shown.height * WIDTH / shown.width))), Image.Resampling.LANCZOS)
        shown.save(stream, "png", optimize=True)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        return Panel(name=name, url="", problem=f"cannot be read: {' '.join(str(error).split())}")
    return Panel(name=name, url=f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}", problem="")
