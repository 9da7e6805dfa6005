"""What runs left in their folders, read and checked."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from kgt_lightning.runs.curves import read_metrics

STATUSES = ("running", "finished", "pruned", "failed", "out of memory", "interrupted")

Scores = Mapping[str, float]
"""Scores by name, such as psnr (dB), ssim, degraded_psnr; of a mean also the number of images."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run; what its files do not say is None or empty."""

    folder: Path
    path: str
    """The folder, relative to that of the report."""
    task: str | None = None
    status: str = "finished"
    error: str | None = None
    overrides: Sequence[str] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    started: str | None = None
    seconds: float | None = None
    hardware: str | None = None
    commit: str | None = None
    version: str | None = None
    parameters: float | None = None
    flops: float | None = None
    """Of one image of 256x256 pixels, two for each multiply-add."""
    peak_memory_mb: float | None = None
    protocol: str | None = None
    """How the scores were computed; of a run without scores None."""
    checkpoint: str | None = None
    k: float | None = None
    """Neighbours in the test."""
    columns: Sequence[Mapping[str, Any]] = ()
    """``name``, ``unit`` and ``higher_is_better`` of the scores."""
    means: Mapping[str, Scores] = field(default_factory=dict)
    """By test set and setting."""
    images: Mapping[str, Mapping[str, Scores]] = field(default_factory=dict)
    """By test set and setting, then by image."""
    versions: Mapping[str, Any] = field(default_factory=dict)
    """Which files a test set consisted of."""

    @property
    def ranked(self) -> bool:
        """Whether its scores count: those of a run that goes on or has failed are not its last."""
        return self.status == "finished" and bool(self.means)

    @cached_property
    def curves(self) -> Mapping[str, Mapping[int, float]]:
        """What it logged, by name and step."""
        return read_metrics(self.folder)


class Metric(NamedTuple):
    """What the numbers of a score mean."""

    title: str
    unit: str
    sign: int
    """1 if higher is better, -1 if lower is."""

    @property
    def digits(self) -> int:
        """Behind the point: hundredths of a decibel, of other scores ten-thousandths."""
        return 2 if self.unit == "dB" else 4

    @property
    def axis(self) -> str:
        """Title of an axis."""
        return ", ".join(filter(None, [self.title, self.unit]))

    def show(self, value: float) -> str:
        """The number as it is printed."""
        return f"{value:.{self.digits}f}"


class LeftOut(NamedTuple):
    """A run that could not be read, and why."""

    path: str
    reason: str


def read_runs(folder: Path) -> tuple[list[Run], list[LeftOut]]:
    """Runs at any depth below the folder, by path, and those that are damaged.

    Raises:
        ValueError: if the folder does not exist or holds no run.

    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder: name one that holds runs, such as outputs/denoise")
    found = {file.parent for name in ("run.json", "results.json") for file in folder.rglob(name)}
    if not found:
        raise ValueError(f"{folder} holds no run: no run.json or results.json lies in it, at any depth")
    runs, left_out = [], []
    for place in sorted(found):
        path = folder.resolve().name if place == folder else place.relative_to(folder).as_posix()
        try:
            runs.append(_read_run(place, path))
        except (ValueError, OSError) as error:
            left_out.append(LeftOut(path, " ".join(str(error).split())))
    return runs, left_out


def select(node: Any, key: str) -> Any:
    """Value of a dotted key of a configuration, None where it is missing."""
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


_TYPES: dict[type, tuple[str, ...]] = {
    str: ("task", "status", "error", "started", "hardware", "commit", "version", "protocol", "checkpoint"),
    float: ("seconds", "parameters", "flops", "peak_memory_mb", "k"),
    list: ("overrides", "columns", "images"),
    dict: ("config", "means", "versions"),
}
_WORDS = {str: "text", float: "number", list: "list", dict: "object"}


def _read_run(folder: Path, path: str) -> Run:
    content = {**_read(folder / "run.json"), **_read(folder / "results.json")}
    if content.get("status", "finished") not in STATUSES:
        raise ValueError(f"run.json: status={content['status']!r} is none of {', '.join(STATUSES)}")
    if _is(k := select(content.get("config"), "model.k"), float):
        content.setdefault("k", k)
    if not all(isinstance(column, dict) and "name" in column for column in content.get("columns", [])):
        raise ValueError("results.json: one of its columns has no name")
    content["overrides"] = [str(override) for override in content.get("overrides", [])]
    content["means"] = {name: _scores(mean, f"means, {name}") for name, mean in content.get("means", {}).items()}
    content["images"] = _images(content.get("images", []))
    return Run(folder=folder, path=path, **content)


def _read(file: Path) -> dict[str, Any]:
    """What is known of the content of a JSON file, checked; nothing if there is no file."""
    try:
        content = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    except ValueError as error:
        raise ValueError(f"{file.name} is damaged: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file.name} is damaged: it holds no object but a {type(content).__name__}")
    known = {key: kind for kind, keys in _TYPES.items() for key in keys if content.get(key) is not None}
    for key, kind in known.items():
        if not _is(content[key], kind):
            raise ValueError(f"{file.name}: {key}={content[key]!r} is no {_WORDS[kind]}")
    return {key: content[key] for key in known}


def _images(entries: Sequence[Any]) -> dict[str, dict[str, Scores]]:
    """Scores by test set and image."""
    images: dict[str, dict[str, Scores]] = {}
    for number, image in enumerate(entries, start=1):
        if not isinstance(image, dict) or not {"test_set", "image"} <= image.keys():
            raise ValueError(f"results.json: image {number} has no test_set or no name")
        scores = {key: value for key, value in image.items() if key not in ("test_set", "image")}
        images.setdefault(str(image["test_set"]), {})[str(image["image"])] = _scores(scores, f"image {number}")
    return images


def _scores(values: Any, where: str) -> Scores:
    """Numbers by name; what is null was not computed."""
    if not isinstance(values, dict):
        raise ValueError(f"results.json: {where}={values!r} is no object of scores")
    for name, value in values.items():
        if value is not None and not _is(value, float):
            raise ValueError(f"results.json: {where}, {name}={value!r} is no number")
    return {name: value for name, value in values.items() if value is not None}


def _is(value: Any, kind: type) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) if kind is float else isinstance(value, kind)
