"""Checkpoint files that are whole or not there at all, and the one that a run goes on from."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins import TorchCheckpointIO

from kgt_lightning.system.files import LAST, PREVIOUS, checksum_error, naming, rename

log = logging.getLogger(__name__)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint aside and brings it to the disk before it takes the place of the one of the same name.

    Whatever happens meanwhile, a kill, a full disk, a power cut, what stood there before stays whole. Lightning's own
    does not wait for the disk.
    """

    def save_checkpoint(
        self, checkpoint: Mapping[str, Any], path: str | Path, storage_options: object | None = None
    ) -> None:
        """Write the file."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(path.name + ".part")
        try:
            with naming(path):
                with aside.open("wb") as stream:
                    torch.save(checkpoint, stream)
                    stream.flush()
                    os.fsync(stream.fileno())
                rename(aside, path)
        finally:
            aside.unlink(missing_ok=True)


def newest_intact(folder: Path) -> Path | None:
    """State of a run to go on from in its folder of checkpoints, None if there is none; what is damaged is logged.

    Raises:
        ValueError: if there are some, and all are damaged.

    """
    found = [folder / name for name in (LAST, PREVIOUS) if (folder / name).exists()]
    for path in found:
        reason = checksum_error(path)
        if reason is None:
            return path
        log.warning("%s is damaged (%s): the one before it is taken", path, reason)
    if found:
        names = " and ".join(path.name for path in found)
        raise ValueError(f"{folder}: {names} cannot be read, the run cannot go on: start another one with run=<name>")
    return None
