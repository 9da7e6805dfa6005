"""Command: a finished run as a model of the package: its weights, and a card from its record and its evaluations.

python -m kgt_lightning.publish outputs/denoise/run denoise outputs/evaluate/cbsd68 outputs/evaluate/set14 --root sets
python -m kgt_lightning.publish --measure
python -m kgt_lightning.publish --table README.md experiments/models/README.md
"""

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from kgt_lightning.analysis.harmless import measure_harm
from kgt_lightning.analysis.seams import measure_seams
from kgt_lightning.data.audit.leak import leaks
from kgt_lightning.data.catalogue import find, members, read_catalogue
from kgt_lightning.models import FOLDER, NAMES, model_file
from kgt_lightning.runs.card import as_markdown, make_card
from kgt_lightning.runs.checkpoint import Checkpoint, load_checkpoint
from kgt_lightning.runs.measured import answer, seconds_per_megapixel
from kgt_lightning.runs.model_table import with_tables
from kgt_lightning.runs.pretrained import sizes
from kgt_lightning.runs.run import read_state
from kgt_lightning.runs.weights import weights_content
from kgt_lightning.system.ending import Parser, mistakes_in_one_line
from kgt_lightning.system.files import remove_leftovers, write_atomic
from kgt_lightning.system.hardware import processor
from kgt_lightning.training.module import RestorationModule

LARGEST = 2_500_000
"""Bytes that the weights of a model of the package may take."""


