"""A model as darktable imports it: a .dtmodel file, after darktable's dev-doc/AI.md and AI_Tasks.md (5.6).

It is a zip file of one folder, whose name is the id of the model, with config.json and the ONNX files.
"""

import io
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kgt_lightning.exports.onnx_file import session_of
from kgt_lightning.exports.program import picture

FILES = {1: ("denoise", "model.onnx"), 2: ("upscale", "model_x2.onnx"), 4: ("upscale", "model_x4.onnx")}
"""Task, and name of the ONNX file that darktable looks for, by scale."""

TILES = {1: (2048, 1536, 1024, 768, 512, 384, 256), 2: (768, 512, 384, 256, 192), 4: (768, 512, 384, 256, 192)}
"""Sides of the tiles that darktable tries, by scale; when it loads a model it fixes its sizes to one of them."""


def why_not(*, channels: int, scale: int) -> str | None:
    """Why darktable has no use for a model, in words, or None."""
    if channels != 3:
        return f"darktable restores developed pictures of 3 channels, this model takes {channels}"
    if scale not in FILES:
        return f"darktable enlarges by 2 or 4, this model by {scale}"
    return None


def to_dtmodel(content: bytes, *, name: str, description: str, scale: int, version: str) -> bytes:
    """Content of the .dtmodel file around an ONNX file."""
    task, file = FILES[scale]
    words = re.findall("[a-z0-9]+", name.lower())
    model_id = "-".join([task, "kgt", *(word for word in words if word not in (task, "kgt"))])
    config = {
        "id": model_id,
        "name": model_id.replace("-", " "),
        "description": description,
        "task": task,
        "backend": "onnx",
        "arch": "kgt",
        "version": version,
        "num_inputs": 1,
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        # A fixed date: the same model makes the same file.
        for path, data in ((f"{model_id}/config.json", json.dumps(config, indent=2)), (f"{model_id}/{file}", content)):
            archive.writestr(zipfile.ZipInfo(path), data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def check_dtmodel(content: bytes, tiles: Sequence[int]) -> None:
    """See that a file keeps the contract, and restores tiles of these sides.

    Raises:
        ValueError: if it does not, saying where.

    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = {path: archive.read(path) for path in archive.namelist()}
    folders = {path.partition("/")[0] for path in files}
    if len(folders) != 1 or any(path.count("/") != 1 for path in files):
        raise ValueError(f".dtmodel: all files must lie in one folder, there are {', '.join(files)}")
    (folder,) = folders
    config: Mapping[str, Any] = json.loads(files[f"{folder}/config.json"])
    if config["id"] != folder or not config["name"] or config["backend"] != "onnx" or config["num_inputs"] != 1:
        raise ValueError(f".dtmodel: config.json says {dict(config)} in the folder {folder}")
    models = {file: scale for scale, (task, file) in FILES.items() if task == config["task"]}
    found = [file for file in models if f"{folder}/{file}" in files]
    if not found:
        raise ValueError(f".dtmodel: task {config['task']} needs one of {', '.join(models)}")
    for file in found:
        for tile in tiles:
            session = session_of(files[f"{folder}/{file}"], {"height": tile, "width": tile})
            names = [value.name for value in (*session.get_inputs(), *session.get_outputs())]
            if names != ["input", "output"]:
                raise ValueError(f".dtmodel: {file} has {', '.join(names)}; expected input, output")
            (restored,) = session.run(None, {"input": picture(3, tile, tile).numpy()})
            expected = (1, 3, tile * models[file], tile * models[file])
            if restored.shape != expected or restored.dtype != np.float32 or not np.isfinite(restored).all():
                raise ValueError(f".dtmodel: {file} gives {restored.dtype} {restored.shape}; expected {expected}")
