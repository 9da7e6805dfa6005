"""Command: a model as other programs open it: ONNX, darktable, torch.export, a folder of safetensors.

python -m kgt_lightning.export checkpoint=denoise format=onnx output=denoise.onnx
"""

import logging
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from kgt_lightning import __version__
from kgt_lightning.config.command import command
from kgt_lightning.config.extras import require
from kgt_lightning.models import FOLDER, model_info
from kgt_lightning.runs.checkpoint import Checkpoint, load_checkpoint
from kgt_lightning.runs.pretrained import Pretrained, from_pretrained, info_of
from kgt_lightning.system.files import remove_leftovers, user_path, write_atomic
from kgt_lightning.training.module import RestorationModule

SECTIONS = ("degradation", "model", "module")

log = logging.getLogger(__name__)


def as_onnx(checkpoint: Checkpoint, name: str) -> bytes:
    """Content of an ONNX file, compared with PyTorch."""
    content, _ = _onnx(checkpoint)
    return content


def as_darktable(checkpoint: Checkpoint, name: str) -> bytes:
    """Content of a .dtmodel file, compared with PyTorch and checked against darktable's contract.

    Raises:
        ValueError: if darktable has no use for such a model.

    """
    require("format=darktable", "export", "onnx", "onnxscript", "onnxruntime")
    from kgt_lightning.exports.darktable import TILES, check_dtmodel, to_dtmodel, why_not

    module = checkpoint.module()
    scale = module.network.scale
    if problem := why_not(channels=module.degraded_channels, scale=scale):
        raise ValueError(f"format=darktable: {problem}")
    content, about = _onnx(checkpoint)
    made = to_dtmodel(
        content,
        name=name,
        description=f"{about['task']} by a Key-Graph Transformer",
        scale=scale,
        version=__version__,
    )
    check_dtmodel(made, TILES[scale][-1:])
    return made


def as_program(checkpoint: Checkpoint, name: str) -> bytes:
    """Content of a file for torch.export.load, compared with PyTorch."""
    from kgt_lightning.exports.program import make_program, to_bytes

    module = checkpoint.module()
    return to_bytes(make_program(module), module)


def as_folder(checkpoint: Checkpoint, name: str) -> dict[str, bytes]:
    """Files of a folder for kgt_lightning.from_pretrained and the Hugging Face Hub, loaded again before it is written.

    Raises:
        ValueError: if what is loaded again differs from the model.

    """
    from kgt_lightning.exports.program import picture

    restorer = checkpoint.module()
    info = info_of(checkpoint, restorer, name=name)
    if checkpoint.path.parent == FOLDER:
        own = model_info(name)
        info = replace(info, version=own.version, experimental=own.experimental)
    model = Pretrained(checkpoint=checkpoint, restorer=restorer, info=info)
    files = model.files()
    image = picture(info.degraded_channels, 64, 64)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        for file, content in files.items():
            Path(folder, file).write_bytes(content)
        again = from_pretrained(folder, trust=checkpoint.trust)
        if not torch.equal(again(image), model(image)):
            raise ValueError("format=safetensors: what is loaded again differs from the model: nothing is written")
    return files


FORMATS: dict[str, tuple[str, Callable[[Checkpoint, str], bytes | dict[str, bytes]]]] = {
    "onnx": (".onnx", as_onnx),
    "darktable": (".dtmodel", as_darktable),
    "torch": (".pt2", as_program),
    "safetensors": ("", as_folder),
}
"""Ending of the file, or none of a folder, and what makes its content, by name of the format."""


@command("export", sections=SECTIONS)
def main(config: DictConfig) -> None:
    suffix, make = FORMATS[config.format]
    target = user_path(config.output)
    if suffix and target.suffix != suffix:
        raise ValueError(f"output={target} must end in {suffix} for format={config.format}")
    if target.exists() and not config.overwrite:
        raise ValueError(f"output={target} is already there: choose another output, or set overwrite=true")
    checkpoint = load_checkpoint(config.checkpoint, trust=config.trust)
    checkpoint.change({"module": {"self_ensemble": False}})
    checkpoint.change({section: config[section] for section in SECTIONS})
    made = make(checkpoint, checkpoint.path.stem if checkpoint.path.parent == FOLDER else target.stem)
    files = {target: made} if isinstance(made, bytes) else {target / name: content for name, content in made.items()}
    for file, content in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(file.parent)
        write_atomic(file, content)
    log.info("%s (%.1f MB)", target, sum(map(len, files.values())) / 1e6)


def _onnx(checkpoint: Checkpoint) -> tuple[bytes, dict[str, Any]]:
    """Content of the file, and what it says about itself."""
    require("format=onnx", "export", "onnx", "onnxscript", "onnxruntime")
    from kgt_lightning.exports.onnx_file import OPSET, compare, to_onnx
    from kgt_lightning.exports.program import make_program

    if "attention" in checkpoint.config.model:  # plain PyTorch, of which each operation has an ONNX form
        checkpoint.change({"model": {"attention": "reference"}})
    module = checkpoint.module()
    about = about_model(checkpoint, module)
    program = make_program(module)
    content = to_onnx(program, about)
    log.info("ONNX, opset %d, standard operations only; beside PyTorch:", OPSET)
    for each in compare(content, program, channels=module.degraded_channels):
        log.info(
            "%4d x %-4d largest difference %.1e; for %d of %d nodes PyTorch chooses others, as similar",
            *each,
        )
    return content, about


def about_model(checkpoint: Checkpoint, module: RestorationModule) -> dict[str, Any]:
    """What another program has to know of a model."""
    return {
        "task": checkpoint.config.task,
        "scale": module.network.scale,
        "degraded_channels": module.degraded_channels,
        "channels": module.network.backbone.channels,
        "multiple": module.network.backbone.multiple,
        "range": "0..1",
        "kgt_lightning": __version__,
    }


if __name__ == "__main__":
    main()
