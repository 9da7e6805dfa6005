"""The models that the package brings: weights as safetensors, and a card for each as JSON and Markdown."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

FOLDER = Path(__file__).parent
NAMES = tuple(sorted(file.stem for file in FOLDER.glob("*.safetensors")))
"""Of the models: each has ``<name>.safetensors``, ``<name>.json`` and ``<name>.md`` in this folder."""


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What a program has to know to use a model: these fields of its card."""

    name: str
    task: str
    scale: int
    """How many times larger the restored image is."""
    channels: int
    """Of the restored images."""
    degraded_channels: int
    multiple: int
    """Sides are padded to multiples of this inside; tiles of such sides are restored as parts of the whole."""
    tile: int
    """Side of tiles in pixels that bounds the memory."""
    range: tuple[float, float]
    """Of the values of images."""
    parameters: int
    version: str
    """Of the package that trained it."""
    sha256: str
    """Of the file of weights."""
    experimental: bool
    """Whether it is better than its input in tests, but none to rely on."""


def model_file(name: str) -> Path:
    """Weights of the model of this name.

    Raises:
        ValueError: if the package brings no such model.

    """
    if name not in NAMES:
        raise ValueError(f"model {name!r} is none of those that the package brings: {', '.join(NAMES)}")
    return FOLDER / f"{name}.safetensors"


def model_info(name: str) -> ModelInfo:
    """What the card says about the model of this name; raises as :func:`model_file`."""
    card = json.loads(model_file(name).with_suffix(".json").read_text(encoding="utf-8"))
    given = {field.name: card[field.name] for field in fields(ModelInfo)}
    return ModelInfo(**{**given, "range": tuple(given["range"])})


def choose_model(models: Iterable[ModelInfo], *, task: str, scale: int | None, channels: int) -> ModelInfo:
    """The model for a task and for degraded images of so many channels, or else the one of other channels.

    Args:
        models: to choose from.
        task: that the model is for.
        scale: how many times larger the restored image is to be; None where the models for the task have one scale.
        channels: of the degraded image, 1 or 3.

    Raises:
        ValueError: if there is no such model, or the scale has to be known.

    """
    models = tuple(models)
    found = [model for model in models if model.task == task]
    if not found:
        tasks = ", ".join(dict.fromkeys(model.task for model in models))
        raise ValueError(f"task={task}: the package brings no model for it, only for {tasks}: add checkpoint=<file>")
    scales = sorted({model.scale for model in found})
    if scale not in scales and (scale is not None or len(scales) > 1):
        asked = "" if scale is None else f" degradation.scale={scale}"
        choices = " or ".join(f"degradation.scale={each}" for each in scales)
        raise ValueError(f"task={task}{asked}: the package brings models for {choices}")
    of_scale = [model for model in found if scale in (None, model.scale)]
    return min(of_scale, key=lambda model: abs(model.degraded_channels - channels))
