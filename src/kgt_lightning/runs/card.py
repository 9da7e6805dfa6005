"""The card of a model: what a run's record and its evaluations say, and what only people know."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from kgt_lightning.metrics.published import published
from kgt_lightning.models import FOLDER, ModelInfo
from kgt_lightning.system.files import run_of

ABOUT = FOLDER / "about.yaml"


def make_card(
    name: str,
    *,
    record: Mapping[str, Any],
    steps: int,
    weights: Mapping[str, Any],
    data: Sequence[Mapping[str, Any]],
    leaks: Sequence[str],
    results: Sequence[Mapping[str, Any]],
    measures: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything the card says, in the order it says it.

    Args:
        name: of the model; ``about.yaml`` holds its title, use and limits.
        record: run.json of the training.
        steps: that the weights were trained for.
        weights: what is known of the file and the module: those fields of :class:`ModelInfo` that no record holds.
        data: for each set that was trained on its name, number of images and licence.
        leaks: test images that are among the training images, in words.
        results: results.json of each evaluation of these weights.
        measures: further numbers, such as those of seams and harm.

    Raises:
        ValueError: if nothing is written about the model, or it was not trained to its end.

    """
    about: Any = OmegaConf.to_container(OmegaConf.load(ABOUT))
    if name not in about:
        raise ValueError(f"{ABOUT.name} says nothing about {name}: it knows {', '.join(about)}")
    if record["status"] != "finished":
        raise ValueError(f"the run is {record['status']}: resume it, or name one that is finished")
    config = record["config"]
    shaping = [_portable(each) for each in record["overrides"] if not each.startswith(PLACES)]
    return {
        "name": name,
        "experimental": False,
        **about[name],
        "task": record["task"],
        "version": record["version"],
        "channels": config["data"]["channels"],
        "parameters": record["parameters"],
        "flops_256": record["flops"],
        **weights,
        "training": {
            "recipe": f"kgt_lightning.train {' '.join(shaping)}",
            "commit": record["commit"],
            "steps": steps,
            "hours": round(record["seconds"] / 3600, 2),
            "hardware": record["hardware"],
            "data": list(data),
            "excluded": list(config["data"].get("exclude") or []),
            "test images in the training data": list(leaks) or "none",
        },
        "scores": [
            {
                "set": test_set,
                "protocol": each["protocol"],
                # A clean picture has no error: JSON knows no infinity.
                **{key: round(value, 4) if math.isfinite(value) else None for key, value in mean.items()},
                "published": _beside(record, config, test_set),
            }
            for each in results
            for test_set, mean in each["means"].items()
        ],
        "measures": dict(measures),
    }


PLACES = ("data_root=", "data.cache_dir=", "hydra.", "resume=", "callbacks.progress", "++trainer.enable_progress_bar")
"""Arguments that say where things lie or what is shown; they are no part of the recipe."""


def _portable(override: str) -> str:
    """An argument without the folders of the machine: of another run's weights the name of that run."""
    path = Path(override.removeprefix("weights="))
    if override.startswith("weights=") and path.is_absolute():
        return f"weights=<{path.name} of {run_of(path)}>"
    return override


def as_markdown(card: Mapping[str, Any]) -> str:
    """The card for people."""
    training, measures = card["training"], card["measures"]
    lines = [
        f"# {card['name']}: {card['title']}",
        "",
        *["**Experimental**: better than its input in the tests below, none to rely on.", ""] * card["experimental"],
        card["use"],
        "",
        f"{card['parameters'] / 1e6:.2f} million parameters, {card['flops_256'] / 256**2 / 1e3:.0f} thousand operations"
        f" a pixel, {card['bytes'] / 1e6:.2f} MB, SHA-256 `{card['sha256']}`.",
        "",
        f"{card['seconds_per_megapixel']:.1f} seconds of one thread for a megapixel (of the degraded image) on"
        f" {card['timed_on']}.",
        "",
        "## Scores",
        "",
        "| set | images | degraded dB | restored dB | published, one model for all levels |",
        "|---|---|---|---|---|",
        *(_score(each) for each in card["scores"]),
        "",
        *(f"- {protocol}" for protocol in dict.fromkeys(each["protocol"] for each in card["scores"])),
        "",
        *(["## Measures", "", *(f"- {name}: {value}" for name, value in measures.items()), ""] if measures else []),
        "## Training",
        "",
        f"`{training['recipe']}`",
        "",
        f"{training['steps']:,} steps in {training['hours']} hours on {training['hardware']}, commit"
        f" {training['commit']}.",
        "",
        *(f"- {each['name']}: {each['images']} images, {each['licence']}" for each in training["data"]),
        f"- left out: {', '.join(training['excluded']) or 'nothing'}",
        f"- test images in the training data: {_listed(training['test images in the training data'])}",
        "",
        "## Limits",
        "",
        *(f"- {each}" for each in card["limits"]),
        "",
        "Not for:",
        "",
        *(f"- {each}" for each in card["not_for"]),
        "",
    ]
    return "\n".join(lines)


def folder_card(info: ModelInfo, config: Mapping[str, Any], *, step: int, known: Mapping[str, Any] | None) -> str:
    """The card of a model in a folder of its own, with the head that the Hugging Face Hub reads.

    Args:
        info: what is known of the model.
        config: settings that shape it.
        step: training steps that were done.
        known: the card that the package has for it, or None.

    """
    title = f"# {info.name}\n\nA Key-Graph Transformer for the task `{info.task}`, after {step:,} training steps.\n"
    return f"""---
library_name: kgt-lightning
pipeline_tag: image-to-image
tags: [image-restoration, {info.task}]
---
{title if known is None else as_markdown(known)}
## Use

```python
import kgt_lightning

model = kgt_lightning.from_pretrained("this folder, or owner/name on the Hub with download=True")
restored = model(degraded)  # [B, {info.degraded_channels}, H, W] in 0..1, {info.scale} times as large
```

## Settings

```yaml
{OmegaConf.to_yaml(OmegaConf.create(dict(config)), sort_keys=True).rstrip()}
```
"""


def _beside(record: Mapping[str, Any], config: Mapping[str, Any], test_set: str) -> dict[str, float]:
    """Published PSNR for the same set and setting, by method; of models for one level each none."""
    name, _, setting = test_set.partition(" ")
    rows = published(task=record["task"], channels=config["data"]["channels"], test_set=name, setting=setting)
    return {row.method: row.psnr for row in rows if row.training != "per level"}


def _score(each: Mapping[str, Any]) -> str:
    degraded = "clean" if each["degraded_psnr"] is None else f"{each['degraded_psnr']:.2f}"
    beside = ", ".join(f"{method} {value:.2f}" for method, value in each["published"].items())
    return f"| {each['set']} | {each['images']:.0f} | {degraded} | {each['psnr']:.2f} | {beside} |"


def _listed(found: Sequence[str] | str) -> str:
    return found if isinstance(found, str) else "; ".join(found)
