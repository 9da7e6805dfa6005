"""The content of a checkpoint file from anyone: memory is bounded, nothing executed, each part what it must be."""

import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kgt_lightning.runs.weights import read_weights
from kgt_lightning.system.files import checksum_error

_SECTIONS = {"task": str, "model": Mapping, "module": Mapping, "data": Mapping}
_PLAIN = (str, int, float, bool, type(None))
_NUMBERS = (
    *(torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.bool),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8),
)
"""Of tensors that a module computes with; of others PyTorch does not even know whether they are finite."""
_MOST_VALUES, _MOST_DEPTH = 100_000, 50
"""Of a configuration: a few thousand and a dozen are usual, and a list may hold itself."""


def read_content(path: Path, *, where: str) -> dict[str, Any]:
    """``config``, ``state_dict`` and ``global_step`` of a ``.ckpt`` or ``.safetensors`` file, on the CPU.

    Memory stays within a small multiple of the size of the file.

    Args:
        path: of the file.
        where: the file as errors name it.

    Raises:
        ValueError: if it is damaged, holds anything but tensors and plain values, or was not written by a training;
            or a weight is not finite.

    """
    try:
        content = read_weights(path) if path.suffix == ".safetensors" else _read_archive(path)
    except MemoryError:
        size = path.stat().st_size / 1e6
        raise ValueError(f"{where} has {size:.0f} MB, for which the memory is too small: free some") from None
    # of other files the unpickler raises nearly anything
    except Exception as error:
        if named := re.search(r"[Uu]nsupported (?:GLOBAL|class|operand GLOBAL) ([\w.]+)", str(error)):
            raise ValueError(
                f"{where} names {named[1]}, and of a file nothing but tensors, texts and numbers is loaded: name a"
                " checkpoint of a training"
            ) from None
        # PyTorch's own words go on with how to have the file execute what it likes
        reason = str(error).partition("\n")[0] if not str(error).startswith("Weights only") else "no list of weights"
        raise ValueError(
            f"{where} cannot be read, it is damaged or no checkpoint ({reason or type(error).__name__}): name another"
            " one, such as last.ckpt or previous.ckpt beside it"
        ) from error
    _check_form(content, where=where)
    _check_plain(content["config"], where=where)
    _check_state(content["state_dict"], where=where, size=path.stat().st_size)
    return content


def _read_archive(path: Path) -> Any:
    if not zipfile.is_zipfile(path):
        raise ValueError("no archive of tensors")
    with zipfile.ZipFile(path) as archive:
        # torch.save compresses nothing, and unpacks whatever is: 16 MB may become 16 GB.
        members = archive.infolist()
        if any(member.compress_type for member in members) or sum(m.file_size for m in members) > path.stat().st_size:
            raise ValueError("its parts are compressed, as no training writes them")
        # The one thing that weights_only calls with a size from the file.
        if any(b"\nbytearray\n" in archive.read(m) for m in members if m.filename.endswith("data.pkl")):
            raise ValueError("it holds a bytearray")
    if reason := checksum_error(path):
        raise ValueError(reason)
    return torch.load(path, map_location="cpu", weights_only=True)


def _check_form(content: Any, *, where: str) -> None:
    config = content.get("config") if isinstance(content, dict) else None
    if (
        not isinstance(config, dict)
        or not {"state_dict", "global_step"} <= content.keys()
        or not all(isinstance(config.get(name), kind) for name, kind in _SECTIONS.items())
    ):
        found = ", ".join(map(str, list(content)[:4])) or "nothing" if isinstance(content, dict) else "no names"
        raise ValueError(
            f"{where} carries no configuration: it was not written by kgt_lightning.train (it holds {found})"
        )
    if type(content["global_step"]) is not int or content["global_step"] < 0:
        raise ValueError(f"{where}: global_step={content['global_step']!r} is no number of steps: name another file")


def _check_plain(config: Any, *, where: str) -> None:
    """Only texts, numbers, lists and mappings, and so many that walking through them ends."""
    left = [("config", config, 0)]
    for _ in range(_MOST_VALUES):
        if not left:
            return
        name, node, depth = left.pop()
        # Kinds of them, such as torch.Size, are nothing that a configuration can hold.
        if depth < _MOST_DEPTH and type(node) is dict and all(type(key) in (str, int) for key in node):
            left += [(f"{name}.{key}", value, depth + 1) for key, value in node.items()]
        elif depth < _MOST_DEPTH and type(node) in (list, tuple):
            left += [(name, value, depth + 1) for value in node[:_MOST_VALUES]]
        elif type(node) not in _PLAIN:
            raise ValueError(f"{where}: {name} is no text, number, list or mapping: it is not loaded")
    raise ValueError(f"{where}: its configuration has more than {_MOST_VALUES} values: it is not loaded")


def _check_state(state: Any, *, where: str, size: int) -> None:
    if not isinstance(state, dict):
        raise ValueError(f"{where}: state_dict is a {type(state).__name__}: it must map names to weights")
    if state and all(str(key).startswith("module.") for key in state):
        raise ValueError(
            f"{where}: the names of all weights begin with module., as DataParallel writes them: save it without, as"
            ' {key.removeprefix("module."): value for key, value in state.items()}'
        )
    for key, weight in state.items():
        # A tensor may be a view that is far larger than what it is stored in.
        if (
            type(key) is not str
            or not isinstance(weight, Tensor)
            or weight.dtype not in _NUMBERS
            or weight.layout is not torch.strided
            or weight.is_meta
            or weight.numel() * weight.element_size() > size
        ):
            raise ValueError(f"{where}: {key} is no tensor of weights: the file is damaged, name another one")
        if not weight.isfinite().all():
            raise ValueError(
                f"{where}: {key} holds values that are not finite: the training had diverged, take an earlier"
                " checkpoint, or train again with a lower optim.lr"
            )


def first_difference(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str | None:
    """In words the first weight that is missing, is of another shape, or that nothing is known of."""
    for key in (*expected, *state):
        ours, theirs = (list(found[key].shape) if key in found else None for found in (expected, state))
        if ours != theirs:
            return f"{key} has {_shape(theirs)} in the file and {_shape(ours)} in the model"
    return None


def _shape(shape: Sequence[int] | None) -> str:
    return "no place" if shape is None else f"shape {shape}"
