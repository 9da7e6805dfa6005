"""The models that the package brings: weights as safetensors, and a card for each as JSON and Markdown."""

from pathlib import Path

NAMES = ("denoise", "jpeg", "demosaic")
"""Of the models; each has ``<name>.safetensors``, ``<name>.json`` and ``<name>.md`` in this folder."""


def model_file(name: str) -> Path:
    """Weights of the model of this name.

    Raises:
        ValueError: if the package brings no such model.

    """
    if name not in NAMES:
        raise ValueError(f"model {name!r} is none of those that the package brings: {', '.join(NAMES)}")
    return Path(__file__).with_name(f"{name}.safetensors")
