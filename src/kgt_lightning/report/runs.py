"""What runs left in their folders, read and checked."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STATUSES = ("running", "finished", "pruned", "failed", "out of memory", "interrupted")

Scores = Mapping[str, float]
"""Scores by name, such as psnr (dB), ssim, degraded_psnr; of a mean also the number of images."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run; what its files do not say is None or empty."""

    folder: Path
    path: str
    """The folder, relative to that of the report."""
    task: str | None
    status: str
    error: str | None
    overrides: Sequence[str]
    config: Mapping[str, Any]
    started: str | None
    seconds: float | None
    hardware: str | None
    commit: str | None
    version: str | None
    parameters: float | None
    flops: float | None
    """Of one image of 256x256 pixels, two for each multiply-add."""
    peak_memory_mb: float | None
    protocol: str | None
    """How the scores were computed; of a run without scores None."""
    checkpoint: str | None
    k: float | None
    """Neighbours in the test."""
    means: Mapping[str, Scores]
    """By test set and setting."""
    images: Mapping[str, Mapping[str, Scores]]
    """By test set and setting, then by image."""
    versions: Mapping[str, Any]
    """Which files a test set consisted of."""

    @property
    def ranked(self) -> bool:
        """Whether its scores count: those of a run that goes on or has failed are not its last."""
        return self.status == "finished" and bool(self.means)


@dataclass(frozen=True, kw_only=True)
class LeftOut:
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
    for each in sorted(found):
        path = each.relative_to(folder).as_posix()
        path = folder.resolve().name if path == "." else path
        try:
            runs.append(_read_run(each, path))
        except (ValueError, OSError) as error:
            left_out.append(LeftOut(path=path, reason=" ".join(str(error).split())))
    return runs, left_out


def select(config: Mapping[str, Any], key: str) -> Any:
    """Value of a dotted key, None where it is missing."""
    node: Any = config
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def _read_run(folder: Path, path: str) -> Run:
    facts, results = _File(folder / "run.json"), _File(folder / "results.json")
    status = facts.text("status") or "finished"
    if status not in STATUSES:
        raise ValueError(f"run.json: status={status!r} is none of {', '.join(STATUSES)}")
    config = facts.section("config")
    k = results.number("k")
    return Run(
        folder=folder,
        path=path,
        task=results.text("task") or facts.text("task"),
        status=status,
        error=facts.text("error"),
        overrides=[str(each) for each in facts.entries("overrides")],
        config=config,
        started=facts.text("started"),
        seconds=facts.number("seconds"),
        hardware=facts.text("hardware"),
        commit=facts.text("commit"),
        version=facts.text("version"),
        parameters=facts.number("parameters") or results.number("parameters"),
        flops=facts.number("flops"),
        peak_memory_mb=facts.number("peak_memory_mb"),
        protocol=results.text("protocol"),
        checkpoint=results.text("checkpoint"),
        k=k if k is not None else _whole(select(config, "model.k")),
        means={name: results.scores(mean, f"means, {name}") for name, mean in results.section("means").items()},
        images=_images(results),
        versions=results.section("versions"),
    )


def _images(results: "_File") -> dict[str, dict[str, Scores]]:
    """Scores by test set and image."""
    images: dict[str, dict[str, Scores]] = {}
    for number, image in enumerate(results.entries("images"), start=1):
        if not isinstance(image, dict) or not {"test_set", "image"} <= image.keys():
            raise ValueError(f"results.json: image {number} has no test_set or no name")
        scores = {key: value for key, value in image.items() if key not in ("test_set", "image")}
        of_set = images.setdefault(str(image["test_set"]), {})
        of_set[str(image["image"])] = results.scores(scores, f"image {number}")
    return images


def _whole(value: Any) -> float | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


class _File:
    """A JSON file of a run, its values checked when they are asked for; one that is not there has none."""

    def __init__(self, file: Path) -> None:
        self.name = file.name
        self.content: dict[str, Any] = {}
        if not file.exists():
            return
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{self.name} is damaged: {error}") from None
        if not isinstance(content, dict):
            raise ValueError(f"{self.name} is damaged: it holds no object but a {type(content).__name__}")
        self.content = content

    def text(self, key: str) -> str | None:
        """A string, or None."""
        return self._of_type(key, str, "no text")

    def number(self, key: str) -> float | None:
        """A number, or None."""
        value = self.content.get(key)
        return None if value is None else self._number(value, key)

    def section(self, key: str) -> dict[str, Any]:
        """An object, empty if it is missing."""
        return self._of_type(key, dict, "no object") or {}

    def entries(self, key: str) -> list[Any]:
        """A list, empty if it is missing."""
        return self._of_type(key, list, "no list") or []

    def scores(self, values: Any, where: str) -> Scores:
        """Numbers by name; what is null was not computed."""
        if not isinstance(values, dict):
            raise ValueError(f"{self.name}: {where}={values!r} is no object of scores")
        return {name: self._number(value, f"{where}, {name}") for name, value in values.items() if value is not None}

    def _number(self, value: Any, where: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{self.name}: {where}={value!r} is no number")
        return value

    def _of_type(self, key: str, kind: type, otherwise: str) -> Any:
        value = self.content.get(key)
        if value is not None and not isinstance(value, kind):
            raise ValueError(f"{self.name}: {key}={value!r} is {otherwise}")
        return value