def publish(
    run: Path, name: str, evaluations: Sequence[Path], *, root: Path, folder: Path, half: bool = False
) -> list[Path]:
    """Files that were written into the folder: weights, card as JSON, card as Markdown.

    Args:
        run: folder of a finished training.
        name: of the model.
        evaluations: folders of evaluations of this run's best checkpoint.
        root: folder of the image sets, to look for test images among those that were trained on.
        folder: to write into.
        half: stores the weights with 16 bits, which changes no score by more than some thousandths of a decibel.

    Raises:
        ValueError: if the run or an evaluation is missing or of another checkpoint, or the weights are too large.

    """
    record = read_state(run)
    if record is None:
        raise ValueError(f"{run} holds no run.json: name the folder of a training")
    checkpoint = load_checkpoint(run / "checkpoints" / "best.ckpt")
    results = [_results(each, checkpoint) for each in evaluations]
    config: Any = OmegaConf.to_container(checkpoint.config)
    weights = folder / f"{name}.safetensors"
    if half:
        checkpoint = replace(checkpoint, state={key: value.half() for key, value in checkpoint.state.items()})
    content = weights_content(state=checkpoint.state, config=config, step=checkpoint.step)
    if len(content) > LARGEST:
        raise ValueError(
            f"the weights take {len(content)} bytes, more than the {LARGEST} of a model of the package: --half stores"
            " them with 16 bits"
        )
    tested = list(dict.fromkeys(test_set.partition(" ")[0] for each in results for test_set in each["means"]))
    module = checkpoint.module()
    card = make_card(
        name,
        record=record,
        steps=checkpoint.step,
        weights={"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), **sizes(module)},
        data=_trained_on(config["data"]["train"], root),
        leaks=_leaks(config["data"], tested, root),
        results=results,
        measures=_measures(module, config["data"]["channels"]),
    ) | _measured_here(checkpoint)
    # Only now: whatever is refused leaves the model that is there as it is.
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(weights, content)
    return [weights, *_write_card(weights, card)]


def measure() -> list[Path]:
    """Cards of all models of the package, with times and answers measured anew on this machine."""
    written = []
    for name in NAMES:
        card = _read_card(name) | _measured_here(load_checkpoint(name))
        written += _write_card(model_file(name), card)
    return written


def write_tables(pages: Sequence[Path]) -> Sequence[Path]:
    """The pages, whose tables of models were written anew from the cards."""
    cards = [_read_card(name) for name in NAMES]
    contents = [with_tables(page.read_text(encoding="utf-8"), cards) for page in pages]
    for page, content in zip(pages, contents, strict=True):
        remove_leftovers(page.parent)
        write_atomic(page, content)
    return pages


def _read_card(name: str) -> dict[str, Any]:
    card: dict[str, Any] = json.loads(model_file(name).with_suffix(".json").read_text(encoding="utf-8"))
    return card


def _write_card(weights: Path, card: dict[str, Any]) -> list[Path]:
    remove_leftovers(weights.parent)
    files = [weights.with_suffix(".json"), weights.with_suffix(".md")]
    for file, content in zip(files, (json.dumps(card, indent=2) + "\n", as_markdown(card)), strict=True):
        write_atomic(file, content)
    return files


def _measured_here(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "seconds_per_megapixel": round(seconds_per_megapixel(checkpoint.module()), 1),
        "timed_on": processor(),
        "fixed_picture": answer(checkpoint),
    }


def _results(folder: Path, checkpoint: Checkpoint) -> dict[str, Any]:
    file = folder / "results.json"
    if not file.is_file():
        raise ValueError(f"{folder} holds no results.json: name the folder of an evaluation")
    results: dict[str, Any] = json.loads(file.read_text())
    if Path(results["checkpoint"]).resolve() != checkpoint.path.resolve():
        raise ValueError(f"{folder} is an evaluation of {results['checkpoint']}, not of {checkpoint.path}")
    return results


def _trained_on(names: Sequence[str], root: Path) -> list[dict[str, Any]]:
    catalogue = read_catalogue()
    return [
        {
            "name": name,
            "images": len(members(catalogue.get(name), root / name).entries),
            "licence": find(name, catalogue).licence,
        }
        for name in names
    ]


def _leaks(data: dict[str, Any], tested: Sequence[str], root: Path) -> list[str]:
    """Test images that occur among those that were trained on, in words."""
    catalogue = read_catalogue()
    train, test = (
        [file for name in names for file in members(catalogue.get(name), root / name).entries.values()]
        for names in (data["train"], tested)
    )
    kept = [file for file in train if file.relative_to(root).as_posix() not in (data.get("exclude") or [])]
    return [f"{each.test.relative_to(root)} is {each.train.relative_to(root)}" for each in leaks(kept, test)]


def _measures(module: RestorationModule, channels: int) -> dict[str, float]:
    """Patterns and harm, of models whose image keeps its size."""
    if module.network.scale != 1 or module.degraded_channels != channels:
        return {}
    seams = measure_seams(module, channels=channels, sigma=25)
    harm = asdict(measure_harm(module, channels=channels))
    found = {f"power at a period of {each} pixels over that beside it": value for each, value in seams.grid.items()}
    found |= {f"step at borders of {each} pixels over that inside": value for each, value in seams.border.items()}
    found |= {f"harm to clean pictures, {each.replace('_', ' ')}, in 8-bit values": v for each, v in harm.items()}
    return {name: round(value, 3) for name, value in found.items()}


def parser() -> argparse.ArgumentParser:
    """Parser of the arguments."""
    arguments = Parser(prog="python -m kgt_lightning.publish", description=__doc__)
    arguments.add_argument("run", type=Path, nargs="?", help="folder of a finished training")
    arguments.add_argument("name", nargs="?", help="of the model, as in kgt_lightning/models/about.yaml")
    arguments.add_argument("evaluations", type=Path, nargs="*", help="folders of evaluations of its best checkpoint")
    arguments.add_argument("--root", type=Path, help="folder of the image sets")
    arguments.add_argument("--half", action="store_true", help="store the weights with 16 bits")
    arguments.add_argument("--output", type=Path, help="folder to write into, by default that of the package's models")
    arguments.add_argument(
        "--measure", action="store_true", help="time and answers of all models, written into their cards"
    )
    arguments.add_argument(
        "--table", type=Path, nargs="+", metavar="PAGE", help="write the tables of models in pages anew"
    )
    return arguments


def main() -> None:
    """Command-line entry; a mistake ends in one line and exit code 2."""
    with mistakes_in_one_line():
        given = parser().parse_args()
        torch.manual_seed(0)
        written: Sequence[Path]
        if given.measure:
            written = measure()
        elif given.table:
            written = write_tables(given.table)
        elif not given.evaluations or not given.root:
            raise ValueError("give a run, a name and the folders of its evaluations, and --root=<folder of the sets>")
        else:
            folder = given.output or FOLDER
            written = publish(
                given.run, given.name, given.evaluations, root=given.root.resolve(), folder=folder, half=given.half
            )
    for file in written:
        print(file)  # noqa: T201


if __name__ == "__main__":
    main()
